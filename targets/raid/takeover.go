package raid

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// A takeover is a table with another level over the members of an array, or with another number of copies of a raid1. No data moves: what each
// member holds must be what the other level has there too, and members that hold something else are to be rebuilt. The superblocks of
// the level that the table says are written at the first resume, all in one generation: after a crash amid it the old and the new ones that are found
// describe the same content.

// notPossible is the kernel's reason for levels that do not go into each other.
const notPossible = "takeover not possible"

// refuse returns an ArgError with EPERM.
func refuse(reason, detail string, args ...any) error {
	return &mapper.ArgError{Reason: reason, Detail: fmt.Sprintf(detail, args...), Errno: unix.EPERM}
}

// converts reports whether the table has another level than superblock s, or other members of a raid1.
func (t *target) converts(s *superblock) bool {
	return s.level != t.geo.level || s.level == 1 && s.members != uint32(t.geo.members)
}

// awaitsTable reports whether members that the table added with delta_disks are filled only when one without it is loaded.
func (t *target) awaitsTable() bool { return t.geo.level == 1 && t.cfg.delta > 0 }

// checkLegs looks at delta_disks of a raid1 whose superblock is ref. Members are removed by a table without them.
func (t *target) checkLegs(ref *superblock) error {
	switch delta := t.cfg.delta; {
	case t.geo.level != 1 || ref.level != 1:
	case delta < 0 && int(ref.members) == len(t.members):
		t.host.Logf("Failed to check/start reshape, continuing without change")
	case delta > 0 && int(ref.members)+delta != len(t.members):
		return reshapes("the array has %d members, and the table %d with delta_disks %d", ref.members, len(t.members), delta)
	}
	return nil
}

// takeover decides whether the array of ref can be what the table says. It changes nothing.
func (t *target) takeover(ref superblock, found []loaded) error {
	g := &t.geo
	now := fmt.Sprintf("a %s of %d members", t.cfg.typ.name, g.members)
	if ref.flags&flagReshape != 0 || ref.reshape != done {
		return refuse("Can't takeover reshaping raid set", "let the reshape finish first")
	}
	old, err := geometryOf(&ref)
	if err != nil {
		return mapper.BadArg(notPossible, "%v", err)
	}
	if ref.level != 0 && ref.synced < old.syncSectors() {
		return refuse("Convert request on recovering raid set prohibited", "let the resync finish first: it is at %d", ref.synced)
	}
	was := fmt.Sprintf("a %s of %d members", typeOf(ref.level, ref.layout), ref.members)
	if !takesOver(&old, g) {
		return mapper.BadArg(notPossible, "from %s to %s", was, now)
	}
	if ref.array != g.array || ref.dev < g.dev {
		return mapper.BadArg(notPossible, "%s has %d sectors, %d of each member; %s would have %d and %d", was, ref.array, ref.dev, now, g.array, g.dev)
	}
	for i := range found {
		if err := t.holdsSame(&found[i], i); err != nil {
			return err
		}
		for j := range i {
			if a, b := &found[i], &found[j]; a.ok && b.ok && !a.fresh && !b.fresh && a.super.position == b.super.position {
				return mapper.BadArg(invalid, "%s and %s both are member %d", mapper.DiskName(t.members[j].meta), mapper.DiskName(t.members[i].meta), a.super.position)
			}
		}
	}
	return nil
}

// holdsSame refuses member i if what it holds, as its superblock describes it, is not what the table has there.
func (t *target) holdsSame(l *loaded, i int) error {
	if !l.ok || l.fresh {
		return nil
	}
	super := t.settled(l.super)
	old, err := geometryOf(&super)
	if err != nil {
		return mapper.BadArg(notPossible, "member %d: %v", i, err)
	}
	if s, same := sameContent(&old, int(l.super.position), &t.geo, i); !same {
		return mapper.BadArg(notPossible, "member %d, %s, is of a %s of %d members, and holds something else at sector %d than in a %s of %d: rebuild it, or reshape the array",
			i, mapper.DiskName(t.members[i].meta), typeOf(old.level, old.layout), old.members, s, t.cfg.typ.name, t.geo.members)
	}
	return nil
}

// settled returns s with the sizes that an array of the length of the table has, if it has those that a reshape leaves.
func (t *target) settled(s superblock) superblock {
	if t.staleSizes(&s, t.geo.dev) {
		s.dev, s.array = t.geo.dev, s.arrayOf(int(s.members), t.geo.dev)
	}
	return s
}

// parityOf returns how many members' worth of parity arrays of a level have.
func parityOf(level uint32) int {
	switch level {
	case 5:
		return 1
	case 6:
		return 2
	}
	return 0
}

