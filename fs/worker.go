package fs

import (
	"sync/atomic"
	"time"
	"unsafe"

	fusefs "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A worker carries out one request after the other.
type worker struct {
	e       *engine
	buf     *buffer // nil while it waits without one
	counted bool    // buf counts as lent; on e.mu
	caller  atomic.Pointer[caller]
	conn    int           // the descriptor that its request came from, which takes the reply
	replied int           // the length of its last reply, in bytes
	spins   time.Duration // how long to try for the next request before it waits
}

func (w *worker) run() {
	defer w.end()
	for {
		n, err := w.next()
		alone := w.e.idle.Add(-1) == 0
		if err != nil {
			w.e.end()
			return
		}
		if alone {
			w.e.start()
		}
		w.answer(w.buf.request(n))
		if w.buf == nil || !w.again() {
			return
		}
		w.spins = w.e.spin.small
		if max(n, w.replied) >= largeData {
			w.spins = w.e.spin.large
		}
	}
}

// newCaller gives w a caller that serves until one of its requests has waited.
func (w *worker) newCaller() {
	w.caller.Store(&caller{onWait: w.waits})
}

// begin returns the context of the request with header h, which end ends.
func (w *worker) begin(h *fusefs.InHeader) *caller {
	c := w.caller.Load()
	c.begin(h.Unique, h.Pid)
	return c
}

// done ends the context of a request.
func (w *worker) done(c *caller) {
	if !c.end() {
		w.newCaller()
	}
}

// again reports whether w is to read another request: not if others wait for one, if its buffer would be one too
// many, or, every other time, if a request waits for a buffer.
func (w *worker) again() bool {
	for {
		n := w.e.idle.Load()
		if n >= idleReaders || w.e.wanting.Load() > 0 && (n > 0 || w.e.turn.Add(1)%2 == 0) {
			return false
		}
		if w.e.idle.CompareAndSwap(n, n+1) {
			break
		}
	}
	if w.counted {
		return true
	}
	w.e.mu.Lock()
	defer w.e.mu.Unlock()
	if w.e.lent >= maxBuffers {
		w.e.idle.Add(-1)
		return false
	}
	w.e.lent++
	w.counted = true
	return true
}

// waits is called when w's request begins to wait: its buffer no longer keeps others from theirs.
func (w *worker) waits() {
	w.e.mu.Lock()
	if w.counted {
		w.counted = false
		w.e.lent--
		w.e.freed.Signal()
	}
	w.e.mu.Unlock()
	w.e.startReader()
}

// giveBuffer gives the buffer back; nothing of the request that is still needed may be in it.
func (w *worker) giveBuffer() {
	w.e.mu.Lock()
	w.e.giveLocked(w.buf, w.counted)
	w.buf, w.counted = nil, false
	w.e.mu.Unlock()
	w.e.startReader()
}

// takeBuffer waits for a buffer. If there is no memory for it the error is ENOMEM.
func (w *worker) takeBuffer() unix.Errno {
	w.e.mu.Lock()
	defer w.e.mu.Unlock()
	w.e.wanting.Add(1)
	for w.e.lent >= maxBuffers {
		w.e.freed.Wait()
	}
	w.e.wanting.Add(-1)
	b, err := w.e.takeLocked()
	if err != nil {
		return unix.ENOMEM
	}
	w.buf, w.counted = b, true
	return 0
}

func (w *worker) end() {
	w.e.mu.Lock()
	delete(w.e.workers, w)
	if w.buf != nil {
		w.e.giveLocked(w.buf, w.counted)
	}
	w.e.mu.Unlock()
	w.e.running.Done()
}

// replyData sends the status and, if it is 0, the first n bytes of w.buf.withHeader's data.
func (w *worker) replyData(unique uint64, n int, status unix.Errno) {
	if status != 0 {
		n = 0
	}
	w.write(w.buf.withHeader(n), unique, status)
}

// replySmall sends the status and, if it is 0, the body of the reply, which is n bytes after the header in w.buf.small.
func (w *worker) replySmall(unique uint64, n int, status unix.Errno) {
	if status != 0 {
		n = 0
	}
	w.write(w.buf.small()[:outHeaderSize+n], unique, status)
}

// write sends a reply whose header is still empty. That the request is gone, or the file system, is no news.
func (w *worker) write(b []byte, unique uint64, status unix.Errno) {
	w.replied = len(b)
	h := view[fusefs.OutHeader](b)
	h.Length, h.Status, h.Unique = uint32(len(b)), -int32(status), unique
	for {
		if _, err := unix.Write(w.conn, b); err != unix.EINTR {
			return
		}
	}
}

// body returns the empty body of a small reply, of the given type.
func body[T any](w *worker) *T {
	b := w.buf.small()[outHeaderSize:]
	clear(b[:unsafe.Sizeof(*new(T))])
	return view[T](b)
}
