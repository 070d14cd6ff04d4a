package raid

import (
	"fmt"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// checkRoom refuses a data_offset on members without room for it, as the kernel does: it looks at the first.
func (t *target) checkRoom() error {
	d := t.members[0].data
	if t.cfg.offset == 0 || d == nil || d.Sectors()-t.geo.dev >= leastRoom {
		return nil
	}
	reason := "No space for backward reshape"
	if t.super.offset != 0 {
		reason = "No space for forward reshape"
	}
	return &mapper.ArgError{Reason: reason, Detail: fmt.Sprintf("%s: want %d sectors more than %d", mapper.DiskName(d), leastRoom, t.geo.dev), Errno: unix.ENOSPC}
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
		return reshapes("the array is being reshaped, in a way that is not known")
	case s.newLevel != s.level || s.newLayout != s.layout || s.newChunk != s.chunk:
		return reshapes("a reshape of the array was begun")
	case s.layout != g.layout:
		return reshapes("the members are of a %s, the table says %s", name(s.level, s.layout), name(g.level, g.layout))
	case s.chunk != uint32(g.chunk):
		return reshapes("the members have chunks of %d sectors, the table says %d", s.chunk, g.chunk)
	case s.members != uint32(g.members):
		return reshapes("the array has %d members, the table says %d", s.members, g.members)
	case t.staleSizes(s, g.dev):
		t.stale = true
	case !s.old && (s.dev != g.dev || s.array != g.array) && !t.resizes(s):
		return reshapes("the array has %d sectors, %d of each member; the table says %d and %d", s.array, s.dev, g.array, g.dev)
	}
	for i := range t.members {
		if m := &t.members[i]; m.data != nil && (s.offset > m.data.Sectors() || m.data.Sectors()-s.offset < g.dev) {
			return mapper.BadArg("Component device(s) too small", "member %d, %s: want %d sectors from %d on", i, mapper.DiskName(m.data), g.dev, s.offset)
		}
	}
	return nil
}

// sameArray reports whether s is of the array of the freshest superblock, or was before the last event when a reshape began or ended or the
// array was resized; if failed, before a later one.
func sameArray(s, ref *superblock, failed bool) bool {
	same := s.level == ref.level && s.layout == ref.layout && s.chunk == ref.chunk
	sizes := s.members == ref.members && s.array == ref.array && s.dev == ref.dev
	switch {
	case s.reshape == done && ref.reshape == done:
		resized := s.members == ref.members && (s.events+1 == ref.events || failed)
		return same && (sizes || resized)
	case s.reshape != done && ref.reshape != done:
		return same && sizes && s.flags == ref.flags && s.delta == ref.delta && s.newLevel == ref.newLevel && s.newLayout == ref.newLayout &&
			s.newChunk == ref.newChunk && s.offset == ref.offset && s.newOffset == ref.newOffset
	case s.events+1 != ref.events && !failed || s.level != ref.level:
		return false
	case s.reshape == done: // it began
		return same && int64(s.members)+int64(ref.delta) == int64(ref.members)
	}
	return s.newLayout == ref.layout && s.newChunk == ref.chunk && s.members == ref.members
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
		if !sameArray(s, ref, ref.hasFailed(i)) {
			// A crash amid a takeover leaves members of two levels, one event apart.
			if s.events+1 != ref.events || s.reshape != done || ref.reshape != done {
				return mapper.BadArg(invalid, "member %d, %s, is of another array than member %d", i, name, freshest)
			}
			if err := t.holdsSame(l, i); err != nil {
				return err
			}
			continue
		}
		if s.position == noPosition && (i >= t.geo.members || l.added) {
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
func (t *target) takeMember(m *member, l *loaded, ref *superblock) {
	role := m.index
	if l.ok && !l.fresh && l.super.level == ref.level && l.super.members == ref.members {
		role = int(l.super.position)
	}
	switch {
	case m.dead.Load():
	case l.added && t.geo.level > 1: // a reshape fills it
	case m.index >= t.geo.members && ref.reshape == done && ref.level > 1: // a reshape removed it
		m.good.Store(0)
	case l.fresh || !l.ok:
		m.good.Store(0)
	case ref.hasFailed(role):
		// It comes back. While it was away no bit was cleared, so the bitmap tells what it missed, if it was complete.
		m.good.Store(0)
		m.partial = t.bitmap != nil && t.bitmap.trusted && l.super.events >= t.bitmap.cleared && l.super.rebuilt >= t.geo.dev &&
			ref.reshape == done && l.super.reshape == done && // the bitmap does not tell what was moved,
			l.super.dev == ref.dev // nor what was resynced at another length
	case l.super.rebuilt < t.geo.dev && ref.reshape != done:
		m.good.Store(0)
	case l.super.rebuilt < t.geo.dev:
		m.good.Store(uint64(l.super.rebuilt))
	}
	t.super.setFailed(m.index, m.dead.Load())
}

// canRun refuses an array that lacks too many members, or that must be in sync to do without those it lacks.
func (t *target) canRun() error {
	if g := &t.geo; g.level == 10 && g.uneven() {
		return mapper.BadArg("Failed to run raid array", "each member gets %d chunks: want a multiple of the %d copies", g.dev/g.chunk, g.far)
	}
	if t.geo.level == 6 && t.geo.members < 4 || t.geo.level == 10 && !t.geo.check10() {
		return mapper.BadArg("Failed to run raid array", "%d members cannot be a %s of this size", t.geo.members, t.cfg.typ.name)
	}
	missing, lacking := "", false // of those with data
	for i := range t.needed() {
		if m := &t.members[i]; !m.inSync() {
			missing += fmt.Sprintf(" %d", i)
			lacking = lacking || !t.geo.onlyParity(i)
		}
	}
	usable := func(m int) bool { return t.members[m].inSync() }
	if !t.survives(usable) {
		return mapper.BadArg("Insufficient redundancy to activate array", "lost or out of sync:%s", missing)
	}
	if lacking && t.geo.parity > 0 && t.syncedTo != done && t.lost() > t.geo.parity-1 {
		return mapper.BadArg("Failed to run raid array", "it was never in sync, and lacks:%s; nosync takes it as it is", missing)
	}
	return nil
}

// lost returns the number of members that cannot be read throughout.
func (t *target) lost() (n int) {
	for i := range t.needed() {
		if !t.members[i].inSync() {
			n++
		}
	}
	return n
}
