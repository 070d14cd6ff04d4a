package cell

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Holders together are never there with one who is alone, nor are two of those.
func TestExclusion(t *testing.T) {
	var l Lock
	var together, alone atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 2000 {
				if (i+n)%5 == 0 {
					if err := l.Lock(t.Context()); err != nil {
						t.Error(err)
						return
					}
					if alone.Add(1) != 1 || together.Load() != 0 {
						t.Error("not alone")
					}
					alone.Add(-1)
					l.Unlock()
					continue
				}
				if err := l.Share(t.Context()); err != nil {
					t.Error(err)
					return
				}
				together.Add(1)
				if alone.Load() != 0 {
					t.Error("with one who is alone")
				}
				together.Add(-1)
				l.Unshare()
			}
		})
	}
	wg.Wait()
}

// A wait ends with its context, and the lock is as if nobody had waited.
func TestGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Lock
		soon := func() (context.Context, context.CancelFunc) { return context.WithTimeout(t.Context(), time.Second) }
		if err := l.Share(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			ctx, stop := soon()
			if err := l.Lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("while others hold it: %v", err)
			}
			stop()
		}
		if err := l.Share(t.Context()); err != nil {
			t.Errorf("after somebody gave up: %v", err)
		}
		l.Unshare()
		l.Unshare()
		if err := l.Lock(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, wait := range []func(context.Context) error{l.Lock, l.Share} {
			ctx, stop := soon()
			if err := wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("while one has it: %v", err)
			}
			stop()
		}
		l.Unlock()
		if err := l.Lock(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.Unlock()
	})
}

// Who waits to have it alone is not passed for ever by those who share.
func TestNoStarving(t *testing.T) {
	var l Lock
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if l.Share(ctx) == nil {
					l.Unshare()
				}
			}
		})
	}
	for range 100 {
		if err := l.Lock(t.Context()); err != nil {
			t.Error(err)
		}
		l.Unlock()
	}
	stop()
	wg.Wait()
}

// A lock that nobody waits for costs no memory, however it is held.
func TestAllocations(t *testing.T) {
	var l Lock
	hold := func() {
		for _, take := range []struct {
			lock   func(context.Context) error
			unlock func()
		}{{l.Lock, l.Unlock}, {l.Share, l.Unshare}} {
			if err := take.lock(t.Context()); err != nil {
				t.Error(err)
			}
			take.unlock()
		}
	}
	hold()
	if n := testing.AllocsPerRun(100, hold); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// An eager context fails the test if anybody asks for Done.
type eager struct {
	context.Context
	t *testing.T
}

func (c eager) Done() <-chan struct{} {
	c.t.Error("asked for Done without having to wait")
	return nil
}

// Who need not wait does not ask for Done, which is dear in a request.
func TestNoWait(t *testing.T) {
	var l Lock
	for range 2 {
		if err := errors.Join(l.Share(eager{t.Context(), t}), l.Share(eager{t.Context(), t})); err != nil {
			t.Error(err)
		}
		l.Unshare()
		l.Unshare()
		if err := l.Lock(eager{t.Context(), t}); err != nil {
			t.Error(err)
		}
		l.Unlock()
	}
}
