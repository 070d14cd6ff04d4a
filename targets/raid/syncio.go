package raid

import (
	"bytes"
	"context"

	"dmfs/mapper"
)

// Sectors in which mismatches are counted: md compares pages of a parity array, and what it resyncs at a time of a mirror.
const (
	parityUnit mapper.Sector = 8
	mirrorUnit mapper.Sector = 128
)

// rowsClaim returns the range to claim for work on sectors [from, to) of the members: whole rows.
func (t *plane) rowsClaim(from, to mapper.Sector) (mapper.Sector, mapper.Sector) {
	chunk := t.geo.chunk
	return from / chunk * chunk, (to + chunk - 1) / chunk * chunk
}

// A span is a range of sectors of all members, in memory. Rows may begin and end in it.
type span struct {
	t        *plane
	from, to mapper.Sector
	blocks   [][]byte  // by member
	have     []bool    // by member: blocks has what the member holds
	bad      []*member // could not be read because of their disk
	bufs     []*mapper.Buffer
}

// load reads sectors [from, to) of all members that hold them.
func (t *plane) load(ctx context.Context, from, to mapper.Sector) (*span, error) {
	n := t.geo.members
	s := &span{t: t, from: from, to: to, blocks: make([][]byte, n), have: make([]bool, n), bufs: make([]*mapper.Buffer, 0, n+2)}
	for i := range n {
		b := mapper.GetBuffer(int((to - from).Bytes()))
		s.bufs = append(s.bufs, b)
		s.blocks[i] = b.Data
	}
	errs := make([]error, n)
	_ = mapper.FanOut(n, fanWidth, func(i int) error {
		if m := &t.members[i]; m.readable(to) {
			errs[i] = t.read(ctx, m, from, s.blocks[i])
			s.have[i] = errs[i] == nil
			t.putOwed(i, from, s.blocks[i])
		}
		return nil
	})
	for i, err := range errs {
		if err != nil && !mapper.DiskFailed(err) {
			s.free()
			return nil, err
		}
		if err != nil {
			s.bad = append(s.bad, &t.members[i])
		}
	}
	return s, nil
}

func (s *span) free() {
	for _, b := range s.bufs {
		b.Free()
	}
}

// rows calls f for each row of s with the parts of the members' blocks that are in it.
func (s *span) rows(f func(r *row, blocks [][]byte, at mapper.Sector) error) error {
	blocks := make([][]byte, len(s.blocks))
	for at := s.from; at < s.to; {
		end := min(s.to, (at/s.t.geo.chunk+1)*s.t.geo.chunk)
		lo, hi := (at - s.from).Bytes(), (end - s.from).Bytes()
		for i := range blocks {
			blocks[i] = s.blocks[i][lo:hi:hi]
		}
		if err := f(s.t.geo.row(at), blocks, at); err != nil {
			return err
		}
		at = end
	}
	return nil
}

// fill recovers what the members do not hold of a row, data and parity, and reports whether that was possible.
func (s *span) fill(r *row, blocks [][]byte) bool {
	x, y, gone := -1, -1, 0
	data := make([][]byte, len(r.data))
	for k, m := range r.data {
		data[k] = blocks[m]
		if !s.have[m] {
			x, y = k, x
			gone++
		}
	}
	lostP, lostQ := !s.have[r.p], r.q >= 0 && !s.have[r.q]
	spare := 0
	var q []byte
	if !lostP {
		spare++
	}
	if r.q >= 0 {
		q = blocks[r.q]
		if !lostQ {
			spare++
		}
	}
	if gone > spare {
		return false
	}
	if x >= 0 && y < 0 && lostP { // from Q
		solve(data, r.coef, nil, q, x, -1, true, false)
		sumP(blocks[r.p], data, -1)
		return true
	}
	solve(data, r.coef, blocks[r.p], q, x, y, lostP, lostQ)
	return true
}

// syncRows compares parity with data in sectors [from, to) of the members. wrong is how many sectors do not agree.
func (t *plane) syncRows(ctx context.Context, from, to mapper.Sector, action string) (wrong mapper.Sector, err error) {
	first, last := t.rowsClaim(from, to)
	claim, err := t.claims.take(ctx, first, last, false)
	if err != nil {
		return 0, err
	}
	defer t.claims.end(claim)
	s, err := t.load(ctx, from, to)
	if err != nil {
		return 0, err
	}
	defer s.free()
	scratch := mapper.GetBuffer(int((to - from).Bytes()))
	defer scratch.Free()
	err = s.rows(func(r *row, blocks [][]byte, at mapper.Sector) error {
		if !s.fill(r, blocks) {
			return nil // nothing to compare with
		}
		data := make([][]byte, len(r.data))
		for k, m := range r.data {
			data[k] = blocks[m]
		}
		want := scratch.Data[:len(data[0])]
		pages := make([]bool, (len(want)+int(parityUnit.Bytes())-1)/int(parityUnit.Bytes()))
		for _, m := range []int{r.p, r.q} {
			if m < 0 || !s.have[m] {
				continue
			}
			if m == r.p {
				sumP(want, data, -1)
			} else {
				sumQ(want, data, r.coef, -1, -1)
			}
			if !differ(blocks[m], want, pages) || action == check {
				continue
			}
			if err := t.put(&t.members[m], at, want); err != nil {
				return err
			}
		}
		for _, p := range pages {
			if p {
				wrong += parityUnit
			}
		}
		return s.rewriteBad(blocks, at)
	})
	return wrong, err
}

