package raid

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dmfs/mapper"
)

// A cache holds pages that are in the journal and not on the members, of a journal in writeback mode. A write is in it when it is complete; reads see it before the
// members. It is bounded by stripe_cache, and by the journal, in which there is always room for the parity of all that is cached.
//
// A row is destaged, the oldest first, when there are too many, when the journal is full, when nobody wrote to it for a while, when a member or the
// journal fails, and at a suspend:
//
//  1. The row is claimed, and parity computed, as for any write.
//  2. Parity goes to the journal, durably. From here on a crash replays data and parity; before, it finds the stripe as it was, and data only.
//  3. Data and parity go to the members, and the pages leave the cache. If members cannot be written to that the array cannot do without, they are owed (owed.go).
//
// A row that cannot be destaged holds up no other.
//
// While members are missing writes go to the members as with writethrough, as the kernel's do.
type cache struct {
	mu       sync.Mutex
	rows     map[mapper.Sector]*cachedRow // by where the row begins on the members
	order    []mapper.Sector              // of rows, as they came
	stripes  int                          // in all rows
	owes     atomic.Int32                 // of those: see owed.go
	promised int                          // to writes that are under way
	limit    int                          // of stripes
	changed  chan struct{}                // closed when there are less, if somebody waits
}

// A cachedRow is the cached pages of a row.
type cachedRow struct {
	stripes map[mapper.Sector][][]byte // by sector of the chunks: by chunk a page, never changed, or nil
	owed    map[mapper.Sector][][]byte // by sector of the chunks: parity of those that are owed to the members
	old     bool                       // it was not written to since the cleaner looked
}

func (c *cache) init(limit int) {
	c.rows, c.limit = make(map[mapper.Sector]*cachedRow), limit
}

func (c *cache) isEmpty() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stripes == 0
}

// page returns a page if it is cached.
func (c *cache) page(at, off mapper.Sector, k int) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if row := c.rows[at]; row != nil {
		if pages := row.stripes[off]; pages != nil {
			return pages[k]
		}
	}
	return nil
}

// put adds a page of a chunk of data, and reports whether its stripe is new.
func (c *cache) put(at, off mapper.Sector, k, data int, page []byte) (fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	row := c.rowHeld(at)
	pages := row.stripes[off]
	if fresh = pages == nil; fresh {
		pages = make([][]byte, data)
		row.stripes[off] = pages
		c.stripes++
	}
	pages[k] = page
	return fresh
}

// rowHeld returns a row, which is written to. mu is held.
func (c *cache) rowHeld(at mapper.Sector) *cachedRow {
	row := c.rows[at]
	if row == nil {
		row = &cachedRow{stripes: make(map[mapper.Sector][][]byte)}
		c.rows[at] = row
		c.order = append(c.order, at)
	}
	row.old = false
	return row
}

// putOff makes a row the last to be destaged.
func (c *cache) putOff(at mapper.Sector) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.order, at); i >= 0 {
		c.order = append(slices.Delete(c.order, i, i+1), at)
	}
}

// drop forgets stripes of a row.
func (c *cache) drop(at mapper.Sector, offs []mapper.Sector) {
	c.mu.Lock()
	defer c.mu.Unlock()
	row := c.rows[at]
	for _, off := range offs {
		delete(row.stripes, off)
		if row.owed[off] != nil {
			delete(row.owed, off)
			c.owes.Add(-1)
		}
	}
	c.stripes -= len(offs)
	if len(row.stripes) == 0 {
		delete(c.rows, at)
		c.order = slices.DeleteFunc(c.order, func(s mapper.Sector) bool { return s == at })
	}
	c.wakeHeld()
}

func (c *cache) wakeHeld() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// unpromise takes back a promise of n stripes.
func (c *cache) unpromise(n int) {
	c.mu.Lock()
	c.promised -= n
	c.wakeHeld()
	c.mu.Unlock()
}

// promise keeps room for n stripes. If there is none, wait is closed when that may have changed, and rows are those to destage, the oldest first.
func (c *cache) promise(n int) (ok bool, rows []mapper.Sector, wait chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stripes+c.promised+n <= c.limit || c.stripes+c.promised == 0 {
		c.promised += n
		return true, nil, nil
	}
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return false, slices.Clone(c.order), c.changed
}

