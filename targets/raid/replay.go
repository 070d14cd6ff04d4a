package raid

import (
	"bytes"
	"context"
	"fmt"

	"dmfs/mapper"
)

// What a crash left in the journal is replayed before the array is used:
//
//  1. The chain of meta blocks that begins in the first block is read, up to the first that does not go on with it or whose blocks are not what their
//     checksums say. If the first block is zeroes the journal is new, unless the kernel discarded it (search). A chain that names sectors which the array
//     does not have is of another array: it is refused, and nothing is written.
//  2. Stripes with data and parity are written to the members, in order. Data without parity, of writeback, is remembered.
//  3. Parity is computed for that, and logged behind the chain; then the members get both.
//  4. The members are flushed, and the log begins anew. A crash before finds the same chain, or one that is longer by parity.
//
// dm-raid begins with the first block, too, but when it is done it leaves the chain there, and begins another one behind it whose numbers are 10000 more. So at each
// start it replays what was written after the first, over whatever was written since. Here such a chain is what was replayed already, and
// the last one that says something counts. And once the kernel went around the ring it does not find the chain any more; here it is searched for.

// stripesMost bounds the stripes of which the journal may hold data without parity; the kernel's cache has 32768 at most.
const stripesMost = 1 << 18

// readAhead is how many blocks of the journal are read at a time.
const readAhead = mapper.MaxBuffer / journalBlock

// A logReader reads a chain.
type logReader struct {
	j   *journal
	buf *mapper.Buffer
	at  mapper.Sector // of buf in the journal
	n   mapper.Sector // sectors in buf
}

func (j *journal) newReader() *logReader {
	return &logReader{j: j, buf: mapper.GetBuffer(readAhead * journalBlock)}
}

// block returns the block at a position, until the next is asked for.
func (r *logReader) block(ctx context.Context, at mapper.Sector) ([]byte, error) {
	if at < r.at || at >= r.at+r.n {
		r.at, r.n = at, min(r.j.size-at, readAhead*blockSectors)
		err := r.j.disk.Submit(ctx, mapper.Request{Op: mapper.OpRead, Start: at, Count: r.n, Data: r.buf.Data[:r.n.Bytes()]})
		if err != nil {
			r.n = 0
			return nil, fmt.Errorf("journal: %w", err)
		}
	}
	return r.buf.Data[(at - r.at).Bytes():][:journalBlock], nil
}

