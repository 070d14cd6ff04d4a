package raid

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"

	"dmfs/mapper"
	"dmfs/targets/internal/cell"
	"dmfs/targets/internal/worker"
)

// Type is the raid target.
var Type = mapper.Type{Name: "raid", Version: [3]int{1, 15, 1}, New: newTarget}

// fanWidth bounds how many members work on one request at a time.
const fanWidth = 16

type target struct {
	host     mapper.Host
	spec     mapper.Spec
	cfg      *config
	geo      geometry
	members  []member
	disks    []mapper.Disk // of the members' data, each once
	readOnly bool          // the table is: nothing is written, not even metadata
	bitmap   *bitmap       // nil for raid0
	unsynced atomic.Bool   // some of the array may differ from its redundancy: see synced
	cur      *plane        // where things are; during a reshape, where they go
	journal  *journal      // of a parity array, or nil
	slots    chan struct{} // a token for each column of a parity array that may be in memory
	busy     atomic.Int64  // requests from above since the syncer looked

	supers       cell.Lock     // held by whoever writes superblocks
	headerEvents atomic.Uint64 // the events that the bitmap is written with

	mu      sync.Mutex
	super   superblock // what is the same for all members; position and rebuilt are each member's
	resumed bool       // there was a PreResume
	loaded  []uint64   // by member: events of the metadata that the target was built of, all ones if it could not be read
	stale   bool       // the metadata on disk must be renewed before I/O
	lineage lineage    // of the journal
	// converted says that the members were of another level.
	converted bool
	reshaping atomic.Pointer[reshape] // nil if the array is not being reshaped
	syncedTo  mapper.Sector           // the array is in sync up to here; done if all of it is
	sync      syncState

	background worker.Group  // the syncer, and what clears the bitmap
	kick       chan struct{} // wakes the syncer
}

// A plane is where the sectors of the array lie on the members. While the array is being reshaped there are two.
type plane struct {
	*target
	geo    geometry
	offset mapper.Sector // of the data on each member
	claims claims        // rows of a parity array, sectors of a mirror
}

// A member is a leg of the array.
type member struct {
	index      int
	meta, data mapper.Disk   // nil if absent
	mostly     bool          // write_mostly
	dead       atomic.Bool   // absent, or failed
	good       atomic.Uint64 // sectors from 0 on that hold what they should; ^0 if all
	pending    atomic.Int32  // reads under way
	partial    bool          // what it lacks is in the bitmap. Guarded by target.mu
}

// readable reports whether what m holds before sector end is right.
func (m *member) readable(end mapper.Sector) bool {
	return !m.dead.Load() && uint64(end) <= m.good.Load()
}

// inSync reports whether all of m is right.
func (m *member) inSync() bool { return !m.dead.Load() && m.good.Load() == uint64(done) }

var (
	_ mapper.Areaser       = (*target)(nil)
	_ mapper.Tabler        = (*target)(nil)
	_ mapper.Statuser      = (*target)(nil)
	_ mapper.Hinter        = (*target)(nil)
	_ mapper.Messenger     = (*target)(nil)
	_ mapper.PreSuspender  = (*target)(nil)
	_ mapper.PostSuspender = (*target)(nil)
	_ mapper.PreResumer    = (*target)(nil)
	_ mapper.Resumer       = (*target)(nil)
	_ mapper.SuspendUndoer = (*target)(nil)
	_ mapper.Remapper      = (*striped)(nil)
)

// striped is the target of raid0, whose map does not change.
type striped struct{ *target }

// Remap returns where s lives, to the end of its chunk.
func (t striped) Remap(s mapper.Sector) (d mapper.Disk, at, run mapper.Sector) {
	m, at := t.place(s)
	return m.data, t.cur.offset + at, t.geo.chunk - s%t.geo.chunk
}

// place returns the member of a raid0 with sector s, and where.
func (t *target) place(s mapper.Sector) (*member, mapper.Sector) {
	chunk, off := s/t.geo.chunk, s%t.geo.chunk
	n := mapper.Sector(len(t.members))
	return &t.members[chunk%n], chunk/n*t.geo.chunk + off
}

// Submit carries r out.
func (t *target) Submit(ctx context.Context, r mapper.Request) error {
	if r.Op == mapper.OpFlush {
		return t.submitFlush(ctx, r)
	}
	switch {
	case t.geo.level == 0:
		if r.Op <= mapper.OpWrite {
			m, at := t.place(r.Start)
			r.Start = t.cur.offset + at
			return m.data.Submit(ctx, r)
		}
		return t.discardStriped(ctx, r)
	case r.Op == mapper.OpRead:
	case r.Op == mapper.OpWrite, r.Op == mapper.OpDiscard && t.geo.mirrored():
		if t.readOnly {
			return mapper.ErrReadOnly
		}
	default:
		return mapper.ErrNotSupported
	}
	t.busy.Add(1)
	if rs := t.reshaping.Load(); rs != nil {
		return rs.submit(ctx, r)
	}
	if r.End() > t.geo.array { // a table may be longer while members are removed, or before they are added
		return mapper.ErrIO
	}
	if t.geo.mirrored() {
		return t.cur.carry(ctx, r)
	}
	return t.submitParity(ctx, r)
}

// submitFlush makes durable what was written.
func (t *target) submitFlush(ctx context.Context, r mapper.Request) error {
	switch j := t.journal; {
	case j == nil:
	case !j.dead.Load():
		return nil // what returned is durable in the journal
	default: // which cannot be trusted with what only it and the cache hold
		if err := j.destageAll(ctx); err != nil {
			return err
		}
	}
	return t.flush(ctx, r)
}

