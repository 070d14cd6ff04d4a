package integrity

import (
	"context"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"

	"dmfs/mapper"
	"dmfs/targets/internal/sectorcipher"
)

// # The journal
//
// The journal is a circle of sections, which is in memory as a whole and on the disk. A section has 8 sectors of entries and then the data
// of the entries, a block each. An entry says where its block belongs and has the tag, and the last 8 bytes of each sector of the
// block, in place of which every sector of a section has a commit id. Entry n is in sector n%8, behind entry n-8:
//
//	offset  size    field
//	0       8       sector; the upper half is all ones if the entry is not used
//	8       8 each  the last bytes of the sectors of the block
//	        tag     tag
//
// Of the sectors with entries the last 16 bytes are a part of the MAC, if there is one, and the commit id. That is one of four numbers, which
// take turns each time the journal begins anew, mixed with the numbers of section and sector; so a sector that was not written is found out.
//
// A write goes this way:
//
//  1. It takes entries, behind those that were taken before, and fills them. Then it is acknowledged. A crash loses it.
//  2. A commit writes the sections that have entries, with FUA. A crash before its end leaves sectors with other commit ids, at which
//     the replay stops. After it the write is durable.
//  3. Writing back puts data and tags of committed sections where they belong, older than the newest that is committed left out, and flushes the
//     disks. A crash before has all of it replayed. Tags that were written and data that were not do not match, but nobody sees that.
//  4. The sections are free. A crash after has them replayed again, with all that came after them, in the order of the writes.
//
// A read that finds its block in the journal takes the newest there.
type journal struct {
	t      *target
	mem    []byte // all sections; nil while it is not in use
	cipher sectorcipher.Cipher
	scheme *sectorcipher.Scheme
	ids    [4]uint64

	// mu guards what follows, and that entries that were found remain.
	mu          sync.RWMutex
	heads, next []int32  // entries by hash of their sector, the newest first
	sectors     []uint64 // of the entries that are in the lists
	live        atomic.Int64

	freeSection, freeEntry    int
	free, few                 int // entries that are free; so few have it written back
	uncommitted, nUncommitted int // sections
	committed, nCommitted     int
	room                      chan struct{} // closed when there is room, or none is to be had
	stuck                     error         // why writing back or committing failed

	states  []atomic.Uint32
	waiting atomic.Int32 // for entries to be filled
	fillMu  sync.Mutex
	filled  sync.Cond

	committing chan struct{} // holds a token while somebody commits; guards seq and wrote
	writing    chan struct{} // likewise, writes back
	seq        int
	wrote      bool
}

// States of an entry.
const (
	unused uint32 = iota
	filling
	full
)

// unusedMark is the upper half of the sector of an entry that is not used.
const unusedMark = 0xffffffff

func newJournal(t *target) (*journal, error) {
	j := &journal{
		t: t, ids: [4]uint64{0x1111111111111111, 0x2222222222222222, 0x3333333333333333, 0x4444444444444444},
		committing: make(chan struct{}, 1), writing: make(chan struct{}, 1), room: make(chan struct{}),
	}
	j.filled.L = &j.fillMu
	if t.line.crypt.given {
		return j, j.setCipher()
	}
	return j, nil
}

// allocate makes the journal in memory, with nothing in it.
func (j *journal) allocate() {
	if j.mem != nil {
		return
	}
	g := &j.t.geometry
	j.mem = mapper.GetBuffer(g.sections * g.sectionSectors * mapper.SectorSize).Data // it is kept
	clear(j.mem)
	if j.t.line.mode != 'J' {
		return
	}
	n := g.sections * g.sectionEntries
	j.heads = make([]int32, 1<<bits.Len(uint(n)))
	for i := range j.heads {
		j.heads[i] = -1
	}
	j.next, j.sectors, j.states = make([]int32, n), make([]uint64, n), make([]atomic.Uint32, n)
}

// begin makes the journal empty from section at on.
func (j *journal) begin(at int) {
	j.committed, j.nCommitted, j.uncommitted, j.nUncommitted = at, 0, at, 0
	j.freeSection, j.freeEntry, j.free = at, 0, len(j.states)
	j.few = int(j.t.geometry.threshold(j.t.line.watermark))
}