// page reads the block at a position into p, and leaves those that were read ahead: what a chain names may be anywhere before.
func (r *logReader) page(ctx context.Context, at mapper.Sector, p []byte) error {
	if at >= r.at && at < r.at+r.n {
		copy(p, r.buf.Data[(at-r.at).Bytes():])
		return nil
	}
	if err := r.j.disk.Submit(ctx, mapper.Request{Op: mapper.OpRead, Start: at, Count: blockSectors, Data: p}); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// A chainPoint is where a chain begins or ends: a position, and the number of the meta block that is there or would be.
type chainPoint struct {
	at  mapper.Sector
	seq uint64
}

// after returns the position n blocks after at.
func (j *journal) after(at mapper.Sector, n int) mapper.Sector {
	at += mapper.Sector(n) * blockSectors
	if at >= j.size {
		at -= j.size
	}
	return at
}

// meta reads the meta block at a position. ok is false if there is none.
func (r *logReader) meta(ctx context.Context, at mapper.Sector) (m metaBlock, ok bool, err error) {
	b, err := r.block(ctx, at)
	if err != nil {
		return m, false, err
	}
	m, err = decodeMeta(b)
	return m, err == nil && m.position == at, nil
}

// chain calls visit for each whole meta block of the chain that begins at p, and returns where it ends.
func (r *logReader) chain(ctx context.Context, p chainPoint, visit func(m *metaBlock, data mapper.Sector) error) (chainPoint, error) {
	for {
		m, ok, err := r.meta(ctx, p.at)
		if err != nil || !ok || m.seq != p.seq {
			return p, err
		}
		whole, err := r.whole(ctx, &m)
		if err != nil {
			return p, err
		}
		p.seq++
		if !whole { // the kernel looks for the next one right behind
			p.at = r.j.after(p.at, 1)
			continue
		}
		if err := visit(&m, r.j.after(p.at, 1)); err != nil {
			return p, err
		}
		p.at = r.j.after(p.at, 1+m.blocks())
	}
}

// whole reports whether the blocks that m describes are there.
func (r *logReader) whole(ctx context.Context, m *metaBlock) (bool, error) {
	at := r.j.after(m.position, 1)
	if mapper.Sector(1+m.blocks())*blockSectors > r.j.size {
		return false, nil
	}
	for i := range m.payloads {
		for _, sum := range m.payloads[i].sums {
			b, err := r.block(ctx, at)
			if err != nil || blockSum(b) != sum {
				return false, err
			}
			at = r.j.after(at, 1)
		}
	}
	return true, nil
}

// A logChain is the chain that counts.
type logChain struct {
	begin, end chainPoint
	tag        uint64 // of the block that it begins with
	says       bool   // it has payloads
	replayed   bool   // the kernel began another one behind it, which says nothing
}

// find looks for the chain that counts. ok is false if there is no journal.
func (r *logReader) find(ctx context.Context) (c logChain, ok bool, err error) {
	next, ok, err := r.first(ctx)
	if err != nil || !ok {
		return c, false, err
	}
	for {
		here := logChain{begin: next}
		here.end, err = r.chain(ctx, next, func(m *metaBlock, _ mapper.Sector) error {
			if m.seq == next.seq {
				here.tag = m.tag
			}
			here.says = here.says || len(m.payloads) > 0
			return r.j.check(m)
		})
		if err != nil {
			return c, true, err
		}
		if here.says || !c.says {
			c = here
		} else { // nothing was written after the chain before: it counts still
			c.replayed = true
		}
		m, more, err := r.meta(ctx, here.end.at)
		if err != nil || !more || m.seq != here.end.seq+seqJump {
			return c, true, err
		}
		next = chainPoint{here.end.at, m.seq}
	}
}

// first returns where the oldest chain begins: in the first block, if that is as a journal begins. Else the kernel went around the ring and over it, or
// discarded it, or the power failed while it was written.
func (r *logReader) first(ctx context.Context) (begin chainPoint, ok bool, err error) {
	m, ok, err := r.meta(ctx, 0)
	if err != nil {
		return begin, false, err
	}
	if ok && len(m.payloads) == 0 {
		return chainPoint{0, m.seq}, true, nil
	}
	return r.search(ctx)
}

// A run is meta blocks that go on with each other, in the order of their positions.
type run struct{ begin, end chainPoint }

// search looks through the whole journal for the run with the highest numbers. If that is what the ring went on with after its end, the run there comes before.
//
// That the first block is zeroes says that there is none, and somebody may have written them to say so. But the kernel discards what it is done with: then
// zeroes end where the run begins, and there are more of them. Or they are data, in a ring.
func (r *logReader) search(ctx context.Context) (begin chainPoint, ok bool, err error) {
	var newest, last run
	var final metaBlock
	zeroes := mapper.Sector(0) // as many sectors of them there are at the beginning
	for at := mapper.Sector(0); at < r.j.size; {
		m, isMeta, err := r.meta(ctx, at)
		if err != nil {
			return begin, false, err
		}
		if !isMeta {
			if zeroes == at { // all so far
				b, err := r.block(ctx, at)
				if err != nil {
					return begin, false, err
				}
				if bytes.Equal(b, zeroBlock[:]) {
					zeroes += blockSectors
				}
			}
			at += blockSectors
			continue
		}
		if here := (chainPoint{at, m.seq}); here != last.end {
			last = run{begin: here}
		}
		at += mapper.Sector(1+m.blocks()) * blockSectors
		last.end, final = chainPoint{at % r.j.size, m.seq + 1}, m
		if m.seq >= newest.end.seq {
			newest = last
		}
		ok = true
	}
	around := last.end == newest.begin
	switch {
	case !ok:
		return begin, false, nil
	case zeroes > 0 && around:
		ok, err = r.whole(ctx, &final)
	case zeroes > 0:
		ok = zeroes == newest.begin.at && zeroes > blockSectors
	}
	r.j.discarded = ok && zeroes > 0
	if around {
		newest.begin = last.begin
	}
	return newest.begin, ok, err
}

var zeroBlock [journalBlock]byte

// marked says what of the journal zeroes are written to, to do without what it holds.
func (j *journal) marked() string {
	if j.discarded {
		return "all"
	}
	return fmt.Sprintf("the first %d bytes", journalBlock)
}

// check refuses a meta block that is of another array. One that becomes smaller may have rows in the log that are no longer there then.
func (j *journal) check(m *metaBlock) error {
	g := &j.t.geo
	dev := max(g.dev, j.t.lineage.dev)
	for _, p := range m.payloads {
		limit := dev
		if p.kind == kindData {
			limit = dev * mapper.Sector(g.data())
		}
		if p.kind != kindFlush && (p.at%blockSectors != 0 || p.at >= limit || p.kind == kindParity && len(p.sums) != g.parity) {
			return mapper.BadArg("Failed to run raid array",
				"journal %s, block at %d: sector %d is not one of this array: give the journal of this array, or write zeroes to %s of it to do without what is in it",
				mapper.DiskName(j.disk), m.position, p.at, j.marked())
		}
	}
	return nil
}

// recover replays what a crash left, and makes the log empty.
func (j *journal) recover(ctx context.Context) error {
	r := j.newReader()
	defer r.buf.Free()
	c, ok, err := r.find(ctx)
	if err == nil {
		err = j.checkStale(&c)
	}
	switch {
	case err != nil:
		return err
	case j.t.readOnly && c.says:
		return mapper.BadArg("Failed to run raid array", "journal %s may hold what the members lack: load the table for writing once", mapper.DiskName(j.disk))
	case j.t.readOnly:
		return nil
	case !ok:
		j.tag = j.tagFor(&c)
		return j.create(ctx)
	}
	p := replayer{j: j, r: r, waiting: make(map[mapper.Sector][]mapper.Sector)}
	if _, err := r.chain(ctx, c.begin, func(m *metaBlock, data mapper.Sector) error { return p.replay(ctx, m, data) }); err != nil {
		return err
	}
	j.mu.Lock()
	j.head, j.seq, j.tag = c.end.at, c.end.seq, c.tag
	j.mu.Unlock()
	if err := p.finish(ctx, c.begin.at <= c.end.at); err != nil {
		return err
	}
	j.mu.Lock()
	j.tag = j.tagFor(&c)
	j.mu.Unlock()
	return j.restart(ctx)
}

// A replayer carries out what a chain says.
type replayer struct {
	j       *journal
	r       *logReader
	waiting map[mapper.Sector][]mapper.Sector // by sector of the members: where data is in the journal, by chunk, plus one block
}

// replay carries out a meta block, whose blocks begin at data.
func (p *replayer) replay(ctx context.Context, m *metaBlock, data mapper.Sector) error {
	g := &p.j.t.geo
	for i := range m.payloads {
		switch l := &m.payloads[i]; l.kind {
		case kindFlush:
			for _, at := range l.stripes {
				delete(p.waiting, at)
			}
		case kindData:
			in := l.at % g.stripe()
			at := l.at/g.stripe()*g.chunk + in%g.chunk
			if at >= g.dev {
				break
			}
			where := p.waiting[at]
			if where == nil {
				if len(p.waiting) == stripesMost {
					return fmt.Errorf("journal %s: data without parity of more than %d stripes", mapper.DiskName(p.j.disk), stripesMost)
				}
				where = make([]mapper.Sector, g.data())
				p.waiting[at] = where
			}
			where[in/g.chunk] = data + blockSectors
		case kindParity:
			if where := p.waiting[l.at]; where != nil { // else the members have it
				if err := p.write(ctx, l.at, where, data); err != nil {
					return err
				}
				delete(p.waiting, l.at)
			}
		}
		data = p.j.after(data, len(m.payloads[i].sums))
	}
	return nil
}

// pages reads the data of a stripe into memory, by chunk.
func (p *replayer) pages(ctx context.Context, where []mapper.Sector) ([][]byte, error) {
	fresh := make([][]byte, len(where))
	for k, at := range where {
		if at == 0 {
			continue
		}
		fresh[k] = make([]byte, journalBlock)
		if err := p.r.page(ctx, at-blockSectors, fresh[k]); err != nil {
			return nil, err
		}
	}
	return fresh, nil
}

// write writes data, and the parity at a position of the journal, to the members.
func (p *replayer) write(ctx context.Context, at mapper.Sector, where []mapper.Sector, parity mapper.Sector) error {
	fresh, err := p.pages(ctx, where)
	if err != nil {
		return err
	}
	t := p.j.t.cur
	row := t.geo.row(at)
	blocks, members := make([][]byte, t.geo.members), []int(nil)
	put := func(m int, page []byte) {
		blocks[m] = page
		members = append(members, m)
	}
	for k, page := range fresh {
		if page != nil {
			put(row.data[k], page)
		}
	}
	for i, m := range []int{row.p, row.q}[:t.geo.parity] {
		page := make([]byte, journalBlock)
		if err := p.r.page(ctx, p.j.after(parity, i), page); err != nil {
			return err
		}
		put(m, page)
	}
	c := column{t: t, row: row, at: at, n: blockSectors}
	return c.store(members, func(m int) []byte { return blocks[m] }, 0)
}

// finish brings data without parity to the members. Parity is logged behind the chain, if it did not come around.
func (p *replayer) finish(ctx context.Context, straight bool) error {
	j := p.j
	for at, where := range p.waiting {
		fresh, err := p.pages(ctx, where)
		if err != nil {
			return err
		}
		if err := j.finishStripe(ctx, at, fresh, straight); err != nil {
			return err
		}
	}
	return nil
}

func (j *journal) finishStripe(ctx context.Context, at mapper.Sector, fresh [][]byte, straight bool) error {
	t := j.t.cur
	c, err := t.newColumn(ctx, at, blockSectors)
	if err != nil {
		return err
	}
	defer c.free()
	c.again = true
	count := 0
	for _, page := range fresh {
		if page != nil {
			count++
		}
	}
	members, err := c.prepare(ctx, fresh, count)
	if err != nil {
		return err
	}
	e := logEntry{at: at, rows: 1, parity: c.parityBlocks()}
	j.mu.Lock()
	room := straight && j.fits(e.bound()+1)
	if room {
		j.reserved += e.bound()
	}
	next := j.head + mapper.Sector(e.bound())*blockSectors
	j.mu.Unlock()
	if room {
		// What lies behind must not go on with the block that is written: it may be from before the crash.
		zero := mapper.GetBuffer(journalBlock)
		defer zero.Free()
		clear(zero.Data)
		if err := j.write(ctx, next, zero.Data); err != nil {
			j.release(e.bound())
			return err
		}
		if err := j.append(&e); err != nil {
			return err
		}
	}
	return c.store(members, func(m int) []byte { return c.blocks[m] }, 0)
}
