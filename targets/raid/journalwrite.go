package raid

import (
	"context"
	"slices"

	"dmfs/mapper"
)

// storeLogged writes what is fresh of c, and parity, to the journal and then to members. What that takes of the journal is taken off left.
func (c *column) storeLogged(fresh [][]byte, members []int, left *int) (err error) {
	j := c.t.journal
	e := logEntry{at: c.at, rows: int(c.n / blockSectors), parity: c.parityBlocks()}
	for k, p := range fresh {
		if p != nil {
			e.data = append(e.data, logData{c.t.geo.sector(c.at, k), p})
		}
	}
	if err := j.inUse.Share(context.Background()); err != nil {
		return err
	}
	defer j.inUse.Unshare()
	*left -= e.bound()
	if err := j.append(&e); err != nil {
		return err
	}
	if err = c.store(members, func(m int) []byte { return c.blocks[m] }, 0); err != nil {
		row := c.at / c.t.geo.chunk * c.t.geo.chunk
		j.cache.owe(row, c.at-row, fresh, e.parity)
	}
	return err
}

// parityBlocks returns P, and Q of raid6, as far as they were computed.
func (c *column) parityBlocks() [][]byte {
	blocks := [][]byte{c.blocks[c.row.p]}
	if c.row.q >= 0 {
		blocks = append(blocks, c.blocks[c.row.q])
	}
	return blocks
}

// sector returns the sector of the array that chunk k of data has at sector at of the members.
func (g *geometry) sector(at mapper.Sector, k int) mapper.Sector {
	return at/g.chunk*g.stripe() + mapper.Sector(k)*g.chunk + at%g.chunk
}

// writeJournaled writes what lies in one row, a window of its chunks at a time.
func (t *plane) writeJournaled(ctx context.Context, r mapper.Request) error {
	at, list := t.pieces(r)
	for from := mapper.Sector(0); from < t.geo.chunk; from += t.journal.window {
		part := clip(list, from, min(from+t.journal.window, t.geo.chunk))
		if len(part) == 0 {
			continue
		}
		if err := t.writeWindow(ctx, at, part); err != nil {
			return err
		}
	}
	return nil
}

// clip returns the parts of pieces in [from, to) of their chunks.
func clip(list []piece, from, to mapper.Sector) (part []piece) {
	for _, p := range list {
		lo, hi := max(p.off, from), min(p.off+p.n, to)
		if lo < hi {
			part = append(part, piece{k: p.k, off: lo, n: hi - lo, data: p.data[(lo - p.off).Bytes():(hi - p.off).Bytes()]})
		}
	}
	return part
}

// pageSpan returns the pages of a chunk that p has a part of.
func (p *piece) pageSpan() (lo, hi mapper.Sector) {
	return p.off / blockSectors * blockSectors, (p.off + p.n + blockSectors - 1) / blockSectors * blockSectors
}

// pages returns how many pages the pieces of a row touch, and in how many stripes of pages.
func pages(list []piece) (data, stripes int) {
	for _, c := range pageColumns(list) {
		n := int((c.to - c.from) / blockSectors)
		data += n * c.chunks
		stripes += n
	}
	return data, stripes
}

// A pageColumn is a range of the chunks of a row in which each is written or not.
type pageColumn struct {
	from, to mapper.Sector
	chunks   int // that are written
}

// pageColumns cuts pieces of a row into columns of whole pages.
func pageColumns(list []piece) (columns []pageColumn) {
	cuts := make([]mapper.Sector, 0, 2*len(list))
	for i := range list {
		lo, hi := list[i].pageSpan()
		cuts = append(cuts, lo, hi)
	}
	slices.Sort(cuts)
	for i := 1; i < len(cuts); i++ {
		c := pageColumn{from: cuts[i-1], to: cuts[i]}
		if c.from == c.to {
			continue
		}
		for k := range list {
			if lo, hi := list[k].pageSpan(); lo <= c.from && c.to <= hi {
				c.chunks++
			}
		}
		if c.chunks > 0 {
			columns = append(columns, c)
		}
	}
	return columns
}

// writeWindow writes pieces in a window of a row.
func (t *plane) writeWindow(ctx context.Context, at mapper.Sector, list []piece) (err error) {
	j := t.journal
	data, stripes := pages(list)
	parity := t.geo.parity
	back := j.caching()
	if err := j.cacheRoom(ctx, stripes); err != nil { // with writethrough for what may be owed
		return err
	}
	defer j.cache.unpromise(stripes)
	left := data + stripes*(parity+1)
	if back {
		left += stripes
	}
	if err := j.reserve(ctx, left); err != nil {
		return err
	}
	defer func() { j.release(left) }()
	claim, err := t.claims.take(ctx, at, at+t.geo.chunk, false)
	if err != nil {
		return err
	}
	defer t.claims.end(claim)
	if j.cache.owesRow(at) {
		if err := t.payHeld(at); err != nil {
			return err
		}
	}
	list, free, err := t.wholePages(ctx, at, list)
	defer free()
	if err != nil {
		return err
	}
	if back && j.caching() {
		return t.writeBack(at, list, &left)
	}
	if err := t.destageHeld(ctx, at); err != nil {
		return err
	}
	end := at + t.geo.chunk
	if err := t.bitmap.begin(ctx, at, end); err != nil {
		return err
	}
	for _, pc := range pageColumns(list) {
		if err = t.logColumn(ctx, at, pc, list, &left); err != nil {
			break
		}
	}
	t.bitmap.end(at, end, false)
	return err
}

// logColumn writes a column of a row that is claimed.
func (t *plane) logColumn(ctx context.Context, at mapper.Sector, pc pageColumn, list []piece, left *int) error {
	c, err := t.newColumn(ctx, at+pc.from, pc.to-pc.from)
	if err != nil {
		return err
	}
	defer c.free()
	fresh, count := t.fresh(list, pc.from, pc.to)
	members, err := c.prepare(ctx, fresh, count)
	if err != nil {
		return err
	}
	return c.storeLogged(fresh, members, left)
}

// wholePages extends pieces to whole pages with what the array holds of them. The row is claimed. free frees the memory that took.
func (t *plane) wholePages(ctx context.Context, at mapper.Sector, list []piece) (whole []piece, free func(), err error) {
	var bufs []*mapper.Buffer
	free = func() {
		for _, b := range bufs {
			b.Free()
		}
	}
	for _, p := range list {
		lo, hi := p.pageSpan()
		if lo == p.off && hi == p.off+p.n {
			whole = append(whole, p)
			continue
		}
		b := mapper.GetBuffer(int((hi - lo).Bytes()))
		bufs = append(bufs, b)
		if lo < p.off {
			err = t.readPage(ctx, at, piece{k: p.k, off: lo, n: blockSectors, data: b.Data[:journalBlock]})
		}
		if last := hi - blockSectors; err == nil && hi > p.off+p.n && (last > lo || lo == p.off) {
			err = t.readPage(ctx, at, piece{k: p.k, off: last, n: blockSectors, data: b.Data[len(b.Data)-journalBlock:]})
		}
		if err != nil {
			return nil, free, err
		}
		copy(b.Data[(p.off-lo).Bytes():], p.data)
		whole = append(whole, piece{k: p.k, off: lo, n: hi - lo, data: b.Data})
	}
	return whole, free, nil
}

// readPage reads a page of a row that is claimed.
func (t *plane) readPage(ctx context.Context, at mapper.Sector, p piece) error {
	if page := t.journal.cache.page(at, p.off, p.k); page != nil {
		copy(p.data, page)
		return nil
	}
	_, err := t.readHeld(ctx, at, []piece{p})
	return err
}
