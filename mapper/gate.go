package mapper

import (
	"context"
	"sync"
	"sync/atomic"
)

// A gate counts the requests in flight and, while shut, keeps others out. Passing an open gate
// costs two atomic additions. The zero value is an open gate.
type gate struct {
	// state is the number of requests inside plus, for a moment, of those that are about to
	// notice that the gate is shut; shutBit is set while it is.
	state atomic.Int64

	mu      sync.Mutex    // guards the channels below; held briefly, never while waiting
	opened  chan struct{} // closed when the gate opens; nil while it is open
	drained chan struct{} // closed when the last request has left; nil while nobody waits
}

const shutBit = 1 << 62

// enter waits until the gate is open and passes it. The error is ctx's; then the caller is outside.
func (g *gate) enter(ctx context.Context) error {
	for {
		if g.state.Add(1)&shutBit == 0 {
			return nil
		}
		g.leave()
		if err := g.waitOpen(ctx); err != nil {
			return err
		}
	}
}

// isShut reports whether newcomers have to wait.
func (g *gate) isShut() bool { return g.state.Load()&shutBit != 0 }

// waitOpen waits until the gate is open, which may be over when it returns. The error is ctx's.
func (g *gate) waitOpen(ctx context.Context) error {
	g.mu.Lock()
	opened := g.opened
	g.mu.Unlock()
	if opened == nil {
		return nil
	}
	select {
	case <-opened:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// leave is called once for each enter that succeeded.
func (g *gate) leave() {
	if g.state.Add(-1) == shutBit {
		g.mu.Lock()
		if g.drained != nil && g.state.Load() == shutBit {
			close(g.drained)
			g.drained = nil
		}
		g.mu.Unlock()
	}
}

// shut keeps newcomers out and waits until nobody is inside. If ctx ends first the gate is open
// again and the error is ctx's. Shutting a gate that is shut is a mistake in the program:
// whoever shuts gates holds a lock over shut and open.
func (g *gate) shut(ctx context.Context) error {
	g.mu.Lock()
	if g.opened != nil {
		panic("mapper: gate shut twice")
	}
	g.opened = make(chan struct{})
	drained := make(chan struct{})
	g.drained = drained
	if g.state.Add(shutBit) == shutBit {
		close(drained)
		g.drained = nil
	}
	g.mu.Unlock()

	select {
	case <-drained:
		return nil
	default:
	}
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
		g.open()
		return context.Cause(ctx)
	}
}

// open lets those who wait, and all others, pass.
func (g *gate) open() {
	g.mu.Lock()
	if g.opened == nil {
		panic("mapper: open gate opened")
	}
	g.state.Add(-shutBit)
	close(g.opened)
	g.opened = nil
	g.drained = nil
	g.mu.Unlock()
}
