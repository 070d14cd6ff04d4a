package mapper

import (
	"context"
	"math/bits"
	"sync"
	"testing"
)

func TestShardsOf(t *testing.T) {
	for _, tt := range []struct {
		s, n Sector
		want []int
	}{
		{0, 1, []int{0}},
		{lockRegion - 1, 1, []int{0}},
		{lockRegion - 1, 2, []int{0, 1}},
		{63 * lockRegion, lockRegion, []int{63}},
		{63 * lockRegion, lockRegion + 1, []int{63, 0}},
		{64*lockRegion + 5, 3 * lockRegion, []int{0, 1, 2, 3}},
	} {
		var want uint64
		for _, i := range tt.want {
			want |= 1 << i
		}
		if got := shardsOf(tt.s, tt.n); got != want {
			t.Errorf("shardsOf(%d, %d) = %b, want %b", tt.s, tt.n, got, want)
		}
	}
	for _, n := range []Sector{64 * lockRegion, 100 * lockRegion, MaxSectors} {
		if got := bits.OnesCount64(shardsOf(1, n)); got != lockShards {
			t.Errorf("%d sectors take %d shards, want all", n, got)
		}
	}
}

// Read-modify-writes are alone in their region, writers of whole blocks keep them out.
func TestRangeLocksExclude(t *testing.T) {
	var l rangeLocks
	ctx := context.Background()
	var wg sync.WaitGroup
	value := 0 // written only alone: the race detector sees any other access
	const rounds = 500
	for range 4 {
		wg.Go(func() {
			for range rounds {
				if err := l.lock(ctx, 5); err != nil {
					t.Error(err)
					return
				}
				value++
				l.unlock(5)
			}
		})
		wg.Go(func() {
			for range rounds {
				set, err := l.share(ctx, 0, lockRegion+1)
				if err != nil {
					t.Error(err)
					return
				}
				_ = value
				l.unshare(set)
			}
		})
	}
	wg.Wait()
	if value != 4*rounds {
		t.Errorf("got %d, want %d", value, 4*rounds)
	}
}
