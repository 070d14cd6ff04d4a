package integrity

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/secret"
	"dmfs/targets/internal/ratelimit"
)

// Type is the integrity target.
var Type = mapper.Type{Name: "integrity", Version: [3]int{1, 10, 0}, Features: mapper.Singleton, New: newTarget}

var le = binary.LittleEndian

type target struct {
	host       mapper.Host
	line       *line
	length     uint64 // of the segment, sectors
	geometry   geometry
	metaDisk   mapper.Disk // where superblock, journal and tags are
	memory     *secret.Memory
	processors int

	hash, mac *hasher   // nil without internal_hash, journal_mac
	taggers   sync.Pool // of *tagger
	spans     sync.Pool // of *span

	salt    []byte     // what fix_hmac has hashed first; nil without
	superMu sync.Mutex // guards the superblock; geometry and salt only change before the target runs
	super   superblock
	raw     []byte // of the superblock

	started  bool // the superblock in memory is the newest
	ranges   ranges
	cache    *tagCache
	journal  *journal
	bitmap   *bitmap
	recalcAt atomic.Uint64 // tags from there on are not known yet

	mismatches atomic.Uint64
	broken     atomic.Pointer[error] // why all fails
	logged     ratelimit.Limiter
	back       background
}

var (
	_ mapper.Areaser       = (*target)(nil)
	_ mapper.Tabler        = (*target)(nil)
	_ mapper.Statuser      = (*target)(nil)
	_ mapper.Hinter        = (*target)(nil)
	_ mapper.PreResumer    = (*target)(nil)
	_ mapper.Resumer       = (*target)(nil)
	_ mapper.PreSuspender  = (*target)(nil)
	_ mapper.SuspendUndoer = (*target)(nil)
	_ mapper.PostSuspender = (*target)(nil)
)

func newTarget(ctx context.Context, h mapper.Host, s mapper.Spec) (_ mapper.Target, err error) {
	t := &target{host: h, length: uint64(s.Len), memory: new(secret.Memory), processors: runtime.GOMAXPROCS(0)}
	defer func() {
		if err != nil {
			t.memory.Release()
		}
	}()
	if t.line, err = parse(ctx, h, t.memory, s.Args); err != nil {
		return nil, err
	}
	if err := t.algorithms(); err != nil {
		return nil, err
	}
	t.taggers.New = t.newTagger
	t.spans.New = func() any { return new(span) }
	if _, err := t.readSuper(ctx); err != nil {
		return nil, err
	}
	if t.line.mode != 'R' {
		if t.journal, err = newJournal(t); err != nil {
			return nil, err
		}
	}
	if err := t.memory.Weakness(); err != nil && (t.line.hash.keyed || t.line.mac.keyed || t.line.crypt.keyed) {
		h.Logf("%s: %v", h.DeviceNumber(), err)
	}
	return t, nil
}

// algorithms makes the hashes and checks what depends on them.
func (t *target) algorithms() (err error) {
	l, g := t.line, &t.geometry
	t.metaDisk = l.data
	if l.meta != nil {
		t.metaDisk = l.meta
	}
	*g = geometry{
		meta: l.meta != nil, start: l.start, dataSectors: uint64(l.data.Sectors()), metaSectors: uint64(t.metaDisk.Sectors()),
		blockShift: l.blockShift, bufferShift: l.bufferShift, tagSize: int(min(l.tagSize, maxTag+1)),
	}
	if l.journalSectors == 0 {
		l.journalSectors = uint32(min(defaultMaxJournal, g.dataSectors>>defaultJournalPart))
	}
	if l.hash.given {
		if t.hash, err = l.hash.hasher(t.memory, "internal hash"); err != nil {
			return err
		}
	}
	if l.mac.given {
		if t.mac, err = l.mac.hasher(t.memory, "journal mac"); err != nil {
			return err
		}
	}
	if g.tagSize == 0 {
		if t.hash == nil {
			return mapper.BadArg("Unknown tag size", "- is the size of internal_hash, which is not given")
		}
		g.tagSize = t.hash.size
	}
	switch {
	case g.tagSize > maxTag:
		return mapper.BadArg("Too big tag size", "%d bytes: want at most %d", l.tagSize, maxTag)
	case l.mode == 'B' && t.hash == nil:
		return mapper.BadArg("Bitmap mode can be only used with internal hash", "give internal_hash")
	case l.discard && t.hash == nil:
		return mapper.BadArg("Discard can be only used with internal hash", "give internal_hash, or leave out allow_discards")
	}
	for _, d := range []mapper.Disk{l.data, t.metaDisk} {
		if block := d.Limits().LogicalBlock; block > mapper.SectorSize<<l.blockShift {
			return mapper.BadArg("Invalid block_size argument", "%d: %s has blocks of %d", mapper.SectorSize<<l.blockShift, mapper.DiskName(d), block)
		}
	}
	return nil
}

// fail makes all I/O fail from here on, and logs the first reason.
func (t *target) fail(what string, errno unix.Errno) {
	if errno == unix.EILSEQ {
		t.mismatches.Add(1)
	}
	err := fmt.Errorf("%s: %w", what, errno)
	if t.broken.CompareAndSwap(nil, &err) {
		t.host.Logf("Error on %s: -%d", what, errno)
	}
}

