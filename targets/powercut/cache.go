package powercut

import (
	"dmfs/mapper"
)

// A block is the number of a block of sector_size bytes in the segment: what is written or lost as a whole.
type block uint64

// A kind is what a version holds.
type kind uint8

const (
	gone       kind = iota // nothing any more: the version was superseded by a durable one
	data                   // bytes, in a slot
	zeroes                 // zeroes, for which space may be freed
	zeroesKept             // zeroes, with their space
	discarded              // nobody knows
)

// kindOf returns what the blocks of r hold.
func kindOf(r mapper.Request) kind {
	switch {
	case r.Op == mapper.OpDiscard:
		return discarded
	case r.Op == mapper.OpWriteZeroes && r.Flags&mapper.FlagNoUnmap != 0:
		return zeroesKept
	case r.Op == mapper.OpWriteZeroes:
		return zeroes
	}
	return data
}

// A version is what was written to a block once.
type version struct {
	block   block
	request uint64 // position of the first version of the same request
	older   uint64 // position of the version before this one of the same block; before the head: none
	slot    int32  // of its bytes, if it has any
	kind    kind
}

// A cache holds the versions of blocks that are not on the disk, in the order they were written: a queue. A version is known by
// its position, which is counted from 1 and never used again. It is guarded by supply.mu; versions are taken out
// only by whoever holds the target's wire.
type cache struct {
	blockBytes int
	limit      uint64 // versions
	ring       []version
	head, tail uint64           // positions of the oldest version and after the newest
	newest     map[block]uint64 // by block: the position of its newest version
	slots      slots
}

func newCache(blockBytes int, limit uint64) *cache {
	return &cache{blockBytes: blockBytes, limit: limit, head: 1, tail: 1, newest: make(map[block]uint64), slots: slots{size: blockBytes}}
}

// at returns the version at a position from head to tail.
func (c *cache) at(p uint64) *version { return &c.ring[p&uint64(len(c.ring)-1)] }

// room reports whether n more versions fit.
func (c *cache) room(n uint64) bool { return c.tail-c.head+n <= c.limit }

// put appends n versions of the blocks from b on; bytes are those of a write.
func (c *cache) put(b block, n uint64, k kind, bytes []byte) {
	request := c.tail
	for range n {
		if c.tail-c.head == uint64(len(c.ring)) {
			c.grow()
		}
		v := version{block: b, request: request, older: c.newest[b], kind: k}
		if k == data {
			v.slot = c.slots.get()
			bytes = bytes[copy(c.slots.bytes(v.slot), bytes):]
		}
		*c.at(c.tail) = v
		c.newest[b] = c.tail
		c.tail++
		b++
	}
}

func (c *cache) grow() {
	const least = 256
	old := *c
	c.ring = make([]version, max(least, 2*len(old.ring)))
	for p := c.head; p < c.tail; p++ {
		*c.at(p) = *old.at(p)
	}
}

// read fills p with the blocks from b on until one that is not cached, and returns how many there were, and how many
// follow that are not.
func (c *cache) read(b block, p []byte) (cached, missing uint64) {
	total := uint64(len(p) / c.blockBytes)
	if len(c.newest) == 0 {
		return 0, total
	}
	for ; cached < total; cached++ {
		at, ok := c.newest[b+block(cached)]
		if !ok {
			break
		}
		part := p[cached*uint64(c.blockBytes):][:c.blockBytes]
		if v := c.at(at); v.kind == data {
			copy(part, c.slots.bytes(v.slot))
		} else {
			clear(part)
		}
	}
	for cached+missing < total {
		if _, ok := c.newest[b+block(cached+missing)]; ok {
			break
		}
		missing++
	}
	return cached, missing
}

// A run is blocks that follow each other and are written to the disk by one request.
type run struct {
	start block
	n     uint64 // blocks
	kind  kind
	data  []byte // of kind data
	end   uint64 // position after the last version that is done with when the run is written
}

