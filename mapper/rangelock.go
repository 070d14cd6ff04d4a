package mapper

import (
	"context"
	"math/bits"
)

// rangeLocks keeps a read-modify-write of part of a block apart from every other write near it.
// The device is divided into regions of lockRegion sectors, which share lockShards locks. Writes of whole
// blocks hold the locks of their regions together; a read-modify-write holds one alone.
// Both may wait, and hold across I/O; waits end with the context.
type rangeLocks struct {
	shards [lockShards]rangeLock
}

const (
	lockShards = 64
	lockRegion = 1 << 11 // sectors: 1 MiB
)

// A rangeLock is held by many writers of whole blocks, or by one read-modify-write.
type rangeLock struct {
	gate  gate          // writers of whole blocks are inside
	alone chan struct{} // capacity 1, made on first use under the gate's mu; holds a token while one shuts the gate
}

// shardsOf returns the set of shards that cover the n sectors from s on, as bits.
func shardsOf(s, n Sector) uint64 {
	first, last := s/lockRegion, (s+n-1)/lockRegion
	if last-first >= lockShards-1 {
		return ^uint64(0)
	}
	// first..last wraps around the shards at most once.
	set := uint64(1)<<(last-first+1) - 1
	return bits.RotateLeft64(set, int(first%lockShards))
}

// share takes the locks of the n >= 1 sectors from s on for a write of whole blocks. It returns what
// unshare wants.
func (l *rangeLocks) share(ctx context.Context, s, n Sector) (uint64, error) {
	set := shardsOf(s, n)
	for rest := set; rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros64(rest)
		if err := l.shards[i].gate.enter(ctx); err != nil {
			l.unshare(set &^ rest)
			return 0, err
		}
	}
	return set, nil
}

func (l *rangeLocks) unshare(set uint64) {
	for ; set != 0; set &= set - 1 {
		l.shards[bits.TrailingZeros64(set)].gate.leave()
	}
}

// lock takes the lock of the region of sector s for a read-modify-write that stays within
// the region: blocks are powers of two and never straddle regions.
func (l *rangeLocks) lock(ctx context.Context, s Sector) error {
	r := &l.shards[s/lockRegion%lockShards]
	select {
	case r.token() <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := r.gate.shut(ctx); err != nil {
		<-r.alone
		return err
	}
	return nil
}

func (l *rangeLocks) unlock(s Sector) {
	r := &l.shards[s/lockRegion%lockShards]
	r.gate.open()
	<-r.alone
}

func (r *rangeLock) token() chan struct{} {
	r.gate.mu.Lock()
	defer r.gate.mu.Unlock()
	if r.alone == nil {
		r.alone = make(chan struct{}, 1)
	}
	return r.alone
}
