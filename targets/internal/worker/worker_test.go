package worker

import (
	"context"
	"sync/atomic"
	"testing"
)

// Stop waits for all, and a group can be used again.
func TestGroup(t *testing.T) {
	var g Group
	g.Stop()
	for range 2 {
		var ended atomic.Int32
		for range 3 {
			g.Start(func(ctx context.Context) {
				<-ctx.Done()
				ended.Add(1)
			})
		}
		if n := ended.Load(); n != 0 {
			t.Fatalf("%d ended before they were told", n)
		}
		g.Stop()
		if n := ended.Load(); n != 3 {
			t.Fatalf("%d of 3 ended", n)
		}
	}
}
