package mapper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Open counts a user of the device's file. The error is ErrClosed when the device is gone.
func (d *Device) Open() error {
	d.mgr.mu.Lock()
	defer d.mgr.mu.Unlock()
	if d.removed {
		return ErrClosed
	}
	d.opens++
	return nil
}

// Close is called once for each Open. The last one removes a device that waits for that.
func (d *Device) Close() {
	d.mgr.mu.Lock()
	d.opens--
	if d.opens == 0 && d.released != nil {
		close(d.released)
		d.released = nil
	}
	d.mgr.mu.Unlock()
	d.mgr.removeIfDeferred(d)
}

// use counts a table of upper that stands on d, unless d stands on upper.
func (d *Device) use(upper *Device) error {
	d.mgr.mu.Lock()
	defer d.mgr.mu.Unlock()
	if d.removed || d.unfinished && d != upper {
		return ErrNoDevice
	}
	if ring := d.pathTo(upper, make(map[*Device]bool)); ring != "" {
		return lookupError(unix.EINVAL, "the device would stand on itself: %s -> %s", upper.Name(), ring)
	}
	d.users++
	upper.below[d]++
	return nil
}

// pathTo returns "d -> ... -> target" if d is target or stands on it, else "". It looks at each device
// once, as seen tells. mgr.mu is held.
func (d *Device) pathTo(target *Device, seen map[*Device]bool) string {
	if d == target {
		return d.Name()
	}
	seen[d] = true
	for b := range d.below {
		if seen[b] {
			continue
		}
		if path := b.pathTo(target, seen); path != "" {
			return d.Name() + " -> " + path
		}
	}
	return ""
}

// unuse is called once for each use that succeeded.
func (d *Device) unuse(upper *Device) {
	d.mgr.mu.Lock()
	d.users--
	if upper.below[d]--; upper.below[d] == 0 {
		delete(upper.below, d)
	}
	d.mgr.mu.Unlock()
	d.mgr.removeIfDeferred(d)
}

func (m *Manager) removeIfDeferred(d *Device) {
	m.mu.Lock()
	due := d.deferred && !d.removed && d.opens == 0 && d.users == 0
	m.mu.Unlock()
	if !due {
		return
	}
	// Whoever held on to the device last need not wait for its commit, and may hold locks of
	// control operations; so this runs by itself.
	go func() {
		err := m.remove(context.Background(), d, removeDeferred)
		if err != nil && !errors.Is(err, ErrClosed) {
			m.log.Printf("device-mapper: ioctl: deferred remove of %s: %v", d.Number(), err)
		}
	}()
}

// RemoveOptions modify a removal.
type RemoveOptions struct {
	Force    bool // replace the table by one that fails all I/O first
	Deferred bool // if the device is open, remove it when it is closed
}

func (o RemoveOptions) removal() removal {
	if o.Deferred {
		return removeLater
	}
	return removeNow
}

// A removal says what to do with a device that is in use.
type removal int

const (
	removeNow      removal = iota // refuse
	removeLater                   // mark it, to be removed when it is not in use any more
	removeDeferred                // it was marked: nothing, also if the mark is gone
)

// Remove removes a device. It is refused with ErrBusy while the device is open or a table stands on it.
func (m *Manager) Remove(ctx context.Context, name string, o RemoveOptions) error {
	d := m.ByName(name)
	if d == nil {
		return ErrNotFound
	}
	return m.RemoveDevice(ctx, d, o)
}

// RemoveDevice is Remove for whoever has looked the device up, whatever it is called by then.
func (m *Manager) RemoveDevice(ctx context.Context, d *Device, o RemoveOptions) error {
	if o.Force {
		if err := d.failAll(ctx); err != nil {
			return err
		}
	}
	err := m.remove(ctx, d, o.removal())
	if errors.Is(err, ErrClosed) {
		return ErrNotFound
	}
	return err
}

// failAll swaps in a table of the same size whose I/O fails.
func (d *Device) failAll(ctx context.Context) error {
	if err := d.lockCtl(ctx); err != nil {
		return err
	}
	defer d.unlockCtl()
	size := d.Sectors()
	if size == 0 {
		return nil
	}
	return d.replace(ctx, []Spec{{Len: size, Type: "error"}}, d.ReadOnly(), ResumeOptions{NoFlush: true})
}

// remove takes d out of the lists and tears it down.
func (m *Manager) remove(ctx context.Context, d *Device, how removal) error {
	if err := d.lockCtl(ctx); err != nil {
		return err
	}
	defer d.unlockCtl()
	if how == removeNow { // the others are no sooner done by waiting
		if err := d.awaitRelease(ctx); err != nil {
			return err
		}
	}
	return m.removeLocked(d, how)
}

