package integrity

import (
	"bytes"
	"context"
	"sync"

	"dmfs/mapper"
)

// cacheBytes is how much a device keeps of its tags, in bytes; at least minBuffers buffers.
const (
	cacheBytes = 16 << 20
	minBuffers = 16
	// writeWidth is how many requests write buffers, or what the journal holds, at the same time.
	writeWidth = 4
)

// A tagCache holds buffers of tags, which it reads when they are needed and writes when it is told to, or when there is no room. There is
// no order between tags and data that it would have to keep: see the package comment.
type tagCache struct {
	disk  mapper.Disk
	start uint64 // of the first buffer, sectors of the disk
	size  int    // of a buffer, bytes
	tag   int    // bytes
	limit int    // buffers

	mu      sync.Mutex
	buffers map[uint64]*tagBuffer
	ring    []*tagBuffer // all of them, in a circle
	hand    int          // where in it the next victim is looked for

	writing chan struct{} // holds a token while somebody writes
}

// A tagBuffer is a buffer of tags.
type tagBuffer struct {
	at     uint64
	pins   int           // who uses it; guarded by the cache
	loaded chan struct{} // closed when data or err are there
	err    error
	used   bool // since the hand was here; guarded by the cache

	mu       sync.Mutex
	data     []byte
	from, to int // what is to be written, bytes
}

func newTagCache(disk mapper.Disk, g *geometry) *tagCache {
	size := mapper.SectorSize << g.bufferShift
	return &tagCache{
		disk: disk, start: g.start + g.initial, size: size, tag: g.tagSize, limit: max(minBuffers, cacheBytes/size),
		buffers: make(map[uint64]*tagBuffer), writing: make(chan struct{}, 1),
	}
}

// get returns a buffer, which stays until put.
func (c *tagCache) get(ctx context.Context, at uint64) (*tagBuffer, error) {
	c.mu.Lock()
	b := c.buffers[at]
	if b == nil {
		return c.load(ctx, at)
	}
	b.pins++
	b.used = true
	c.mu.Unlock()
	<-b.loaded
	if b.err != nil {
		err := b.err
		c.put(b)
		return nil, err
	}
	return b, nil
}

func (c *tagCache) put(b *tagBuffer) {
	c.mu.Lock()
	b.pins--
	c.mu.Unlock()
}

// load reads a buffer that is not there. c.mu is held and given back.
func (c *tagCache) load(ctx context.Context, at uint64) (*tagBuffer, error) {
	ctx = context.WithoutCancel(ctx) // others wait for it, and data that were written wait for their tags
	b := &tagBuffer{at: at, pins: 1, used: true, loaded: make(chan struct{})}
	c.buffers[at] = b
	full := !c.place(b)
	c.mu.Unlock()
	if full {
		if b.err = c.write(ctx); b.err == nil {
			c.mu.Lock()
			if !c.place(b) {
				c.ring = append(c.ring, b) // all are in use: for now there is one more
			}
			c.mu.Unlock()
		}
	}
	if b.err == nil {
		b.data = make([]byte, c.size)
		b.err = c.disk.Submit(ctx, c.request(mapper.OpRead, b, b.data, 0))
	}
	if b.err != nil {
		c.mu.Lock()
		delete(c.buffers, at)
		for i, other := range c.ring {
			if other == b {
				c.ring = append(c.ring[:i], c.ring[i+1:]...)
				c.hand = 0
				break
			}
		}
		c.mu.Unlock()
	}
	close(b.loaded)
	if b.err != nil {
		return nil, b.err
	}
	return b, nil
}

// place puts b into the ring, in place of one that is clean and not in use. It reports whether there was room. c.mu is held.
func (c *tagCache) place(b *tagBuffer) bool {
	if len(c.ring) < c.limit {
		c.ring = append(c.ring, b)
		return true
	}
	for range 2 * len(c.ring) {
		victim := c.ring[c.hand]
		i := c.hand
		c.hand = (c.hand + 1) % len(c.ring)
		if victim.pins > 0 {
			continue
		}
		if victim.used {
			victim.used = false
			continue
		}
		victim.mu.Lock()
		clean := victim.from == victim.to
		victim.mu.Unlock()
		if clean {
			delete(c.buffers, victim.at)
			c.ring[i] = b
			return true
		}
	}
	return false
}

func (c *tagCache) request(op mapper.Op, b *tagBuffer, data []byte, off int) mapper.Request {
	return mapper.Request{
		Op: op, Start: mapper.Sector(c.start) + mapper.Sector(b.at)*mapper.SectorsOf(int64(c.size)) + mapper.SectorsOf(int64(off)),
		Count: mapper.SectorsOf(int64(len(data))), Data: data,
	}
}

