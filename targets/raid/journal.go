package raid

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
	"dmfs/targets/internal/cell"
)

// A journal closes the write hole of an array with parity: what is written to the members is in it before, so that after a crash a stripe is
// either as it was or made whole.
//
// A write, with writethrough:
//
//  1. Room for it is reserved while nothing is held: who waits for room holds up nobody.
//  2. Its row is claimed. Pages that it writes a part of are read, parity is computed.
//  3. Data and parity go to the journal with one request, durable when it returns (FUA). Writes that come together share one, and its flush.
//  4. Data and parity go to the members. The write is complete.
//
// With writeback (cache.go) only data goes to the journal, and the write is complete; parity follows, and then the members get both.
//
// The journal is filled from its beginning to its end. When it is full, and at a suspend, it begins anew: what was logged gets to the members, they are flushed,
// and the first block is written again, with a sequence number that none of the blocks behind it has. So a crash before finds the old chain, whose writes the
// members have already, or may get once more, in order; one after finds an empty journal; and one amid the write of the first block finds it torn, and
// nothing is missing either. The kernel's goes around in a ring whose beginning dm-raid does not remember: at the next start it replays whatever chain begins
// in the first block. Ours always does, which is why the kernel can go on where we stopped.
//
// A flush of the array does nothing: what returned is durable in the journal. When that has failed a flush empties the cache, and flushes the members.
type journal struct {
	t      *target
	disk   mapper.Disk
	size   mapper.Sector // whole blocks
	window mapper.Sector // of a chunk that is logged at a time
	back   bool          // writeback was asked for

	discarded bool // the first block was zeroes, and yet there was a log

	cache cache
	inUse cell.Lock   // shared from the logging of a write until the members or the cache have it; alone by a new beginning
	room  cell.Lock   // held by whoever makes room
	dead  atomic.Bool // it could not be written to
	turn  chan struct{}
	kick  chan struct{} // wakes what empties the cache

	mu       sync.Mutex
	ready    bool          // what a crash left was replayed
	tag      uint64        // of the log: see stale.go
	draining bool          // room is being made: nobody gets any
	head     mapper.Sector // where the next meta block goes
	seq      uint64        // of the next meta block
	reserved int           // blocks
	freed    chan struct{} // closed when some are released or used, if somebody waits
	open     *batch        // takes entries
}

// journalMembers is how many members a stripe may have of which all is in one meta block.
const journalMembers = (metaAt - metaHeader) / dataPayload

// seqJump is what sequence numbers grow by when the log begins anew, so that no block that is left behind goes on with it.
const seqJump = 10000

// batchBlocks bounds what is written with one request, unless one write is larger.
const batchBlocks = mapper.MaxBuffer / journalBlock

// openJournal opens the disk of a journal.
func openJournal(ctx context.Context, h mapper.Host, name string) (mapper.Disk, error) {
	const reason = "raid4/5/6 journal device lookup failure"
	d, err := args.Open(ctx, h, name, reason)
	if err != nil {
		return nil, err
	}
	if d.Sectors() < journalLeast {
		detail := fmt.Sprintf("%s: %d sectors, want %d at least", mapper.DiskName(d), d.Sectors(), journalLeast)
		return nil, &mapper.ArgError{Reason: "No space for raid4/5/6 journal", Detail: detail, Errno: unix.ENOSPC}
	}
	if block := d.Limits().LogicalBlock; block > journalBlock {
		return nil, mapper.BadArg(reason, "%s has blocks of %d bytes: want at most %d", mapper.DiskName(d), block, journalBlock)
	}
	return d, nil
}

// noJournal is for lines that cannot have one.
func noJournal(string) error { return mapper.BadArg("raid4/5/6 journal device lookup failure", "") }

// takeJournal gives the array its journal.
func (t *target) takeJournal(log mapper.Disk) error {
	if t.geo.members > journalMembers {
		return mapper.BadArg("Failed to run raid array", "%d members: with a journal at most %d", t.geo.members, journalMembers)
	}
	for i := range t.members {
		if m := &t.members[i]; m.data == log || m.meta == log {
			return mapper.BadArg("raid4/5/6 journal device lookup failure", "%s is a disk of member %d, too", mapper.DiskName(log), i)
		}
	}
	if t.cfg.back && t.lost() > 0 {
		return mapper.BadArg("Failed to set raid4/5/6 journal mode", "members are missing or not in sync: say writethrough")
	}
	t.journal = newJournal(t, log, t.cfg.back)
	return nil
}

// journaled refuses a takeover or a reshape with a journal.
func journaled(takeover bool) error {
	reason, detail := "Can't reshape a journaled raid4/5/6 set", "leave journal_dev out until it is done"
	if takeover {
		reason = "Can't takeover a journaled raid4/5/6 set"
	}
	return &mapper.ArgError{Reason: reason, Detail: detail, Errno: unix.EPERM}
}

