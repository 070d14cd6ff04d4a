package mirror

import (
	"context"

	"dmfs/mapper"
)

// A dirtyLog knows which regions are alike on all legs: sync, and, on disk, clean: alike even if the power fails now.
//
// Bits go one way without a hurry and the other at once. A region loses its clean bit before a leg is written (mark, commit), and gets it
// back when nothing was written for a while and the legs are flushed (clean). Who writes the log has turn; only he sets clean bits.
type dirtyLog struct {
	kind  string
	host  mapper.Host
	disk  mapper.Disk // nil for a core log
	mode  syncMode
	size  uint32 // of a region, in sectors
	count int    // of regions

	loaded bool // there was a resume

	turn chan struct{} // capacity 1: held across I/O to the log

	// The others are guarded by target.mu.
	image       []byte // of the log disk, whole blocks; nil for a core log
	clean       bitset // within image
	sync        bitset
	synced      int    // the kernel's sync_count: set bits of sync, but see spoil
	search      int    // where to look for regions to be recovered
	marks       uint64 // how often a clean bit was cleared
	durable     uint64 // marks that are durable on the log disk
	from, to    int    // bytes of image that were changed since they were written: [from, to)
	failed      bool   // the log disk failed
	flushFailed bool   // it failed a flush
	distrusted  bool   // a leg failed a flush: no region is called clean any more
}

// imageSectors returns how many sectors of the log disk are used, and how many it has.
func (l *dirtyLog) imageSectors() (need, have mapper.Sector) {
	if l.disk == nil {
		return 0, 0
	}
	need = bitsetSector + mapper.SectorsOf(int64(bitsetBytes(l.count))+mapper.SectorSize-1)
	block := l.disk.Limits().LogicalSectors()
	return (need + block - 1) / block * block, l.disk.Sectors()
}

func (l *dirtyLog) allocate() {
	l.sync = make(bitset, bitsetBytes(l.count))
	if l.mode == syncNever {
		l.sync.put(0, l.count, true)
		l.synced = l.count
	}
	if l.disk != nil {
		n, _ := l.imageSectors()
		l.image = make([]byte, n.Bytes())
		l.clean = l.image[bitsetSector.Bytes():][:len(l.sync)]
	}
}

// touch notes that the bytes [from, to) of the image are to be written. target.mu is held.
func (l *dirtyLog) touch(from, to int) {
	if l.from != l.to {
		from, to = min(l.from, from), max(l.to, to)
	}
	l.from, l.to = from, to
}

// byteOf returns which byte of the image has the clean bit of region id.
func byteOf(id int) int { return int(bitsetSector.Bytes()) + id/8 }

// mark takes the clean bit from region id and returns what commit is to wait for before a leg is written. target.mu is held.
func (l *dirtyLog) mark(id int) uint64 {
	if l.disk == nil {
		return 0
	}
	if l.clean.get(id) {
		l.clean.clear(id)
		l.touch(byteOf(id), byteOf(id)+1)
		l.marks++
	}
	return l.marks
}

// commit makes the first mark marks durable. The error is that of the log disk, or that of ctx.
func (t *target) commit(ctx context.Context, mark uint64) error {
	if t.log.disk == nil || t.committed(mark) {
		return nil
	}
	if err := t.log.lock(ctx); err != nil {
		return err
	}
	defer t.log.unlock()
	if t.committed(mark) {
		return nil
	}
	return t.writeLog(ctx)
}

// committed reports whether there is nothing to be written for the first mark marks. A log that failed is tried again.
func (t *target) committed(mark uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.log
	return l.durable >= mark && !(l.failed && l.from != l.to)
}

func (l *dirtyLog) lock(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *dirtyLog) unlock() { <-l.turn }

// writeLog writes what has changed, and flushes the log disk if a mark is not durable yet: that a clean bit is lost costs
// a copy, that a mark is lost costs data. It is called with turn.
func (t *target) writeLog(ctx context.Context) error {
	l := t.log
	t.mu.Lock()
	mark, from, to := l.marks, l.from, l.to
	flush := l.durable < mark
	l.from, l.to = 0, 0
	t.mu.Unlock()
	if from == to {
		return nil
	}
	err := t.storeLog(ctx, from, to)
	flushing := err == nil && flush
	if flushing {
		err = l.disk.Submit(ctx, mapper.Request{Op: mapper.OpFlush})
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		l.durable = mark
		return nil
	}
	l.touch(from, to)
	if !mapper.Interrupted(err) {
		l.fail(flushing)
	}
	return err
}