// write writes all that is to be written. What could not be written remains to be.
func (c *tagCache) write(ctx context.Context) error {
	c.writing <- struct{}{}
	defer func() { <-c.writing }()
	c.mu.Lock()
	var dirty []*tagBuffer
	for _, b := range c.ring {
		b.mu.Lock()
		if b.from < b.to {
			b.pins++
			dirty = append(dirty, b)
		}
		b.mu.Unlock()
	}
	c.mu.Unlock()
	return mapper.FanOut(len(dirty), writeWidth, func(i int) error {
		defer c.put(dirty[i])
		return c.writeBuffer(ctx, dirty[i])
	})
}

// writeBuffer writes what is to be written of b, in units that every disk takes.
func (c *tagCache) writeBuffer(ctx context.Context, b *tagBuffer) error {
	const unit = 4096
	b.mu.Lock()
	from, to := b.from&^(unit-1), min((b.to+unit-1)&^(unit-1), c.size)
	copied := mapper.GetBuffer(to - from)
	copy(copied.Data, b.data[from:to])
	b.from, b.to = 0, 0
	b.mu.Unlock()
	defer copied.Free()
	err := c.disk.Submit(ctx, c.request(mapper.OpWrite, b, copied.Data, from))
	if err != nil {
		b.mu.Lock()
		b.dirty(from, to)
		b.mu.Unlock()
	}
	return err
}

// dirty says that bytes are to be written. b.mu is held.
func (b *tagBuffer) dirty(from, to int) {
	if b.from == b.to {
		b.from, b.to = from, to
		return
	}
	b.from, b.to = min(b.from, from), max(b.to, to)
}

// store puts tags into buffer at and those behind it, from off on.
func (c *tagCache) store(ctx context.Context, tags []byte, at uint64, off int) error {
	for len(tags) > 0 {
		b, err := c.get(ctx, at)
		if err != nil {
			return err
		}
		n := min(len(tags), c.size-off)
		b.mu.Lock()
		if !bytes.Equal(b.data[off:off+n], tags[:n]) {
			copy(b.data[off:], tags[:n])
			b.dirty(off, off+n)
		}
		b.mu.Unlock()
		c.put(b)
		tags, at, off = tags[n:], at+1, 0
	}
	return nil
}

// fetch reads tags.
func (c *tagCache) fetch(ctx context.Context, tags []byte, at uint64, off int) error {
	for len(tags) > 0 {
		b, err := c.get(ctx, at)
		if err != nil {
			return err
		}
		b.mu.Lock()
		n := copy(tags, b.data[off:])
		b.mu.Unlock()
		c.put(b)
		tags, at, off = tags[n:], at+1, 0
	}
	return nil
}

// compare returns the number of the first tag that differs from what is stored, -1 if none does. With filler a stored tag of
// filler bytes says that the block was discarded, and equals any.
func (c *tagCache) compare(ctx context.Context, tags []byte, at uint64, off int, filler bool) (int, error) {
	for done := 0; done < len(tags); {
		b, err := c.get(ctx, at)
		if err != nil {
			return 0, err
		}
		n := min(len(tags)-done, c.size-off)
		b.mu.Lock()
		equal := bytes.Equal(b.data[off:off+n], tags[done:done+n])
		b.mu.Unlock()
		c.put(b)
		if !equal {
			return c.differs(ctx, tags, at, off, done, filler)
		}
		done, at, off = done+n, at+1, 0
	}
	return -1, nil
}

// differs goes on with compare tag by tag, from the one that byte done belongs to.
func (c *tagCache) differs(ctx context.Context, tags []byte, at uint64, off, done int, filler bool) (int, error) {
	var one [maxTag]byte
	stored := one[:c.tag]
	first := done / c.tag
	pos := int64(at)*int64(c.size) + int64(off) - int64(done-first*c.tag)
	for i := first; i < len(tags)/c.tag; i++ {
		if err := c.fetch(ctx, stored, uint64(pos/int64(c.size)), int(pos%int64(c.size))); err != nil {
			return 0, err
		}
		if !bytes.Equal(stored, tags[i*c.tag:(i+1)*c.tag]) && !(filler && isFiller(stored)) {
			return i, nil
		}
		pos += int64(c.tag)
	}
	return -1, nil
}

// discardFiller is what the tag of a discarded block consists of.
const discardFiller = 0xf6

func isFiller(tag []byte) bool {
	for _, b := range tag {
		if b != discardFiller {
			return false
		}
	}
	return true
}
