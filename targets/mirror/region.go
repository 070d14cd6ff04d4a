package mirror

import "context"

// A state is what the table of regions says of one; a region that is not in the table is clean, or, if its sync bit is clear, apart.
type state uint8

const (
	dirty      state = iota // alike on all legs but for writes that are under way, or not durable
	apart                   // the legs differ: only the primary one counts. The kernel's DM_RH_NOSYNC
	recovering              // being copied, or about to be as soon as the writes to it have returned
)

// A region is in the table while writes to it are under way, while it is recovered, and until its clean bit is set.
type region struct {
	state    state
	pending  int           // writes under way
	queued   bool          // in target.idle
	settled  bool          // nothing was written since the cleaner looked at it
	cleaning bool          // nothing was written since the cleaner took it
	mark     uint64        // what must be committed before a leg is written
	over     chan struct{} // while recovering: closed when that is over
	quiet    chan struct{} // while recovering and pending: closed when no write is under way any more
}

// enter notes that a write to region id is under way, and returns whether it goes to all legs, and what must be committed
// before. While the region is recovered it waits; the error is ctx's.
func (t *target) enter(ctx context.Context, id int) (all bool, mark uint64, err error) {
	for {
		t.mu.Lock()
		t.checkSync()
		r := t.regions[id]
		if r == nil {
			r = &region{state: apart}
			if t.log.sync.get(id) {
				r.state = dirty
			}
			t.regions[id] = r
		}
		if r.state != recovering {
			if r.state == dirty {
				r.mark = max(r.mark, t.log.mark(id))
			}
			r.pending++
			r.settled, r.cleaning = false, false
			all, mark = r.state == dirty, r.mark
			t.mu.Unlock()
			return all, mark, nil
		}
		over := r.over
		t.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
			return false, 0, context.Cause(ctx)
		}
	}
}

// leave notes that a write that enter let in has returned.
func (t *target) leave(id int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.regions[id]
	if r.pending--; r.pending > 0 {
		return
	}
	switch {
	case r.state == recovering:
		close(r.quiet)
		r.quiet = nil
	case r.state == dirty && t.spoiled:
		t.log.spoil(id)
		t.noteSync()
		delete(t.regions, id)
	case r.state == dirty && t.log.disk != nil:
		t.queueIdle(id, r)
	default:
		delete(t.regions, id)
	}
}

// queueIdle leaves region id, which is dirty, to the cleaner. t.mu is held.
func (t *target) queueIdle(id int, r *region) {
	if !r.queued {
		r.queued = true
		t.idle = append(t.idle, id)
		poke(t.wakeCleaner)
	}
}

// disown notes that the legs differ in region id, to which a write is under way. t.mu is held.
func (t *target) disown(id int) {
	t.log.setSync(id, false)
	t.noteSync()
	r := t.regions[id]
	if r.state == recovering {
		t.endRecovery(r)
	}
	r.state = apart
}

// endRecovery lets those who wait for r go on. t.mu is held.
func (t *target) endRecovery(r *region) {
	close(r.over)
	r.over = nil
	if r.quiet != nil {
		close(r.quiet)
		r.quiet = nil
	}
}

// recoverAgain has region id copied, which a write left half done because whoever wanted it is gone.
func (t *target) recoverAgain(id int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.disown(id)
	t.log.search = min(t.log.search, id)
	poke(t.wake)
}

// noteSync keeps whole. t.mu is held, or nobody else knows t.
func (t *target) noteSync() {
	t.whole.Store(t.log.synced == t.log.count && !t.spoiled)
}

// checkSync raises the event that says that all regions are alike; from then on the failures of legs are past. t.mu is held.
func (t *target) checkSync() {
	if t.inSync || t.log.synced != t.log.count {
		return
	}
	t.inSync = true
	t.legFailed.Store(false)
	for i := range t.legs {
		t.legs[i].failures.Store(0)
		t.legs[i].kinds = 0
	}
	t.host.Event()
}

// synced reports whether region id is alike on all legs, and so may be read from any.
func (t *target) synced(id int) bool {
	if t.whole.Load() {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.log.sync.get(id)
}

// poke wakes who waits on c, a channel of capacity 1.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
