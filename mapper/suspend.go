package mapper

import (
	"context"
	"errors"
	"fmt"
)

// Suspend stops I/O: what is in flight completes, what arrives waits. Unless noFlush, what was
// written is made durable first; a target that waits for paths or space is then waited for, where
// noFlush makes it hand its requests back. Suspending a suspended device succeeds.
// If ctx ends before I/O has drained, the device goes on as before.
func (d *Device) Suspend(ctx context.Context, noFlush bool) error {
	if err := d.lockCtl(ctx); err != nil {
		return err
	}
	defer d.unlockCtl()
	if d.isSuspended() {
		return nil
	}
	return d.suspend(ctx, noFlush)
}

func (d *Device) isSuspended() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.suspended
}

// suspend is called with ctl held on a device that is not suspended.
func (d *Device) suspend(ctx context.Context, noFlush bool) error {
	t := d.live.Load()
	if t != nil {
		for i := range t.segs {
			if p, ok := t.segs[i].target.(PreSuspender); ok {
				p.PreSuspend(noFlush)
			}
		}
	}
	if err := d.gate.shut(ctx); err != nil {
		d.undoSuspend(t)
		return fmt.Errorf("I/O is still in flight: %w", err)
	}
	if t != nil {
		if err := d.settle(ctx, t, noFlush); err != nil {
			d.gate.open()
			d.undoSuspend(t)
			return fmt.Errorf("the flush before the suspend: %w", err)
		}
	}
	d.mu.Lock()
	d.suspended = true
	d.mu.Unlock()
	return nil
}

// undoSuspend tells the targets of t, which may be nil, that I/O goes on. The gate is open again.
func (d *Device) undoSuspend(t *Table) {
	if t != nil {
		for i := range t.segs {
			if u, ok := t.segs[i].target.(SuspendUndoer); ok {
				u.PreSuspendUndo()
			}
		}
	}
	d.wakeRequeued()
}

// settle flushes a drained table and lets its targets commit. Errors do not keep the device from being
// suspended, as in the kernel; they are logged, and a disk that could not flush says so to everyone after.
// The error is that ctx ended while a flush waited; nothing was committed then.
func (d *Device) settle(ctx context.Context, t *Table, noFlush bool) error {
	if !noFlush && !t.readOnly {
		if err := t.flushWith(context.WithValue(ctx, stillKey{}, true), 0, flushStill); err != nil {
			if ctx.Err() != nil {
				return err
			}
			if errors.Is(err, ErrRequeue) {
				err = errors.New("it must wait for the resume")
			}
			d.mgr.log.Printf("device-mapper: core: %s: flush before suspend: %v", d.Number(), err)
		}
	}
	ctx = context.WithoutCancel(ctx) // a half-made change is finished
	for i := range t.segs {
		if p, ok := t.segs[i].target.(PostSuspender); ok {
			if err := p.PostSuspend(ctx); err != nil {
				d.mgr.log.Printf("device-mapper: %s: %s: suspend: %v", t.segs[i].typ.Name, d.Number(), err)
			}
		}
	}
	return nil
}

// ResumeOptions modify the suspend that a resume with a new table implies.
type ResumeOptions struct{ NoFlush bool }

// Resume makes the inactive table live, if there is one, and lets I/O flow. Swapping a table in
// suspends first, so that no request sees both tables. If a target refuses to start the device
// stays suspended with its new table.
func (d *Device) Resume(ctx context.Context, o ResumeOptions) error {
	if err := d.lockCtl(ctx); err != nil {
		return err
	}
	defer d.unlockCtl()
	return d.resume(ctx, o)
}

func (d *Device) resume(ctx context.Context, o ResumeOptions) error {
	d.mu.Lock()
	t, suspended := d.inactive, d.suspended
	d.mu.Unlock()
	if t == nil && !suspended {
		return nil
	}
	if t != nil && !suspended {
		if err := d.suspend(ctx, o.NoFlush); err != nil {
			return err
		}
	}
	var old *Table
	if t != nil {
		old = d.swap(t)
	} else if t = d.live.Load(); t == nil {
		return BadArg("no table to resume", "load one first")
	}
	if old != nil {
		defer old.close()
	}
	if err := t.preResume(context.WithoutCancel(ctx)); err != nil {
		d.mgr.changed(d)
		return err
	}
	for i := range t.segs {
		if r, ok := t.segs[i].target.(Resumer); ok {
			r.Resume()
		}
	}
	d.mu.Lock()
	d.suspended = false
	d.hasNode = true
	d.mu.Unlock()
	d.gate.open()
	d.wakeRequeued()
	d.mgr.changed(d)
	return nil
}

// swap makes t live and returns what was.
func (d *Device) swap(t *Table) *Table {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inactive = nil
	return d.live.Swap(t)
}

func (t *Table) preResume(ctx context.Context) error {
	for i := range t.segs {
		p, ok := t.segs[i].target.(PreResumer)
		if !ok {
			continue
		}
		if err := p.PreResume(ctx); err != nil {
			t.dev.mgr.log.Printf("device-mapper: table: %s: %s: preresume failed, error = -%d", t.dev.Number(), t.segs[i].typ.Name, Errno(err))
			return fmt.Errorf("segment %d (%s): resume: %w", i, t.segs[i].typ.Name, err)
		}
	}
	return nil
}

// wakeRequeued lets requests that a target handed back try again.
func (d *Device) wakeRequeued() {
	next := make(chan struct{})
	close(*d.epoch.Swap(&next))
}
