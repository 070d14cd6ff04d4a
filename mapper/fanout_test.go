package mapper

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
)

func TestFanOutRunsAllOnceWithinWidth(t *testing.T) {
	for _, tt := range []struct{ n, width int }{{0, 4}, {1, 4}, {3, 4}, {100, 4}, {100, 1}, {5, 100}} {
		var running, most atomic.Int64
		ran := make([]atomic.Int64, tt.n)
		err := FanOut(tt.n, tt.width, func(i int) error {
			if now := running.Add(1); now > most.Load() {
				most.Store(now)
			}
			ran[i].Add(1)
			running.Add(-1)
			return nil
		})
		if err != nil {
			t.Errorf("%d by %d: %v", tt.n, tt.width, err)
		}
		for i := range ran {
			if n := ran[i].Load(); n != 1 {
				t.Errorf("%d by %d: call %d ran %d times", tt.n, tt.width, i, n)
			}
		}
		if most.Load() > int64(max(tt.width, 1)) {
			t.Errorf("%d by %d: %d at a time", tt.n, tt.width, most.Load())
		}
	}
}

func TestFanOutReportsTheLowestFailureAndDoesTheRest(t *testing.T) {
	for _, width := range []int{1, 4} {
		var calls atomic.Int64
		err := FanOut(1000, width, func(i int) error {
			calls.Add(1)
			if i >= 10 {
				return fmt.Errorf("call %d", i)
			}
			return nil
		})
		if err == nil || err.Error() != "call 10" {
			t.Errorf("by %d: got %v, want call 10", width, err)
		}
		if n := calls.Load(); n != 1000 {
			t.Errorf("by %d: %d calls, want all", width, n)
		}
	}
	want := errors.New("one")
	if err := FanOut(1, 4, func(int) error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}
