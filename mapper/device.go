package mapper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// A Device is a mapped device: a name, two slots for tables, and the I/O that passes through the
// live one. It is also a Disk, for tables that stand on it. All methods are safe for concurrent use.
type Device struct {
	mgr    *Manager
	id     uint64 // never used again
	minor  uint32
	events eventCounter

	gate  gate
	live  atomic.Pointer[Table]
	epoch atomic.Pointer[chan struct{}] // closed at each resume; requeued requests wait for it
	locks rangeLocks
	stats stats

	// ctl holds a token while a control operation (load, suspend, resume, remove) runs.
	ctl chan struct{}

	mu        sync.Mutex // guards what follows, held briefly; writers hold ctl as well
	inactive  *Table
	suspended bool
	hasNode   bool
	geometry  Geometry

	name atomic.Pointer[string] // written under mgr.mu

	// Guarded by mgr.mu.
	uuid     string
	opens    int // by users of the device's file
	users    int // by tables, once for each table
	below    map[*Device]int
	deferred bool
	removed  bool
	// unfinished: being created, so that no table may stand on it yet.
	unfinished bool
	released   chan struct{} // closed when opens falls; nil while nobody waits
}

// Geometry is what setgeometry stores: it has no influence on I/O.
type Geometry struct{ Cylinders, Heads, Sectors, Start uint64 }

// ID is a number that no other device of this Manager has had or will have.
func (d *Device) ID() uint64 { return d.id }

// Minor returns the minor number.
func (d *Device) Minor() uint32 { return d.minor }

// Number returns MAJOR:MINOR.
func (d *Device) Number() string { return fmt.Sprintf("%d:%d", d.mgr.major, d.minor) }

// DiskName is how tables print the device.
func (d *Device) DiskName() string { return d.Number() }

// KernelName is how messages print the device.
func (d *Device) KernelName() string { return fmt.Sprintf("dm-%d", d.minor) }

// Name returns the name, which rename changes.
func (d *Device) Name() string { return *d.name.Load() }

// Sectors returns the length of the live table, 0 without one.
func (d *Device) Sectors() Sector {
	if t := d.live.Load(); t != nil {
		return t.Sectors()
	}
	return 0
}

// Limits returns the limits of the live table.
func (d *Device) Limits() Limits {
	if t := d.live.Load(); t != nil {
		return t.limits
	}
	return Limits{}.Normal()
}

// ReadOnly reports whether the live table is read-only.
func (d *Device) ReadOnly() bool {
	t := d.live.Load()
	return t != nil && t.readOnly
}

// EventNr returns the event counter.
func (d *Device) EventNr() uint32 { return d.events.load() }

// WaitEvent returns the event counter once it differs from nr or the device is gone.
func (d *Device) WaitEvent(ctx context.Context, nr uint32) (uint32, error) {
	return d.events.wait(ctx, nr)
}

// Shut reports whether I/O would have to wait, since the device is suspended.
func (d *Device) Shut() bool { return d.gate.isShut() }

// Await waits until I/O need not wait, for a caller that does not want to hold buffers meanwhile. By the time it
// returns, the device may be suspended again. The error is ctx's.
func (d *Device) Await(ctx context.Context) error { return d.gate.waitOpen(ctx) }

// Submit carries r out as a Disk does. Requests that are not aligned to the logical blocks of the live
// table, as may happen when it was swapped, are carried out as byte ranges.
func (d *Device) Submit(ctx context.Context, r Request) error {
	if r.Op == OpFlush && ctx.Value(stillKey{}) != nil && d.isSuspended() {
		return d.flushStill(ctx)
	}
	return d.pass(ctx, func(t *Table) error {
		if size := t.Sectors(); r.Start > size || r.Count > size-r.Start {
			return fmt.Errorf("%s of %d sectors at %d, past the end of %s at %d: %w", r.Op, r.Count, r.Start, d.KernelName(), size, ErrIO)
		}
		if n := t.limits.LogicalSectors(); n == 1 || (r.Start|r.Count)&(n-1) == 0 {
			return t.submit(ctx, r)
		}
		return t.submitUnaligned(ctx, r)
	})
}

// pass calls f with the live table, inside the gate. A request that f reports as requeued is
// tried again after the next resume.
func (d *Device) pass(ctx context.Context, f func(t *Table) error) error {
	for {
		t, resumed, err := d.enter(ctx)
		if err != nil {
			return err
		}
		err = f(t)
		d.gate.leave()
		if err == nil || !errors.Is(err, ErrRequeue) {
			return err
		}
		if err := waitFor(ctx, resumed); err != nil {
			return err
		}
	}
}