func (j *journal) sector(section, n int) []byte {
	at := (section*j.t.geometry.sectionSectors + n) * mapper.SectorSize
	return j.mem[at : at+mapper.SectorSize : at+mapper.SectorSize]
}

// entry returns the bytes of an entry, which is counted through all sections.
func (j *journal) entry(e int) []byte {
	g := &j.t.geometry
	n := e % g.sectionEntries
	s := j.sector(e/g.sectionEntries, n%journalHead)
	return s[n/journalHead*g.entrySize:][:g.entrySize]
}

// tag returns the tag of an entry.
func (j *journal) tag(e int) []byte {
	return j.entry(e)[8+8<<j.t.geometry.blockShift:][:j.t.geometry.tagSize]
}

// block returns the data of an entry, with whatever the last bytes of the sectors are.
func (j *journal) block(e int) []byte {
	g := &j.t.geometry
	n := e % g.sectionEntries
	at := (e/g.sectionEntries*g.sectionSectors + journalHead + n<<g.blockShift) * mapper.SectorSize
	return j.mem[at:][:mapper.SectorSize<<g.blockShift]
}

// put fills an entry.
func (j *journal) put(e int, s uint64, data, tag []byte) {
	entry := j.entry(e)
	copy(j.block(e), data)
	for i := range 1 << j.t.geometry.blockShift {
		copy(entry[8+8*i:16+8*i], data[i*mapper.SectorSize+journalData:])
	}
	if to := j.tag(e); tag == nil {
		clear(to)
	} else {
		copy(to, tag)
	}
	le.PutUint64(entry, s)
}

// get copies the data of an entry to p.
func (j *journal) get(p []byte, e int) {
	block, entry := j.block(e), j.entry(e)
	for i := range 1 << j.t.geometry.blockShift {
		at := i * mapper.SectorSize
		copy(p[at:at+journalData], block[at:])
		copy(p[at+journalData:at+mapper.SectorSize], entry[8+8*i:])
	}
}

// restore puts the last bytes of the sectors of an entry where they belong.
func (j *journal) restore(e int) {
	block, entry := j.block(e), j.entry(e)
	for i := range 1 << j.t.geometry.blockShift {
		copy(block[i*mapper.SectorSize+journalData:(i+1)*mapper.SectorSize], entry[8+8*i:])
	}
}

func (j *journal) head(s uint64) *int32 {
	const odd = 0x9e3779b97f4a7c15
	return &j.heads[s*odd>>(64-(bits.Len(uint(len(j.heads)))-1))&uint64(len(j.heads)-1)]
}

// find returns the newest entry for sector s, -1 if there is none. mu is held.
func (j *journal) find(s uint64) int {
	e := *j.head(s)
	for e >= 0 && j.sectors[e] != s {
		e = j.next[e]
	}
	return int(e)
}

func (j *journal) link(e int, s uint64) {
	head := j.head(s)
	j.sectors[e], j.next[e], *head = s, *head, int32(e)
	j.live.Add(1)
}

func (j *journal) unlink(e int) {
	at := j.head(j.sectors[e])
	for *at != int32(e) {
		at = &j.next[*at]
	}
	*at = j.next[e]
	j.live.Add(-1)
}

// superseded reports whether there is a newer committed entry for the sector of entry e. mu is held.
func (j *journal) superseded(e int) bool {
	newer := -1
	for at := int(*j.head(j.sectors[e])); at != e; at = int(j.next[at]) {
		if j.sectors[at] == j.sectors[e] {
			newer = at
		}
	}
	if newer < 0 {
		return false
	}
	n := j.t.geometry.sections
	return (newer/j.t.geometry.sectionEntries-j.committed+n)%n < j.nCommitted
}