// removeLocked is called with ctl held.
func (m *Manager) removeLocked(d *Device, how removal) error {
	m.mu.Lock()
	if used := d.opens > 0 || d.users > 0; used && how == removeNow {
		defer m.mu.Unlock()
		return fmt.Errorf("%s is in use, opened by %d and mapped by %d: %w", d.Name(), d.opens, d.users, ErrBusy)
	} else if used || how == removeDeferred && !d.deferred {
		defer m.mu.Unlock()
		d.deferred = d.deferred || how == removeLater
		return nil
	}
	d.removed = true
	m.byName.CompareAndDelete(d.Name(), d)
	m.byID.Delete(d.id)
	delete(m.byMinor, d.minor)
	if d.uuid != "" {
		delete(m.byUUID, d.uuid)
	}
	m.mu.Unlock()

	err := d.teardown(context.Background()) // nobody has it open, so there is nothing to wait for
	d.events.end()
	m.gone(d)
	return err
}

// awaitRelease waits a moment for users of the file to be gone: the kernel tells a FUSE server that a
// file was closed some time after close(2) has returned.
func (d *Device) awaitRelease(ctx context.Context) error {
	m := d.mgr
	m.mu.Lock()
	if d.opens == 0 {
		m.mu.Unlock()
		return nil
	}
	if d.released == nil {
		d.released = make(chan struct{})
	}
	released := d.released
	m.mu.Unlock()
	timer := time.NewTimer(releaseWait)
	defer timer.Stop()
	select {
	case <-released:
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// teardown drains, commits and closes what d holds. ctl is held, nobody can find d any more. The error is
// that ctx ended first; d then holds what it held.
func (d *Device) teardown(ctx context.Context) error {
	if !d.isSuspended() {
		if err := d.suspend(ctx, false); err != nil {
			return err
		}
	}
	d.setInactive(nil)
	if t := d.swap(nil); t != nil {
		t.close()
	}
	// Whoever still waits is told that there is no table.
	d.gate.open()
	d.wakeRequeued()
	return nil
}

// RemoveAll removes all devices that are not open, those on top first. Open ones stay, or are marked when
// deferred. The error says how many stayed only in the log, as in the kernel: it is nil then.
func (m *Manager) RemoveAll(ctx context.Context, o RemoveOptions) error {
	devices := m.BottomUp()
	left := 0
	for i := len(devices) - 1; i >= 0; i-- {
		d := devices[i]
		if o.Force {
			if err := d.failAll(ctx); err != nil && !errors.Is(err, ErrClosed) {
				m.log.Printf("device-mapper: ioctl: %s: %v", d.Number(), err)
			}
		}
		err := m.remove(ctx, d, o.removal())
		switch {
		case errors.Is(err, ErrBusy):
			left++
		case err != nil && !errors.Is(err, ErrClosed):
			return err
		}
	}
	if left > 0 {
		m.log.Printf("device-mapper: ioctl: remove_all left %d open device(s)", left)
	}
	return nil
}

// Flush makes durable what was written to every device before. It does not wait for a resume, except where a
// target must write to a suspended device first.
func (m *Manager) Flush(ctx context.Context) error {
	var errs []error
	devices := m.BottomUp()
	for i := len(devices) - 1; i >= 0; i-- { // what lies above may write below
		d := devices[i]
		if err := d.flushStill(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: flush: %w", d.Name(), err))
		}
	}
	return errors.Join(errs...)
}

// stillKey is the key of a context under which a flush does not wait for the resume of a device that is suspended.
// It is in the context, since there are targets between who flushes and the suspended device.
type stillKey struct{}

// flushStill flushes d without waiting for the resume of a device that is suspended: what a suspended device
// does not have durable yet lies on the disks below targets that only forward, for the others committed.
func (d *Device) flushStill(ctx context.Context) error {
	ctx = context.WithValue(ctx, stillKey{}, true)
	if !d.isSuspended() {
		if d.live.Load() == nil {
			return nil
		}
		err := d.pass(ctx, func(t *Table) error { return t.flushWith(ctx, 0, flushStill) })
		if d.live.Load() == nil {
			return nil // it was removed meanwhile, which flushes
		}
		return err
	}
	t, release := d.hold(LiveSlot)
	defer release()
	if t == nil {
		return nil
	}
	var errs []error
	for _, disk := range t.flushDisks {
		if err := flushStill(ctx, disk); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// flushStill flushes a disk, as Device.flushStill does if it is a mapped device.
func flushStill(ctx context.Context, disk Disk) error {
	if d, ok := disk.(*Device); ok {
		return d.flushStill(ctx)
	}
	return disk.Submit(ctx, Request{Op: OpFlush})
}

// Close flushes and releases everything, whatever is open. It returns what could not be written out. A device
// whose I/O is in flight when ctx ends is not released. No method may be called after.
func (m *Manager) Close(ctx context.Context) error {
	err := m.Flush(ctx)
	devices := m.BottomUp()
	for i := len(devices) - 1; i >= 0; i-- {
		d := devices[i]
		if e := d.lockCtl(ctx); e != nil {
			err = errors.Join(err, e)
			continue
		}
		m.mu.Lock()
		d.removed = true
		m.mu.Unlock()
		if e := d.teardown(ctx); e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", d.Name(), e))
		}
		d.events.end()
		d.unlockCtl()
	}
	return err
}
