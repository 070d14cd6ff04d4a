package raid

import (
	"context"

	"dmfs/mapper"
)

// A piece is the part of a request in one chunk of a row.
type piece struct {
	k      int           // which chunk of data
	off, n mapper.Sector // in the chunk
	data   []byte
}

// pieces cuts r, which lies in one row, into chunks. at is where the row begins on the members.
func (t *plane) pieces(r mapper.Request) (at mapper.Sector, list []piece) {
	chunk, stripe := t.geo.chunk, t.geo.stripe()
	at = r.Start / stripe * chunk
	for s := r.Start; s < r.End(); {
		in := s % stripe
		off := in % chunk
		n := min(chunk-off, r.End()-s)
		from := (s - r.Start).Bytes()
		list = append(list, piece{k: int(in / chunk), off: off, n: n, data: r.Data[from : from+n.Bytes() : from+n.Bytes()]})
		s += n
	}
	return at, list
}

// readParity reads what lies in one row.
func (t *plane) readParity(ctx context.Context, r mapper.Request) error {
	stripe := t.geo.stripe()
	if in := r.Start % stripe; in/t.geo.chunk == (in+r.Count-1)/t.geo.chunk {
		// Within a chunk, as small requests are.
		at := r.Start/stripe*t.geo.chunk + in%t.geo.chunk
		m := &t.members[t.geo.row(at).data[in/t.geo.chunk]]
		if m.readable(at + r.Count) {
			down := r
			down.Start = t.offset + at
			if err := m.data.Submit(ctx, down); err == nil || !mapper.DiskFailed(err) {
				return err
			}
		}
		return t.readRow(ctx, r)
	}
	at, list := t.pieces(r)
	row := t.geo.row(at)
	for _, p := range list {
		if !t.members[row.data[p.k]].readable(at + p.off + p.n) {
			return t.readRow(ctx, r)
		}
	}
	err := mapper.FanOut(len(list), fanWidth, func(i int) error {
		return t.read(ctx, &t.members[row.data[list[i].k]], at+list[i].off, list[i].data)
	})
	if err != nil && mapper.DiskFailed(err) {
		return t.readRow(ctx, r)
	}
	return err
}

// readRow reads r while nobody writes to its row: what a member does not hold, or cannot read, is recovered from the others.
func (t *plane) readRow(ctx context.Context, r mapper.Request) error {
	at, list := t.pieces(r)
	claim, err := t.claims.take(ctx, at, at+t.geo.chunk, true)
	if err != nil {
		return err
	}
	bad, err := t.readHeld(ctx, at, list)
	t.claims.end(claim)
	if err != nil || len(bad) == 0 {
		return err
	}
	for _, p := range bad {
		if err := t.repairPiece(ctx, at, p); err != nil {
			return err
		}
	}
	return nil
}

// readHeld reads pieces of a row that is claimed. bad are those that were read, but not where they should be.
func (t *plane) readHeld(ctx context.Context, at mapper.Sector, list []piece) (bad []piece, err error) {
	row := t.geo.row(at)
	have := make([]bool, len(list))
	errs := make([]error, len(list))
	_ = mapper.FanOut(len(list), fanWidth, func(i int) error {
		p, m := &list[i], &t.members[row.data[list[i].k]]
		if m.readable(at + p.off + p.n) {
			errs[i] = t.read(ctx, m, at+p.off, p.data)
			have[i] = errs[i] == nil
		}
		return nil
	})
	for i, err := range errs {
		if err != nil && !mapper.DiskFailed(err) {
			return nil, err
		}
		if err != nil {
			bad = append(bad, list[i])
		}
	}
	for i := range list {
		if have[i] {
			continue
		}
		for off := mapper.Sector(0); off < list[i].n; off += columnSectors {
			if err := t.recover(ctx, at, list, have, i, off, errs); err != nil {
				return nil, err
			}
		}
	}
	return bad, nil
}

// recover recovers a column of piece i, from offset off of it on, using what was read of other pieces.
func (t *plane) recover(ctx context.Context, at mapper.Sector, list []piece, have []bool, i int, off mapper.Sector, errs []error) error {
	from := list[i].off + off
	n := min(columnSectors, list[i].n-off)
	c, err := t.newColumn(ctx, at+from, n)
	if err != nil {
		return err
	}
	defer c.free()
	var unreadable []int
	for j := range list {
		if p := &list[j]; have[j] && p.off <= from && from+n <= p.off+p.n {
			lo := (from - p.off).Bytes()
			m := c.row.data[p.k]
			c.blocks[m] = p.data[lo : lo+n.Bytes()]
			c.t.putOwed(m, c.at, c.blocks[m])
		} else if errs[j] != nil {
			unreadable = append(unreadable, c.row.data[p.k])
		}
	}
	if _, err := c.complete(ctx, unreadable); err != nil {
		return err
	}
	copy(list[i].data[off.Bytes():], c.blocks[c.row.data[list[i].k]])
	return nil
}

// repairPiece writes what was recovered of a piece over what could not be read. The row is claimed, so it is recovered anew.
func (t *plane) repairPiece(ctx context.Context, at mapper.Sector, p piece) error {
	if t.readOnly {
		return nil
	}
	claim, err := t.claims.take(ctx, at, at+t.geo.chunk, false)
	if err != nil {
		return err
	}
	defer t.claims.end(claim)
	m := t.geo.row(at).data[p.k]
	for off := mapper.Sector(0); off < p.n; off += columnSectors {
		c, err := t.newColumn(ctx, at+p.off+off, min(columnSectors, p.n-off))
		if err != nil {
			return err
		}
		if _, err = c.complete(ctx, []int{m}); err == nil {
			err = t.rewrite(&t.members[m], c.at, c.blocks[m])
		}
		c.free()
		if err != nil {
			return err
		}
	}
	return nil
}

