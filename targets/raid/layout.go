package raid

import (
	"slices"

	"dmfs/mapper"
)

// A geometry says where the sectors of an array lie on its members.
type geometry struct {
	level   uint32
	layout  uint32
	members int
	parity  int           // members' worth of parity
	chunk   mapper.Sector // sectors, a power of two; 0 for raid1
	dev     mapper.Sector // sectors used of each member
	array   mapper.Sector // sectors of the array

	rows []row // of a parity layout, which repeat

	// raid10
	near, far        int
	offset           bool          // copies of a stripe lie in the next one
	stride           mapper.Sector // from a far copy to the next on a member
	setSize          int           // members that far copies rotate among
	lastSet, lastLen int           // the first member and the size of the last set, if members do not divide
}

// A row says what each member holds in one row of chunks.
type row struct {
	p, q int    // members with parity; q is -1 for raid4 and 5
	data []int  // members with the first, second, ... chunk of data
	coef []byte // by data: what it is multiplied by in Q
	slot []int  // by member: index into data, or -1
}

// newGeometry returns the geometry of an array of a level and layout, as superblocks store them.
func newGeometry(level, layout uint32, members int, chunk, dev, array mapper.Sector) geometry {
	g := geometry{level: level, layout: layout, members: members, parity: parityOf(level), chunk: chunk, dev: dev, array: array}
	switch {
	case g.parity > 0:
		g.rows = parityRows(level, layout, members)
	case level == 10:
		g.setFar()
	}
	return g
}

func (g *geometry) data() int { return g.members - g.parity }

// mirrored reports whether sectors have copies.
func (g *geometry) mirrored() bool { return g.level == 1 || g.level == 10 }

// stripe returns the sectors of data in a row of chunks.
func (g *geometry) stripe() mapper.Sector { return g.chunk * mapper.Sector(g.data()) }

// syncSectors returns the length of what a resync runs over, and the bitmap describes: the array for raid10, else a member.
func (g *geometry) syncSectors() mapper.Sector {
	if g.level == 10 {
		return g.array
	}
	return g.dev
}

// parityRows returns the rows of an algorithm until they repeat.
func parityRows(level, layout uint32, n int) []row {
	period := n
	switch layout {
	case parityFirst, parityFirst6, parityLast:
		period = 1
	case leftAsymmetric6, rightAsymmetric6, leftSymmetric6, rightSymmetric6:
		period = n - 1
	}
	rows := make([]row, period)
	for i := range rows {
		if level == 6 {
			rows[i] = row6(layout, n, i)
		} else {
			rows[i] = row5(layout, n, i)
		}
		rows[i].index(n, layout == zeroRestart || layout == nRestart || layout == nContinue)
	}
	return rows
}

// row5 returns row i of n members with one parity.
func row5(layout uint32, n, i int) row {
	r := row{q: -1, data: make([]int, 0, n-1)}
	symmetric := false
	switch layout {
	case leftAsymmetric:
		r.p = n - 1 - i
	case leftSymmetric:
		r.p, symmetric = n-1-i, true
	case rightAsymmetric:
		r.p = i
	case rightSymmetric:
		r.p, symmetric = i, true
	case parityFirst:
		r.p = 0
	case parityLast:
		r.p = n - 1
	}
	first := 0
	if symmetric {
		first = r.p + 1
	}
	return r.fill(first, n)
}

// fill lists the members from first on, around n of them, that hold no parity, as holding data.
func (r row) fill(first, n int) row {
	for k := range n {
		if m := (first + k) % n; m != r.p && m != r.q {
			r.data = append(r.data, m)
		}
	}
	return r
}

// row6 returns row i of n members with two parities.
func row6(layout uint32, n, i int) row {
	switch layout {
	case leftAsymmetric6, rightAsymmetric6, leftSymmetric6, rightSymmetric6, parityFirst6:
		r := row5(layout-leftAsymmetric6, n-1, i)
		r.q = n - 1
		return r
	case parityLast:
		return row{p: n - 2, q: n - 1}.fill(0, n)
	case zeroRestart, rightAsymmetric:
		return row{p: i, q: (i + 1) % n}.fill(0, n)
	case rightSymmetric:
		return row{p: i, q: (i + 1) % n}.fill(i+2, n)
	case leftAsymmetric, leftSymmetric:
		r := row{p: n - 1 - i}
		if r.q = (r.p + 1) % n; layout == leftSymmetric {
			return r.fill(r.q+1, n)
		}
		return r.fill(0, n)
	case parityFirst:
		return row{p: 0, q: 1}.fill(0, n)
	case nRestart:
		p := n - 1 - (i+1)%n
		return row{p: p, q: (p + 1) % n}.fill(0, n)
	}
	p := n - 1 - i // nContinue
	return row{p: p, q: (p + n - 1) % n}.fill(p+1, n)
}

