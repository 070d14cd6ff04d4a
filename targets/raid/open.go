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
	c, err := parse(s)
	if c != nil {
		for _, note := range c.notes {
			h.Logf("%s", note)
		}
	}
	if err != nil {
		return nil, err
	}
	t := &target{host: h, cfg: c, readOnly: h.ReadOnly(), members: make([]member, c.members), kick: make(chan struct{}, 1)}
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
	layout := c.typ.layout
	if c.typ.level == 10 {
		layout = c.layout10
	}
	t.geo = newGeometry(c.typ.level, layout, c.members, c.typ.parity, c.chunk, dev, s.Len)
	if err := t.assemble(ctx); err != nil {
		return nil, err
	}
	t.logCapabilities()
	if c.typ.level == 0 {
		return striped{t}, nil
	}
	return t, nil
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
	parts := mapper.Sector(c.members - c.typ.parity)
	dev := length
	switch c.typ.level {
	case 1:
		return length, nil
	case 10:
		if length > mapper.MaxSectors/mapper.Sector(c.copies) {
			return 0, mapper.BadArg(reason, "%d sectors are too many", length)
		}
		dev = length * mapper.Sector(c.copies)
	}
	if dev%parts != 0 {
		return 0, mapper.BadArg(reason, "%d sectors over %d members", dev, parts)
	}
	if dev /= parts; dev%c.chunk != 0 {
		return 0, mapper.BadArg(reason, "each member gets %d sectors: want whole chunks of %d", dev, c.chunk)
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
	t.bitmap = newBitmap(t)
	if !slices.ContainsFunc(found, func(l loaded) bool { return l.ok }) || t.cfg.given["sync"] {
		err = t.assembleBlank()
	} else {
		err = t.assembleFound(ctx, found)
	}
	if err != nil {
		return err
	}
	t.super.synced = t.syncedTo
	t.headerEvents.Store(t.super.events)
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
	if t.geo.level == 0 {
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
		return t.assembleNew()
	}
	if freshest < 0 {
		t.host.Logf(injected)
		return mapper.BadArg(invalid, "no member that is not to be rebuilt has a superblock")
	}
	if created != rebuilds {
		t.host.Logf(injected)
		return mapper.BadArg(invalid, "%s", unexpected(t, found))
	}
	ref := found[freshest].super
	converts := t.converts(&ref)
	if !converts {
		if err := t.compareTable(&ref); err != nil {
			return err
		}
	}
	if err := t.compareMembers(found, freshest); err != nil {
		return err
	}
	if converts {
		if err := t.takeover(&ref, found); err != nil {
			return err
		}
		t.stale = true
	}
	t.super.events = ref.events
	if !converts {
		t.super.failed = ref.failed
	}
	t.super.offset, t.super.newOffset = ref.offset, ref.newOffset
	if !t.cfg.given["nosync"] && !converts && t.geo.level != 0 {
		t.syncedTo = ref.synced
		if t.syncedTo >= t.geo.syncSectors() {
			t.syncedTo = done
		}
	}
	if rebuilds > 0 && t.syncedTo != done {
		t.host.Logf("'rebuild' specified while raid set is not in-sync (recovery_cp=%d)", t.syncedTo)
		return mapper.BadArg(invalid, "let the array finish its resync first")
	}
	t.converted = converts
	if err := t.loadBitmap(ctx, found, freshest); err != nil {
		return err
	}
	for i := range t.members {
		t.takeMember(&t.members[i], found[i], &ref)
		if l := &found[i]; l.ok && (l.fresh || l.super.events != ref.events || l.super.position != uint32(i) || l.super.old || l.super.level != ref.level || l.super.members != ref.members) {
			t.stale = true
		}
	}
	t.stale = t.stale || t.super.failed != ref.failed || t.bitmap != nil && t.bitmap.whole
	return nil
}

// loadBitmap reads the bitmap if the array had one.
func (t *target) loadBitmap(ctx context.Context, found []loaded, freshest int) error {
	if t.bitmap == nil {
		return nil
	}
	if found[freshest].super.level == 0 {
		t.bitmap.fill()
		return nil
	}
	err := t.bitmap.load(ctx, found, freshest)
	t.bitmap.trusted = t.bitmap.trusted && !t.converted
	return err
}

// assembleNew makes an array whose members all have blank metadata.
func (t *target) assembleNew() error {
	t.host.Logf("Superblocks created for new raid set")
	t.stale = true
	for i := range t.members {
		if t.cfg.rebuild[i] { // its content is lost all the same
			t.members[i].good.Store(0)
		}
	}
	if !t.cfg.given["nosync"] && t.geo.level != 0 && t.geo.members > 1 {
		t.syncedTo = 0
	}
	if t.bitmap != nil {
		t.bitmap.fill()
	}
	return nil
}

// unexpected names a member without a superblock.
func unexpected(t *target, found []loaded) string {
	for i, l := range found {
		if l.ok && l.fresh && !t.cfg.rebuild[i] {
			return fmt.Sprintf("member %d, %s, has no superblock: rebuild %d takes it into the array", i, mapper.DiskName(t.members[i].meta), i)
		}
	}
	return "members to rebuild must have metadata devices"
}