// newJournal returns the journal of an array of that geometry.
func newJournal(t *target, disk mapper.Disk, back bool) *journal {
	j := &journal{t: t, disk: disk, size: disk.Sectors() / blockSectors * blockSectors, back: back}
	j.turn, j.kick = make(chan struct{}, 1), make(chan struct{}, 1)
	blocks := int(j.size / blockSectors)
	rows := max(1, min(int(columnSectors/blockSectors), blocks/8/(t.geo.members+1)))
	j.window = mapper.Sector(rows) * blockSectors
	j.cache.init(max(rows, min(t.cfg.cache, blocks/4/(t.geo.parity+1))))
	return j
}

// A logEntry is a part of a row that goes to the journal: pages of some chunks, and parity if it is not nil.
type logEntry struct {
	at     mapper.Sector // of each member
	rows   int           // pages of each chunk
	data   []logData
	parity [][]byte // P, and Q of raid6; one that is nil, of a member that is not there, counts as zeroes
}

// logData is the part of one chunk.
type logData struct {
	sector mapper.Sector // of the array
	block  []byte
}

// bound returns how many blocks e takes at most.
func (e *logEntry) bound() int { return e.rows * (len(e.data) + len(e.parity) + 1) }

// A batch is entries that are written with one request.
type batch struct {
	entries []*logEntry
	blocks  int // at most
	done    chan struct{}
	err     error
}

// reserve waits until there is room for n blocks. Whoever calls it holds nothing.
func (j *journal) reserve(ctx context.Context, n int) error {
	for {
		if j.dead.Load() {
			return mapper.ErrIO
		}
		j.mu.Lock()
		fits := !j.draining && j.fits(n)
		if fits {
			j.reserved += n
		}
		j.mu.Unlock()
		if fits {
			return nil
		}
		if err := j.makeRoom(ctx, n); err != nil {
			return err
		}
	}
}

// fits reports whether n blocks more are free. mu is held.
func (j *journal) fits(n int) bool {
	return int((j.size-j.head)/blockSectors) >= j.reserved+n
}

// release gives up what was reserved.
func (j *journal) release(n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.releaseHeld(n)
}

// releaseHeld is release. mu is held.
func (j *journal) releaseHeld(n int) {
	j.reserved -= n
	if n > 0 && j.freed != nil {
		close(j.freed)
		j.freed = nil
	}
}