// index fills in coef and slot. The exponent of a chunk in Q is its member's number for the layouts that come from
// DDF, else its place after the member with Q.
func (r *row) index(n int, byMember bool) {
	r.slot = make([]int, n)
	for m := range r.slot {
		r.slot[m] = -1
	}
	for k, m := range r.data {
		r.slot[m] = k
	}
	r.coef = make([]byte, len(r.data))
	if r.q < 0 {
		return
	}
	exponent := 0
	for k := range n {
		m := (r.q + 1 + k) % n
		if byMember {
			m = k
			exponent = k
		}
		if r.slot[m] >= 0 {
			r.coef[r.slot[m]] = power(exponent)
			exponent++
		}
	}
}

// row returns the row that sector at of the members lies in.
func (g *geometry) row(at mapper.Sector) *row {
	return &g.rows[int(at/g.chunk%mapper.Sector(len(g.rows)))]
}

// setFar derives from the layout how raid10 spreads copies.
func (g *geometry) setFar() {
	g.near, g.far = int(g.layout&0xff), int(g.layout>>farShift&0xff)
	g.offset = g.layout&offsetBit != 0
	g.setSize = g.members
	if g.layout&useFarSets != 0 {
		g.setSize = g.far * g.near
	}
	if g.setSize > 0 {
		g.lastSet = (g.members/g.setSize - 1) * g.setSize
		g.lastLen = g.setSize + g.members%g.setSize
	}
	chunks := g.dev / g.chunk
	g.stride = chunks / mapper.Sector(max(g.far, 1)) * g.chunk
	if g.offset {
		g.stride = g.chunk
	}
}

// uneven reports whether a member of a raid10 does not get a multiple of its far or offset copies in chunks.
func (g *geometry) uneven() bool { return g.far > 1 && g.dev/g.chunk%mapper.Sector(g.far) != 0 }

// check10 reports whether the raid10 layout is one that members of that number can have, and fits the sizes.
func (g *geometry) check10() bool {
	copies := g.near * g.far
	if g.layout&^knownLayout != 0 || g.near < 1 || g.far < 1 || copies < 2 || copies > g.members || g.setSize < 1 || g.setSize > g.members {
		return false
	}
	if g.dev%g.chunk != 0 || g.uneven() {
		return false
	}
	return g.array%g.chunk == 0 && g.dev == memberSectors(g.array, g.chunk, copies, g.members)
}

// memberSectors returns how much a raid10 uses of each member. Near copies may leave the last row of chunks half empty.
func memberSectors(array, chunk mapper.Sector, copies, members int) mapper.Sector {
	n := mapper.Sector(members)
	return (array/chunk*mapper.Sector(copies) + n - 1) / n * chunk
}

// fillsRows reports whether copies are in the last row of all members, as dm-raid wants it.
func (g *geometry) fillsRows() bool {
	return g.level != 10 || g.dev*mapper.Sector(g.members) == g.array*mapper.Sector(g.near*g.far)
}

// span returns the sectors that lie side by side in one row: those of a row of chunks with parity, of a mirror those of a chunk.
func (g *geometry) span() mapper.Sector {
	if g.mirrored() {
		return g.chunk
	}
	return g.stripe()
}

// copied returns how often a raid10 has each sector.
func (g *geometry) copied() mapper.Sector { return mapper.Sector(g.near * g.far) }

// spread returns how many sectors of the array lie on n of each member.
func (g *geometry) spread(n mapper.Sector) mapper.Sector {
	if g.level == 10 {
		return n * mapper.Sector(g.members) / g.copied()
	}
	return n * mapper.Sector(g.data())
}

// share returns how many sectors of each member n of the array take.
func (g *geometry) share(n mapper.Sector) mapper.Sector {
	if g.level == 10 {
		return n * g.copied() / mapper.Sector(g.members)
	}
	return n / mapper.Sector(g.data())
}

// onlyParity reports whether member m holds no data, as the last ones do in some layouts of parity. Without it an array is whole that was never in sync.
func (g *geometry) onlyParity(m int) bool {
	if g.parity == 0 {
		return false
	}
	return !slices.ContainsFunc(g.rows, func(r row) bool { return slices.Contains(r.data, m) })
}

// turn returns the sectors of a member after which the placement begins with another sector of the array: a row of chunks, or the rows with the copies of one.
func (g *geometry) turn() mapper.Sector {
	if g.offset {
		return g.chunk * mapper.Sector(g.far)
	}
	return g.chunk
}

