package snapshot

import (
	"context"
	"math/bits"
	"sync"
	"sync/atomic"

	"dmfs/mapper"
	"dmfs/targets/internal/cell"
)

// content is what a snapshot holds, and what it hands over to a table that takes its place.
type content struct {
	store store
	kept  *exceptions

	valid      atomic.Bool
	overflowed atomic.Bool // its own writes found no room; what it has it keeps
	failed     atomic.Bool // merging did

	// locks are held together by those who read a chunk that is not kept, or who must not see it merged, and alone by those who change that.
	locks [lockCount]cell.Lock

	mu         sync.Mutex // guards what follows, and store.allocate
	queue      []*batch   // in the order in which their chunks were allocated
	committing bool
	hole       bool // a batch failed; only for who commits
}

func newContent(st store) *content {
	c := &content{store: st, kept: newExceptions()}
	c.valid.Store(true)
	return c
}

// A batch of exceptions whose chunks are being written.
type batch struct {
	list  []exception
	ready bool // they were
	err   error
	done  chan struct{} // closed when the exceptions count, or never will
}

// share takes the locks of chunks first to before end together with others. unshare gives them up.
func (c *content) share(ctx context.Context, first, end uint64) (set uint64, err error) {
	set = regions(first, end)
	for rest := set; rest != 0; rest &= rest - 1 {
		if err := c.locks[bits.TrailingZeros64(rest)].Share(ctx); err != nil {
			c.unshare(set &^ rest)
			return 0, err
		}
	}
	return set, nil
}

func (c *content) unshare(set uint64) {
	for ; set != 0; set &= set - 1 {
		c.locks[bits.TrailingZeros64(set)].Unshare()
	}
}

// lock takes the locks of chunks first to before end alone. unlock gives them up.
func (c *content) lock(ctx context.Context, first, end uint64) (set uint64, err error) {
	set = regions(first, end)
	for rest := set; rest != 0; rest &= rest - 1 {
		if err := c.locks[bits.TrailingZeros64(rest)].Lock(ctx); err != nil {
			c.unlock(set &^ rest)
			return 0, err
		}
	}
	return set, nil
}

func (c *content) unlock(set uint64) {
	for ; set != 0; set &= set - 1 {
		c.locks[bits.TrailingZeros64(set)].Unlock()
	}
}

// reserve takes chunks of the store for up to most chunks from first on. The caller writes them and calls finish, unless there are none.
func (c *content) reserve(first, most uint64) *batch {
	b := &batch{done: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range most {
		n, ok := c.store.allocate()
		if !ok {
			break
		}
		b.list = append(b.list, exception{first + i, n})
	}
	if len(b.list) > 0 {
		c.queue = append(c.queue, b)
	}
	return b
}

// finish makes the exceptions of b count, whose chunks were written, or were not because of err. They are committed in the order of
// allocation, those of several callers together.
func (c *content) finish(ctx context.Context, b *batch, err error) error {
	c.mu.Lock()
	b.ready, b.err = true, err
	if !c.committing {
		c.committing = true
		for len(c.queue) > 0 && c.queue[0].ready {
			n := 1
			for n < len(c.queue) && c.queue[n].ready {
				n++
			}
			group := c.queue[:n:n]
			c.queue = c.queue[n:]
			c.mu.Unlock()
			c.commit(ctx, group)
			c.mu.Lock()
		}
		c.committing = false
	}
	c.mu.Unlock()
	<-b.done
	return b.err
}

// commit makes the exceptions of a group last, and wakes who waits for them. Behind one that failed none is committed any more: the order would
// have a hole.
func (c *content) commit(ctx context.Context, group []*batch) {
	var err error
	var list []exception
	good := 0
	for ; good < len(group) && group[good].err == nil && !c.hole; good++ {
		list = append(list, group[good].list...)
	}
	switch {
	case c.hole:
		err = mapper.ErrIO
	case good < len(group):
		err = group[good].err
	}
	if good > 0 {
		if failed := c.store.commit(ctx, list); failed != nil {
			good, err = 0, failed
		} else {
			c.kept.add(list)
		}
	}
	c.hole = c.hole || good < len(group)
	for i, b := range group {
		if i >= good && b.err == nil {
			b.err = err
		}
		close(b.done)
	}
}