// writeParity writes what lies in one row.
func (t *plane) writeParity(ctx context.Context, r mapper.Request) error {
	at, list := t.pieces(r)
	claim, err := t.claims.take(ctx, at, at+t.geo.chunk, false)
	if err != nil {
		return err
	}
	defer t.claims.end(claim)
	end := at + t.geo.chunk
	if err := t.bitmap.begin(ctx, at, end); err != nil {
		return err
	}
	torn, err := t.writeRow(ctx, at, list, r.Flags)
	t.bitmap.end(at, end, torn)
	return err
}

// writeRow writes pieces of a row. They are cut into columns in which each chunk is either written or not.
func (t *plane) writeRow(ctx context.Context, at mapper.Sector, list []piece, flags mapper.Flags) (torn bool, err error) {
	first, last := &list[0], &list[len(list)-1]
	cuts := []mapper.Sector{0, first.off, last.off + last.n, t.geo.chunk}
	if cuts[1] > cuts[2] {
		cuts[1], cuts[2] = cuts[2], cuts[1]
	}
	for i := range 3 {
		for from := cuts[i]; from < cuts[i+1]; from += columnSectors {
			n := min(columnSectors, cuts[i+1]-from)
			t2, e := t.writeColumn(ctx, at+from, n, from, list, flags)
			torn = torn || t2
			if e != nil && err == nil {
				err = e
			}
			if ctx.Err() != nil && err != nil {
				return torn, err
			}
		}
	}
	return torn, err
}

// writeColumn writes the n sectors of a column, which begin off sectors into the chunks.
func (t *plane) writeColumn(ctx context.Context, at, n, off mapper.Sector, list []piece, flags mapper.Flags) (torn bool, err error) {
	fresh, count := t.fresh(list, off, off+n)
	if count == 0 {
		return false, nil
	}
	c, err := t.newColumn(ctx, at, n)
	if err != nil {
		return false, err
	}
	defer c.free()
	members, err := c.prepare(ctx, fresh, count)
	if err != nil {
		return false, err
	}
	err = c.store(members, func(m int) []byte { return c.blocks[m] }, flags)
	return err != nil, err
}

// fresh returns what pieces hold of [from, to) of the chunks, by chunk, and of how many.
func (t *plane) fresh(list []piece, from, to mapper.Sector) (blocks [][]byte, count int) {
	blocks = make([][]byte, t.geo.data())
	for i := range list {
		if p := &list[i]; p.off <= from && to <= p.off+p.n {
			lo := (from - p.off).Bytes()
			blocks[p.k] = p.data[lo : lo+(to-from).Bytes()]
			count++
		}
	}
	return blocks, count
}

// prepare computes parity for fresh blocks of data, count of them, and returns the members to write to.
func (c *column) prepare(ctx context.Context, fresh [][]byte, count int) (members []int, err error) {
	if err := c.update(ctx, fresh, count); err != nil {
		return nil, err
	}
	members = c.parities()
	for k, p := range fresh {
		if p != nil {
			c.blocks[c.row.data[k]] = p
			members = append(members, c.row.data[k])
		}
	}
	return members, nil
}

// update computes parity for fresh blocks of data, count of them, in the cheapest way that the members allow.
func (c *column) update(ctx context.Context, fresh [][]byte, count int) error {
	parities := c.parities()
	if len(parities) == 0 {
		return nil
	}
	if count == len(fresh) {
		c.encode(fresh)
		return nil
	}
	var over, rest []int
	for k, m := range c.row.data {
		if fresh[k] != nil {
			over = append(over, m)
		} else {
			rest = append(rest, m)
		}
	}
	modify := append(over, parities...)
	var bad []int
	canRebuild := c.allReadable(rest)
	if c.t.synced(c.at, c.at+c.n) && c.allReadable(modify) && (!canRebuild || !c.again && len(modify) < len(rest)) {
		more, err := c.fetch(ctx, modify)
		if err == nil {
			c.modify(fresh)
			return nil
		} else if more == nil {
			return err
		}
		bad = more
	}
	if canRebuild {
		more, err := c.fetch(ctx, rest)
		if err == nil {
			c.merge(c.data(), fresh)
			return nil
		} else if more == nil {
			return err
		}
		bad = append(bad, more...)
	}
	if _, err := c.complete(ctx, bad); err != nil {
		return err
	}
	c.merge(c.data(), fresh)
	return nil
}

// merge computes parity of data, with what is fresh in its place.
func (c *column) merge(data, fresh [][]byte) {
	for k, p := range fresh {
		if p != nil {
			data[k] = p
		}
	}
	c.encode(data)
}

func (c *column) allReadable(list []int) bool {
	for _, m := range list {
		if !c.readable(m) {
			return false
		}
	}
	return true
}

// modify changes parity, which is in memory, by the difference of old and fresh data.
func (c *column) modify(fresh [][]byte) {
	p := c.blocks[c.row.p]
	var q []byte
	if c.row.q >= 0 {
		q = c.blocks[c.row.q]
	}
	for k, now := range fresh {
		if now == nil {
			continue
		}
		diff := c.blocks[c.row.data[k]]
		addTo(diff, now)
		if p != nil {
			addTo(p, diff)
		}
		if q != nil {
			mulAddTo(q, c.row.coef[k], diff)
		}
	}
}
