package raid

import (
	"context"
	"fmt"
	"sync"

	"dmfs/mapper"
	"dmfs/targets/internal/cell"
)

// A bitmap knows which regions may differ from their redundancy: those being written, and those that were when the power failed.
//
// A bit is durable on all metadata devices before data of its region is written, so that after a crash the set bits tell
// all that a resync must look at. It is cleared long after the last write: when nobody writes, all members are in sync, and
// a flush of the data has made durable what was written. Without metadata devices it lives in memory only.
type bitmap struct {
	t       *target
	region  mapper.Sector // sectors
	trusted bool          // it was read, and tells what returning members missed
	writing cell.Lock     // held by whoever writes pages

	mu      sync.Mutex
	image   []byte // the header and the bits, as on disk
	state   []regionState
	needs   int    // regions that need a resync
	cleared uint64 // events of the array when bits were last cleared
	version uint64 // of image
	durable uint64 // the version that is on disk
	changed []bool // by page: it is newer than the disk
	whole   bool   // nothing on disk is of use: all is to be written, the header last
	old     []byte // the first page on disk, if whole is set because regions have another size
}

// A regionState is what is not on disk of a region.
type regionState struct {
	writers int32
	needs   bool // a resync
	recent  bool // written since the cleaner looked
	quiet   bool // it was not when the cleaner began to flush
}

// bitmapBytes returns the bytes that a bitmap of n regions takes, in whole pages.
func bitmapBytes(n int) int {
	return (bitmapHeader + (n+7)/8 + bitmapPageSize - 1) / bitmapPageSize * bitmapPageSize
}

func newBitmap(t *target) *bitmap {
	n := t.regions()
	size := bitmapBytes(n)
	return &bitmap{
		t: t, region: t.cfg.region, image: make([]byte, size), state: make([]regionState, n), changed: make([]bool, size/bitmapPageSize),
	}
}

// keepsBitmap reports whether the bitmap is kept on disk. A journal tells more than it would, so that with one there is none.
func (t *target) keepsBitmap() bool { return t.hasMeta() && t.cfg.journal == "" }

// loadBitmap reads the bitmap if the array had one, which had so many sectors to sync before.
func (t *target) loadBitmap(ctx context.Context, found []loaded, freshest int, before mapper.Sector) error {
	if t.bitmap == nil {
		return nil
	}
	if !t.keepsBitmap() {
		return t.oldBitmap(ctx, found, freshest, before)
	}
	if found[freshest].super.level == 0 {
		t.bitmap.fill()
		return nil
	}
	err := t.bitmap.load(ctx, found, freshest, before)
	t.bitmap.trusted = t.bitmap.trusted && !t.converted
	return err
}

// oldBitmap reads what a crash left in the bitmap of an array that had no journal before. The first superblocks that are written with one make it count no more.
func (t *target) oldBitmap(ctx context.Context, found []loaded, freshest int, before mapper.Sector) error {
	if t.members[freshest].meta.Sectors() < mapper.SectorsOf(superBlock+bitmapPageSize) {
		return nil
	}
	b := newBitmap(t)
	err := b.load(ctx, found, freshest, before)
	if err == nil && b.trusted {
		b.trusted, b.whole = false, false
		t.bitmap = b
	}
	return err
}

// fill sets all bits, as md does with a bitmap that it makes.
func (b *bitmap) fill() {
	setBits(b.image)
	b.touchAll(nil)
}

// touchAll makes all be written anew; old is the first page on disk if its bits mean anything.
func (b *bitmap) touchAll(old []byte) {
	for i := range b.changed {
		b.changed[i] = true
	}
	b.version++
	b.whole, b.old = true, old
}

// needAll makes all regions need a resync.
func (b *bitmap) needAll() {
	for i := range b.state {
		b.state[i].needs = true
	}
	b.needs = len(b.state)
}

// needNone makes no region need a resync; bits stay, for they tell what a member lacks that is not there.
func (b *bitmap) needNone() {
	for i := range b.state {
		b.state[i].needs = false
	}
	b.needs = 0
}

