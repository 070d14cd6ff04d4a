// Package cell has the locks that targets hold across I/O: of a block, or of all metadata.
//
// A sync.RWMutex would not do. Whoever waits for it cannot be told to stop, and a wait for a disk that lasts as long as a
// user likes must end when the process that waits is killed.
package cell

import (
	"context"
	"sync"
	"sync/atomic"
)

// A Lock is held by many together, or by one alone. Holding it together costs two atomic additions; having it alone costs no memory unless
// somebody must wait. The zero value is free. Whoever holds it must not take it again.
type Lock struct {
	// state is the number of holders together plus, for a moment, of those about to notice that they must wait; aloneBit is
	// set while one has it alone or waits for the others to leave.
	state atomic.Int64

	mu      sync.Mutex    // guards the channels, held briefly
	turn    chan struct{} // capacity 1: holds a token while somebody has the lock alone; made on first use
	opened  chan struct{} // closed when the lock is no longer held alone; nil while nobody waits for that
	drained chan struct{} // closed when the last of those together has left; nil while nobody waits for that
}

const aloneBit = 1 << 62

// Share takes the lock together with others. The error is ctx's.
func (l *Lock) Share(ctx context.Context) error {
	for {
		if l.state.Add(1)&aloneBit == 0 {
			return nil
		}
		l.Unshare()
		l.mu.Lock()
		if l.state.Load()&aloneBit == 0 {
			l.mu.Unlock()
			continue
		}
		if l.opened == nil {
			l.opened = make(chan struct{})
		}
		opened := l.opened
		l.mu.Unlock()
		select {
		case <-opened:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Unshare gives up what Share took.
func (l *Lock) Unshare() {
	if l.state.Add(-1) == aloneBit {
		l.mu.Lock()
		if l.drained != nil && l.state.Load() == aloneBit {
			close(l.drained)
			l.drained = nil
		}
		l.mu.Unlock()
	}
}

// Lock takes the lock alone. The error is ctx's.
func (l *Lock) Lock(ctx context.Context) error {
	l.mu.Lock()
	if l.turn == nil {
		l.turn = make(chan struct{}, 1)
	}
	turn := l.turn
	l.mu.Unlock()
	select {
	case turn <- struct{}{}:
	default:
		// Only who has to wait asks for Done: a request's begins to watch for interrupts then, which takes other threads.
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if l.state.Add(aloneBit) == aloneBit {
		return nil
	}
	l.mu.Lock()
	if l.state.Load() == aloneBit {
		l.mu.Unlock()
		return nil
	}
	drained := make(chan struct{})
	l.drained = drained
	l.mu.Unlock()
	select {
	case <-drained:
		return nil
	case <-ctx.Done():
		l.Unlock()
		return context.Cause(ctx)
	}
}

// Unlock gives up what Lock took.
func (l *Lock) Unlock() {
	l.mu.Lock()
	l.state.Add(-aloneBit)
	if l.opened != nil {
		close(l.opened)
	}
	l.opened, l.drained = nil, nil
	turn := l.turn
	l.mu.Unlock()
	<-turn
}
