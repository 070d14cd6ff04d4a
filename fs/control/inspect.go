package control

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"dmfs/mapper"
)

// selection is what query and wait take: one device, or all, and what to tell of them.
type selection struct {
	device                                     *mapper.Device // nil means all
	table, status, inactive, noFlush, showKeys bool
}

func (s *Session) selection(a *args) (sel selection, err error) {
	if len(a.words) > 0 {
		if sel.device, err = s.selector(a); err != nil {
			return sel, err
		}
	}
	a.flags(map[string]*bool{
		"table": &sel.table, "status": &sel.status, "inactive": &sel.inactive, "noflush": &sel.noFlush, "showkeys": &sel.showKeys,
	})
	return sel, nil
}

// selector uses up name=N, uuid=U, dev=MAJ:MIN or minor=MIN if it is next.
func (s *Session) selector(a *args) (*mapper.Device, error) {
	key, value, ok := strings.Cut(a.words[0], "=")
	if !ok {
		return nil, nil
	}
	var d *mapper.Device
	switch key {
	case "name":
		d = s.m.ByName(value)
	case "uuid":
		d = s.m.ByUUID(value)
	case "dev":
		var major, minor uint32
		if _, err := fmt.Sscanf(value, "%d:%d", &major, &minor); err != nil {
			return nil, mapper.BadArg("invalid device number", "%q, want MAJOR:MINOR", value)
		}
		if major == s.m.Major() {
			d = s.m.ByMinor(minor)
		}
	case "minor":
		minor, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return nil, mapper.BadArg("invalid minor number", "%q", value)
		}
		d = s.m.ByMinor(uint32(minor))
	default:
		return nil, mapper.BadArg("unexpected word", "%q, want name=, uuid=, dev= or minor=", a.words[0])
	}
	if d == nil {
		return nil, fmt.Errorf("%s: %w", a.words[0], mapper.ErrNotFound)
	}
	a.words = a.words[1:]
	return d, nil
}

func query(ctx context.Context, s *Session, a *args) (string, error) {
	sel, err := s.selection(a)
	if err != nil {
		return "", err
	}
	if err := a.end(); err != nil {
		return "", err
	}
	devices := []*mapper.Device{sel.device}
	if sel.device == nil {
		devices = s.m.Devices()
	}
	doc := Document{Devices: []Device{}}
	for _, d := range devices {
		state, err := describe(ctx, d, sel)
		if err != nil {
			return "", err
		}
		doc.Devices = append(doc.Devices, state)
	}
	return document(doc)
}

func wait(ctx context.Context, s *Session, a *args) (string, error) {
	if len(a.words) == 0 {
		return "", mapper.BadArg("missing argument", "want name=, uuid=, dev= or minor=")
	}
	d, err := s.selector(a)
	if err != nil {
		return "", err
	}
	if d == nil {
		return "", mapper.BadArg("missing argument", "want name=, uuid=, dev= or minor=")
	}
	word, err := a.next("an event number")
	if err != nil {
		return "", err
	}
	nr, err := strconv.ParseUint(word, 10, 32)
	if err != nil {
		return "", mapper.BadArg("invalid event number", "%q", word)
	}
	sel := selection{device: d}
	a.flags(map[string]*bool{"table": &sel.table, "inactive": &sel.inactive, "noflush": &sel.noFlush, "showkeys": &sel.showKeys})
	sel.status = !sel.table
	if err := a.end(); err != nil {
		return "", err
	}
	if _, err := d.WaitEvent(ctx, uint32(nr)); err != nil {
		return "", err
	}
	state, err := describe(ctx, d, sel)
	if err != nil {
		return "", err
	}
	return document(Document{Devices: []Device{state}})
}

// describe returns the state of d.
func describe(ctx context.Context, d *mapper.Device, sel selection) (Device, error) {
	i := d.Info()
	slot := mapper.Slot(sel.inactive)
	out := Device{
		ID: d.ID(), Name: i.Name, UUID: i.UUID, Major: i.Major, Minor: i.Minor,
		Suspended: i.Suspended, ReadOnly: i.ReadOnly, Live: i.Live, Inactive: i.Inactive,
		DeferredRemove: i.DeferredRemove, OpenCount: i.OpenCount, EventNr: i.EventNr,
		Targets: i.Segments, Sectors: uint64(i.Sectors), HasNode: i.HasNode,
		Geometry: [4]uint64{i.Geometry.Cylinders, i.Geometry.Heads, i.Geometry.Sectors, i.Geometry.Start},
		Limits:   describeLimits(d.Limits()),
		Deps:     []Dep{}, RawName: raw(i.Name), RawUUID: raw(i.UUID),
	}
	if sel.inactive {
		out.ReadOnly, out.Targets = i.InactiveReadOnly, i.InactiveSegments
	}
	for _, disk := range d.Disks(slot) {
		out.Deps = append(out.Deps, describeDisk(disk))
	}
	if sel.table {
		out.Table = lines(d.Table(slot, sel.showKeys, false))
	}
	if sel.status {
		status, err := d.Status(ctx, slot, sel.noFlush)
		if err != nil {
			return out, err
		}
		out.Status = lines(status)
	}
	return out, nil
}

