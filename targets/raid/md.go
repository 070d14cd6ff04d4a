package raid

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"sync/atomic"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
	"dmfs/targets/raid/md"
)

// MDType is the target md: an array of Linux software RAID, as its superblocks describe it.
var MDType = mapper.Type{Name: "md", Version: [3]int{1, 0, 0}, New: newMD}

// mdArray is the target: that of raid on the data of md's members, whose metadata are shown to it as dm-raid's.
//
// The superblocks are read when the table is loaded, to refuse what does not fit, and again when it is first resumed: until then a table that was live
// may have written to the array.
type mdArray struct {
	spec  mapper.Spec
	host  mapper.Host
	force bool
	names []string
	disks []mapper.Disk // by names
	areas []mapper.Area

	resumed bool
	now     atomic.Pointer[mdState]
}

// mdState is what was made of the superblocks when they were last read.
type mdState struct {
	*target
	meta  []*mdMetadata
	dirty bool
}

const mdUsage = "want [force] N DISK*N, the disks that have members, in any order"

func newMD(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
	x := &mdArray{host: h, spec: s}
	words := s.Args
	if len(words) > 0 && words[0] == "force" {
		x.force, words = true, words[1:]
	}
	if len(words) == 0 {
		return nil, mapper.BadArg("Invalid argument count", mdUsage)
	}
	if n, err := strconv.ParseUint(words[0], 10, 8); err != nil || n < 1 || n > maxMembers || int(n) != len(words)-1 {
		return nil, mapper.BadArg("Invalid argument count", "%q with %d disks: "+mdUsage, words[0], len(words)-1)
	}
	x.names = words[1:]
	for _, name := range x.names {
		d, err := args.Open(ctx, h, name, "RAID device lookup failure")
		if err != nil {
			return nil, err
		}
		if slices.Contains(x.disks, d) {
			return nil, mapper.BadArg("RAID device lookup failure", "%s is named twice", mapper.DiskName(d))
		}
		x.disks = append(x.disks, d)
	}
	return x, x.assemble(ctx)
}

// assemble makes the array of what the superblocks say.
func (x *mdArray) assemble(ctx context.Context) error {
	a, err := x.read(ctx)
	if err != nil {
		return err
	}
	if a.Level < 1 {
		return mapper.BadArg("Invalid level", "level %d keeps nothing but data: dmfs open maps it with linear and striped", a.Level)
	}
	if have := a.Sectors(); have != x.spec.Len {
		return mapper.BadArg("Invalid length", "the array has %d sectors, the segment %d", have, x.spec.Len)
	}
	if missing := a.Missing(); len(missing) > 0 && !x.host.ReadOnly() && !x.force {
		return mapper.BadArg("Failed to run raid array", "%s: "+mdCure, md.Gone(missing))
	}
	inner, err := x.inner(a)
	if err != nil {
		return err
	}
	hidden := &mdHost{Host: x.host, disks: make(map[string]mapper.Disk)}
	now := &mdState{dirty: a.Dirty}
	if now.meta, err = x.show(ctx, a, inner, hidden); err != nil {
		return err
	}
	made, err := newTarget(ctx, hidden, inner)
	if err != nil {
		return err
	}
	now.target = made.(*target) // the levels are those that are not raid0
	if !a.Dirty {
		now.bitmap.needNone()
	}
	x.now.Store(now)
	return nil
}

const mdCure = "map it read-only, or with force"

// mdHost is the host, with the parts of members under names of their own.
type mdHost struct {
	mapper.Host
	disks map[string]mapper.Disk
}

// Open returns a part of a member.
func (h *mdHost) Open(_ context.Context, name string) (mapper.Disk, error) {
	if d := h.disks[name]; d != nil {
		return d, nil
	}
	return nil, mapper.ErrNoDevice
}

// A sectorReader reads a disk where a superblock may be, which are whole blocks.
type sectorReader struct {
	ctx  context.Context
	disk mapper.Disk
}

