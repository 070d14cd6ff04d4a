package raid

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

func newTarget(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
	t, err := build(ctx, h, s)
	switch {
	case err != nil:
		return nil, err
	case t.geo.level == 0:
		return striped{t}, nil
	}
	return t, nil
}

// build makes a target of what table line and metadata say.
func build(ctx context.Context, h mapper.Host, s mapper.Spec) (*target, error) {
	var log mapper.Disk
	c, err := parse(s, func(name string) (err error) {
		log, err = openJournal(ctx, h, name)
		return err
	})
	if c != nil {
		for _, note := range c.notes {
			h.Logf("%s", note)
		}
	}
	if err != nil {
		return nil, err
	}
	t := &target{host: h, spec: s, cfg: c, readOnly: h.ReadOnly(), members: make([]member, c.members), kick: make(chan struct{}, 1)}
	if err := t.openDisks(ctx); err != nil {
		return nil, err
	}
	dev, err := devSectors(c, s.Len)
	if err != nil {
		return nil, err
	}
	if err := t.checkSizes(dev); err != nil {
		return nil, err
	}
	t.geo = c.geometry(dev, s.Len)
	if err := t.assemble(ctx); err != nil {
		return nil, err
	}
	if t.cur == nil {
		t.cur = &plane{target: t, geo: t.geo, offset: t.super.offset}
	}
	if log != nil {
		if err := t.takeJournal(log); err != nil {
			return nil, err
		}
	}
	t.logCapabilities()
	return t, nil
}

// geometry returns where an array of that length lies that uses dev sectors of each member.
func (c *config) geometry(dev, length mapper.Sector) geometry {
	layout := c.typ.layout
	if c.typ.level == 10 {
		layout = c.layout10
	}
	return newGeometry(c.typ.level, layout, c.members, c.chunk, dev, length)
}

// openDisks opens what the line names.
func (t *target) openDisks(ctx context.Context) error {
	for i := range t.members {
		m := &t.members[i]
		m.index, m.mostly = i, t.cfg.mostly[i]
		m.good.Store(uint64(done))
		meta, data := t.cfg.disks[2*i], t.cfg.disks[2*i+1]
		var err error
		if meta != "-" {
			if m.meta, err = args.Open(ctx, t.host, meta, "RAID metadata device lookup failure"); err != nil {
				return err
			}
		}
		if data == "-" {
			switch {
			case t.cfg.rebuild[i]:
				return mapper.BadArg("Drive designated for rebuild not specified", "rebuild %d, but the member is absent", i)
			case m.meta != nil:
				return mapper.BadArg("No data device supplied with metadata device", "member %d", i)
			}
			m.dead.Store(true)
			continue
		}
		if m.data, err = args.Open(ctx, t.host, data, "RAID device lookup failure"); err != nil {
			return err
		}
		if slices.Contains(t.disks, m.data) || m.meta == m.data {
			return mapper.BadArg("RAID device lookup failure", "%s is named twice: each member needs a disk of its own", mapper.DiskName(m.data))
		}
		t.disks = append(t.disks, m.data)
	}
	return nil
}

// devSectors returns how much of each member an array of that length uses.
func devSectors(c *config, length mapper.Sector) (mapper.Sector, error) {
	const reason = "Target length not divisible by number of data devices"
	parts := mapper.Sector(c.members - c.typ.parity())
	dev := length
	switch c.typ.level {
	case 1:
		return length, nil
	case 10:
		if c.delta < 0 {
			return 0, mapper.BadArg("Bogus raid10 data copies or delta disks", "delta_disks %d: members of a raid10 cannot be removed", c.delta)
		}
		if length > mapper.MaxSectors/mapper.Sector(c.copies) {
			return 0, mapper.BadArg(reason, "%d sectors are too many", length)
		}
		if c.md && length%c.chunk == 0 {
			return memberSectors(length, c.chunk, c.copies, c.members), nil
		}
		dev = length * mapper.Sector(c.copies)
	}
	if dev%parts != 0 {
		return 0, mapper.BadArg(reason, "%d sectors over %d members", dev, parts)
	}
	if dev /= parts; dev%c.chunk != 0 {
		return 0, mapper.BadArg(reason, "each member gets %d sectors: want whole chunks of %d", dev, c.chunk)
	}
	if copies := mapper.Sector(c.copies); c.typ.level == 10 && dev*(parts+mapper.Sector(c.delta))%copies != 0 {
		return 0, mapper.BadArg(reason, "%d copies on %d members and %d more", copies, parts, c.delta)
	}
	return dev, nil
}

