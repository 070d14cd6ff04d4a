package inject

import (
	"context"
	"time"

	"dmfs/mapper"
)

// wait holds a request up until the time of its rule is over, or until it is released. The error is that ctx ended, or that
// the request is handed back to the core.
func (t *target) wait(ctx context.Context, f fault) error {
	var over <-chan time.Time
	if f.time > 0 {
		timer := time.NewTimer(f.time)
		defer timer.Stop()
		over = timer.C
	}
	var err error
	select {
	case <-f.released:
	case <-over:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stalled--
	if err == nil && t.handBack {
		err = mapper.ErrRequeue
	}
	return err
}

// release ends the stalls under way and returns how many there were. mu is held.
func (t *target) release() int {
	for _, r := range t.rules {
		r.release()
	}
	return t.stalled
}

// release ends the stalls of one rule. target.mu is held.
func (r *rule) release() {
	close(r.released)
	r.released = make(chan struct{})
}

// PreSuspend ends the stalls and lets none begin.
func (t *target) PreSuspend(noFlush bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.suspending, t.handBack = true, noFlush
	t.release()
}

// PreSuspendUndo lets stalls begin again.
func (t *target) PreSuspendUndo() { t.Resume() }

// Resume lets stalls begin.
func (t *target) Resume() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.suspending, t.handBack = false, false
}