// load reads the bitmap of the member whose superblock is the freshest. One that is damaged, or older than the array, says nothing.
func (b *bitmap) load(ctx context.Context, found []loaded, freshest int, before mapper.Sector) error {
	m := &b.t.members[freshest]
	head, err := m.bitmapHead(ctx)
	if err != nil {
		return err
	}
	defer head.Free()
	s, err := decodeBitmap(head.Data)
	events := found[freshest].super.events
	usable := err == nil && (s.counts(b.t.geo.syncSectors(), events) || s.counts(before, events)) // it is written before the superblocks
	if !usable {
		b.fill()
		b.needAll()
		return nil
	}
	b.trusted, b.cleared = true, s.cleared
	if err := b.loadBits(ctx, m, mapper.SectorsOf(int64(s.regionBytes)), s.sectors); err != nil {
		return fmt.Errorf("bitmap of member %d: %w", freshest, err)
	}
	return nil
}

// bitmapHead reads the first page of the bitmap of m. The caller frees it.
func (m *member) bitmapHead(ctx context.Context) (*mapper.Buffer, error) {
	head := mapper.GetBuffer(bitmapPageSize)
	err := m.meta.Submit(ctx, mapper.Request{
		Op: mapper.OpRead, Start: mapper.SectorsOf(superBlock), Count: mapper.SectorsOf(bitmapPageSize), Data: head.Data,
	})
	if err != nil {
		head.Free()
		return nil, mapper.BadArg("Failed to run raid array", "bitmap of member %d, %s: %v", m.index, mapper.DiskName(m.meta), err)
	}
	return head, nil
}

// loadBits reads the bits, which may be of regions of another size, and of an array that had so many sectors to sync.
func (b *bitmap) loadBits(ctx context.Context, m *member, region, sectors mapper.Sector) error {
	end := b.t.geo.syncSectors()
	same := region == b.region && sectors == end
	n := (sectors + region - 1) / region
	if n > bitmapMost*8 || mapper.SectorsOf(superBlock+int64(bitmapBytes(int(n)))) > m.meta.Sectors() {
		b.fill()
		b.needAll()
		b.trusted = false
		return nil
	}
	old := make([]byte, bitmapBytes(int(n)))
	err := m.meta.Submit(ctx, mapper.Request{
		Op: mapper.OpRead, Start: mapper.SectorsOf(superBlock), Count: mapper.SectorsOf(int64(len(old))), Data: old,
	})
	if err != nil {
		return err
	}
	if same {
		copy(b.image, old)
	}
	for i := range min(n, (end+region-1)/region) {
		if old[bitmapHeader+i/8]>>(i%8)&1 == 0 {
			continue
		}
		first, last := i*region/b.region, (min((i+1)*region, sectors, end)-1)/b.region
		for r := first; r <= last; r++ {
			b.setBit(int(r))
			if !b.state[r].needs {
				b.state[r].needs = true
				b.needs++
			}
		}
	}
	if b.t.syncedTo != done { // a member that is away lacks what is resynced without it
		for r := min(sectors, end) / b.region; r < mapper.Sector(len(b.state)) && sectors < end; r++ {
			b.setBit(int(r))
		}
	}
	if !same {
		b.touchAll(old[:bitmapPageSize])
	}
	return nil
}

func (b *bitmap) bit(r int) bool { return b.image[bitmapHeader+r/8]>>(r%8)&1 != 0 }

// setBit sets a bit in memory and reports whether it was clear. mu is held, or nobody else knows b.
func (b *bitmap) setBit(r int) bool {
	at := bitmapHeader + r/8
	if b.image[at]>>(r%8)&1 != 0 {
		return false
	}
	b.image[at] |= 1 << (r % 8)
	b.changed[at/bitmapPageSize] = true
	return true
}

// span returns the regions of sectors [from, to).
func (b *bitmap) span(from, to mapper.Sector) (first, last int) {
	return int(from / b.region), int((to - 1) / b.region)
}