// makeRoom begins the log anew unless n blocks are free.
func (j *journal) makeRoom(ctx context.Context, n int) error {
	if err := j.room.Lock(ctx); err != nil {
		return err
	}
	defer j.room.Unlock()
	j.mu.Lock()
	var wait chan struct{}
	fits := j.fits(n)
	if !fits && j.head == blockSectors && j.cache.isEmpty() { // others have all of it, and need nothing from us
		if j.freed == nil {
			j.freed = make(chan struct{})
		}
		wait = j.freed
	}
	j.mu.Unlock()
	switch {
	case fits:
		return nil
	case wait == nil:
		return j.renew(ctx)
	}
	select {
	case <-wait:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// empty begins the log anew if there is anything in it.
func (j *journal) empty(ctx context.Context) error {
	if err := j.room.Lock(ctx); err != nil {
		return err
	}
	defer j.room.Unlock()
	j.mu.Lock()
	empty := !j.ready || j.head == blockSectors
	j.mu.Unlock()
	if empty && j.cache.isEmpty() {
		return nil
	}
	return j.renew(ctx)
}

// renew waits until the members hold what was logged, and begins the log anew. room is held.
func (j *journal) renew(ctx context.Context) error {
	j.drain(true)
	defer j.drain(false)
	for {
		if err := j.destageAll(ctx); err != nil {
			return err
		}
		if err := j.inUse.Lock(ctx); err != nil {
			return err
		}
		if j.cache.isEmpty() { // else somebody who had room filled it
			err := j.restart(context.WithoutCancel(ctx))
			j.inUse.Unlock()
			return err
		}
		j.inUse.Unlock()
	}
}

func (j *journal) drain(on bool) {
	j.mu.Lock()
	j.draining = on
	j.mu.Unlock()
}

// restart makes the log empty. The members hold what was in it; nobody writes to it.
func (j *journal) restart(ctx context.Context) error {
	if err := j.t.flushData(ctx); err != nil {
		return err
	}
	if j.dead.Load() {
		return nil
	}
	j.mu.Lock()
	seq := j.seq + seqJump
	j.mu.Unlock()
	return j.begin(ctx, seq)
}

// begin writes the first block of an empty log.
func (j *journal) begin(ctx context.Context, seq uint64) error {
	buf := mapper.GetBuffer(journalBlock)
	defer buf.Free()
	var w metaWriter
	w.begin(buf.Data, seq, 0, j.tag)
	w.end()
	if err := j.write(ctx, 0, buf.Data); err != nil {
		return err
	}
	j.mu.Lock()
	j.head, j.seq, j.ready = blockSectors, seq+1, true
	j.mu.Unlock()
	return nil
}

// create makes a log on a disk without one. The number is random, so that blocks of another log that may be behind it do not go on with it.
func (j *journal) create(ctx context.Context) error { return j.begin(ctx, uint64(rand.Uint32())) }

// write writes blocks to the journal, durably. A journal that cannot be written to is dead: nothing is written to the array from then on.
func (j *journal) write(ctx context.Context, at mapper.Sector, p []byte) error {
	err := j.disk.Submit(ctx, mapper.Request{
		Op: mapper.OpWrite, Flags: mapper.FlagFUA, Start: at, Count: mapper.SectorsOf(int64(len(p))), Data: p,
	})
	if err != nil {
		j.fail(err)
		return mapper.ErrIO
	}
	return nil
}

func (j *journal) fail(err error) {
	if j.dead.Swap(true) {
		return
	}
	j.t.host.Logf("Journal device %s failed, no writes are taken any more: %v", mapper.DiskName(j.disk), err)
	j.t.host.Event()
	j.wake()
}

// wake makes the cache be emptied.
func (j *journal) wake() {
	select {
	case j.kick <- struct{}{}:
	default:
	}
}

// append logs e, for which there is room, and returns when it is durable. What was reserved for it is no longer. inUse is shared.
func (j *journal) append(e *logEntry) error {
	j.mu.Lock()
	b := j.open
	leads := b == nil || b.blocks+e.bound() > batchBlocks
	if leads {
		b = &batch{done: make(chan struct{})}
		j.open = b
	}
	b.entries = append(b.entries, e)
	b.blocks += e.bound()
	j.mu.Unlock()
	if !leads {
		<-b.done
		return b.err
	}
	j.turn <- struct{}{} // others join the batch until the one before it is written
	j.mu.Lock()
	if j.open == b {
		j.open = nil
	}
	j.mu.Unlock()
	b.err = j.writeBatch(b)
	<-j.turn
	close(b.done)
	return b.err
}

// writeBatch writes b behind what was logged before. It is its turn.
func (j *journal) writeBatch(b *batch) error {
	if j.dead.Load() {
		j.release(b.blocks)
		return mapper.ErrIO
	}
	j.mu.Lock()
	w := logWriter{head: j.head, seq: j.seq, tag: j.tag}
	j.mu.Unlock()
	buf := mapper.GetBuffer(b.blocks * journalBlock)
	defer buf.Free()
	w.buf = buf.Data
	for _, e := range b.entries {
		w.entry(e)
	}
	w.seal()
	err := j.write(context.Background(), w.head, buf.Data[:w.used])
	j.mu.Lock()
	j.releaseHeld(b.blocks) // who waits for room may begin the log anew
	j.head, j.seq = w.head+mapper.SectorsOf(int64(w.used)), w.seq
	j.mu.Unlock()
	return err
}

// A logWriter lays out entries in memory.
type logWriter struct {
	head mapper.Sector // of buf in the journal
	seq  uint64        // of the next meta block
	tag  uint64
	buf  []byte
	used int
	meta metaWriter // being filled; b is nil if there is none
}

// next returns the next block.
func (w *logWriter) next() []byte {
	b := w.buf[w.used : w.used+journalBlock]
	w.used += journalBlock
	return b
}

func (w *logWriter) seal() {
	if w.meta.b != nil {
		w.meta.end()
		w.meta.b = nil
	}
}

// entry adds e. What it says of a page of each chunk is in one meta block: all of that is replayed, or nothing.
func (w *logWriter) entry(e *logEntry) {
	size := len(e.data) * dataPayload
	if len(e.parity) > 0 {
		size += parityPayload + 4*len(e.parity)
	}
	for i := range e.rows {
		if w.meta.b != nil && w.meta.used+size > metaAt {
			w.seal()
		}
		if w.meta.b == nil {
			at := w.head + mapper.SectorsOf(int64(w.used))
			w.meta.begin(w.next(), w.seq, at, w.tag)
			w.seq++
		}
		off := mapper.Sector(i) * blockSectors
		for _, d := range e.data {
			w.meta.add(kindData, d.sector+off, w.block(d.block, i))
		}
		if len(e.parity) > 0 {
			var sums [2]uint32
			for p, block := range e.parity {
				sums[p] = w.block(block, i)
			}
			w.meta.add(kindParity, e.at+off, sums[:len(e.parity)]...)
		}
	}
}

// block adds page i of a block, and returns its checksum.
func (w *logWriter) block(block []byte, i int) uint32 {
	to := w.next()
	if block == nil {
		clear(to)
	} else {
		copy(to, block[i*journalBlock:])
	}
	return blockSum(to)
}