// compareTable refuses a table that is not that of the superblock.
func (t *target) compareTable(s *superblock) error {
	g := &t.geo
	name := func(level, layout uint32) string {
		if n := typeOf(level, layout); n != "" {
			return n
		}
		return fmt.Sprintf("level %d layout %#x", level, layout)
	}
	switch {
	case s.flags&flagReshape != 0 || s.reshape != done || s.delta != 0 && !s.old:
		return reshapes("the array is being reshaped")
	case s.newLevel != s.level || s.newLayout != s.layout || s.newChunk != s.chunk:
		return reshapes("a reshape of the array was begun")
	case s.layout != g.layout:
		return reshapes("the members are of a %s, the table says %s", name(s.level, s.layout), name(g.level, g.layout))
	case s.chunk != uint32(g.chunk):
		return reshapes("the members have chunks of %d sectors, the table says %d", s.chunk, g.chunk)
	case s.members != uint32(g.members):
		return reshapes("the array has %d members, the table says %d", s.members, g.members)
	case !s.old && (s.dev != g.dev || s.array != g.array):
		return reshapes("the array has %d sectors, %d of each member; the table says %d and %d", s.array, s.dev, g.array, g.dev)
	}
	for i := range t.members {
		if m := &t.members[i]; m.data != nil && (s.offset > m.data.Sectors() || m.data.Sectors()-s.offset < g.dev) {
			return mapper.BadArg("Component device(s) too small", "member %d, %s: want %d sectors from %d on", i, mapper.DiskName(m.data), g.dev, s.offset)
		}
	}
	return nil
}

// compareMembers refuses members that are not of the array of the freshest, or not in their place.
func (t *target) compareMembers(found []loaded, freshest int) error {
	ref := &found[freshest].super
	for i := range found {
		l := &found[i]
		if !l.ok || l.fresh {
			continue
		}
		s, name := &l.super, mapper.DiskName(t.members[i].meta)
		if s.level != ref.level || s.layout != ref.layout || s.chunk != ref.chunk || s.members != ref.members || s.array != ref.array || s.dev != ref.dev {
			// A crash amid a takeover leaves members of two levels, one event apart.
			if s.events+1 != ref.events || s.reshape != done || ref.reshape != done {
				return mapper.BadArg(invalid, "member %d, %s, is of another array than member %d", i, name, freshest)
			}
			if err := t.holdsSame(l, i); err != nil {
				return err
			}
			continue
		}
		if s.position != uint32(i) {
			moves := t.geo.level == 1 || t.geo.level == 0 && s.level == 10 || t.geo.level == 10 && s.level == 0
			if moves && s.position < s.members {
				t.host.Logf("raid device #%d now at position #%d", s.position, i)
				continue
			}
			return mapper.BadArg("Cannot change device positions in raid set", "%s, given as member %d, is member %d", name, i, s.position)
		}
		// Each update goes to all members that have not failed, so that a crash leaves them one event apart at most.
		if s.events+1 < ref.events && !ref.hasFailed(i) {
			return mapper.BadArg(invalid, "member %d, %s, has event %d and member %d event %d: it missed writes, or is of another array; rebuild %d if it is the right disk",
				i, name, s.events, freshest, ref.events, i)
		}
	}
	return nil
}

// takeMember takes what the metadata say of m; ref is the freshest.
func (t *target) takeMember(m *member, l loaded, ref *superblock) {
	m.offset = t.super.offset
	role := m.index
	if l.ok && !l.fresh && l.super.level == ref.level && l.super.members == ref.members {
		role = int(l.super.position)
	}
	switch {
	case m.dead.Load():
	case l.fresh || !l.ok:
		m.good.Store(0)
	case ref.hasFailed(role):
		// It comes back. While it was away no bit was cleared, so the bitmap tells what it missed, if it was complete.
		m.good.Store(0)
		m.partial = t.bitmap != nil && t.bitmap.trusted && l.super.events >= t.bitmap.cleared && l.super.rebuilt >= t.geo.dev
	case l.super.rebuilt < t.geo.dev:
		m.good.Store(uint64(l.super.rebuilt))
	}
	t.super.setFailed(m.index, m.dead.Load())
}

// canRun refuses an array that lacks too many members, or that must be in sync to do without those it lacks.
func (t *target) canRun() error {
	if t.geo.level == 6 && t.geo.members < 4 || t.geo.level == 10 && !t.geo.check10() {
		return mapper.BadArg("Failed to run raid array", "%d members cannot be a %s of this size", t.geo.members, t.cfg.typ.name)
	}
	missing, lacking := "", false
	for i := range t.members {
		if m := &t.members[i]; !m.inSync() {
			missing += fmt.Sprintf(" %d", i)
			lacking = true
		}
	}
	usable := func(m int) bool { return t.members[m].inSync() }
	if !t.geo.survives(usable) {
		return mapper.BadArg("Insufficient redundancy to activate array", "lost or out of sync:%s", missing)
	}
	if lacking && t.geo.parity > 0 && t.syncedTo != done && t.lost() > t.geo.parity-1 {
		return mapper.BadArg("Failed to run raid array", "it was never in sync, and lacks:%s; nosync takes it as it is", missing)
	}
	return nil
}

// lost returns the number of members that cannot be read throughout.
func (t *target) lost() (n int) {
	for i := range t.members {
		if !t.members[i].inSync() {
			n++
		}
	}
	return n
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
