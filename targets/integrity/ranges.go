package integrity

import (
	"context"
	"slices"
	"sync"
)

// ranges are the parts of the device where requests are under way. Those that only read may share; others wait for each
// other, in the order they came.
type ranges struct {
	mu      sync.Mutex
	held    []*span
	waiting []*span
}

// A span is a part of the device that one request holds.
type span struct {
	start, end uint64 // sectors
	shared     bool
	ready      chan struct{} // made when it has to wait, closed when it has got it
}

func (a *span) conflicts(b *span) bool {
	return a.start < b.end && b.start < a.end && !(a.shared && b.shared)
}

func anyConflict(list []*span, s *span) bool {
	for _, other := range list {
		if s.conflicts(other) {
			return true
		}
	}
	return false
}

// lock takes s. The error is that ctx ended, and then it is not held.
func (r *ranges) lock(ctx context.Context, s *span) error {
	r.mu.Lock()
	if !anyConflict(r.held, s) && !anyConflict(r.waiting, s) {
		r.held = append(r.held, s)
		r.mu.Unlock()
		return nil
	}
	s.ready = make(chan struct{})
	r.waiting = append(r.waiting, s)
	r.mu.Unlock()
	select {
	case <-s.ready:
		return nil
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.waiting, s); i >= 0 {
		r.waiting = slices.Delete(r.waiting, i, i+1)
		r.wake() // who came later may have waited for s only
		return context.Cause(ctx)
	}
	return nil // it got it at the same time
}

// unlock gives s back.
func (r *ranges) unlock(s *span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(r.held, s)
	last := len(r.held) - 1
	r.held[i], r.held[last] = r.held[last], nil
	r.held = r.held[:last]
	if len(r.waiting) > 0 {
		r.wake()
	}
}

// wake gives spans to those whose turn it is.
func (r *ranges) wake() {
	still := r.waiting[:0]
	for _, s := range r.waiting {
		if anyConflict(r.held, s) || anyConflict(still, s) {
			still = append(still, s)
			continue
		}
		r.held = append(r.held, s)
		close(s.ready)
	}
	clear(r.waiting[len(still):])
	r.waiting = still
}