// rewriteBad writes what was recovered over what could not be read.
func (s *span) rewriteBad(blocks [][]byte, at mapper.Sector) error {
	for _, m := range s.bad {
		if err := s.t.rewrite(m, at, blocks[m.index]); err != nil {
			return err
		}
	}
	return nil
}

// differ marks the pages in which a and b differ, and reports whether any does.
func differ(a, b []byte, pages []bool) (any bool) {
	if bytes.Equal(a, b) {
		return false
	}
	unit := int(parityUnit.Bytes())
	for i := range pages {
		lo, hi := i*unit, min((i+1)*unit, len(a))
		if !bytes.Equal(a[lo:hi], b[lo:hi]) {
			pages[i] = true
		}
	}
	return true
}

// put writes to m for the syncer. If that fails because of the disk, the member has failed; that the array can go on without.
func (t *plane) put(m *member, at mapper.Sector, data []byte) error {
	err := t.write(context.Background(), m, at, data, 0)
	if err != nil && mapper.DiskFailed(err) && t.failed(m) {
		return nil
	}
	return err
}

// rebuildRows fills sectors [from, to) of m from the other members.
func (t *plane) rebuildRows(ctx context.Context, m *member, from, to mapper.Sector) error {
	first, last := t.rowsClaim(from, to)
	claim, err := t.claims.take(ctx, first, last, false)
	if err != nil {
		return err
	}
	defer t.claims.end(claim)
	s, err := t.load(ctx, from, to)
	if err != nil {
		return err
	}
	defer s.free()
	err = s.rows(func(r *row, blocks [][]byte, at mapper.Sector) error {
		if !s.fill(r, blocks) {
			return mapper.ErrIO
		}
		return s.rewriteBad(blocks, at)
	})
	if err != nil {
		return err
	}
	if err := t.put(m, from, s.blocks[m.index]); err != nil {
		return err
	}
	if m.dead.Load() {
		return mapper.ErrIO
	}
	m.good.Store(uint64(to))
	return nil
}

// syncCopies compares the copies of sectors [from, to) of the array, in one chunk.
func (t *plane) syncCopies(ctx context.Context, from, to mapper.Sector, action string) (wrong mapper.Sector, err error) {
	claim, err := t.claims.take(ctx, from, to, false)
	if err != nil {
		return 0, err
	}
	defer t.claims.end(claim)
	a, b := mapper.GetBuffer(int((to - from).Bytes())), mapper.GetBuffer(int((to - from).Bytes()))
	defer a.Free()
	defer b.Free()
	places := t.geo.copies(nil, from)
	source, bad, err := t.readCopy(ctx, places, to-from, a.Data)
	if err != nil {
		return 0, err
	}
	units := make([]bool, (to-from+mirrorUnit-1)/mirrorUnit)
	for k, p := range places {
		m := &t.members[p.member]
		if k == source || !m.readable(p.at+to-from) {
			continue
		}
		err := t.read(ctx, m, p.at, b.Data)
		switch {
		case err != nil && !mapper.DiskFailed(err):
			return 0, err
		case err != nil:
			bad = append(bad, k)
		case !bytes.Equal(a.Data, b.Data):
			markUnits(a.Data, b.Data, units)
			if action != check {
				if err := t.put(m, p.at, a.Data); err != nil {
					return 0, err
				}
			}
		}
	}
	for i, u := range units {
		if u {
			wrong += min(mirrorUnit, to-from-mapper.Sector(i)*mirrorUnit)
		}
	}
	for _, k := range bad {
		if err := t.rewrite(&t.members[places[k].member], places[k].at, a.Data); err != nil {
			return wrong, err
		}
	}
	return wrong, nil
}

func markUnits(a, b []byte, units []bool) {
	unit := int(mirrorUnit.Bytes())
	for i := range units {
		lo, hi := i*unit, min((i+1)*unit, len(a))
		units[i] = units[i] || !bytes.Equal(a[lo:hi], b[lo:hi])
	}
}

// readCopy reads the first copy that can be read. bad are those before it that could not, because of their disk.
func (t *plane) readCopy(ctx context.Context, places []place, n mapper.Sector, buf []byte) (source int, bad []int, err error) {
	err = mapper.ErrIO
	for k, p := range places {
		m := &t.members[p.member]
		if !m.readable(p.at + n) {
			continue
		}
		if err = t.read(ctx, m, p.at, buf); err == nil {
			return k, bad, nil
		}
		if !mapper.DiskFailed(err) {
			break
		}
		bad = append(bad, k)
	}
	return -1, bad, err
}

// rebuildCopy fills n sectors of m from at on, which are a copy of those from s on of the array.
func (t *plane) rebuildCopy(ctx context.Context, m *member, at, s, n mapper.Sector) error {
	claim, err := t.claims.take(ctx, s, s+n, false)
	if err != nil {
		return err
	}
	defer t.claims.end(claim)
	buf := mapper.GetBuffer(int(n.Bytes()))
	defer buf.Free()
	if _, _, err := t.readCopy(ctx, t.geo.copies(nil, s), n, buf.Data); err != nil {
		return err
	}
	if err := t.put(m, at, buf.Data); err != nil {
		return err
	}
	if m.dead.Load() {
		return mapper.ErrIO
	}
	m.good.Store(uint64(at + n))
	return nil
}