// waits reports whether there will be room for n stripes when those who were promised some are done.
func (c *cache) waits(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stripes+n <= c.limit || c.stripes == 0
}

// all returns all rows, or those that nobody wrote to since it was last called with idle set.
func (c *cache) all(idle bool) (rows []mapper.Sector) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, at := range c.order {
		if row := c.rows[at]; !idle || row.old {
			rows = append(rows, at)
		} else {
			row.old = true
		}
	}
	return rows
}

// An overlay is cached pages that a read gets to see.
type overlay struct {
	page []byte
	from int64 // byte of the page
	to   []byte
}

// overlay returns what is cached of r, which lies in one row.
func (t *plane) overlay(r mapper.Request) (list []overlay) {
	c := &t.journal.cache
	if c.isEmpty() {
		return nil
	}
	at, pieces := t.pieces(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	row := c.rows[at]
	if row == nil {
		return nil
	}
	for _, p := range pieces {
		lo, hi := p.pageSpan()
		for off := lo; off < hi; off += blockSectors {
			pages := row.stripes[off]
			if pages == nil || pages[p.k] == nil {
				continue
			}
			from, to := max(off, p.off), min(off+blockSectors, p.off+p.n)
			list = append(list, overlay{pages[p.k], (from - off).Bytes(), p.data[(from - p.off).Bytes():(to - p.off).Bytes()]})
		}
	}
	return list
}

// readJournaled reads what lies in one row. What is cached is looked up first: if it is not, the members have it.
func (t *plane) readJournaled(ctx context.Context, r mapper.Request) error {
	list := t.overlay(r)
	if err := t.readParity(ctx, r); err != nil {
		return err
	}
	for _, o := range list {
		copy(o.to, o.page[o.from:])
	}
	return nil
}

// caching reports whether writes may stay in the cache.
func (j *journal) caching() bool { return j.back && !j.dead.Load() && j.t.lost() == 0 }

// cacheRoom waits for room for n stripes, and makes it. Whoever calls it holds nothing.
func (j *journal) cacheRoom(ctx context.Context, n int) error {
	for {
		ok, rows, wait := j.cache.promise(n)
		if ok {
			return nil
		}
		if len(rows) > 0 {
			err := j.destageOne(ctx, rows)
			if err == nil {
				continue
			}
			if ctx.Err() != nil || !j.cache.waits(n) {
				return err
			}
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// writeBack logs whole pages of a row that is claimed, and caches them. left is what is reserved, and becomes what was not used of that.
func (t *plane) writeBack(at mapper.Sector, list []piece, left *int) error {
	j := t.journal
	if err := j.inUse.Share(context.Background()); err != nil {
		return err
	}
	defer j.inUse.Unshare()
	for _, c := range pageColumns(list) {
		e := logEntry{at: at + c.from, rows: int((c.to - c.from) / blockSectors)}
		for _, p := range clip(list, c.from, c.to) {
			e.data = append(e.data, logData{t.geo.sector(at+c.from, p.k), p.data})
		}
		*left -= e.bound()
		if err := j.append(&e); err != nil {
			return err
		}
		for _, p := range clip(list, c.from, c.to) {
			for off := c.from; off < c.to; off += blockSectors {
				page := slices.Clone(p.data[(off - c.from).Bytes():][:journalBlock])
				if j.cache.put(at, off, p.k, t.geo.data(), page) {
					*left -= t.geo.parity + 1 // stays reserved until it is destaged
				}
			}
		}
	}
	return nil
}

// destageOne destages one of rows, the first that can be. The error is that of the first if none can.
func (j *journal) destageOne(ctx context.Context, rows []mapper.Sector) (first error) {
	for _, at := range rows {
		err := j.destage(ctx, at)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// destageAll destages all rows that are there when it is called. The error is that of the first that cannot be.
func (j *journal) destageAll(ctx context.Context) error {
	return j.destageRows(ctx, j.cache.all(false))
}

func (j *journal) destageRows(ctx context.Context, rows []mapper.Sector) (first error) {
	for _, at := range rows {
		if err := j.destage(ctx, at); err != nil && first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return first
}

// destage moves what is cached of a row to the members.
func (j *journal) destage(ctx context.Context, at mapper.Sector) error {
	t := j.t.cur
	claim, err := t.claims.take(ctx, at, at+t.geo.chunk, false)
	if err != nil {
		return err
	}
	defer t.claims.end(claim)
	err = t.destageHeld(ctx, at)
	if err != nil {
		j.cache.putOff(at)
	}
	return err
}

// destageHeld destages a row that is claimed.
func (t *plane) destageHeld(ctx context.Context, at mapper.Sector) error {
	c := &t.journal.cache
	if c.owesRow(at) {
		if err := t.payHeld(at); err != nil {
			return err
		}
	}
	c.mu.Lock()
	row := c.rows[at]
	var offs []mapper.Sector
	if row != nil {
		for off := range row.stripes { // only the holder of the claim changes them
			offs = append(offs, off)
		}
	}
	c.mu.Unlock()
	if len(offs) == 0 {
		return nil
	}
	slices.Sort(offs)
	end := at + t.geo.chunk
	if err := t.bitmap.begin(ctx, at, end); err != nil {
		return err
	}
	var err error
	for len(offs) > 0 && err == nil {
		n := 1
		for n < len(offs) && offs[n] == offs[n-1]+blockSectors && mapper.Sector(n)*blockSectors < t.journal.window && sameChunks(row.stripes[offs[0]], row.stripes[offs[n]]) {
			n++
		}
		err = t.destageColumn(ctx, at, row, offs[:n])
		offs = offs[n:]
	}
	t.bitmap.end(at, end, false)
	return err
}

// sameChunks reports whether two stripes have pages of the same chunks.
func sameChunks(a, b [][]byte) bool {
	for k := range a {
		if (a[k] == nil) != (b[k] == nil) {
			return false
		}
	}
	return true
}

// destageColumn destages stripes of a row that lie side by side and have pages of the same chunks.
func (t *plane) destageColumn(ctx context.Context, at mapper.Sector, row *cachedRow, offs []mapper.Sector) error {
	j := t.journal
	c, err := t.newColumn(ctx, at+offs[0], mapper.Sector(len(offs))*blockSectors)
	if err != nil {
		return err
	}
	defer c.free()
	fresh, count := make([][]byte, t.geo.data()), 0
	for k := range fresh {
		if row.stripes[offs[0]][k] == nil {
			continue
		}
		b := mapper.GetBuffer(int(c.n.Bytes()))
		c.bufs = append(c.bufs, b)
		for i, off := range offs {
			copy(b.Data[i*journalBlock:], row.stripes[off][k])
		}
		fresh[k] = b.Data
		count++
	}
	members, err := c.prepare(ctx, fresh, count)
	if err != nil {
		return err
	}
	if err := j.inUse.Share(context.Background()); err != nil {
		return err
	}
	defer j.inUse.Unshare()
	e := logEntry{at: c.at, rows: len(offs), parity: c.parityBlocks()}
	if err := j.append(&e); err != nil && !j.dead.Load() { // without a journal the members are all there is
		return err
	}
	if err := c.store(members, func(m int) []byte { return c.blocks[m] }, 0); err != nil {
		j.cache.owe(at, offs[0], fresh, e.parity)
		return err
	}
	j.cache.drop(at, offs)
	return nil
}

// idleAfter is how often the cache is looked through for rows that nobody writes to.
const idleAfter = 5 * time.Second

// cacheLoop destages rows that nobody wrote to for a while, and all if a member or the journal failed.
func (j *journal) cacheLoop(ctx context.Context) {
	ticker := time.NewTicker(idleAfter)
	defer ticker.Stop()
	fails := false
	for {
		idle := true
		select {
		case <-ctx.Done():
			return
		case <-j.kick:
			idle = false
		case <-ticker.C:
		}
		rows := j.cache.all(idle)
		err := j.destageRows(ctx, rows)
		if err != nil && !fails && ctx.Err() == nil {
			j.t.host.Logf("Failed to write cached data to the members: %v", err)
		}
		if len(rows) > 0 {
			fails = err != nil
		}
	}
}