func describeLimits(l mapper.Limits) Limits {
	l = l.Normal()
	return Limits{
		LogicalBlock: l.LogicalBlock, PhysicalBlock: l.PhysicalBlock, MinIO: l.MinIO, OptIO: l.OptIO,
		DiscardGranularity: uint64(l.DiscardGranularity), MaxDiscard: uint64(l.MaxDiscard), MaxWriteZeroes: uint64(l.MaxWriteZeroes),
		VolatileCache: l.VolatileCache,
	}
}

func describeDisk(disk mapper.Disk) Dep {
	switch x := disk.(type) {
	case *mapper.Device:
		i := x.Info()
		return Dep{Major: i.Major, Minor: i.Minor, Device: i.Name, BlockName: x.KernelName()}
	case interface {
		BlockDevice() (major, minor uint32, ok bool)
	}:
		if major, minor, ok := x.BlockDevice(); ok {
			return Dep{Major: major, Minor: minor, BlockName: mapper.KernelName(disk)}
		}
	}
	if x, ok := disk.(interface{ Path() string }); ok {
		return Dep{Path: x.Path()}
	}
	return Dep{Path: mapper.DiskName(disk)}
}

func lines(have []mapper.TableLine) []Line {
	out := make([]Line, len(have))
	for i, l := range have {
		out[i] = Line{Start: uint64(l.Start), Len: uint64(l.Len), Target: l.Type, Params: l.Params, RawParams: raw(l.Params)}
	}
	return out
}

// Save returns the commands that would re-create what is mapped, those below first. Suspends come last and from the
// top, as a suspended device answers nobody who stands on it.
func Save(m *mapper.Manager) string {
	var b strings.Builder
	devices := m.BottomUp()
	for _, d := range devices {
		save(&b, d)
	}
	for i := len(devices) - 1; i >= 0; i-- {
		if i := devices[i].Info(); i.Suspended {
			fmt.Fprintf(&b, "suspend %s\n", mapper.QuoteArg(i.Name))
		}
	}
	return b.String()
}

func save(b *strings.Builder, d *mapper.Device) {
	i := d.Info()
	name := mapper.QuoteArg(i.Name)
	fmt.Fprintf(b, "create %s", name)
	if i.UUID != "" {
		fmt.Fprintf(b, " %s", mapper.QuoteArg("uuid="+i.UUID))
	}
	fmt.Fprintf(b, " minor=%d", i.Minor)
	live := d.Table(mapper.LiveSlot, false, true)
	if len(live) == 0 {
		b.WriteString(" notable\n")
	} else {
		if d.ReadOnly() {
			b.WriteString(" ro")
		}
		saveTable(b, live)
	}
	if inactive := d.Table(mapper.InactiveSlot, false, true); len(inactive) > 0 {
		fmt.Fprintf(b, "load %s", name)
		if i.InactiveReadOnly {
			b.WriteString(" ro")
		}
		saveTable(b, inactive)
	}
	if g := i.Geometry; g != (mapper.Geometry{}) {
		fmt.Fprintf(b, "setgeometry %s %d %d %d %d\n", name, g.Cylinders, g.Heads, g.Sectors, g.Start)
	}
}

func saveTable(b *strings.Builder, table []mapper.TableLine) {
	b.WriteString(" {\n")
	for _, l := range table {
		b.WriteString(strings.TrimRight(l.String(), " "))
		b.WriteByte('\n')
	}
	b.WriteString("}\n")
}

// TableText returns lines as the table and status files show them.
func TableText(have []mapper.TableLine) string {
	var b strings.Builder
	for _, l := range have {
		b.WriteString(l.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// ReadAhead is what info shows for every device that has a file, in sectors: the kernel's default.
const ReadAhead = 256

// InfoText returns what dmsetup info prints of d, without the empty line at the end.
func InfoText(d Device) string {
	state := "ACTIVE"
	if d.Suspended {
		state = "SUSPENDED"
	}
	if d.ReadOnly {
		state += " (READ-ONLY)"
	}
	if d.DeferredRemove {
		state += " (DEFERRED REMOVE)"
	}
	present := "None"
	switch {
	case d.Live && d.Inactive:
		present = "LIVE & INACTIVE"
	case d.Live:
		present = "LIVE"
	case d.Inactive:
		present = "INACTIVE"
	}
	var b strings.Builder
	row := func(label string, value any) { fmt.Fprintf(&b, "%-19s%v\n", label+":", value) }
	row("Name", d.Name)
	row("State", state)
	if d.HasNode {
		row("Read Ahead", ReadAhead)
	}
	row("Tables present", present)
	row("Open count", d.OpenCount)
	row("Event number", d.EventNr)
	row("Major, minor", fmt.Sprintf("%d, %d", d.Major, d.Minor))
	row("Number of targets", d.Targets)
	if d.UUID != "" {
		fmt.Fprintf(&b, "UUID: %s\n", d.UUID)
	}
	return b.String()
}

// Describe returns the state of d, without its lines.
func Describe(ctx context.Context, d *mapper.Device) (Device, error) {
	return describe(ctx, d, selection{})
}
