package verity

import (
	"sync"
	"sync/atomic"
)

// cacheBytes is how much a device keeps of its tree, in bytes: with blocks of 4 KiB and SHA-256, what covers 1 GiB.
const cacheBytes = 8 << 20

// A cache holds hash blocks that have been verified. What is in it is not changed. The zero value with a limit is empty.
type cache struct {
	limit int // blocks

	mu     sync.RWMutex
	blocks map[uint64]*entry
	ring   []*entry // all of them, in a circle
	hand   int      // where in it the next victim is looked for
}

type entry struct {
	at   uint64
	data []byte
	used atomic.Bool // since the hand was here
}

// get returns a block, nil if it is not there.
func (c *cache) get(at uint64) []byte {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e := c.blocks[at]
	if e == nil {
		return nil
	}
	e.used.Store(true)
	return e.data
}

// put adds a block, which is the cache's from then on. One that was not used for long makes room.
func (c *cache) put(at uint64, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.blocks[at] != nil {
		return // another was quicker
	}
	if c.blocks == nil {
		c.blocks = make(map[uint64]*entry)
	}
	e := &entry{at: at, data: data}
	c.blocks[at] = e
	if len(c.ring) < c.limit {
		c.ring = append(c.ring, e)
		return
	}
	for c.ring[c.hand].used.Swap(false) {
		c.hand = (c.hand + 1) % len(c.ring)
	}
	delete(c.blocks, c.ring[c.hand].at)
	c.ring[c.hand] = e
	c.hand = (c.hand + 1) % len(c.ring)
}
