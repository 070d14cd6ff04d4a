package mapper

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
)

// A Slot is one of the two places for a table.
type Slot bool

// The slots of a device.
const (
	LiveSlot     Slot = false
	InactiveSlot Slot = true
)

// hold returns the table in a slot, nil if there is none. It stays open until the caller calls release.
// This does not wait for control operations: a message may be what a suspend in progress needs.
func (d *Device) hold(slot Slot) (t *Table, release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t = d.live.Load(); slot == InactiveSlot {
		t = d.inactive
	}
	if t == nil {
		return nil, func() {}
	}
	// A table in a slot is not being closed, so this does not wait.
	if err := t.holders.enter(context.Background()); err != nil {
		panic("mapper: " + err.Error())
	}
	return t, t.holders.leave
}

// Table returns the lines of the table in a slot, none if it is empty. Keys are zeroes unless showKeys.
// With names, mapped devices appear by name instead of MAJOR:MINOR and block devices by path, so that
// the lines can be replayed.
func (d *Device) Table(slot Slot, showKeys, names bool) []TableLine {
	t, release := d.hold(slot)
	defer release()
	if t == nil {
		return nil
	}
	return t.lines(showKeys, names)
}

// Status returns the status lines of the table in a slot. noFlush asks the targets not to commit first.
func (d *Device) Status(ctx context.Context, slot Slot, noFlush bool) ([]TableLine, error) {
	t, release := d.hold(slot)
	defer release()
	if t == nil {
		return nil, nil
	}
	return t.status(ctx, noFlush)
}

// An Info is the state of a device at one moment.
type Info struct {
	Name, UUID                string
	Major, Minor              uint32
	Live, Inactive, Suspended bool
	ReadOnly                  bool // of the live table, else of the inactive one
	InactiveReadOnly          bool
	InactiveSegments          int
	HasNode                   bool
	DeferredRemove            bool
	OpenCount                 int
	EventNr                   uint32
	Segments                  int    // of the live table
	Sectors                   Sector // of the live table
	Geometry                  Geometry
}

// loaded returns the size of the inactive table, 0 if there is none.
func (d *Device) loaded() Sector {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inactive == nil {
		return 0
	}
	return d.inactive.Sectors()
}

// Opened reports whether anybody has the file of d open; devices on top of it do not count.
func (d *Device) Opened() bool {
	d.mgr.mu.Lock()
	defer d.mgr.mu.Unlock()
	return d.opens > 0
}

// Info returns the state of d.
func (d *Device) Info() Info {
	d.mgr.mu.Lock()
	i := Info{Name: d.Name(), UUID: d.uuid, DeferredRemove: d.deferred, OpenCount: d.opens + d.users}
	d.mgr.mu.Unlock()
	i.Major, i.Minor, i.EventNr = d.mgr.major, d.minor, d.events.load()
	d.mu.Lock()
	defer d.mu.Unlock()
	live := d.live.Load()
	i.Live, i.Inactive, i.Suspended = live != nil, d.inactive != nil, d.suspended
	i.HasNode, i.Geometry = d.hasNode, d.geometry
	if d.inactive != nil {
		i.InactiveReadOnly, i.InactiveSegments = d.inactive.readOnly, len(d.inactive.segs)
	}
	switch {
	case live != nil:
		i.ReadOnly, i.Segments, i.Sectors = live.readOnly, len(live.segs), live.Sectors()
	case d.inactive != nil:
		i.ReadOnly = i.InactiveReadOnly
	}
	return i
}

// Disks returns the distinct disks of the table in a slot, in the order its lines name them. They are
// for looking at only: the table may be gone when this returns.
func (d *Device) Disks(slot Slot) []Disk {
	t, release := d.hold(slot)
	defer release()
	if t == nil {
		return nil
	}
	return append([]Disk(nil), t.disks...)
}

// Message hands a message to the target at sector s of the live table, or to the core if it begins
// with @. The reply may be empty.
func (d *Device) Message(ctx context.Context, s Sector, args []string) (string, error) {
	return d.MessageWithin(ctx, s, args, math.MaxInt)
}

// MessageWithin is Message for a caller who has room for so many bytes of reply, a NUL behind it among them, and asks again
// with more. A message to the core whose reply does not fit changes nothing; the reply is returned all the same, if there is one yet.
func (d *Device) MessageWithin(ctx context.Context, s Sector, args []string, room int) (string, error) {
	if len(args) == 0 || len(args) == 1 && args[0] == "" {
		return "", d.refuseMessage("Empty message received.", "")
	}
	if strings.HasPrefix(args[0], "@") {
		return d.coreMessage(args, room)
	}
	t, release := d.hold(LiveSlot)
	defer release()
	if t == nil {
		return "", ErrNotFound
	}
	if s >= t.Sectors() {
		return "", d.refuseMessage("Target message sector outside device.", fmt.Sprintf("sector %d of %d", s, t.Sectors()))
	}
	seg := t.find(s)
	m, ok := seg.target.(Messenger)
	if !ok {
		return "", d.refuseMessage("Target type does not support messages", seg.typ.Name)
	}
	reply, err := m.Message(ctx, args)
	if text := reasonOf(err); text != "" {
		d.mgr.log.Printf("device-mapper: %s: %s", seg.typ.Name, text)
	}
	return reply, err
}

// reasonOf returns what the log says of a message that was refused; nothing where the kernel is silent.
func reasonOf(err error) string {
	var arg *ArgError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &arg):
		return arg.Reason
	}
	return err.Error()
}

// coreMessage answers messages that are for no target.
func (d *Device) coreMessage(args []string, room int) (string, error) {
	// The kernel does not mind capitals.
	if _, ok := cutPrefixFold(args[0], "@stats_"); ok {
		return d.statMessage(args, room)
	}
	if strings.EqualFold(args[0], "@cancel_deferred_remove") {
		if len(args) != 1 {
			return "", d.refuseMessage("Invalid arguments for @cancel_deferred_remove", fmt.Sprintf("%d, want none", len(args)-1))
		}
		d.mgr.mu.Lock()
		defer d.mgr.mu.Unlock()
		d.deferred = false
		return "", nil
	}
	return "", d.refuseMessage("Unsupported message sent to DM core: "+args[0], "")
}

func (d *Device) refuseMessage(reason, detail string) error {
	d.mgr.log.Printf("device-mapper: ioctl: %s", reason)
	return &ArgError{Reason: reason, Detail: detail}
}

// Log returns the log of the device's manager.
func (d *Device) Log() *Log { return d.mgr.log }