// storeLog writes the blocks that the bytes [from, to) of the image are in. It is called with turn.
func (t *target) storeLog(ctx context.Context, from, to int) error {
	l := t.log
	block := l.disk.Limits().LogicalSectors().Bytes()
	first, end := int64(from)/block*block, min((int64(to)+block-1)/block*block, int64(len(l.image)))
	buf := mapper.GetBuffer(int(min(end-first, mapper.MaxBuffer)))
	defer buf.Free()
	for first < end {
		p := buf.Data[:min(end-first, int64(len(buf.Data)))]
		t.mu.Lock()
		copy(p, l.image[first:])
		t.mu.Unlock()
		w := mapper.Request{Op: mapper.OpWrite, Start: mapper.SectorsOf(first), Count: mapper.SectorsOf(int64(len(p))), Data: p}
		if err := l.disk.Submit(ctx, w); err != nil {
			return err
		}
		first += int64(len(p))
	}
	return nil
}

// fail notes that the log disk failed. target.mu is held.
func (l *dirtyLog) fail(flushing bool) {
	l.flushFailed = l.flushFailed || flushing
	if !l.failed {
		l.failed = true
		l.host.Event()
	}
}

// loadLog reads a disk log, and writes it as it is from now on. No I/O is in flight. As in the kernel a log that fails, for which false
// is returned, does not keep the device from starting: no region counts as clean then.
func (t *target) loadLog(ctx context.Context) bool {
	l := t.log
	if l.disk == nil {
		return true
	}
	mode := l.mode
	if mode == syncNever && l.loaded {
		mode = syncIfNeeded // what has failed since the first resume is in the log
	}
	l.loaded = true
	err := l.read(ctx)
	if err != nil {
		clear(l.image)
	}
	t.mu.Lock()
	ok := restore(l.image, l.count, mode)
	if !ok {
		l.host.LogFrom(logModule, "incompatible disk log version")
	}
	if err != nil || !ok {
		l.host.LogFrom(logModule, "%s: Failed to read header on dirty region log device", mapper.DiskName(l.disk))
		l.fail(false)
	}
	copy(l.sync, l.clean)
	l.durable = l.marks
	l.from, l.to = 0, 0
	t.mu.Unlock()
	if t.host.ReadOnly() {
		return err == nil && ok
	}
	err = t.storeLog(ctx, 0, len(l.image))
	flushing := err == nil
	if flushing {
		err = l.disk.Submit(ctx, mapper.Request{Op: mapper.OpFlush})
	}
	if err != nil {
		l.host.LogFrom(logModule, "%s: Failed to write header on dirty region log device", mapper.DiskName(l.disk))
		t.mu.Lock()
		defer t.mu.Unlock()
		l.fail(flushing)
		l.touch(0, len(l.image))
		return false
	}
	if mode == syncNever {
		return t.trustLegs(ctx)
	}
	return true
}

// trustLegs sees to it that what nosync calls clean is durable on the legs.
func (t *target) trustLegs(ctx context.Context) bool {
	flushed, err := t.flushLegs(ctx)
	if err == nil && flushed {
		return true
	}
	t.mu.Lock()
	t.log.distrust()
	t.mu.Unlock()
	return t.writeLog(ctx) == nil
}

// read reads the image.
func (l *dirtyLog) read(ctx context.Context) error {
	for at := 0; at < len(l.image); at += mapper.MaxBuffer {
		p := l.image[at:min(at+mapper.MaxBuffer, len(l.image))]
		r := mapper.Request{Op: mapper.OpRead, Start: mapper.SectorsOf(int64(at)), Count: mapper.SectorsOf(int64(len(p))), Data: p}
		if err := l.disk.Submit(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// distrust takes the clean bits of all regions, for good: a leg could not say that it has what was written. target.mu is held.
func (l *dirtyLog) distrust() {
	l.distrusted = true
	if l.disk != nil {
		l.clean.put(0, l.count, false)
		l.touch(byteOf(0), byteOf(l.count-1)+1)
		l.marks++
	}
}

// setSync notes whether region id is alike on all legs. target.mu is held.
func (l *dirtyLog) setSync(id int, alike bool) {
	switch {
	case alike && !l.sync.get(id):
		l.sync.set(id)
		l.synced = min(l.synced+1, l.count)
	case !alike && l.sync.get(id):
		l.sync.clear(id)
		l.synced--
	}
}

// spoil does as setSync(id, false), and leaves the count that status lines show as it is, as the kernel does after a
// flush failed. The next resume counts. target.mu is held.
func (l *dirtyLog) spoil(id int) { l.sync.clear(id) }
