package mirror

import (
	"context"
	"time"

	"dmfs/mapper"
)

// chunkSectors is how much is copied at a time: what a resync takes of memory, and has under way beside other I/O.
const chunkSectors mapper.Sector = 1024

// recoverRegions copies regions in ascending order, one at a time, until ctx ends.
func (t *target) recoverRegions(ctx context.Context) {
	buf := (*mapper.Buffer)(nil)
	defer func() {
		if buf != nil {
			buf.Free()
		}
	}()
	for ctx.Err() == nil {
		id, r := t.nextRecovery()
		if r == nil {
			if buf != nil {
				buf.Free()
				buf = nil
			}
			select {
			case <-t.wake:
			case <-ctx.Done():
			}
			continue
		}
		if buf == nil {
			buf = mapper.GetBuffer(int(min(chunkSectors, mapper.Sector(t.log.size)).Bytes()))
		}
		if !t.quiesce(ctx, id, r) {
			continue
		}
		copied, alike := t.copyRegion(ctx, id, buf.Data)
		t.recovered(id, r, copied, alike)
	}
}

// nextRecovery finds the next region to be copied and keeps writes from it; r is nil if there is none.
func (t *target) nextRecovery() (id int, r *region) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.log
	id = l.sync.nextClear(l.search, l.count)
	l.search = min(id+1, l.count)
	if id >= l.count {
		t.checkSync()
		return id, nil
	}
	if r = t.regions[id]; r == nil {
		r = new(region)
		t.regions[id] = r
	}
	r.state, r.over = recovering, make(chan struct{})
	if r.pending > 0 {
		r.quiet = make(chan struct{})
	}
	return id, r
}

// quiesce waits until no write to the region is under way. If that failed, or ctx ended, the region is not recovered.
func (t *target) quiesce(ctx context.Context, id int, r *region) bool {
	t.mu.Lock()
	quiet := r.quiet
	t.mu.Unlock()
	if quiet != nil {
		select {
		case <-quiet:
		case <-ctx.Done():
			t.recovered(id, r, false, false)
			return false
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return r.state == recovering
}

// recovered ends the recovery of a region. copied says that all legs have it; alike that it counts as if.
func (t *target) recovered(id int, r *region, copied, alike bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.state != recovering {
		return // a write took it back
	}
	t.endRecovery(r)
	t.log.setSync(id, alike)
	t.noteSync()
	r.state = apart
	switch {
	case copied && t.log.disk != nil:
		r.state = dirty
		t.queueIdle(id, r)
	case r.pending == 0:
		delete(t.regions, id)
	}
}

// copyRegion copies region id from the primary leg to the others. If errors are not handled, legs that do not take it are left
// behind, and the region counts as alike all the same: such a leg is not read any more.
func (t *target) copyRegion(ctx context.Context, id int, buf []byte) (copied, alike bool) {
	primary := int(t.primary.Load())
	start := mapper.Sector(id) << t.shift
	end := min(start+mapper.Sector(t.log.size), t.length)
	var failed uint64 // by leg, without the primary one
	for at := start; at < end; {
		if ctx.Err() != nil {
			return false, false
		}
		n := min(end-at, mapper.SectorsOf(int64(len(buf))))
		r := mapper.Request{Op: mapper.OpRead, Start: at, Count: n, Data: buf[:n.Bytes()]}
		if err := t.legs[primary].disk.Submit(ctx, t.legs[primary].on(r)); err != nil {
			if !mapper.Interrupted(err) {
				t.logSome(&t.limits.syncRead, "Unable to read primary mirror during recovery")
				t.fail(primary, syncFailure)
			}
			return false, false
		}
		r.Op = mapper.OpWrite
		bits, err := t.copyTo(ctx, primary, r)
		failed |= bits
		if err != nil {
			return false, false
		}
		if failed != 0 && t.handleErrors {
			break
		}
		at += n
	}
	if failed == 0 {
		return true, true
	}
	t.logSome(&t.limits.syncWrite, "Write error during recovery (error = 0x%x)", failed)
	for i, bit := 0, 0; i < len(t.legs); i++ {
		if i == primary {
			continue
		}
		if failed&(1<<bit) != 0 {
			t.legs[i].stale.Store(!t.handleErrors)
			t.fail(i, syncFailure)
		}
		bit++
	}
	return false, !t.handleErrors
}

// copyTo writes r to all legs but the primary one and returns which of those failed. The error is that it was interrupted.
func (t *target) copyTo(ctx context.Context, primary int, r mapper.Request) (failed uint64, err error) {
	var results [mostLegs]error
	_ = mapper.FanOut(len(t.legs)-1, len(t.legs), func(k int) error {
		i := k
		if k >= primary {
			i++
		}
		results[k] = t.legs[i].disk.Submit(ctx, t.legs[i].on(r))
		return nil
	})
	for k, err := range results {
		if mapper.Interrupted(err) {
			return 0, err
		}
		if err != nil {
			failed |= 1 << k
		}
	}
	return failed, nil
}

const (
	// cleanDelay is how long a region is left dirty after a write, and up to twice that: another may follow, and the log is not written for each.
	cleanDelay = 25 * time.Millisecond
	// mostIdle is how many regions wait for that at most.
	mostIdle = 4096
)

// cleaner gives idle regions their clean bit back, until ctx ends.
func (t *target) cleaner(ctx context.Context) {
	for {
		select {
		case <-t.wakeCleaner:
		case <-ctx.Done():
			return
		}
		all := t.idleRegions() >= mostIdle
		if !all {
			delay := time.NewTimer(cleanDelay)
			select {
			case <-delay.C:
			case <-ctx.Done():
				delay.Stop()
				return
			}
		}
		_ = t.cleanIdle(ctx, all) // the status tells
	}
}

func (t *target) idleRegions() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.idle)
}

