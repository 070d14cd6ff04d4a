package exec

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/cmd/internal/exec/seccomp"
	"dmfs/fs/task"
)

// A call is a system call that waits for an answer.
type call struct{ seccomp.Call }

// A readers is the threads that receive calls and answer them. One that has a call in hand always leaves another waiting for the
// next, so a call that takes long holds nobody up.
type readers struct {
	waiting atomic.Int32
	failed  chan error
}

// maxWaiting is how many threads are kept waiting for calls.
const maxWaiting = 2

// serve receives calls and answers them until there are none any more. It does not return before that.
func (s *supervisor) serve() error {
	s.readers.failed = make(chan error, 1)
	s.readers.waiting.Store(1)
	go s.receive()
	over := make(chan error, 1)
	go func() { over <- s.listener.AwaitEnd() }()
	select {
	case err := <-over:
		return err
	case err := <-s.readers.failed:
		return err
	}
}

// receive is one of the readers. It is locked to its thread, so that an answer passes the processor on to the caller.
func (s *supervisor) receive() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		c := new(call)
		switch err := s.listener.Receive(&c.Call); err {
		case nil:
		case unix.EINTR:
			continue
		case unix.ENOENT: // its caller died, or all did
			if over, _ := s.listener.Over(0); over {
				return
			}
			continue
		default:
			select {
			case s.readers.failed <- err:
			default:
			}
			return
		}
		if s.readers.waiting.Add(-1) == 0 {
			s.readers.waiting.Add(1)
			go s.receive()
		}
		if h := handlerOf(c.Nr); h != nil {
			h(s, c)
		} else {
			s.listener.Continue(&c.Call)
		}
		if s.readers.waiting.Add(1) > maxWaiting {
			s.readers.waiting.Add(-1)
			return
		}
	}
}

// lookEvery is how often it is looked whether the caller of a call that takes long is to give up.
const lookEvery = 50 * time.Millisecond

// patience returns a context for work on behalf of c. It ends when the caller has died or has a signal to take: the kernel lets
// only deadly ones interrupt a call that is being answered, so others have to be looked for. stop is called when the work is done.
func (s *supervisor) patience(c *call) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	var timer *time.Timer
	look := func() {
		if !s.listener.Valid(&c.Call) || task.Signalled(c.TID) {
			cancel(unix.EINTR)
			return
		}
		timer.Reset(lookEvery)
	}
	ready := make(chan struct{})
	timer = time.AfterFunc(lookEvery, func() { <-ready; look() })
	close(ready)
	return ctx, func() {
		timer.Stop()
		cancel(nil)
	}
}