// begins returns where on the members the sectors of the array from s on begin: none of them lies before. This and the next three are not for far copies.
func (g *geometry) begins(s mapper.Sector) mapper.Sector {
	if g.parity > 0 {
		return s / g.stripe() * g.chunk
	}
	return s / g.chunk * mapper.Sector(g.near) / mapper.Sector(g.members) * g.turn()
}

// ends returns where on the members the sectors of the array before s end.
func (g *geometry) ends(s mapper.Sector) mapper.Sector {
	if g.parity > 0 {
		return ceil(s, g.stripe()) * g.chunk
	}
	return ceil(ceil(s, g.chunk)*mapper.Sector(g.near), mapper.Sector(g.members)) * g.turn()
}

// below returns how many sectors of the array, from its beginning on, lie before sector at of the members with all that belongs to them.
func (g *geometry) below(at mapper.Sector) mapper.Sector {
	if g.parity > 0 {
		return at / g.chunk * g.stripe()
	}
	return at / g.turn() * mapper.Sector(g.members) / mapper.Sector(g.near) * g.chunk
}

// above returns the first sector of the array from which on all lie at sector at of the members or behind it.
func (g *geometry) above(at mapper.Sector) mapper.Sector {
	if g.parity > 0 {
		return ceil(at, g.chunk) * g.stripe()
	}
	return ceil(ceil(at, g.turn())*mapper.Sector(g.members), mapper.Sector(g.near)) * g.chunk
}

// ceil returns n / unit, rounded up.
func ceil(n, unit mapper.Sector) mapper.Sector { return (n + unit - 1) / unit }

// A place is a sector of a member.
type place struct {
	member int
	at     mapper.Sector
}

// copies appends where the copies of sector s of the array lie, the first to be read first. They go on side by side for the rest of the chunk.
func (g *geometry) copies(to []place, s mapper.Sector) []place {
	if g.level == 1 {
		for m := range g.members {
			to = append(to, place{m, s})
		}
		return to
	}
	n := mapper.Sector(g.members)
	chunk, off := s/g.chunk*mapper.Sector(g.near), s%g.chunk
	stripe, dev := chunk/n, int(chunk%n)
	if g.offset {
		stripe *= mapper.Sector(g.far)
	}
	at := stripe*g.chunk + off
	for range g.near {
		d, where := dev, at
		to = append(to, place{d, where})
		for range g.far - 1 {
			d = g.next(d)
			where += g.stride
			to = append(to, place{d, where})
		}
		if dev++; dev >= g.members {
			dev = 0
			at += g.chunk
		}
	}
	return to
}

// next returns the member with the next far copy of what member d holds.
func (g *geometry) next(d int) int {
	set := d / g.setSize * g.setSize
	d += g.near
	if g.members%g.setSize != 0 && d > g.lastSet {
		return g.lastSet + (d-g.lastSet)%g.lastLen
	}
	return set + d%g.setSize
}

// previous is the inverse of next.
func (g *geometry) previous(d int) int {
	for m := range g.members {
		if g.next(m) == d {
			return m
		}
	}
	return d
}

// holds returns the sector of a raid10 array of which sector at of member m is a copy; ok is false if it is none, in a row that the array does not fill.
func (g *geometry) holds(m int, at mapper.Sector) (s mapper.Sector, ok bool) {
	off := at % g.chunk
	chunk := at / g.chunk
	if g.offset {
		for range chunk % mapper.Sector(g.far) {
			m = g.previous(m)
		}
		chunk /= mapper.Sector(g.far)
	} else {
		for ; chunk >= g.stride/g.chunk && g.far > 1; chunk -= g.stride / g.chunk {
			m = g.previous(m)
		}
	}
	s = (chunk*mapper.Sector(g.members)+mapper.Sector(m))/mapper.Sector(g.near)*g.chunk + off
	return s, s < g.array
}

// survives reports whether members that can be used, by number, hold all data.
func (g *geometry) survives(usable func(m int) bool) bool {
	lost := 0
	for m := range g.members {
		if !usable(m) {
			lost++
		}
	}
	switch {
	case g.level == 1:
		return lost < g.members
	case g.level != 10:
		return lost <= g.parity
	case lost == 0:
		return true
	}
	// The placement repeats after as many chunks as there are members.
	var room [16]place
	for c := mapper.Sector(0); c < mapper.Sector(g.members) && c*g.chunk < g.array; c++ {
		alive := false
		for _, p := range g.copies(room[:0], c*g.chunk) {
			alive = alive || usable(p.member)
		}
		if !alive {
			return false
		}
	}
	return true
}