// failure returns why all I/O fails, nil if it does not.
func (t *target) failure() error {
	if p := t.broken.Load(); p != nil {
		return *p
	}
	return nil
}

// Submit carries out a request, which is within one area.
func (t *target) Submit(ctx context.Context, r mapper.Request) error {
	if err := t.failure(); err != nil {
		return err
	}
	if r.Tags != nil {
		if err := t.checkTags(r); err != nil {
			return err
		}
	}
	switch {
	case r.Op == mapper.OpFlush:
		return t.flush(ctx)
	case r.Op == mapper.OpRead:
		return t.read(ctx, r)
	case t.line.mode == 'R':
		return fmt.Errorf("mode R is for reading: %w", mapper.ErrIO)
	case r.Op == mapper.OpWriteZeroes:
		return mapper.ErrNotSupported
	case r.Op == mapper.OpDiscard && !t.line.discard:
		return mapper.ErrNotSupported
	}
	var err error
	switch {
	case r.Op == mapper.OpDiscard:
		err = t.discard(ctx, r)
	case t.line.mode == 'J':
		err = t.journal.write(ctx, r)
	default:
		err = t.write(ctx, r)
	}
	t.back.changed()
	if err == nil && r.Flags&mapper.FlagFUA != 0 {
		err = t.flush(ctx)
	}
	return err
}

// checkTags refuses tags that are not wanted, or not so many.
func (t *target) checkTags(r mapper.Request) error {
	want := t.tagFormat().Len(r.Count)
	switch {
	case t.hash != nil:
		t.host.Logf("Unexpected integrity data when using internal hash")
		return fmt.Errorf("the tags are those of internal_hash: %w", mapper.ErrIO)
	case len(r.Tags) != want:
		t.host.Logf("Invalid integrity data size %d, expected %d", len(r.Tags), want)
		return fmt.Errorf("%d bytes of tags, want %d: %w", len(r.Tags), want, mapper.ErrIO)
	}
	return nil
}

// tagFormat says which tags requests may have.
func (t *target) tagFormat() mapper.TagFormat {
	if t.hash != nil {
		return mapper.TagFormat{}
	}
	return mapper.TagFormat{Size: t.geometry.tagSize, Unit: mapper.SectorSize << t.geometry.blockShift}
}

// hold locks the sectors of r.
func (t *target) hold(ctx context.Context, r mapper.Request, shared bool) (*span, error) {
	s := t.spans.Get().(*span)
	*s = span{start: uint64(r.Start), end: uint64(r.End()), shared: shared}
	if err := t.ranges.lock(ctx, s); err != nil {
		t.spans.Put(s)
		return nil, err
	}
	return s, nil
}

func (t *target) letGo(s *span) {
	t.ranges.unlock(s)
	t.spans.Put(s)
}

// write writes data and tags where they belong, which is what modes D and B do.
func (t *target) write(ctx context.Context, r mapper.Request) error {
	tags := t.makeTags(r)
	defer tags.free()
	s, err := t.hold(ctx, r, false)
	if err != nil {
		return err
	}
	defer t.letGo(s)
	if t.bitmap != nil {
		if err := t.bitmap.allow(ctx, uint64(r.Start), uint64(r.Count)); err != nil {
			return err
		}
	}
	down := r
	down.Flags, down.Tags, down.Start = 0, nil, mapper.Sector(t.geometry.dataSector(uint64(r.Start)))
	if err := t.line.data.Submit(ctx, down); err != nil || tags.data == nil {
		return err
	}
	at, off := t.geometry.tagPlace(uint64(r.Start))
	return t.cache.store(ctx, tags.data, at, off)
}

// A tagList is the tags of a request. data is nil if it has none.
type tagList struct {
	data []byte
	buf  *mapper.Buffer
}

func (l tagList) free() {
	if l.buf != nil {
		l.buf.Free()
	}
}

// room returns room for the tags of n sectors.
func (t *target) room(n mapper.Sector) tagList {
	buf := mapper.GetBuffer(int(n>>t.geometry.blockShift) * t.geometry.tagSize)
	return tagList{buf.Data, buf}
}

// makeTags returns the tags of what r writes: those that came with it, if there is no hash.
func (t *target) makeTags(r mapper.Request) tagList {
	if t.hash == nil {
		return tagList{data: r.Tags}
	}
	list := t.room(r.Count)
	t.tags(list.data, r.Data, uint64(r.Start))
	return list
}

// read reads, from the journal what is there, and verifies.
func (t *target) read(ctx context.Context, r mapper.Request) error {
	s, err := t.hold(ctx, r, true)
	if err != nil {
		return err
	}
	defer t.letGo(s)
	if t.line.mode == 'J' {
		return t.journal.read(ctx, r)
	}
	return t.readDisk(ctx, r)
}