// ReadAt implements io.ReaderAt for whole blocks.
func (r sectorReader) ReadAt(p []byte, off int64) (int, error) {
	err := r.disk.Submit(r.ctx, mapper.Request{Op: mapper.OpRead, Start: mapper.SectorsOf(off), Count: mapper.SectorsOf(int64(len(p))), Data: p})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// read reads the superblocks and puts the array together.
func (x *mdArray) read(ctx context.Context) (*md.Array, error) {
	const reason = "Unable to assemble array"
	supers := make([]*md.Super, len(x.disks))
	areas := make([]mapper.Area, len(x.disks))
	for i, d := range x.disks {
		const most = 4096
		if block := d.Limits().LogicalBlock; block > most {
			return nil, mapper.BadArg(reason, "%s has blocks of %d bytes: at most %d", mapper.DiskName(d), block, most)
		}
		var err error
		if supers[i], err = md.Read(sectorReader{ctx, d}, d.Sectors().Bytes()); err != nil {
			return nil, mapper.BadArg(reason, "%s: %v", mapper.DiskName(d), err)
		}
		areas[i] = mapper.Area{Disk: d, Start: supers[i].Data, Len: supers[i].Dev}
	}
	if x.areas == nil {
		x.areas = areas
	}
	a, err := md.Assemble(x.names, supers, x.force)
	if err != nil {
		return nil, mapper.BadArg(reason, "%v", err)
	}
	if !x.resumed {
		for _, left := range a.Left {
			x.host.Logf("%v", left)
		}
	}
	return a, nil
}

// inner returns the line of the target raid for the array. Its disks are called by their places.
func (x *mdArray) inner(a *md.Array) (mapper.Spec, error) {
	name, options, err := mdLevel(a)
	if err != nil {
		return mapper.Spec{}, err
	}
	chunk := a.Chunk
	if a.Level == 1 {
		chunk = 0
	}
	line := append([]string{strconv.FormatUint(uint64(chunk), 10)}, options...)
	line = append(line, "region_size", strconv.FormatUint(uint64(x.region(a)), 10))
	disks := []string{strconv.Itoa(a.Members)}
	for place, i := range a.Disks {
		if i < 0 {
			disks = append(disks, "-", "-")
			continue
		}
		disks = append(disks, mdName("meta", place), mdName("data", place))
		if a.Level == 1 && a.Supers[i].Mostly {
			line = append(line, "write_mostly", strconv.Itoa(place))
		}
	}
	words := append([]string{name, strconv.Itoa(len(line))}, line...)
	return mapper.Spec{Len: x.spec.Len, Type: mdInner, Args: append(words, disks...)}, nil
}

// mdInner is the type in the specification of the target below, by which it knows algorithms that its tables have no word for.
const mdInner = "md"

func mdName(what string, place int) string { return what + " " + strconv.Itoa(place) }

// mdLevel returns the type that the target raid has for a level and layout of md, and its options.
func mdLevel(a *md.Array) (name string, options []string, err error) {
	level, layout := uint32(a.Level), a.Layout
	switch a.Level {
	case 1:
		return "raid1", nil, nil
	case 4:
		level, layout = 5, parityLast
	case 10:
		return mdLevel10(a)
	}
	name = typeOf(level, layout)
	for _, typ := range mdTypes {
		if typ.level == level && typ.layout == layout {
			name = typ.name
		}
	}
	if name == "" {
		return "", nil, mapper.BadArg("Invalid layout", "layout %d of level %d is not known", layout, level)
	}
	return name, nil, nil
}

func mdLevel10(a *md.Array) (name string, options []string, err error) {
	near, far := a.Layout&0xff, a.Layout>>farShift&0xff
	copies, format := near, "near"
	switch {
	case a.Layout&^knownLayout != 0, near > 1 && far > 1, near*far < 2:
		return "", nil, mapper.BadArg("Invalid layout", "layout %#x of raid10: near, far or offset copies are known, not both", a.Layout)
	case far > 1 && a.Layout&offsetBit != 0:
		copies, format = far, "offset"
	case far > 1:
		copies, format = far, "far"
	}
	options = []string{"raid10_copies", strconv.Itoa(int(copies)), "raid10_format", format}
	if format != "near" && a.Layout&useFarSets == 0 {
		options = append(options, "raid10_use_near_sets")
	}
	return "raid10", options, nil
}

// region returns the region size of the bitmap, in sectors: that of md's, if it has one, else one so large that the bitmap takes a page, if there is one.
func (x *mdArray) region(a *md.Array) mapper.Sector {
	for _, i := range a.Disks {
		if i >= 0 && a.Supers[i].Bitmap != 0 {
			if n, err := x.mdRegion(a.Supers[i], x.disks[i]); err == nil {
				return n
			}
		}
	}
	const regions = 8 * (bitmapPageSize - bitmapHeader)
	const largest mapper.Sector = 1 << 22 // whose bytes a header can tell
	most := (max(x.spec.Len, a.Dev) + regions - 1) / regions
	return max(a.Chunk, leastChunk, min(largest, mapper.Sector(1)<<bits.Len64(uint64(most))))
}

// mdRegion reads the size of a region from the header of md's bitmap.
func (x *mdArray) mdRegion(s *md.Super, disk mapper.Disk) (mapper.Sector, error) {
	head := make([]byte, bitmapPageSize)
	if _, err := (sectorReader{context.Background(), disk}).ReadAt(head, s.Bitmap.Bytes()); err != nil {
		return 0, err
	}
	b, err := decodeBitmap(head)
	if err != nil {
		return 0, err
	}
	return mapper.SectorsOf(int64(b.regionBytes)), nil
}

// show makes the disks that the target below is to have.
func (x *mdArray) show(ctx context.Context, a *md.Array, inner mapper.Spec, h *mdHost) (list []*mdMetadata, err error) {
	c, err := parse(inner, noJournal)
	if err != nil {
		return nil, err
	}
	dev, err := devSectors(c, inner.Len)
	if err != nil {
		return nil, err
	}
	geo := c.geometry(dev, inner.Len)
	shown := (&target{cfg: c, geo: geo}).newSuper()
	shown.events = a.Events
	for place, ok := range a.Present() {
		shown.setFailed(place, !ok)
	}
	for place, i := range a.Disks {
		if i < 0 {
			continue
		}
		s := a.Supers[i]
		shown.position, shown.rebuilt = uint32(place), done
		if s.Recovered < s.Dev {
			shown.rebuilt = s.Recovered
		}
		m, err := newMDMetadata(ctx, x.disks[i], s, a, shown, &geo, c.region)
		if err != nil {
			return nil, mapper.BadArg("Unable to assemble array", "%s: %v", mapper.DiskName(x.disks[i]), err)
		}
		h.disks[mdName("meta", place)] = m
		h.disks[mdName("data", place)] = &window{Disk: x.disks[i], start: s.Data, sectors: s.Dev}
		list = append(list, m)
	}
	return list, nil
}

// Submit carries r out.
func (x *mdArray) Submit(ctx context.Context, r mapper.Request) error {
	return x.now.Load().Submit(ctx, r)
}

// Areas returns what of the disks has data.
func (x *mdArray) Areas() []mapper.Area { return x.areas }

// Hints asks for what the array does best.
func (x *mdArray) Hints(l *mapper.Limits) { x.now.Load().Hints(l) }

// Table returns the table line.
func (x *mdArray) Table(bool) []string {
	var list []string
	if x.force {
		list = append(list, "force")
	}
	list = append(list, strconv.Itoa(len(x.disks)))
	for _, d := range x.disks {
		list = append(list, mapper.DiskName(d))
	}
	return list
}

// Status returns that of the target raid.
func (x *mdArray) Status(ctx context.Context, noFlush bool) (string, error) {
	return x.now.Load().Status(ctx, noFlush)
}

// Message takes the messages of the target raid.
func (x *mdArray) Message(ctx context.Context, words []string) (string, error) {
	return x.now.Load().Message(ctx, words)
}

// PreResume reads the superblocks anew the first time, and has them say that somebody may write.
func (x *mdArray) PreResume(ctx context.Context) error {
	if !x.resumed {
		old := x.now.Load()
		if err := errors.Join(old.Close(), x.assemble(ctx)); err != nil {
			return err
		}
		if x.now.Load().dirty && !x.host.ReadOnly() && !x.force {
			return mapper.BadArg("Failed to run raid array", "it was not closed, or was never in sync: "+mdCure+", and it is resynced")
		}
		x.resumed = true
	}
	if err := x.closed(ctx, false); err != nil {
		return err
	}
	return x.now.Load().PreResume(ctx)
}

// Resume starts what the array does by itself.
func (x *mdArray) Resume() { x.now.Load().Resume() }

// PreSuspend stops that.
func (x *mdArray) PreSuspend(noFlush bool) { x.now.Load().PreSuspend(noFlush) }

// PreSuspendUndo starts it again.
func (x *mdArray) PreSuspendUndo() { x.now.Load().PreSuspendUndo() }

// PostSuspend has the superblocks say that nobody writes, unless something is left to be resynced.
func (x *mdArray) PostSuspend(ctx context.Context) error {
	t := x.now.Load()
	if err := t.PostSuspend(ctx); err != nil || t.readOnly || t.unsynced.Load() {
		return err
	}
	if err := t.flushData(ctx); err != nil {
		return err
	}
	return x.closed(ctx, true)
}

// Close stops what a table that was never suspended left running.
func (x *mdArray) Close() error { return x.now.Load().Close() }

func (x *mdArray) closed(ctx context.Context, closed bool) error {
	t := x.now.Load()
	var err error
	for _, m := range t.meta {
		if t.readOnly || t.members[m.super.Role].dead.Load() {
			continue
		}
		if e := m.close(ctx, closed); e != nil {
			err = errors.Join(err, fmt.Errorf("superblock of %s: %w", m.DiskName(), e))
		}
	}
	return err
}
