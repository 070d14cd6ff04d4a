package snapshot

import (
	"math/bits"
	"sync"
)

// exceptions are the chunks that a snapshot has for itself. A million of them take about 30 MiB.
type exceptions struct {
	mu  sync.RWMutex
	new map[uint64]uint64 // by the chunk of the origin
}

func newExceptions() *exceptions { return &exceptions{new: make(map[uint64]uint64)} }

// run returns how chunk and those behind it, up to end, are kept: if there, in adjacent chunks from new on; else not at all.
func (x *exceptions) run(chunk, end uint64) (new, n uint64, there bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	new, there = x.new[chunk]
	for n = 1; chunk+n < end; n++ {
		next, also := x.new[chunk+n]
		if also != there || there && next != new+n {
			break
		}
	}
	return new, n, there
}

// all reports whether every chunk from first to before end is kept.
func (x *exceptions) all(first, end uint64) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for c := first; c < end; c++ {
		if _, there := x.new[c]; !there {
			return false
		}
	}
	return true
}

func (x *exceptions) add(list []exception) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range list {
		x.new[e.old] = e.new
	}
}

// size returns how many there are.
func (x *exceptions) size() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.new)
}

// remove forgets n chunks from first on.
func (x *exceptions) remove(first, n uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range n {
		delete(x.new, first+i)
	}
}

// regions says which of the locks of a snapshot cover chunks first to before end: those that are the same modulo lockCount, as bits.
func regions(first, end uint64) uint64 {
	if end-first >= lockCount {
		return ^uint64(0)
	}
	return bits.RotateLeft64(uint64(1)<<(end-first)-1, int(first%lockCount))
}

// lockCount is how many locks the chunks of a snapshot share.
const lockCount = 64