// checkSizes refuses disks that are too small.
func (t *target) checkSizes(dev mapper.Sector) error {
	if len(t.disks) == 0 {
		return mapper.BadArg("Invalid rdev size", "all members are absent")
	}
	for i := range t.members {
		m := &t.members[i]
		if m.data == nil {
			continue
		}
		if size := m.data.Sectors(); size < dev {
			return mapper.BadArg("Component device(s) too small", "member %d, %s: %d sectors, want %d", i, mapper.DiskName(m.data), size, dev)
		}
		if block := m.data.Limits().LogicalSectors(); t.cfg.chunk%block != 0 {
			return mapper.BadArg("Chunk size value is too small", "%d sectors: want a multiple of the %d of a block of %s",
				t.cfg.chunk, block, mapper.DiskName(m.data))
		}
	}
	return nil
}

// A loaded is what the metadata of a member says.
type loaded struct {
	super superblock
	fresh bool // there was none, or it is to be rebuilt
	ok    bool // it has metadata, and it could be read
	added bool // it is fresh, and a reshape takes it into the array
}

// invalid is the kernel's reason for superblocks that do not go together.
const invalid = "Unable to assemble array: Invalid superblocks"

// injected is what the kernel says of members that are new in an array that is not.
const injected = "New device injected into existing raid set without 'delta_disks' or 'rebuild' parameter specified"

// assemble reads the metadata and decides what the array is. It writes nothing.
func (t *target) assemble(ctx context.Context) error {
	t.syncedTo = done
	t.super = t.newSuper()
	if t.geo.level == 0 {
		return t.assembleStriped(ctx)
	}
	found, err := t.loadSupers(ctx)
	if err != nil {
		return err
	}
	t.loaded = eventsOf(found)
	t.bitmap = newBitmap(t)
	if !slices.ContainsFunc(found, func(l loaded) bool { return l.ok }) || t.cfg.given["sync"] {
		err = t.assembleBlank()
	} else {
		err = t.assembleFound(ctx, found)
	}
	if err == nil {
		err = t.knowJournal(ctx, found)
	}
	if err != nil {
		return err
	}
	t.super.synced = t.syncedTo
	t.headerEvents.Store(t.super.events)
	if err := t.checkRoom(); err != nil {
		return err
	}
	return t.canRun()
}

// assembleStriped refuses a raid0 that lacks a member, or whose members are of another array.
func (t *target) assembleStriped(ctx context.Context) error {
	for i := range t.members {
		if t.members[i].data == nil {
			return mapper.BadArg("Failed to run raid array", "member %d is absent: raid0 needs them all", i)
		}
	}
	found, err := t.loadSupers(ctx)
	if err != nil || !t.hasMeta() {
		return err
	}
	t.loaded = eventsOf(found)
	for i := range found {
		if t.members[i].dead.Load() || t.members[i].meta == nil {
			return mapper.BadArg("Failed to run raid array", "the metadata of member %d cannot be read: raid0 needs them all", i)
		}
	}
	return t.assembleFound(ctx, found)
}

// hasMeta reports whether there is a metadata device.
func (t *target) hasMeta() bool {
	for i := range t.members {
		if t.members[i].meta != nil {
			return true
		}
	}
	return false
}

// eventsOf returns the events of each member, all ones of those without metadata that could be read.
func eventsOf(found []loaded) []uint64 {
	events := make([]uint64, len(found))
	for i := range found {
		if events[i] = found[i].super.events; !found[i].ok {
			events[i] = ^uint64(0)
		}
	}
	return events
}