// geometryOf returns the geometry that a superblock describes.
func geometryOf(s *superblock) (g geometry, err error) {
	least := uint32(max(1, 2*parityOf(s.level)))
	known := s.level != 10 && typeOf(s.level, s.layout) != ""
	if s.level == 10 {
		known = s.layout&^knownLayout == 0
	}
	chunked := s.chunk >= leastChunk && s.chunk&(s.chunk-1) == 0 && s.dev%mapper.Sector(s.chunk) == 0
	if !known || s.members < least || s.members > maxMembers || chunked == (s.level == 1) || s.level == 1 && s.chunk != 0 ||
		s.dev == 0 || s.dev > mapper.MaxSectors/maxMembers || s.array == 0 || s.array > mapper.MaxSectors {
		return g, fmt.Errorf("level %d layout %#x, %d members, chunks of %d sectors, %d sectors of %d of each member: no such array",
			s.level, s.layout, s.members, s.chunk, s.array, s.dev)
	}
	g = newGeometry(s.level, s.layout, int(s.members), mapper.Sector(s.chunk), s.dev, s.array)
	if s.level == 10 && !(g.check10() && g.fillsRows()) {
		return g, fmt.Errorf("raid10 layout %#x does not go with %d members", s.layout, s.members)
	}
	return g, nil
}

// takesOver reports whether the kernel lets an array of one geometry become one of another.
func takesOver(old, now *geometry) bool {
	last := now.layout == parityLast
	switch old.level {
	case 0:
		return (now.level == 1 || now.level == 5) && old.members == 1 || now.level == 10 && now.members%old.members == 0 ||
			now.parity > 0 && last && old.members > 1
	case 1:
		return now.level == 1 || now.level == 0 && old.members == 1 || now.level == 5 && old.members == 2 || now.level == 10
	case 5:
		return now.level == 0 && old.layout == parityLast || (now.level == 1 || now.level == 10) && old.members == 2 ||
			now.level == 6 && (last && old.layout == parityLast || now.layout >= leftAsymmetric6 && now.layout <= rightSymmetric6)
	case 6:
		return now.level == 0 && old.layout == parityLast || now.level == 5 && (last && old.layout == parityLast || now.layout <= rightSymmetric)
	case 10:
		if old.offset {
			return false
		}
		return now.level == 0 && (old.near > 1 && old.members%old.near == 0 || old.near == 1 && old.far > 1) ||
			now.level == 1 && max(old.near, old.far) == old.members || now.level == 5 && old.members == 2
	}
	return false
}

// A term is a chunk's worth of data, by its first sector in the array, and what it is multiplied by in what a member holds.
type term struct {
	at   mapper.Sector
	coef byte
}

// holding returns what member m holds at sector s: one term where it is data, several where it is parity, none where it is nothing.
func (g *geometry) holding(to []term, m int, s mapper.Sector) []term {
	switch {
	case g.level == 0:
		return append(to, term{(s/g.chunk*mapper.Sector(g.members)+mapper.Sector(m))*g.chunk + s%g.chunk, 1})
	case g.level == 1:
		return append(to, term{s, 1})
	case g.level == 10:
		if at, ok := g.holds(m, s); ok {
			to = append(to, term{at, 1})
		}
		return to
	}
	r, first := g.row(s), s/g.chunk*g.stripe()+s%g.chunk
	for k := range r.data {
		coef := byte(1)
		if m == r.q {
			coef = r.coef[k]
		}
		if m == r.p || m == r.q || r.slot[m] == k {
			to = append(to, term{first + mapper.Sector(k)*g.chunk, coef})
		}
	}
	return to
}

// sameContent reports whether what member m of one geometry holds is what member n of another does. If not, s is the first sector that differs.
// Placement repeats after as many rows as there are members, at most, and two sequences that repeat and agree for as long as both
// periods together agree for ever.
func sameContent(old *geometry, m int, now *geometry, n int) (s mapper.Sector, same bool) {
	unit, most := now.chunk, max(old.chunk, now.chunk)
	if unit == 0 || old.chunk != 0 && old.chunk < unit {
		unit = old.chunk
	}
	if m >= old.members {
		return 0, false
	}
	if unit == 0 { // both are raid1
		return 0, true
	}
	end := min(now.dev, most*mapper.Sector(old.members+now.members))
	var a, b []term
	for s := mapper.Sector(0); s < end; s += unit {
		a, b = old.holding(a[:0], m, s), now.holding(b[:0], n, s)
		if !slices.Equal(a, b) {
			return s, false
		}
	}
	return 0, true
}