// pick returns the oldest run of versions before the position until, leaving out those that want does not. buf is
// for its data. n is 0 if there is none; what is before end is done with all the same.
func (c *cache) pick(until uint64, buf []byte, want func(p uint64, v *version) bool) run {
	var r run
	p := c.head
	for ; p < min(until, c.tail); p++ {
		v := c.at(p)
		if v.kind == gone || !want(p, v) {
			continue
		}
		if r.n == 0 {
			r.start, r.kind = v.block, v.kind
		} else if v.kind != r.kind || v.block != r.start+block(r.n) {
			break
		}
		if v.kind == data {
			if len(r.data)+c.blockBytes > len(buf) {
				break
			}
			r.data = append(buf[:len(r.data)], c.slots.bytes(v.slot)...)
		}
		r.n++
	}
	r.end = p
	return r
}

// needed says of which versions a flush up to a position needs to write: not of those that are overwritten before it.
func (c *cache) needed(until uint64) func(p uint64, v *version) bool {
	return func(p uint64, v *version) bool {
		newest := c.newest[v.block]
		return newest == p || newest >= until
	}
}

// drop takes out the versions before the position end.
func (c *cache) drop(end uint64) {
	for ; c.head < end; c.head++ {
		v := c.at(c.head)
		if v.kind == gone {
			continue
		}
		if c.newest[v.block] == c.head {
			delete(c.newest, v.block)
		}
		c.forget(v)
	}
	if c.head == c.tail {
		c.slots.shrink()
	}
}

func (c *cache) forget(v *version) {
	if v.kind == data {
		c.slots.put(v.slot)
	}
	v.kind = gone
}

// supersede takes out the versions of n blocks from b on that are older than the position before: what is on the disk is newer.
func (c *cache) supersede(b block, n, before uint64) {
	if n > uint64(len(c.newest)) {
		for other := range c.newest {
			if other >= b && uint64(other-b) < n {
				c.supersedeBlock(other, before)
			}
		}
		return
	}
	for i := range n {
		c.supersedeBlock(b+block(i), before)
	}
}

func (c *cache) supersedeBlock(b block, before uint64) {
	p := c.newest[b]
	var newer *version
	for p >= max(before, c.head) {
		newer = c.at(p)
		p = newer.older
	}
	if newer == nil {
		delete(c.newest, b)
	} else {
		newer.older = 0
	}
	for p >= c.head {
		v := c.at(p)
		p = v.older
		c.forget(v)
	}
}

// versions returns how many versions of a block there are, of which p is the newest.
func (c *cache) versions(p uint64) (n uint64) {
	for ; p >= c.head; p = c.at(p).older {
		n++
	}
	return n
}

// slots are pieces of memory of one size.
type slots struct {
	size  int // bytes
	slabs [][]byte
	free  []int32
	made  int32
}

// slabSlots is how many slots are allocated at a time.
const slabSlots = 256

func (s *slots) get() int32 {
	if n := len(s.free); n > 0 {
		i := s.free[n-1]
		s.free = s.free[:n-1]
		return i
	}
	if int(s.made) == len(s.slabs)*slabSlots {
		s.slabs = append(s.slabs, make([]byte, slabSlots*s.size))
	}
	s.made++
	return s.made - 1
}

func (s *slots) bytes(i int32) []byte {
	off := int(i%slabSlots) * s.size
	return s.slabs[i/slabSlots][off : off+s.size : off+s.size]
}

func (s *slots) put(i int32) { s.free = append(s.free, i) }

// keptSlabs is how much an empty cache keeps.
const keptSlabs = 16

// shrink gives memory back. All slots are free.
func (s *slots) shrink() {
	if len(s.slabs) > keptSlabs {
		clear(s.slabs[keptSlabs:])
		s.slabs, s.free = s.slabs[:keptSlabs], nil
	}
	s.free, s.made = s.free[:0], 0
}