// readDisk reads what is not in the journal. The sectors are held.
func (t *target) readDisk(ctx context.Context, r mapper.Request) error {
	down := r
	down.Tags, down.Start = nil, mapper.Sector(t.geometry.dataSector(uint64(r.Start)))
	if err := t.line.data.Submit(ctx, down); err != nil {
		return err
	}
	if r.Tags != nil {
		at, off := t.geometry.tagPlace(uint64(r.Start))
		return t.cache.fetch(ctx, r.Tags, at, off)
	}
	if t.hash == nil || t.line.mode == 'R' || uint64(r.End()) > t.recalcAt.Load() ||
		t.bitmap != nil && t.bitmap.unknown(uint64(r.Start), uint64(r.Count)) {
		return nil
	}
	list := t.room(r.Count)
	defer list.free()
	t.tags(list.data, r.Data, uint64(r.Start))
	at, off := t.geometry.tagPlace(uint64(r.Start))
	bad, err := t.cache.compare(ctx, list.data, at, off, t.line.discard)
	if err != nil || bad < 0 {
		return err
	}
	t.mismatches.Add(1)
	sector := uint64(r.Start) + uint64(bad)<<t.geometry.blockShift
	if t.logged.Allow() {
		_, minor, _ := strings.Cut(t.host.DeviceNumber(), ":")
		t.host.Logf("dm-%s: Checksum failed at sector 0x%x", minor, sector)
	}
	return fmt.Errorf("the tag of sector %d does not match: %w", sector, mapper.ErrProtection)
}

// discard says in the tags that the blocks were discarded, and then discards them.
func (t *target) discard(ctx context.Context, r mapper.Request) error {
	s, err := t.hold(ctx, r, false)
	if err != nil {
		return err
	}
	if t.line.mode == 'J' && t.journal.has(uint64(r.Start), uint64(r.Count)) {
		t.letGo(s)
		if err := t.journal.empty(ctx); err != nil {
			return err
		}
		if s, err = t.hold(ctx, r, false); err != nil {
			return err
		}
	}
	defer t.letGo(s)
	if t.bitmap != nil {
		if err := t.bitmap.allow(ctx, uint64(r.Start), uint64(r.Count)); err != nil {
			return err
		}
	}
	var filler [4096]byte
	for i := range filler {
		filler[i] = discardFiller
	}
	most := uint64(len(filler)/t.geometry.tagSize) << t.geometry.blockShift
	for at := uint64(r.Start); at < uint64(r.End()); at += most {
		n := min(most, uint64(r.End())-at)
		buffer, off := t.geometry.tagPlace(at)
		if err := t.cache.store(ctx, filler[:int(n>>t.geometry.blockShift)*t.geometry.tagSize], buffer, off); err != nil {
			return err
		}
	}
	if t.line.mode != 'D' {
		if err := t.flushTags(ctx, false); err != nil {
			return err
		}
	}
	r.Start = mapper.Sector(t.geometry.dataSector(uint64(r.Start)))
	return t.line.data.Submit(ctx, r)
}

// flush makes durable what was acknowledged: in mode J by a commit of the journal.
func (t *target) flush(ctx context.Context) error {
	if t.line.mode == 'J' {
		return t.journal.commit(ctx)
	}
	return t.flushTags(ctx, true)
}

// flushTags makes the tags durable, and with data what was written to the data disk. They may be on one disk, which is then flushed once.
func (t *target) flushTags(ctx context.Context, data bool) error {
	err := t.cache.write(ctx)
	flush := mapper.Request{Op: mapper.OpFlush}
	if data && t.geometry.meta {
		err = errors.Join(err, t.line.data.Submit(ctx, flush))
	}
	return errors.Join(err, t.metaDisk.Submit(ctx, flush))
}

// Areas returns the data. That the metadata fit has been checked.
func (t *target) Areas() []mapper.Area {
	if t.geometry.meta {
		return []mapper.Area{{Disk: t.line.data, Len: mapper.Sector(t.length)}}
	}
	g := &t.geometry
	return []mapper.Area{{Disk: t.line.data, Start: mapper.Sector(g.start + g.initial + g.runSectors), Len: mapper.Sector(t.length)}}
}

// maxRequest is how many sectors a request has at most, in which the tags of one find room.
const maxRequest = 1 << 15

// Hints asks for whole blocks, and for requests that are within one area.
func (t *target) Hints(l *mapper.Limits) {
	g := &t.geometry
	if g.blockShift > 0 {
		size := mapper.SectorSize << g.blockShift
		l.LogicalBlock, l.PhysicalBlock, l.MinIO = max(l.LogicalBlock, size), max(l.PhysicalBlock, size), max(l.MinIO, size)
	}
	l.Split, l.SplitDiscard = maxRequest, true
	if !g.meta {
		l.Split = min(l.Split, 1<<g.areaShift)
	}
	l.MaxWriteZeroes = 0
	l.Tags = t.tagFormat()
	l.VolatileCache = true
	if !t.line.discard {
		l.MaxDiscard, l.DiscardGranularity = 0, 0
	} else if g.blockShift > 0 {
		l.DiscardGranularity = max(l.DiscardGranularity, 1<<g.blockShift)
	}
}

// Close wipes the keys.
func (t *target) Close() error {
	t.memory.Release()
	return nil
}
