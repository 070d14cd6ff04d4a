// Package worker owns the goroutines of targets: they begin at Resume and have ended when PostSuspend goes on.
package worker

import "sync"

// A Group is goroutines that are stopped together. The zero value has none. Its methods are not for concurrent use.
type Group struct {
	stop chan struct{}
	done sync.WaitGroup
}

// Start runs f, which returns soon after its argument is closed.
func (g *Group) Start(f func(stop <-chan struct{})) {
	if g.stop == nil {
		g.stop = make(chan struct{})
	}
	stop := g.stop
	g.done.Go(func() { f(stop) })
}

// Stop tells all to end and waits until they have. Others may be started after.
func (g *Group) Stop() {
	if g.stop == nil {
		return
	}
	close(g.stop)
	g.done.Wait()
	g.stop = nil
}