// submitParity reads or writes an array with parity.
func (t *target) submitParity(ctx context.Context, r mapper.Request) error {
	switch {
	case r.Op == mapper.OpRead && t.journal != nil:
		return t.cur.readJournaled(ctx, r)
	case r.Op == mapper.OpRead:
		return t.cur.readParity(ctx, r)
	case t.journal != nil:
		return t.cur.writeJournaled(ctx, r)
	}
	return t.cur.writeParity(ctx, r)
}

// discardStriped cuts a discard of raid0 into chunks: of consecutive rows a member has one range.
func (t *target) discardStriped(ctx context.Context, r mapper.Request) error {
	n := mapper.Sector(len(t.members))
	return mapper.FanOut(len(t.members), fanWidth, func(i int) error {
		before := func(s mapper.Sector) mapper.Sector { // sectors of member i in the first s
			chunk, off := s/t.geo.chunk, s%t.geo.chunk
			rows, last := chunk/n, int(chunk%n)
			switch {
			case i < last:
				return (rows + 1) * t.geo.chunk
			case i == last:
				return rows*t.geo.chunk + off
			}
			return rows * t.geo.chunk
		}
		from, to := before(r.Start), before(r.End())
		if from == to {
			return nil
		}
		share := r
		share.Start, share.Count = t.cur.offset+from, to-from
		return t.members[i].data.Submit(ctx, share)
	})
}

// flush makes durable what members hold. A member that cannot has lost writes, and so fails, if the array can do without it.
func (t *target) flush(ctx context.Context, r mapper.Request) error {
	return mapper.FanOut(len(t.members), fanWidth, func(i int) error {
		m := &t.members[i]
		if m.data == nil || m.dead.Load() || t.sharesDisk(i) {
			return nil
		}
		err := m.data.Submit(ctx, r)
		if err != nil && mapper.DiskFailed(err) && t.failed(m) {
			return nil
		}
		return err
	})
}

// sharesDisk reports whether a member before i has the same disk, and will flush it.
func (t *target) sharesDisk(i int) bool {
	for j := range i {
		if t.members[j].data == t.members[i].data && !t.members[j].dead.Load() {
			return true
		}
	}
	return false
}

// read reads n sectors of m.
func (t *plane) read(ctx context.Context, m *member, at mapper.Sector, buf []byte) error {
	return m.data.Submit(ctx, mapper.Request{Op: mapper.OpRead, Start: t.offset + at, Count: mapper.SectorsOf(int64(len(buf))), Data: buf})
}

// write writes to m.
func (t *plane) write(ctx context.Context, m *member, at mapper.Sector, buf []byte, flags mapper.Flags) error {
	return m.data.Submit(ctx, mapper.Request{
		Op: mapper.OpWrite, Flags: flags, Start: t.offset + at, Count: mapper.SectorsOf(int64(len(buf))), Data: buf,
	})
}

// Areas returns what the array uses of the members' data; of metadata nothing is said, it is checked when it is read.
func (t *target) Areas() []mapper.Area {
	var areas []mapper.Area
	start, end := t.cur.offset, t.cur.offset+t.geo.dev
	if rs := t.reshaping.Load(); rs != nil {
		start, end = min(start, rs.old.offset), max(end, rs.old.offset+t.geo.dev)
	}
	for i := range t.members {
		if m := &t.members[i]; m.data != nil {
			areas = append(areas, mapper.Area{Disk: m.data, Start: start, Len: end - start})
		}
	}
	if t.journal != nil {
		areas = append(areas, mapper.Area{Disk: t.journal.disk, Len: t.journal.size})
	}
	return areas
}

// Hints asks for cuts where a request would leave a chunk, or the row of a parity array.
func (t *target) Hints(l *mapper.Limits) {
	l.MaxWriteZeroes = 0
	l.SplitDiscard = true
	chunk := int(t.geo.chunk.Bytes())
	l.MinIO = max(chunk, l.PhysicalBlock)
	l.OptIO = chunk * t.geo.data()
	switch {
	case t.geo.level == 0:
		l.Split, l.SplitDiscard = t.geo.chunk, false
	case t.geo.level == 1:
		l.MinIO = l.PhysicalBlock
	case t.geo.level == 10:
		l.Split = t.geo.chunk
	default:
		l.Split = t.geo.stripe()
		l.MaxDiscard = 0
	}
	for _, d := range t.disks {
		if d.Limits().MaxDiscard == 0 {
			l.MaxDiscard = 0
		}
	}
}

// Table returns the line as loaded.
func (t *target) Table(bool) []string {
	t.mu.Lock()
	c, chunk, layout := t.cfg, t.geo.chunk, t.super.layout
	t.mu.Unlock()
	journal := ""
	if t.journal != nil {
		journal = mapper.DiskName(t.journal.disk)
	}
	options := c.options(journal, layout)
	words := append([]string{c.typ.name, strconv.Itoa(1 + len(options)), strconv.FormatUint(uint64(chunk), 10)}, options...)
	words = append(words, strconv.Itoa(len(t.members)))
	name := func(d mapper.Disk) string {
		if d == nil {
			return "-"
		}
		return mapper.DiskName(d)
	}
	for i := range t.members {
		words = append(words, name(t.members[i].meta), name(t.members[i].data))
	}
	return words
}