// newSuper returns the superblock of the array as the table describes it.
func (t *target) newSuper() superblock {
	g := &t.geo
	return superblock{
		members: uint32(g.members), synced: done, level: g.level, layout: g.layout, chunk: uint32(g.chunk), reshape: done,
		newLevel: g.level, newLayout: g.layout, newChunk: uint32(g.chunk), array: g.array, dev: g.dev,
	}
}

// assembleBlank makes an array of members without metadata, or one whose metadata are to be written anew.
func (t *target) assembleBlank() error {
	if t.cfg.delta != 0 {
		return reshapes("delta_disks %d: there is no array yet", t.cfg.delta)
	}
	if t.geo.level == 10 {
		return mapper.BadArg("Failed to run raid array", "raid10 needs metadata devices, and no sync")
	}
	if t.cfg.given["sync"] {
		t.syncedTo, t.stale = 0, true
		t.bitmap.fill()
	}
	for i := range t.members {
		if t.cfg.rebuild[i] {
			t.members[i].good.Store(0)
		}
	}
	return nil
}

// loadSupers reads the superblocks.
func (t *target) loadSupers(ctx context.Context) ([]loaded, error) {
	found := make([]loaded, len(t.members))
	for i := range t.members {
		m := &t.members[i]
		if m.meta == nil {
			continue
		}
		n := int(m.meta.Limits().LogicalSectors().Bytes())
		if need := t.metaSectors(); n > superBlock || m.meta.Sectors() < need {
			return nil, mapper.BadArg("Failed to run raid array", "metadata of member %d, %s: want blocks of at most %d bytes and %d sectors",
				i, mapper.DiskName(m.meta), superBlock, need)
		}
		buf := mapper.GetBuffer(superBlock)
		defer buf.Free()
		err := m.meta.Submit(ctx, mapper.Request{Op: mapper.OpRead, Count: mapper.SectorsOf(superBlock), Data: buf.Data})
		if err != nil {
			if !mapper.DiskFailed(err) {
				return nil, fmt.Errorf("superblock of member %d: %w", i, err)
			}
			t.host.Logf("Failed to read superblock of device at position %d", i)
			m.dead.Store(true)
			continue
		}
		s, err := decodeSuper(buf.Data)
		fresh := errors.Is(err, errNone) || t.cfg.rebuild[i]
		if err != nil && !fresh {
			return nil, mapper.BadArg(invalid, "member %d, %s: %v", i, mapper.DiskName(m.meta), err)
		}
		found[i] = loaded{super: s, fresh: fresh, ok: true}
	}
	return found, nil
}

// metaSectors returns how many sectors of metadata a member needs, in blocks of 4096 bytes.
func (t *target) metaSectors() mapper.Sector {
	if t.geo.level == 0 || !t.keepsBitmap() {
		return mapper.SectorsOf(superBlock)
	}
	return mapper.SectorsOf(superBlock) + mapper.SectorsOf(int64(bitmapBytes(t.regions())))
}

// regions returns the number of regions of the bitmap.
func (t *target) regions() int {
	return int((t.geo.syncSectors() + t.cfg.region - 1) / t.cfg.region)
}

