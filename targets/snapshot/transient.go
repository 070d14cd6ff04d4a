package snapshot

import (
	"context"
	"fmt"
	"sync/atomic"

	"dmfs/mapper"
)

// A transient store is forgotten with its table. Chunks are used from the first one on.
type transient struct {
	geometry
	next atomic.Uint64 // the next free chunk
}

func (t *transient) load(context.Context, func(exception) error) (bool, error) { return true, nil }
func (t *transient) begin(context.Context) error                               { return nil }
func (t *transient) commit(context.Context, []exception) error                 { return nil }
func (t *transient) invalidate(context.Context) error                          { return nil }

func (t *transient) allocate() (uint64, bool) {
	n := t.next.Load()
	if t.disk.Sectors() < t.at(n+1) {
		return 0, false
	}
	t.next.Store(n + 1)
	return n, true
}

func (t *transient) usage() usage { return usage{used: t.at(t.next.Load()), total: t.disk.Sectors()} }

func (t *transient) letter() string { return "N" }

// errTransient cannot be met: a transient store is not merged.
var errTransient = fmt.Errorf("%w: a transient store does not know its order", mapper.ErrIO)

func (t *transient) last(context.Context, uint64) (exception, uint64, error) {
	return exception{}, 0, errTransient
}
func (t *transient) forget(context.Context, uint64) error { return errTransient }