// begin is called before sectors [from, to) are written, and end after. When it returns their bits are durable.
func (b *bitmap) begin(ctx context.Context, from, to mapper.Sector) error {
	b.mu.Lock()
	first, last := b.span(from, to)
	set := false
	for r := first; r <= last; r++ {
		b.state[r].writers++
		set = b.setBit(r) || set
	}
	if set {
		b.version++
	}
	version := b.version
	settled := b.durable >= version
	b.mu.Unlock()
	if settled || !b.t.keepsBitmap() {
		return nil
	}
	if err := b.write(ctx, version); err != nil {
		b.end(from, to, false)
		return err
	}
	return nil
}

// end says that a write is over. If it may have left copies or parity different, torn is true.
func (b *bitmap) end(from, to mapper.Sector, torn bool) {
	b.mu.Lock()
	first, last := b.span(from, to)
	for r := first; r <= last; r++ {
		s := &b.state[r]
		s.writers--
		s.recent = true
		if torn && !s.needs {
			s.needs = true
			b.needs++
		}
	}
	b.mu.Unlock()
	if torn {
		b.t.unsynced.Store(true)
		b.t.wake()
	}
}

// need reports whether any of sectors [from, to) need a resync.
func (b *bitmap) need(from, to mapper.Sector) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	first, last := b.span(from, to)
	for r := first; r <= last; r++ {
		if b.state[r].needs {
			return true
		}
	}
	return false
}

// dirty reports whether the bit of any of sectors [from, to) is set.
func (b *bitmap) dirty(from, to mapper.Sector) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	first, last := b.span(from, to)
	for r := first; r <= last; r++ {
		if b.bit(r) {
			return true
		}
	}
	return false
}

// nextNeed returns the first sectors from s on, within one region, that need a resync; ok is false if there are none.
func (b *bitmap) nextNeed(s mapper.Sector) (from, to mapper.Sector, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.needs == 0 || s >= b.t.geo.syncSectors() {
		return 0, 0, false
	}
	for r := int(s / b.region); r < len(b.state); r++ {
		if b.state[r].needs {
			from = mapper.Sector(r) * b.region
			return max(from, s), min(from+b.region, b.t.geo.syncSectors()), true
		}
	}
	return 0, 0, false
}

// settle says that the regions that end in [from, to) were resynced.
func (b *bitmap) settle(from, to mapper.Sector) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for r := int(from / b.region); r < len(b.state); r++ {
		if end := min(mapper.Sector(r+1)*b.region, b.t.geo.syncSectors()); end > to {
			return
		}
		if b.state[r].needs {
			b.state[r].needs = false
			b.state[r].recent = true
			b.needs--
		}
	}
}

// write writes what changed, unless somebody did so since. A member whose metadata cannot be written has failed.
func (b *bitmap) write(ctx context.Context, version uint64) error {
	for {
		bad, err := b.writeOnce(ctx, version, nil)
		if bad == nil {
			return err
		}
		if !b.t.failed(bad) {
			return fmt.Errorf("bitmap of member %d: %w", bad.index, err)
		}
	}
}

