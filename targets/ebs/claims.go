package ebs

import (
	"context"
	"sync"

	"dmfs/mapper"
)

// claims keeps changes of parts of blocks apart from everything else that changes these blocks. Who comes first goes first, so
// nobody waits forever; each request has one claim, so none waits for another in a circle. Without a conflict a claim costs no allocation.
type claims struct {
	mu   sync.Mutex
	list []claim // taken or waited for; as long as there are requests
	last uint64  // id of the latest
}

// A claim is on the sectors [from, to) of the disk.
type claim struct {
	id       uint64
	from, to mapper.Sector
	alone    bool          // it excludes all others, not only those that are alone
	done     chan struct{} // closed by release; nil while nobody waits for it
}

// take claims [from, to) once all earlier claims in its way are released, and returns what release wants. The error is ctx's.
func (c *claims) take(ctx context.Context, from, to mapper.Sector, alone bool) (id uint64, err error) {
	id, before := c.enter(from, to, alone)
	for _, done := range before {
		select {
		case <-done:
		case <-ctx.Done():
			c.release(id)
			return 0, context.Cause(ctx)
		}
	}
	return id, nil
}

// enter adds a claim and returns what closes when those before it are released.
func (c *claims) enter(from, to mapper.Sector, alone bool) (id uint64, before []<-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.list {
		if o := &c.list[i]; o.from < to && from < o.to && (o.alone || alone) {
			if o.done == nil {
				o.done = make(chan struct{})
			}
			before = append(before, o.done)
		}
	}
	c.last++
	c.list = append(c.list, claim{id: c.last, from: from, to: to, alone: alone})
	return c.last, before
}

// release ends a claim.
func (c *claims) release(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.list {
		if c.list[i].id != id {
			continue
		}
		if c.list[i].done != nil {
			close(c.list[i].done)
		}
		end := len(c.list) - 1
		c.list[i] = c.list[end]
		c.list[end] = claim{}
		c.list = c.list[:end]
		return
	}
}
