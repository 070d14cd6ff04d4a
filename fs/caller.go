package fs

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/fs/task"
	"dmfs/mapper"
)

// A caller is the context of one request: it ends when the process that waits for the request is killed
// or, if anySignal, gets a signal that is not harmless. Until somebody waits for that it costs nothing.
type caller struct {
	pid       uint32 // thread that asked, 0 if unknown
	anySignal bool
	data      int           // bytes of data that the request holds while it waits
	waiting   *atomic.Int64 // where data is counted then; nil while it holds none
	onWait    func()        // called each time it may begin to wait, unless it is one too many

	mu          sync.Mutex
	unique      uint64        // of the request, 0 between requests
	interrupted bool          // the kernel said so
	cancel      chan struct{} // closed when it does; made by the first Done
	done        chan struct{} // made by the first Done
	finished    chan struct{} // ends the watcher
	holding     bool          // data is counted in waiting
	patience    *time.Timer   // ends c; nil unless it is one too many
	aborted     bool          // the mount is gone
	err         error
}

var _ context.Context = (*caller)(nil)

// fullTime is how long a request may wait that is one too many.
const fullTime = 2 * time.Second

var errTooManyWaiting error = &mapper.ArgError{
	Reason: "too much I/O waits, for suspended devices, paths or servers", Detail: fmt.Sprintf("%d bytes", maxWaitingBytes), Errno: unix.ENOMEM,
}

// begin makes c the context of another request of thread pid.
func (c *caller) begin(unique uint64, pid uint32) {
	c.mu.Lock()
	c.unique, c.pid = unique, pid
	c.mu.Unlock()
}

// interrupt ends c, if it belongs to the request called unique.
func (c *caller) interrupt(unique uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unique != unique {
		return false
	}
	if !c.interrupted {
		c.interrupted = true
		if c.cancel != nil {
			close(c.cancel)
		}
	}
	return true
}

// abort ends c, since nobody waits for its request any more.
func (c *caller) abort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.aborted = true
	if c.done != nil {
		c.finishLocked(mapper.ErrInterrupted)
	}
}

// end tells c that its request was carried out, and reports whether c can serve another.
func (c *caller) end() (reusable bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unique = 0
	if c.done != nil {
		close(c.finished)
		if c.holding {
			c.waiting.Add(-int64(c.data))
		}
		if c.patience != nil {
			c.patience.Stop()
		}
		return false // somebody may still hold on to it
	}
	c.interrupted, c.anySignal, c.data, c.waiting = false, false, 0, nil
	return true
}

// Done implements context.Context. The first call begins to watch for an interrupt. Each counts what the request holds, since a
// read that has waited for a resume without a buffer may wait once more, with one, for a path or another device. One too many goes on as a request that
// does not wait, and holds others up, for most waits are short: for a turn, or a server. If its own is not, it fails.
func (c *caller) Done() <-chan struct{} {
	c.mu.Lock()
	first := c.done == nil
	if first {
		c.done, c.finished, c.cancel = make(chan struct{}), make(chan struct{}), make(chan struct{})
		if c.interrupted {
			close(c.cancel)
		}
	}
	if c.aborted {
		c.finishLocked(mapper.ErrInterrupted)
	}
	if c.waiting != nil && !c.holding {
		c.holding = true
		if c.waiting.Add(int64(c.data)) > maxWaitingBytes {
			c.patience = time.AfterFunc(fullTime, c.giveUp)
		}
	}
	full := c.patience != nil
	c.mu.Unlock()
	if c.onWait != nil && !full {
		c.onWait()
	}
	if first {
		go c.watch()
	}
	return c.done
}

// giveUp ends c after it has waited for long, while too many others did.
func (c *caller) giveUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finishLocked(errTooManyWaiting)
}

// finishLocked ends c with an error, unless it has ended. c.mu is held.
func (c *caller) finishLocked(err error) {
	if c.err == nil {
		c.err = err
		close(c.done)
	}
}

// watch ends c when its process is to give up. After an interrupt the kernel says nothing more, not even when a
// process that first got a harmless signal is killed, so that has to be looked for.
func (c *caller) watch() {
	select {
	case <-c.finished:
		return
	case <-c.cancel:
	}
	const look = 20 * time.Millisecond
	for !c.signalled() {
		select {
		case <-c.finished:
			return
		case <-time.After(look):
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finishLocked(mapper.ErrInterrupted)
}

// Err implements context.Context. It may be asked without Done, by work that takes long.
func (c *caller) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || c.done != nil {
		return c.err // or the watcher will find out
	}
	if c.aborted || c.interrupted && c.signalled() {
		return mapper.ErrInterrupted
	}
	return nil
}

// Deadline implements context.Context.
func (*caller) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value implements context.Context.
func (*caller) Value(any) any { return nil }

// signalled reports whether the thread that waits has been sent a signal that ends its wait.
func (c *caller) signalled() bool {
	if c.anySignal {
		return task.Signalled(c.pid)
	}
	return task.Killed(c.pid)
}

// sameProcess reports whether two threads belong to one process; if that cannot be told, they do.
func sameProcess(a, b uint32) bool {
	if a == b {
		return true
	}
	x, y := task.Process(a), task.Process(b)
	return x == 0 || y == 0 || x == y
}