// writeOnce returns the member that could not be written to. The member except is left out.
func (b *bitmap) writeOnce(ctx context.Context, version uint64, except *member) (bad *member, err error) {
	if err := b.writing.Lock(ctx); err != nil {
		return nil, err
	}
	defer b.writing.Unlock()
	b.mu.Lock()
	if b.durable >= version {
		b.mu.Unlock()
		return nil, nil
	}
	now, whole, first, last := b.version, b.whole, -1, 0
	for p, changed := range b.changed {
		if changed && first < 0 {
			first = p
		}
		if changed {
			last = p + 1
		}
		b.changed[p] = false
	}
	first = max(first, 0)
	b.encodeHeader()
	buf := mapper.GetBuffer(max(last-first, 1) * bitmapPageSize)
	defer buf.Free()
	copy(buf.Data, b.image[first*bitmapPageSize:])
	b.mu.Unlock()
	if whole {
		bad, err = b.writeWhole(buf.Data, except)
	} else {
		bad, err = b.t.writeMetas(superBlock+int64(first)*bitmapPageSize, buf.Data, except)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if bad != nil {
		for p := first; p < last; p++ {
			b.changed[p] = true
		}
		return bad, err
	}
	b.durable, b.whole, b.old = now, false, nil
	return nil, nil
}

// writeWhole writes a bitmap over one that means something else, or nothing. First the header on disk is made to say that it is
// stale, last it is made valid, so that after a crash on the way the array is resynced as a whole.
func (b *bitmap) writeWhole(p []byte, except *member) (bad *member, err error) {
	const state = 0x30
	page := mapper.GetBuffer(bitmapPageSize)
	defer page.Free()
	for _, from := range [][]byte{b.old, p} {
		if from == nil {
			continue
		}
		copy(page.Data, from)
		page.Data[state] |= stateStale
		if bad, err := b.t.writeMetas(superBlock, page.Data, except); bad != nil {
			return bad, err
		}
	}
	if len(p) > bitmapPageSize {
		if bad, err := b.t.writeMetas(superBlock+bitmapPageSize, p[bitmapPageSize:], except); bad != nil {
			return bad, err
		}
	}
	return b.t.writeMetas(superBlock, p[:bitmapPageSize], except)
}

// encodeHeader renews the header in the image. mu is held.
func (b *bitmap) encodeHeader() {
	const defaultSleep = 5
	h := bitmapSuper{
		events: b.t.headerEvents.Load(), cleared: b.cleared, sectors: b.t.geo.syncSectors(), regionBytes: uint32(b.region.Bytes()),
		sleep: defaultSleep, behind: uint32(b.t.cfg.behind / 2),
	}
	if b.t.cfg.given["daemon_sleep"] {
		h.sleep = uint32(max(1, b.t.cfg.sleep/1000)) // of a bitmap that says 0, Linux makes no array
	}
	h.encode(b.image)
}

// touchHeader makes the header be written with the next page.
func (b *bitmap) touchHeader() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changed[0] = true
	b.version++
	return b.version
}

// clean clears the bits of regions that nobody writes, if all members hold what was written there. In a hurry it
// does not wait for a region to be quiet for a while.
func (b *bitmap) clean(ctx context.Context, hurry bool) error {
	if !b.t.keepsBitmap() || b.t.reshaping.Load() != nil || b.t.lost() > 0 || !b.mark(hurry) {
		return nil
	}
	if err := b.t.flushData(ctx); err != nil {
		return err
	}
	version, cleared := b.clear()
	if !cleared {
		return nil
	}
	return b.write(ctx, version)
}

// idle reports whether the bit of region r can be cleared after a flush. mu is held.
func (b *bitmap) idle(r int, synced mapper.Sector) bool {
	s := &b.state[r]
	end := min(mapper.Sector(r+1)*b.region, b.t.geo.syncSectors())
	return s.writers == 0 && !s.needs && end <= synced && b.bit(r)
}

// mark forgets that idle regions were written lately, and reports whether there are some of which that was forgotten before.
func (b *bitmap) mark(hurry bool) (any bool) {
	synced := b.t.syncedUpTo()
	b.mu.Lock()
	defer b.mu.Unlock()
	for r := range b.state {
		if !b.idle(r, synced) {
			continue
		}
		if b.state[r].recent && !hurry {
			b.state[r].recent = false
			b.state[r].quiet = false
			continue
		}
		b.state[r].recent = false
		b.state[r].quiet = true
		any = true
	}
	return any
}

// clear clears the bits of regions that were not written since mark.
func (b *bitmap) clear() (version uint64, any bool) {
	synced := b.t.syncedUpTo()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.t.lost() > 0 {
		return 0, false
	}
	for r := range b.state {
		s := &b.state[r]
		if s.quiet && !s.recent && b.idle(r, synced) {
			at := bitmapHeader + r/8
			b.image[at] &^= 1 << (r % 8)
			b.changed[at/bitmapPageSize] = true
			any = true
		}
		s.quiet = false
	}
	if any {
		b.cleared = b.t.headerEvents.Load()
		b.version++
	}
	return b.version, any
}
