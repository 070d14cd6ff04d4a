// Package worker owns the goroutines of targets: they begin at Resume and have ended when PostSuspend goes on.
package worker

import (
	"context"
	"sync"
)

// A Group is goroutines that are stopped together. The zero value has none. Start and Stop may be called from any goroutine.
type Group struct {
	mu   sync.Mutex
	ctx  context.Context // of those that run; nil if there are none
	stop context.CancelFunc
	done *sync.WaitGroup
}

// Start runs f, which returns soon after its context has ended.
func (g *Group) Start(f func(ctx context.Context)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ctx == nil {
		g.ctx, g.stop = context.WithCancel(context.Background())
		g.done = new(sync.WaitGroup)
	}
	ctx := g.ctx
	g.done.Go(func() { f(ctx) })
}

// Stop tells all to end and waits until they have. Others may be started after.
func (g *Group) Stop() {
	g.mu.Lock()
	stop, done := g.stop, g.done
	g.ctx, g.stop, g.done = nil, nil, nil
	g.mu.Unlock()
	if stop != nil {
		stop()
		done.Wait()
	}
}