// enter passes the gate. If there is a live table it is returned with a channel that the next
// resume closes, and the caller leaves the gate when it is done; else the error is ErrIO.
func (d *Device) enter(ctx context.Context) (*Table, <-chan struct{}, error) {
	resumed := *d.epoch.Load()
	if err := d.gate.enter(ctx); err != nil {
		return nil, nil, err
	}
	t := d.live.Load()
	if t == nil {
		d.gate.leave()
		return nil, nil, fmt.Errorf("%s has no table: %w", d.KernelName(), ErrIO)
	}
	return t, resumed, nil
}

func waitFor(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// lockCtl makes the caller the only one to change d until unlockCtl. The error is ctx's, or that the
// device is gone.
func (d *Device) lockCtl(ctx context.Context) error {
	select {
	case d.ctl <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	d.mgr.mu.Lock()
	removed := d.removed
	d.mgr.mu.Unlock()
	if removed {
		d.unlockCtl()
		return ErrClosed
	}
	return nil
}

func (d *Device) unlockCtl() { <-d.ctl }

// Load builds a table into the inactive slot; what was there is dropped. I/O goes on meanwhile.
// When it fails, with a *SegmentError if a line is at fault, the slot is as it was.
func (d *Device) Load(ctx context.Context, specs []Spec, readOnly bool) error {
	if err := d.lockCtl(ctx); err != nil {
		return err
	}
	defer d.unlockCtl()
	return d.load(ctx, specs, readOnly)
}

func (d *Device) load(ctx context.Context, specs []Spec, readOnly bool) error {
	t, err := buildTable(ctx, d, specs, readOnly || d.mgr.readOnly)
	if err != nil {
		return err
	}
	if err := d.checkImmutable(t); err != nil {
		t.close()
		return err
	}
	d.setInactive(t)
	return nil
}

// Replace builds a table and makes it live, as Load and Resume do, with nobody's command in between. When it fails
// to build the slots are as they were; when it fails to start the inactive one is empty.
func (d *Device) Replace(ctx context.Context, specs []Spec, readOnly bool) error {
	if err := d.lockCtl(ctx); err != nil {
		return err
	}
	defer d.unlockCtl()
	return d.replace(ctx, specs, readOnly, ResumeOptions{})
}

func (d *Device) replace(ctx context.Context, specs []Spec, readOnly bool, o ResumeOptions) error {
	if err := d.load(ctx, specs, readOnly); err != nil {
		return err
	}
	if err := d.resume(ctx, o); err != nil {
		d.setInactive(nil)
		return err
	}
	return nil
}

func (d *Device) checkImmutable(t *Table) error {
	live := d.live.Load()
	wildcard := func(s segment) bool { return s.typ.Features&Wildcard != 0 }
	if live == nil || slices.ContainsFunc(t.segs, wildcard) {
		return nil
	}
	for i := range live.segs {
		typ := live.segs[i].typ
		if typ.Features&Immutable != 0 && t.segs[0].typ != typ {
			d.mgr.log.Printf("device-mapper: ioctl: can't replace immutable target type %s", typ.Name)
			return BadArg("can't replace immutable target type "+typ.Name, "remove the device first")
		}
	}
	return nil
}

// setInactive puts t, which may be nil, into the inactive slot and closes what was there.
func (d *Device) setInactive(t *Table) {
	d.mu.Lock()
	old := d.inactive
	d.inactive = t
	d.mu.Unlock()
	if old != nil {
		old.close()
	}
}

// Clear drops the inactive table.
func (d *Device) Clear(ctx context.Context) error {
	if err := d.lockCtl(ctx); err != nil {
		return err
	}
	defer d.unlockCtl()
	d.setInactive(nil)
	return nil
}

// SetGeometry stores g if the kernel would: within its ranges, and the start inside.
func (d *Device) SetGeometry(g Geometry) error {
	refuse := func(origin, reason string) error {
		d.mgr.log.Printf("device-mapper: %s: %s", origin, reason)
		return BadArg(reason, "%d cylinders, %d heads, %d sectors, start %d", g.Cylinders, g.Heads, g.Sectors, g.Start)
	}
	if g.Cylinders > 65535 || g.Heads > 255 || g.Sectors > 255 {
		return refuse("ioctl", "Geometry exceeds range limits.")
	}
	if g.Start > g.Cylinders*g.Heads*g.Sectors {
		return refuse("core", "Start sector is beyond the geometry limits.")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.geometry = g
	return nil
}