// has reports whether something of n sectors from s on is in the journal.
func (j *journal) has(s, n uint64) bool {
	if j.live.Load() == 0 {
		return false
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	for at := s; at < s+n; at += 1 << j.t.geometry.blockShift {
		if j.find(at) >= 0 {
			return true
		}
	}
	return false
}

// write puts what r writes into the journal.
func (j *journal) write(ctx context.Context, r mapper.Request) error {
	tags := j.t.makeTags(r)
	defer tags.free()
	g := &j.t.geometry
	block := mapper.SectorSize << g.blockShift
	n := int(r.Count >> g.blockShift)
	for done := 0; done < n; {
		e, taken, err := j.take(ctx, uint64(r.Start)+uint64(done)<<g.blockShift, n-done, done == 0)
		if err != nil {
			return err
		}
		for i := done; i < done+taken; i++ {
			var tag []byte
			if tags.data != nil {
				tag = tags.data[i*g.tagSize : (i+1)*g.tagSize]
			}
			j.put(e, uint64(r.Start)+uint64(i)<<g.blockShift, r.Data[i*block:(i+1)*block], tag)
			j.states[e].Store(full)
			if e++; e == len(j.states) {
				e = 0
			}
		}
		if j.waiting.Load() > 0 {
			j.fillMu.Lock()
			j.filled.Broadcast()
			j.fillMu.Unlock()
		}
		done += taken
	}
	return nil
}

// take takes up to n entries for the blocks from sector s on, and returns the first and how many they are. nothing says that
// nothing of the request has happened yet.
func (j *journal) take(ctx context.Context, s uint64, n int, nothing bool) (e, taken int, err error) {
	g := &j.t.geometry
	j.mu.Lock()
	for waited := false; j.free == 0; waited = true {
		room, stuck := j.room, j.stuck
		j.mu.Unlock()
		if waited && stuck != nil {
			return 0, 0, fmt.Errorf("the journal is full: %w", stuck)
		}
		j.t.back.now()
		select {
		case <-room:
		case <-ctx.Done():
			return 0, 0, context.Cause(ctx)
		case <-j.t.back.leaving():
			if nothing {
				return 0, 0, mapper.ErrRequeue
			}
			<-room
		}
		j.mu.Lock()
	}
	taken = min(n, j.free)
	e = j.freeSection*g.sectionEntries + j.freeEntry
	for i := range taken {
		at := (e + i) % len(j.states)
		j.states[at].Store(filling)
		j.link(at, s+uint64(i)<<g.blockShift)
	}
	j.free -= taken
	next := j.freeEntry + taken
	j.freeEntry = next % g.sectionEntries
	j.freeSection = (j.freeSection + next/g.sectionEntries) % g.sections
	j.nUncommitted += next / g.sectionEntries
	few := j.free <= j.few
	j.mu.Unlock()
	if few {
		j.t.back.now()
	}
	return e, taken, nil
}

// read reads what r asks for. Its sectors are held.
func (j *journal) read(ctx context.Context, r mapper.Request) error {
	block := mapper.Sector(1) << j.t.geometry.blockShift
	for r.Count > 0 {
		if j.live.Load() == 0 {
			return j.t.readDisk(ctx, r)
		}
		n := j.copyOut(r, block)
		if n > 0 {
			r = r.Slice(n, r.Count-n)
			continue
		}
		n = j.missing(r, block)
		if n == 0 {
			continue
		}
		if err := j.t.readDisk(ctx, r.Slice(0, n)); err != nil {
			return err
		}
		r = r.Slice(n, r.Count-n)
	}
	return nil
}

// copyOut reads the blocks at the beginning of r that are in the journal, and returns how many sectors they are. It waits for one that
// is being filled.
func (j *journal) copyOut(r mapper.Request, block mapper.Sector) mapper.Sector {
	j.mu.RLock()
	n := mapper.Sector(0)
	for ; n < r.Count; n += block {
		e := j.find(uint64(r.Start + n))
		if e < 0 {
			break
		}
		if j.states[e].Load() == filling {
			j.mu.RUnlock()
			j.waitFor(e)
			return n
		}
		j.get(r.Data[n.Bytes():(n+block).Bytes()], e)
		if r.Tags != nil {
			copy(r.Tags[int(n/block)*j.t.geometry.tagSize:], j.tag(e))
		}
	}
	j.mu.RUnlock()
	return n
}

// missing returns how many sectors at the beginning of r are not in the journal.
func (j *journal) missing(r mapper.Request, block mapper.Sector) mapper.Sector {
	j.mu.RLock()
	defer j.mu.RUnlock()
	n := mapper.Sector(0)
	for n < r.Count && j.find(uint64(r.Start+n)) < 0 {
		n += block
	}
	return n
}

// waitFor waits until an entry is filled. Who fills it only copies.
func (j *journal) waitFor(e int) {
	if j.states[e].Load() != filling {
		return
	}
	j.waiting.Add(1)
	defer j.waiting.Add(-1)
	j.fillMu.Lock()
	defer j.fillMu.Unlock()
	for j.states[e].Load() == filling {
		j.filled.Wait()
	}
}

// pad leaves the rest of a section that was begun unused. mu is held.
func (j *journal) pad() {
	if j.freeEntry == 0 {
		return
	}
	g := &j.t.geometry
	j.free -= g.sectionEntries - j.freeEntry
	j.freeEntry = 0
	j.freeSection = (j.freeSection + 1) % g.sections
	j.nUncommitted++
}

// commit makes durable what was acknowledged.
func (j *journal) commit(ctx context.Context) error {
	select {
	case j.committing <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-j.committing }()
	if err := j.t.failure(); err != nil {
		return err
	}
	j.mu.Lock()
	j.pad()
	start, n := j.uncommitted, j.nUncommitted
	j.mu.Unlock()
	if n == 0 {
		return nil
	}
	j.wrote = true
	g := &j.t.geometry
	seq := j.seq
	for i, s := 0, start; i < n; i++ {
		for e := s * g.sectionEntries; e < (s+1)*g.sectionEntries; e++ {
			j.waitFor(e)
		}
		for k := range g.sectionSectors {
			le.PutUint64(j.sector(s, k)[journalData:], j.id(s, k, seq))
		}
		if s++; s == g.sections {
			s, seq = 0, (seq+1)%len(j.ids)
		}
	}
	if err := j.writeSections(context.WithoutCancel(ctx), start, n); err != nil {
		return fmt.Errorf("writing journal: %w", err)
	}
	j.seq = seq
	j.mu.Lock()
	j.uncommitted = (j.uncommitted + n) % g.sections
	j.nUncommitted -= n
	j.nCommitted += n
	j.mu.Unlock()
	return nil
}

func (j *journal) id(section, sector, seq int) uint64 {
	return j.ids[seq] ^ (uint64(section)<<32 ^ uint64(sector))
}

// writeSections writes n sections from start on, around the end, and makes them durable.
func (j *journal) writeSections(ctx context.Context, start, n int) error {
	g := &j.t.geometry
	if start+n > g.sections {
		first := g.sections - start
		if err := j.writeSections(ctx, start, first); err != nil {
			return err
		}
		return j.writeSections(ctx, 0, n-first)
	}
	size := g.sectionSectors * mapper.SectorSize
	most := max(1, mapper.MaxBuffer/size)
	return mapper.FanOut((n+most-1)/most, writeWidth, func(i int) error {
		from := start + i*most
		count := min(most, start+n-from)
		for s := from; s < from+count; s++ {
			j.setMAC(s)
		}
		data := j.mem[from*size : (from+count)*size]
		if j.cipher != nil {
			buf := mapper.GetBuffer(len(data))
			defer buf.Free()
			for k := range count {
				j.encrypt(buf.Data[k*size:(k+1)*size], data[k*size:(k+1)*size], from+k)
			}
			data = buf.Data
		}
		return j.t.metaDisk.Submit(ctx, mapper.Request{
			Op: mapper.OpWrite, Flags: mapper.FlagFUA, Start: mapper.Sector(g.start + superSectors + uint64(from)*uint64(g.sectionSectors)),
			Count: mapper.SectorsOf(int64(len(data))), Data: data,
		})
	})
}
