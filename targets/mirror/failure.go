package mirror

import (
	"context"

	"dmfs/mapper"
	"dmfs/targets/internal/ratelimit"
)

// Kinds of failures of a leg, as bits.
const (
	writeFailure = 1 << iota
	flushFailure // of a flush that the log asked for
	syncFailure
	readFailure
)

// good reports whether l may be read, where the legs are alike.
func (l *leg) good() bool { return l.failures.Load() == 0 && !l.stale.Load() }

// letter returns what status lines say of the leg: the worst that happened. target.mu is held.
func (l *leg) letter() byte {
	if l.failures.Load() == 0 {
		return 'A'
	}
	switch {
	case l.kinds&flushFailure != 0:
		return 'F'
	case l.kinds&writeFailure != 0:
		return 'D'
	case l.kinds&syncFailure != 0:
		return 'S'
	case l.kinds&readFailure != 0:
		return 'R'
	}
	return 'U'
}

// fail notes a failure of leg i. The first of its kind raises an event, if errors are handled, and if the leg is the primary one
// another takes over, unless that might not have all the data.
func (t *target) fail(i int, kind uint8) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := &t.legs[i]
	t.legFailed.Store(true)
	l.failures.Add(1)
	seen := l.kinds&kind != 0
	l.kinds |= kind
	if seen || !t.handleErrors {
		return
	}
	defer t.host.Event()
	if i != int(t.primary.Load()) {
		return
	}
	if !t.inSync || t.log.synced != t.log.count {
		t.host.LogFrom(module, "Primary mirror (%s) failed while out-of-sync: Reads may fail.", mapper.DiskName(l.disk))
		return
	}
	if next := t.valid(); next >= 0 {
		t.primary.Store(int32(next))
		return
	}
	t.host.LogFrom(module, "All sides of mirror have failed.")
}

// valid returns the first leg that has not failed, -1 if all have.
func (t *target) valid() int {
	for i := range t.legs {
		if t.legs[i].good() {
			return i
		}
	}
	return -1
}

// unwritten decides about a write or flush that some legs did not take; failed says that of each leg. r.Op is OpFlush for one that says
// nothing about a region.
func (t *target) unwritten(ctx context.Context, r mapper.Request, failed []bool) error {
	if !t.logFailed.Load() {
		t.mu.Lock()
		t.inSync = false
		if r.Op == mapper.OpFlush {
			t.spoiled = true
		} else {
			t.disown(t.region(r.Start))
		}
		t.mu.Unlock()
	}
	switch {
	case t.valid() < 0, t.keepLog && t.logFailed.Load():
		return mapper.ErrIO
	case t.handleErrors && !t.keepLog:
		return t.hold(ctx)
	case failed != nil && failed[t.primary.Load()]:
		return mapper.ErrIO // the leg that is read, and copied from at the next resume, does not have it
	}
	return nil
}

// hold waits for somebody who mends the mirror: he suspends it, and loads a table without the failed leg or log.
func (t *target) hold(ctx context.Context) error {
	t.mu.Lock()
	holds := t.holds
	t.mu.Unlock()
	select {
	case <-holds:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.noFlush {
		return mapper.ErrRequeue
	}
	return mapper.ErrIO
}

// limiters bound how often lines that any request may cause are logged.
type limiters struct{ retried, failing, unread, syncRead, syncWrite ratelimit.Limiter }

// logSome logs a line that l lets through.
func (t *target) logSome(l *ratelimit.Limiter, format string, args ...any) {
	if l.Allow() {
		t.host.LogFrom(module, format, args...)
	}
}
