package raid

import (
	"context"
	"slices"

	"dmfs/mapper"
)

// Stripes that are logged with their parity, and that members then could not be written with, are owed to them: members may hold some of each, which
// agrees with nothing. The array has lost more than it can, or a member has no space: that may pass. Until then
//
//   - they stay in the cache, in either mode, with the parity that was logged: computed anew it would be of what is half written;
//   - whoever reads members to recover another one of the stripe gets what is owed in place of what was read;
//   - a write to their row writes them first, and fails if that does;
//   - the log does not begin anew, so that after a crash they are replayed. They take nothing more of it. When it is full, writes fail.
//
// They are written whenever the cache is destaged: of other rows one that cannot be written holds up none.

// owe keeps stripes of a row that is claimed, with data by chunk, nil if it has none or the cache has it, and parity, P and Q, nil of a member that failed.
func (c *cache) owe(at, off mapper.Sector, data, parity [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	row := c.rowHeld(at)
	blocks := parity[0]
	if blocks == nil {
		blocks = parity[len(parity)-1]
	}
	for _, p := range data {
		if p != nil {
			blocks = p
		}
	}
	for i := 0; i < len(blocks); i += journalBlock {
		s := off + mapper.SectorsOf(int64(i))
		if row.stripes[s] == nil {
			row.stripes[s] = make([][]byte, len(data))
			c.stripes++
		}
		for k, p := range data {
			if p != nil {
				row.stripes[s][k] = slices.Clone(p[i:][:journalBlock])
			}
		}
		if row.owed == nil {
			row.owed = make(map[mapper.Sector][][]byte)
		}
		pages := make([][]byte, len(parity))
		for k, p := range parity {
			if p != nil {
				pages[k] = slices.Clone(p[i:][:journalBlock])
			}
		}
		row.owed[s] = pages
		c.owes.Add(1)
	}
}

// owesRow reports whether stripes of a row are owed.
func (c *cache) owesRow(at mapper.Sector) bool {
	if c.owes.Load() == 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	row := c.rows[at]
	return row != nil && len(row.owed) > 0
}

// owedPages returns what is owed of a stripe, by member, nil if nothing is.
func (t *plane) owedPages(row *cachedRow, at, off mapper.Sector) [][]byte {
	if row == nil || row.owed[off] == nil {
		return nil
	}
	r := t.geo.row(at)
	pages := make([][]byte, t.geo.members)
	for k, p := range row.stripes[off] {
		pages[r.data[k]] = p
	}
	for i, m := range []int{r.p, r.q}[:t.geo.parity] {
		pages[m] = row.owed[off][i]
	}
	return pages
}

// putOwed puts what is owed to member m in the place of what it holds from a sector on. The rows are claimed.
func (t *plane) putOwed(m int, from mapper.Sector, p []byte) {
	if t.journal == nil || t.journal.cache.owes.Load() == 0 {
		return
	}
	c := &t.journal.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	end := from + mapper.SectorsOf(int64(len(p)))
	for s := from / blockSectors * blockSectors; s < end; s += blockSectors {
		at := s / t.geo.chunk * t.geo.chunk
		pages := t.owedPages(c.rows[at], at, s-at)
		if pages == nil || pages[m] == nil {
			continue
		}
		lo, hi := max(s, from), min(s+blockSectors, end)
		copy(p[(lo-from).Bytes():(hi-from).Bytes()], pages[m][(lo-s).Bytes():])
	}
}

// payHeld writes what is owed of a row that is claimed.
func (t *plane) payHeld(at mapper.Sector) error {
	j := t.journal
	if err := j.inUse.Share(context.Background()); err != nil {
		return err
	}
	defer j.inUse.Unshare()
	c := &j.cache
	c.mu.Lock()
	row := c.rows[at]
	var offs []mapper.Sector
	for off := range row.owed {
		offs = append(offs, off)
	}
	c.mu.Unlock()
	slices.Sort(offs)
	for _, off := range offs {
		pages := t.owedPages(row, at, off) // only the holder of the claim changes them
		var members []int
		for m, p := range pages {
			if p != nil {
				members = append(members, m)
			}
		}
		column := column{t: t, row: t.geo.row(at), at: at + off, n: blockSectors}
		if err := column.store(members, func(m int) []byte { return pages[m] }, 0); err != nil {
			return err
		}
		c.drop(at, []mapper.Sector{off})
	}
	return nil
}