// cleanIdle sets the clean bits of the regions to which nothing was written for a while or, if all says so, to which no write is under way:
//
//  1. It notes which those are. What was written to them has returned.
//  2. It flushes the legs. What was written is durable on all of them.
//  3. It sets the bits of those regions that were not written since, and writes the log.
//
// A power cut before 3 has them copied once more.
func (t *target) cleanIdle(ctx context.Context, all bool) error {
	if t.log.disk == nil {
		return nil
	}
	if err := t.log.lock(ctx); err != nil {
		return err
	}
	defer t.log.unlock()
	ids := t.takeIdle(all)
	if len(ids) == 0 {
		return nil
	}
	flushed, err := t.flushLegs(ctx)
	if err != nil {
		t.idleAgain(ids)
		return err
	}
	t.mu.Lock()
	if !flushed {
		t.log.distrust()
	}
	for _, id := range ids {
		r := t.regions[id]
		if r == nil || !r.cleaning || r.state != dirty {
			continue
		}
		delete(t.regions, id)
		if !t.log.distrusted {
			t.log.clean.set(id)
			t.log.touch(byteOf(id), byteOf(id)+1)
		}
	}
	t.mu.Unlock()
	return t.writeLog(ctx)
}

// takeIdle returns the regions that are dirty and to which no write is under way: all of them, or those that it has seen before
// since the last write. The others are for the next time.
func (t *target) takeIdle(all bool) (ids []int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	later := t.idle[:0]
	for _, id := range t.idle {
		r := t.regions[id]
		switch {
		case r == nil || !r.queued:
		case r.state != dirty || r.pending > 0:
			r.queued = false
		case all || r.settled:
			r.queued, r.cleaning = false, true
			ids = append(ids, id)
		default:
			r.settled = true
			later = append(later, id)
		}
	}
	t.idle = later
	if len(later) > 0 {
		poke(t.wakeCleaner)
	}
	return ids
}

// idleAgain takes back what takeIdle did.
func (t *target) idleAgain(ids []int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		if r := t.regions[id]; r != nil {
			r.cleaning = false
			t.queueIdle(id, r)
		}
	}
}

// flushLegs flushes all legs for the log and reports whether all did. The error is that it was interrupted.
func (t *target) flushLegs(ctx context.Context) (all bool, err error) {
	results := make([]error, len(t.disks))
	_ = mapper.FanOut(len(t.disks), len(t.disks), func(k int) error {
		results[k] = t.disks[k].Submit(ctx, mapper.Request{Op: mapper.OpFlush})
		return nil
	})
	all = true
	for k, err := range results {
		if err == nil {
			continue
		}
		if mapper.Interrupted(err) {
			return false, err
		}
		all = false
		for i := range t.legs {
			if t.legs[i].disk == t.disks[k] {
				t.fail(i, flushFailure)
			}
		}
	}
	return all, nil
}
