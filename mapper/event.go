package mapper

import (
	"context"
	"sync"
)

// An eventCounter numbers what happens to a device and wakes those who wait for a change.
// The zero value has seen nothing.
type eventCounter struct {
	mu      sync.Mutex
	nr      uint32
	gone    bool          // the device was removed: nobody waits any more
	changed chan struct{} // closed at the next change; nil while nobody waits
}

// bump counts an event.
func (e *eventCounter) bump() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.nr++
	e.wake()
}

// end counts the last event, the removal.
func (e *eventCounter) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.nr++
	e.gone = true
	e.wake()
}

func (e *eventCounter) wake() {
	if e.changed != nil {
		close(e.changed)
		e.changed = nil
	}
}

func (e *eventCounter) load() uint32 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.nr
}

// wait returns the counter once it differs from nr, or the device is gone, or with ctx's error.
func (e *eventCounter) wait(ctx context.Context, nr uint32) (uint32, error) {
	for {
		e.mu.Lock()
		if e.nr != nr || e.gone {
			defer e.mu.Unlock()
			return e.nr, nil
		}
		if e.changed == nil {
			e.changed = make(chan struct{})
		}
		changed := e.changed
		e.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}
