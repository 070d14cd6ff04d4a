package fs

import (
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Waking a worker takes longer than most requests, and a client with one request at a time waits for it each time. So whoever has
// replied tries for the next request for a while before it sleeps, on a second descriptor of the connection, which does not block. What that
// gains and costs is in docs/performance.md.
const (
	// spinSmall is how long a worker tries, and spinLarge after a request that is worth huge pages, with which the client has more to do.
	spinSmall = 50 * time.Microsecond
	spinLarge = 200 * time.Microsecond
	// spinMisses is after how many attempts in a row that were in vain one is left out, then twice as many after each further one, at
	// most 1<<spinRests. So a client with pauses between its requests costs nothing.
	spinMisses = 3
	spinRests  = 10
)

// A spin says who tries for the next request. Its zero value lets one worker at a time.
type spin struct {
	small, large time.Duration
	taken        atomic.Bool
	misses       atomic.Int32 // attempts in vain since the last that was not
	rest         atomic.Int32 // attempts to leave out
}

// begin reports whether the caller is to try; then it says with end what came of it.
func (s *spin) begin() bool {
	if s.rest.Load() > 0 {
		s.rest.Add(-1)
		return false
	}
	return s.taken.CompareAndSwap(false, true)
}

func (s *spin) end(hit bool) {
	if hit {
		s.misses.Store(0)
	} else if over := s.misses.Add(1) - spinMisses; over >= 0 {
		s.rest.Store(1 << min(over, spinRests))
	}
	s.taken.Store(false)
}

// processors is how many there are for us, by their number or a limit on the time of all.
var processors = runtime.GOMAXPROCS(0)

// openEager returns another descriptor of a connection, which does not block, or -1 where there can be none or it is of no use: who
// tries on the only processor keeps the client from it.
func openEager(connection int) int {
	if processors < 2 {
		return -1
	}
	fd, err := unix.Open(Device, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1 // a helper has opened the other
	}
	const clone = 0x8004e500 // FUSE_DEV_IOC_CLONE of linux/fuse.h
	if err := unix.IoctlSetPointerInt(fd, clone, connection); err != nil {
		unix.Close(fd) //nolint:errcheck // nothing came of it
		return -1
	}
	return fd
}

// next reads the next request into w's buffer and returns its length.
func (w *worker) next() (int, error) {
	if w.spins > 0 && w.e.eager >= 0 && w.e.spin.begin() {
		w.conn = w.e.eager
		n, err := w.try(time.Now().Add(w.spins))
		w.e.spin.end(err == nil)
		if err == nil {
			return n, nil
		}
	}
	w.conn = w.e.fd
	for {
		if n, err := readRequest(w.conn, w.buf); err != unix.EAGAIN {
			return n, err
		}
	}
}

// try reads a request that comes before the end of the time.
func (w *worker) try(end time.Time) (int, error) {
	for {
		n, err := readRequest(w.conn, w.buf)
		if err != unix.EAGAIN || !time.Now().Before(end) {
			return n, err
		}
	}
}
