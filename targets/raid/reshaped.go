package raid

import (
	"errors"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// What tables and superblocks say of a reshape, before anything moves.

// asksReshape reports whether the table has another geometry of the level of superblock s.
func (t *target) asksReshape(s *superblock) bool {
	if s.level < 5 || s.level != t.geo.level || s.old {
		return false
	}
	return t.cfg.delta != 0 || s.reshape != done || s.layout != t.geo.layout || s.chunk != uint32(t.geo.chunk)
}

// withoutRoom leaves the array the chunks and the layout of superblock s if the table has others but nothing tells where data could be moved. Such is the
// table with which LVM extends the members, before it loads the one that asks.
func (t *target) withoutRoom(s *superblock) {
	told := t.cfg.delta != 0 || t.cfg.offset != 0 || s.offset != s.newOffset || s.reshape != done
	resized := s.dev != t.geo.dev && !t.staleSizes(s, t.geo.dev)
	if told || resized || !t.asksReshape(s) || t.cfg.journal != "" || s.members != uint32(t.geo.members) || keepsCopies(s, t.geo.layout) != nil {
		return
	}
	old := *s
	old.dev, old.array = t.geo.dev, t.geo.array
	if g, err := geometryOf(&old); err == nil {
		t.geo, t.super.layout, t.super.chunk, t.super.newLayout, t.super.newChunk = g, s.layout, s.chunk, s.layout, s.chunk
	}
}

// beginReshape checks a reshape that the table asks for, of an array that is not being reshaped.
func (t *target) beginReshape(ref *superblock) error {
	next := *ref
	next.newLayout, next.newChunk, next.delta = t.geo.layout, uint32(t.geo.chunk), int32(t.cfg.delta)
	if err := keepsCopies(ref, t.geo.layout); err != nil {
		return err
	}
	if next.delta != 0 && next.newLayout != next.layout {
		t.host.Logf("Ignoring invalid layout change with delta_disks=%d", next.delta)
		next.newLayout = next.layout
	}
	before := len(t.members)
	if next.delta > 0 {
		before -= t.cfg.delta
	}
	if int(ref.members) != before {
		return reshapes("the array has %d members, and the table %d with delta_disks %d", ref.members, len(t.members), next.delta)
	}
	next.members = uint32(before + int(next.delta))
	switch d := t.cfg.offset; {
	case !t.cfg.given["data_offset"]:
	case next.delta < 0:
		next.offset, next.newOffset = 0, d
	case next.delta > 0:
		next.offset, next.newOffset = d, 0
	case d == 0 || ref.offset == 0:
		next.offset, next.newOffset = 0, d
	default:
		next.newOffset = 0
	}
	dev := t.geo.dev
	if ref.dev != dev && !t.staleSizes(ref, dev) {
		return reshapes("the array has %d sectors of each member, the table says %d", ref.dev, dev)
	}
	next.dev, next.array, next.reshape = dev, next.arrayOf(before, dev), 0
	if ref.synced < dev || ref.level == 10 && ref.synced < next.array {
		return refuse("Convert request on recovering raid set prohibited", "let the resync finish first: it is at %d", ref.synced)
	}
	next.flags = flagReshape
	backwards := next.delta < 0 || next.delta == 0 && next.offset == 0
	if backwards {
		next.flags |= flagBackwards
		next.array = min(next.array, next.arrayOf(int(next.members), dev))
		next.reshape = next.array
	} else if next.offset > next.newOffset {
		next.dev += next.offset - next.newOffset
	}
	rs, err := t.newReshape(&next)
	if err != nil {
		return err
	}
	if lost := t.lost(); lost > 0 {
		return refuse("Can't reshape degraded raid set", "%d members are missing or not in sync", lost)
	}
	rs.waits = true
	next.events, next.failed = t.super.events, t.super.failed
	t.super, t.stale = next, true
	t.adopt(rs)
	return nil
}

// checkFailed is the kernel's reason for geometries that an array cannot be reshaped to.
const checkFailed = "Reshape check failed"

// copiesOf returns how many times an array has each sector, as superblocks say it. Parity does not count.
func copiesOf(level, layout uint32) mapper.Sector {
	if level != 10 {
		return 1
	}
	return mapper.Sector(layout&0xff) * mapper.Sector(layout>>farShift&0xff)
}

// keepsCopies refuses a layout with another number of copies than the array of s has.
func keepsCopies(s *superblock, layout uint32) error {
	if before, after := copiesOf(s.level, s.layout), copiesOf(s.level, layout); before != after {
		return mapper.BadArg(checkFailed, "from %d copies to %d: there cannot be more or fewer", before, after)
	}
	return nil
}

// arrayOf returns how many sectors an array of the level and copies of s has with that many members.
func (s *superblock) arrayOf(members int, dev mapper.Sector) mapper.Sector {
	return dev * mapper.Sector(max(0, members-parityOf(s.level))) / max(1, copiesOf(s.level, s.layout))
}

// takeReshape begins or continues a reshape.
func (t *target) takeReshape(ref *superblock) error {
	if ref.reshape == done {
		return t.beginReshape(ref)
	}
	return t.continueReshape(ref)
}

// added marks the members that a reshape adds, and returns how many of them have no superblock yet. Others were named as spares before.
func (t *target) added(ref *superblock, found []loaded) (n int) {
	delta := t.cfg.delta
	if ref.reshape == 0 && ref.delta > 0 {
		delta = int(ref.delta) // the power failed when it began
	}
	spares := 0
	for i := max(0, len(found)-max(0, delta)); i < len(found); i++ {
		l := &found[i]
		switch {
		case !l.ok || t.cfg.rebuild[i]:
		case l.fresh:
			l.added = true
			n++
		case l.super.position == noPosition:
			l.added = true
			spares++
		}
	}
	if t.cfg.delta > 0 && n+spares != t.cfg.delta {
		return 0
	}
	return n
}

// takeSpares lets a table name members behind those of the array of ref: those that a reshape removed, and new ones that are to be rebuilt, which LVM names so
// before it has them added. They stay as they are, and the array, too.
func (t *target) takeSpares(ref *superblock, found []loaded) error {
	extra := len(t.members) - int(ref.members)
	if ref.level != t.geo.level || ref.level < 5 || ref.reshape != done || t.cfg.delta != 0 || ref.members > maxMembers || int(ref.members) <= t.geo.parity || extra <= 0 {
		return nil
	}
	for i := int(ref.members); i < len(t.members); i++ {
		l := &found[i]
		ends := l.super.events+1 == ref.events && l.super.delta < 0
		if fresh := l.fresh && t.cfg.rebuild[i]; !l.ok || !fresh && (l.fresh || l.super.position != noPosition && !ends) {
			return nil
		}
	}
	t.geo = newGeometry(t.geo.level, t.geo.layout, int(ref.members), t.geo.chunk, t.geo.dev, ref.arrayOf(int(ref.members), t.geo.dev))
	events := t.super.events
	t.super = t.newSuper()
	t.super.events = events
	return nil
}

// adjustOffsets takes over where the data is on the members, or where the table says that it is.
func (t *target) adjustOffsets(ref *superblock) error {
	s, room := &t.super, t.cfg.offset
	s.offset, s.newOffset = ref.offset, ref.newOffset
	if !t.cfg.given["data_offset"] || ref.reshape != done || t.geo.level < 5 {
		return nil
	}
	switch {
	case room == 0:
		s.offset, s.newOffset = 0, 0
	case ref.offset == 0:
		s.newOffset = room
	default:
		s.newOffset = 0
	}
	t.stale = t.stale || s.offset != ref.offset || s.newOffset != ref.newOffset
	return nil
}

// continueReshape checks a reshape that was begun.
func (t *target) continueReshape(ref *superblock) error {
	if t.cfg.given["delta_disks"] {
		t.host.Logf("Reshape requested but raid set is still reshaping")
		return mapper.BadArg(invalid, "leave delta_disks out")
	}
	if ref.newLayout != t.geo.layout || ref.newChunk != uint32(t.geo.chunk) || ref.newLevel != ref.level {
		return reshapes("the array is being reshaped to a %s with chunks of %d sectors, the table says a %s with %d",
			typeOf(ref.newLevel, ref.newLayout), ref.newChunk, t.cfg.typ.name, t.geo.chunk)
	}
	rs, err := t.newReshape(ref)
	if err != nil {
		return err
	}
	if n := max(int(ref.members), int(ref.members)-int(ref.delta)); n != len(t.members) {
		return reshapes("the reshape is of %d members, the table says %d", n, len(t.members))
	}
	if rs.old.geo.dev != t.geo.dev {
		return refuse("Can't resize a reshaping raid set", "the array has %d sectors of each member, the table says %d", rs.old.geo.dev, t.geo.dev)
	}
	if old := typeNamed(raidTypes, typeOf(ref.level, ref.layout)); old != nil {
		t.cfg.typ = old // as the kernel shows it
	}
	t.super.flags, t.super.reshape, t.super.delta = ref.flags, ref.reshape, ref.delta
	t.super.layout, t.super.chunk, t.super.newLayout, t.super.newChunk = ref.layout, ref.chunk, ref.newLayout, ref.newChunk
	t.super.members, t.super.dev, t.super.array = ref.members, ref.dev, ref.array
	t.super.offset, t.super.newOffset = ref.offset, ref.newOffset
	t.adopt(rs)
	return nil
}

// adopt makes the geometry that rs leads to that of t.
func (t *target) adopt(rs *reshape) {
	t.geo, t.cur = rs.now.geo, rs.now
	t.reshaping.Store(rs)
}

// newReshape returns the reshape that a superblock describes. Everything is checked: it may come from anywhere.
func (t *target) newReshape(s *superblock) (*reshape, error) {
	rs := &reshape{t: t, backwards: s.flags&flagBackwards != 0}
	before, dev := int64(s.members)-int64(s.delta), s.dev
	room := max(s.offset, s.newOffset) - min(s.offset, s.newOffset)
	if !rs.backwards {
		dev -= min(dev, room)
	}
	build := func(layout, chunk uint32, members int64, offset mapper.Sector) (*plane, error) {
		if members < 0 || members > maxMembers || dev > mapper.MaxSectors/maxMembers {
			return nil, reshapes("%d members of %d sectors: no such array", members, dev)
		}
		d := superblock{level: s.level, layout: layout, chunk: chunk, members: uint32(members), dev: dev}
		d.array = d.arrayOf(int(members), dev)
		g, err := geometryOf(&d)
		if err == nil && g.far > 1 && !g.offset {
			err = errors.New("far copies lie where the length of the members says: they cannot be moved")
		}
		if err != nil {
			return nil, &mapper.ArgError{Reason: checkFailed, Detail: err.Error()}
		}
		return &plane{target: t, geo: g, offset: offset}, nil
	}
	var err error
	if rs.old, err = build(s.layout, s.chunk, before, s.offset); err != nil {
		return nil, err
	}
	if rs.now, err = build(s.newLayout, s.newChunk, int64(s.members), s.newOffset); err != nil {
		return nil, err
	}
	rs.end = min(rs.old.geo.array, rs.now.geo.array)
	rs.pos.Store(uint64(s.reshape))
	return rs, rs.check(s)
}

// check refuses a reshape that would write over what it has not read.
func (rs *reshape) check(s *superblock) error {
	backwards := s.delta < 0 || s.newOffset > s.offset
	if err := keepsCopies(s, s.newLayout); err != nil {
		return err
	}
	switch {
	case rs.room() == 0:
		return reshapes("it needs room on each member: data_offset tells how much")
	case s.delta < 0 && s.newOffset < s.offset || s.delta > 0 && s.newOffset > s.offset || backwards != rs.backwards:
		return reshapes("from %d members at %d to %d at %d: data moves the other way", rs.old.geo.members, s.offset, rs.now.geo.members, s.newOffset)
	case s.reshape%rs.unit() != 0 || s.reshape > max(rs.end, rs.final()) || s.array != rs.end && s.array != rs.old.geo.array:
		return mapper.BadArg("Failed to run raid array", "a reshape cannot be at sector %d of %d", s.reshape, s.array)
	}
	if need := rs.leastRoom(); rs.room() < need {
		return rs.noRoom("%d sectors of room are too few: want %d", rs.room(), need)
	}
	dev, most := rs.now.geo.dev, max(s.offset, s.newOffset)
	for i := range rs.t.members {
		if d := rs.t.members[i].data; d != nil && (most > d.Sectors() || d.Sectors()-most < dev) {
			return rs.noRoom("member %d, %s: want %d sectors from %d on", i, mapper.DiskName(d), dev, most)
		}
	}
	return nil
}

// leastRoom returns how far data must move so that it never meets what is still to be read. The array's sectors up to some lie in as much of the
// members in both geometries, or in less of more members, but for the turn that they end in. If turns of one are turns of the other, too, that is one of the
// larger. Else it is one of each, and that which the copies of one chunk have in the turn before, if they do not divide the members.
func (rs *reshape) leastRoom() mapper.Sector {
	old, now := &rs.old.geo, &rs.now.geo
	a, b := old.turn(), now.turn()
	most, least := max(a, b), min(a, b)
	switch near := max(old.near, now.near); {
	case old.parity > 0:
		return most
	case old.members%old.near != 0 || now.members%now.near != 0:
		return a + b + ceil((a+b)*mapper.Sector(near), mapper.Sector(old.members))
	case most%least != 0:
		return a + b
	}
	return most
}

// noRoom returns the kernel's words.
func (rs *reshape) noRoom(detail string, args ...any) error {
	reason := "No space for forward reshape"
	if rs.backwards {
		reason = "No space for backward reshape"
	}
	err := mapper.BadArg(reason, detail, args...).(*mapper.ArgError)
	err.Errno = unix.ENOSPC
	return err
}

// staleSizes reports whether s has the sizes that a reshape leaves, of an array with dev sectors of each member: the member's are
// off by the room that there was, until Linux sets those of raid10 right, and after members were added the array's are the old ones.
func (t *target) staleSizes(s *superblock, dev mapper.Sector) bool {
	if s.level < 5 || s.reshape != done || dev == 0 || s.members > maxMembers || int(s.members) <= parityOf(s.level) {
		return false
	}
	array, each := s.arrayOf(int(s.members), dev), copiesOf(s.level, s.layout)
	if s.dev < dev { // backwards
		return s.array == array && s.offset == s.newOffset && s.offset >= dev-s.dev
	}
	for i := range t.members {
		if d := t.members[i].data; d != nil && (s.dev-dev)/2 > d.Sectors() {
			return false
		}
	}
	off := s.dev != dev && s.array != s.arrayOf(int(s.members), s.dev) || s.level == 10 && s.array < t.geo.array
	return off && s.array <= array && s.array*each%dev == 0 && (s.dev-dev)%2 == 0 && s.offset == s.newOffset
}