// assembleFound makes the array of members with metadata.
func (t *target) assembleFound(ctx context.Context, found []loaded) error {
	freshest := -1
	created, rebuilds := 0, 0
	for i, l := range found {
		if t.cfg.rebuild[i] {
			t.host.Logf("Device %d specified for rebuild; clearing superblock", i)
			rebuilds++
		}
		if !l.ok {
			continue
		}
		if l.fresh {
			created++
		} else if freshest < 0 || l.super.events > found[freshest].super.events {
			freshest = i
		}
	}
	if freshest < 0 && created == len(t.members) {
		if t.cfg.delta != 0 {
			return reshapes("delta_disks %d: there is no array yet", t.cfg.delta)
		}
		return t.assembleNew()
	}
	if freshest < 0 {
		t.host.Logf(injected)
		return mapper.BadArg(invalid, "no member that is not to be rebuilt has a superblock")
	}
	if added := t.added(&found[freshest].super, found); created != rebuilds && created-rebuilds != added {
		if rebuilds == 0 {
			t.host.Logf(injected)
		} else {
			t.host.Logf("%d 'rebuild' devices cannot be injected into a raid set with %d other first-time devices", rebuilds, created)
		}
		return mapper.BadArg(invalid, "%s", unexpected(t, found))
	}
	ref := found[freshest].super
	t.withoutRoom(&ref)
	converts, asks := t.converts(&ref), t.asksReshape(&ref)
	if err := t.checkLegs(&ref); err != nil {
		return err
	}
	if t.cfg.journal != "" && (converts || asks) {
		return journaled(converts)
	}
	if err := t.takeSpares(&ref, found); err != nil {
		return err
	}
	if !converts && !asks {
		if err := t.compareTable(&ref); err != nil {
			return err
		}
	}
	if err := t.compareMembers(found, freshest); err != nil {
		return err
	}
	if converts {
		if err := t.takeover(t.settled(ref), found); err != nil {
			return err
		}
		t.stale = true
	}
	t.super.events = ref.events
	if !converts {
		t.super.failed = ref.failed
	}
	if err := t.adjustOffsets(&ref); err != nil {
		return err
	}
	before := t.syncBefore(&ref)
	if !converts && t.geo.level != 0 {
		t.takeProgress(&ref, before)
	}
	if rebuilds > 0 && ref.reshape != done {
		t.host.Logf("'rebuild' specified while raid set is being reshaped (reshape_position=%d)", ref.reshape)
		return mapper.BadArg(invalid, "let the reshape finish first")
	}
	if rebuilds > 0 && t.syncedTo != done && !t.growsBy(&ref, before) {
		t.host.Logf("'rebuild' specified while raid set is not in-sync (recovery_cp=%d)", t.syncedTo)
		return mapper.BadArg(invalid, "let the array finish its resync first")
	}
	t.converted = converts
	if err := t.loadBitmap(ctx, found, freshest, before); err != nil {
		return err
	}
	for i := range t.members {
		t.takeMember(&t.members[i], &found[i], &ref)
		if l := &found[i]; l.ok && (l.fresh || l.super.events != ref.events || l.super.position != uint32(i) || l.super.old || l.super.level != ref.level || l.super.members != ref.members) {
			t.stale = true
		}
	}
	if asks {
		if err := t.takeReshape(&ref); err != nil {
			return err
		}
	}
	if before < t.geo.syncSectors() && t.alone() || t.growsBy(&ref, before) && t.rebuildsAll() {
		t.syncedTo = done
	}
	t.stale = t.stale || t.resizes(&ref) || t.super.failed != ref.failed || t.bitmap != nil && t.bitmap.whole
	return nil
}

// assembleNew makes an array whose members all have blank metadata.
func (t *target) assembleNew() error {
	if t.geo.level != 0 { // of which the kernel does not look at superblocks
		t.host.Logf("Superblocks created for new raid set")
	}
	t.stale = true
	for i := range t.members {
		if t.cfg.rebuild[i] { // its content is lost all the same
			t.members[i].good.Store(0)
		}
	}
	if !t.cfg.given["nosync"] && t.geo.level != 0 && t.geo.members > 1 && !t.rebuildsCopies() {
		t.syncedTo = 0
	}
	if t.bitmap != nil {
		t.bitmap.fill()
	}
	t.super.newOffset = t.cfg.offset
	return nil
}

// logCapabilities says what the kernel says of a parity array that runs.
func (t *target) logCapabilities() {
	if t.geo.parity == 0 {
		return
	}
	if least := int(t.geo.chunk / 2); t.cfg.cache < least {
		t.host.Logf("Adjusting requested %d stripe cache entries to %d to suit stripe size", t.cfg.cache, least)
		t.cfg.cache = least
	}
	if t.cfg.cache != 256 {
		t.host.Logf("%d stripe cache entries", t.cfg.cache)
	}
	t.slots = make(chan struct{}, max(1, t.cfg.cache*8/int(columnSectors)))
	if first := t.members[0].data; first == nil || first.Limits().MaxDiscard == 0 {
		return
	}
	t.host.Logf("raid456 discard support disabled due to discard_zeroes_data uncertainty.")
	t.host.Logf("Set dm-raid.devices_handle_discard_safely=Y to override.")
}
