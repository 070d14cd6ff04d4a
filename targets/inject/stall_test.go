package inject

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dmfs/mapper"
)

// stalled submits a write and returns its error, in a channel, once it waits.
func (b *bench) stalled(ctx context.Context) <-chan error {
	result := make(chan error, 1)
	go func() {
		result <- b.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Count: 1, Data: make([]byte, mapper.SectorSize)})
	}()
	synctest.Wait()
	select {
	case err := <-result:
		b.t.Errorf("it did not wait: %v", err)
		result <- err
	default:
	}
	return result
}

func TestStallTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, "stall nth=1 time=1h stall nth=1 time=1m error nth=1")
		start := time.Now()
		if err := b.do(mapper.OpWrite, 0, 1, 2); err == nil {
			t.Error("the rules behind a stall were not asked")
		}
		if took := time.Since(start); took != time.Hour+time.Minute {
			t.Errorf("stalled for %v, want 1h1m", took)
		}
	})
}

func TestStallEnds(t *testing.T) {
	for name, end := range map[string]struct {
		by   func(b *bench, cancel context.CancelCauseFunc)
		want error
	}{
		"release": {func(b *bench, _ context.CancelCauseFunc) { b.want("reply", b.say("release"), "released 1") }, nil},
		"disarm":  {func(b *bench, _ context.CancelCauseFunc) { b.say("disarm 1") }, nil},
		"kill":    {func(_ *bench, cancel context.CancelCauseFunc) { cancel(mapper.ErrInterrupted) }, mapper.ErrInterrupted},
		"suspend": {func(b *bench, _ context.CancelCauseFunc) { b.PreSuspend(false) }, nil},
		"noflush": {func(b *bench, _ context.CancelCauseFunc) { b.PreSuspend(true) }, mapper.ErrRequeue},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, "stall")
				ctx, cancel := context.WithCancelCause(context.Background())
				defer cancel(nil)
				result := b.stalled(ctx)
				status, _ := b.Status(ctx, false)
				if !strings.Contains(status, " stalled=1 ") {
					t.Errorf("status: %s", status)
				}
				end.by(b, cancel)
				if err := <-result; !errors.Is(err, end.want) {
					t.Errorf("got %v, want %v", err, end.want)
				}
				if n := b.disk.Counts().Writes; (n == 1) != (end.want == nil) {
					t.Errorf("%d writes have reached the disk", n)
				}
				if b.target.stalled != 0 {
					t.Errorf("%d stalled requests are left", b.target.stalled)
				}
			})
		})
	}
}

// While a suspend drains the device nothing stalls; after it, or when it was given up, stalls begin again.
func TestStallAroundSuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, "stall")
		for _, after := range []func(){b.PreSuspendUndo, b.Resume} {
			b.PreSuspend(false)
			if err := b.do(mapper.OpWrite, 0, 1, 2); err != nil {
				t.Error(err)
			}
			after()
			result := b.stalled(context.Background())
			b.say("release")
			if err := <-result; err != nil {
				t.Error(err)
			}
		}
		b.want("list", b.say("list"), fmt.Sprintf("rule=1 stall matched=%d injected=%d state=armed", 2, 2))
	})
}
