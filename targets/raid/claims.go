package raid

import (
	"context"
	"sync"

	"dmfs/mapper"
)

// claims are ranges that are locked across I/O: writes that overlap would leave copies, or parity, different. The zero value has none.
type claims struct {
	mu   sync.Mutex
	held []*claim
	free []*claim
}

// A claim is a range [from, to). Shared ones may overlap each other.
type claim struct {
	from, to mapper.Sector
	shared   bool
	gone     chan struct{} // made when somebody waits, closed when the claim ends
}

// take waits until nobody else has any of the range. The error is ctx's.
func (l *claims) take(ctx context.Context, from, to mapper.Sector, shared bool) (*claim, error) {
	for {
		l.mu.Lock()
		other := l.conflict(from, to, shared)
		if other == nil {
			c := l.add(from, to, shared)
			l.mu.Unlock()
			return c, nil
		}
		if other.gone == nil {
			other.gone = make(chan struct{})
		}
		gone := other.gone
		l.mu.Unlock()
		select {
		case <-gone:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (l *claims) conflict(from, to mapper.Sector, shared bool) *claim {
	for _, c := range l.held {
		if c.from < to && from < c.to && !(shared && c.shared) {
			return c
		}
	}
	return nil
}

func (l *claims) add(from, to mapper.Sector, shared bool) *claim {
	var c *claim
	if n := len(l.free); n > 0 {
		c, l.free = l.free[n-1], l.free[:n-1]
	} else {
		c = new(claim)
	}
	*c = claim{from: from, to: to, shared: shared}
	l.held = append(l.held, c)
	return c
}

// end gives c up.
func (l *claims) end(c *claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, other := range l.held {
		if other == c {
			last := len(l.held) - 1
			l.held[i], l.held[last] = l.held[last], nil
			l.held = l.held[:last]
			break
		}
	}
	if c.gone != nil {
		close(c.gone)
	}
	l.free = append(l.free, c)
}
