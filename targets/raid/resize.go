package raid

import "dmfs/mapper"

// A table of the level, layout, chunks and members of an array with another length makes it larger or smaller. What it holds stays where it
// is: rows, and copies, are counted from the beginning of the members. Nothing is written but bitmap and superblocks, at the first resume.
//
//  1. The bitmap is written for the new length, in which the regions that the array grew by are set, with their old state before.
//  2. Superblocks follow that tell the new sizes, and that the array is in sync up to its old end. A crash before they are all written leaves
//     some with the old sizes and one event less, and the next table of either length is taken. A bitmap that was written in part is stale.
//  3. What the array grew by is resynced like the rest of an array whose resync was interrupted. A member that is to be rebuilt at the same time is filled
//     up to the new end, before that if the others cannot be compared without it.

// resizes reports whether the table has another length than the array of superblock s, and else the same.
func (t *target) resizes(s *superblock) bool {
	g := &t.geo
	if s.old || s.level != g.level || s.layout != g.layout || s.chunk != uint32(g.chunk) || s.members != uint32(g.members) ||
		s.reshape != done || s.flags&flagReshape != 0 || s.delta != 0 || s.dev == g.dev && s.array == g.array {
		return false
	}
	old, err := geometryOf(s)
	switch {
	case err != nil:
		return false
	case s.level == 10: // far copies lie where the length of the members says
		return old.far == 1 || old.offset
	case s.level == 1:
		return s.array == s.dev
	}
	return s.array == s.dev*mapper.Sector(old.data())
}

// syncBefore returns how many sectors the array of superblock s has to sync.
func (t *target) syncBefore(s *superblock) mapper.Sector {
	switch {
	case s.level == 10 && !t.converts(s) && (t.resizes(s) || t.asksReshape(s) || t.staleSizes(s, t.geo.dev)):
		return s.array // that a reshape grows by is synced when Linux 6.1 is done with it
	case t.resizes(s):
		return s.dev
	}
	return t.geo.syncSectors()
}

// takeProgress takes how far the array of ref is in sync, which had so many sectors to sync before. What it grows by is not, unless the
// table says so.
func (t *target) takeProgress(ref *superblock, before mapper.Sector) {
	now, synced := t.geo.syncSectors(), ref.synced
	if now > before && !t.asksReshape(ref) { // which writes what it adds
		synced = min(synced, before)
	}
	if t.cfg.given["nosync"] || synced >= now {
		synced = done
	}
	t.syncedTo = synced
}

// growsBy reports whether an array that was in sync, with so many sectors to sync, gets more.
func (t *target) growsBy(ref *superblock, before mapper.Sector) bool {
	return before < t.geo.syncSectors() && ref.synced >= before
}

// rebuildsAll reports whether members with as much as the parity of the array are there and to be rebuilt: what they get is what makes the rows agree, also those that
// the array grew by.
func (t *target) rebuildsAll() bool {
	return t.geo.parity > 0 && t.lost() == t.geo.parity && !t.lacksMember()
}

// rebuildsCopies reports whether all but one leg of a mirror, or all parity and nothing else, is to be rebuilt: what is there then has nothing to be compared with.
func (t *target) rebuildsCopies() bool {
	if t.geo.level == 1 {
		return t.lost() == t.geo.members-1
	}
	for i := range t.needed() {
		if !t.members[i].inSync() && !t.geo.onlyParity(i) {
			return false
		}
	}
	return t.rebuildsAll()
}

// alone reports whether one copy of a raid1 is left, so that there is nothing to compare it with: the others are filled when they come back.
func (t *target) alone() bool {
	left := 0
	for i := range t.members {
		if !t.members[i].dead.Load() {
			left++
		}
	}
	return t.geo.level == 1 && left == 1
}
