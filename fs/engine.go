package fs

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	// maxWrite is the most data of one request, in bytes: what the kernel allows by default.
	maxWrite = 1 << 20
	// maxBuffers bounds the requests that have a buffer and do not wait, and so the memory of data under way.
	maxBuffers = 128
	// maxWaitingBytes bounds the data of requests that wait with a buffer: for a suspended device, a path, space.
	maxWaitingBytes = 128 << 20
	// maxBackground is how many asynchronous requests the kernel sends at a time.
	maxBackground = 128
	// idleReaders is how many workers wait for the next request, each with a buffer that is the colder the more there
	// are, since the kernel hands requests to them in turn.
	idleReaders = 2
)

// An engine speaks the FUSE protocol with the kernel. It is a pool of workers: each reads a request into its
// buffer, carries it out and replies, all in one goroutine.
//
// At least one worker waits for a request at any time, as long as there are buffers: whoever takes a request and
// leaves nobody behind starts another, whoever is done and finds enough of them ends.
//
// # Memory
//
// A write has its data in the buffer it was read into. A read for a suspended device gives its buffer back while it waits.
// At most maxBuffers requests that do not wait have a buffer; when all of them have, no further
// request is taken until one is done. Requests that wait inside the stack keep theirs, at most maxWaitingBytes together, and do not
// count: however many wait, the command that resumes still gets through. Those beyond that count, and fail if they wait for long.
type engine struct {
	t     *tree
	fd    int // the connection
	eager int // another descriptor of it, which does not block; -1 if there is none
	point string
	dev   uint64 // st_dev of the files

	idle    atomic.Int32  // workers that wait for a request
	wanting atomic.Int32  // requests that wait for a buffer
	turn    atomic.Uint32 // who gets the next that is free
	spin    spin
	// ended is set when the file system is unmounted.
	ended atomic.Bool

	mu      sync.Mutex
	workers map[*worker]struct{}
	running sync.WaitGroup // workers
	lent    int            // buffers in use by requests that do not wait, and by idle workers
	unused  buffers
	freed   sync.Cond // a buffer became free; on mu
	senders int       // who writes to the connection and is no worker
	served  bool      // the workers have ended; the last sender closes the connection
}

// attachEngine mounts t and shakes hands with the kernel. Requests are answered once serve runs.
func attachEngine(t *tree, o Options) (*engine, error) {
	fd, err := attach(o)
	if err != nil {
		return nil, err
	}
	e := newEngine(t, fd, o.MountPoint)
	err = e.handshake()
	if err == nil {
		e.dev, err = rootDev(o.MountPoint)
	}
	if err != nil {
		unix.Close(fd) //nolint:errcheck // the connection ends, which is what is wanted
		return nil, errors.Join(err, e.unmount())
	}
	e.eager = openEager(fd)
	spareProcessors.Do(func() { runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + idleReaders) })
	return e, nil
}

// rootDev returns the st_dev of what is mounted on point, from what the kernel has: it sends no request. To look is to keep
// the mount busy, so it is done before the first answer; whoever has got one can unmount.
func rootDev(point string) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, point, unix.AT_STATX_DONT_SYNC, 0, &st); err != nil {
		return 0, os.NewSyscallError("statx", err)
	}
	return unix.Mkdev(st.Dev_major, st.Dev_minor), nil
}

func newEngine(t *tree, fd int, point string) *engine {
	e := &engine{t: t, fd: fd, eager: -1, point: point, workers: make(map[*worker]struct{})}
	e.spin.small, e.spin.large = spinSmall, spinLarge
	e.freed.L = &e.mu
	return e
}

// A worker that waits for the next request sits in a system call. After 20 µs there the Go scheduler takes a thread's
// processor away, unless another is idle, and then every request begins with getting one back. So there are
// as many more of them as workers wait. Measured on two CPUs with fio, 4 KiB reads one at a time, alternating rounds against
// none spare: 1.18 times the IOPS in one run, 1.08 in another; at a depth of 32 and at 1 MiB no difference beyond the noise.
var spareProcessors sync.Once

// wanted is what we want of the protocol: asynchronous direct I/O, without which QEMU and loop devices get one
// request at a time, large requests, and shared mappings of files opened for direct I/O.
const wanted = fusefs.CAP_ASYNC_READ | fusefs.CAP_ASYNC_DIO | fusefs.CAP_BIG_WRITES | fusefs.CAP_MAX_PAGES |
	fusefs.CAP_PARALLEL_DIROPS | fusefs.CAP_AUTO_INVAL_DATA | fusefs.CAP_DIRECT_IO_ALLOW_MMAP

// handshake answers INIT, the first request.
func (e *engine) handshake() error {
	b, err := e.unused.take()
	if err != nil {
		return err
	}
	defer e.unused.give(b)
	n, err := readRequest(e.fd, b)
	if err != nil {
		return fmt.Errorf("first request: %w", err)
	}
	in := view[fusefs.InitIn](b.request(n))
	if in == nil || in.Opcode != opInit || in.Major != protocolMajor || in.Minor < minMinor {
		return fmt.Errorf("the kernel's FUSE is too old: protocol %d.%d is needed", protocolMajor, minMinor)
	}
	flags := (uint64(in.Flags) | uint64(in.Flags2)<<32) & wanted
	out := fusefs.InitOut{
		Major: protocolMajor, Minor: min(protocolMinor, in.Minor), MaxReadAhead: in.MaxReadAhead,
		Flags: uint32(flags) | in.Flags&fusefs.CAP_INIT_EXT, Flags2: uint32(flags >> 32),
		MaxBackground: maxBackground, CongestionThreshold: maxBackground * 3 / 4,
		MaxWrite: maxWrite, MaxPages: uint16(maxWrite / os.Getpagesize()), TimeGran: 1,
	}
	return e.send(e.fd, in.Unique, 0, bytesOf(&out))
}

// serve answers requests until the file system is unmounted.
func (e *engine) serve() {
	e.start()
	e.running.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unused.releaseAll()
	e.served = true
	e.closeLocked()
}

// closeLocked closes the connection, unless somebody uses it. e.mu is held.
func (e *engine) closeLocked() {
	if e.served && e.senders == 0 {
		unix.Close(e.fd) //nolint:errcheck // the file system is gone
		if e.eager >= 0 {
			unix.Close(e.eager) //nolint:errcheck // likewise
		}
	}
}

// start starts a worker, if there is a buffer for it.
func (e *engine) start() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lent >= maxBuffers || e.ended.Load() {
		return // the first to be done becomes a reader
	}
	b, err := e.takeLocked()
	if err != nil {
		return // likewise
	}
	w := &worker{e: e, buf: b, counted: true}
	w.newCaller()
	e.workers[w] = struct{}{}
	e.running.Add(1)
	e.idle.Add(1)
	go w.run()
}

// takeLocked returns a buffer that now counts. e.mu is held.
func (e *engine) takeLocked() (*buffer, error) {
	b, err := e.unused.take()
	if err == nil {
		e.lent++
	}
	return b, err
}

// giveLocked takes back a buffer; counted says that it counts. e.mu is held.
func (e *engine) giveLocked(b *buffer, counted bool) {
	if counted {
		e.lent--
		e.freed.Signal()
	}
	e.unused.give(b)
}

// startReader starts a worker if none waits for a request.
func (e *engine) startReader() {
	if e.idle.Load() == 0 {
		e.start()
	}
}

// interrupt passes on that the request called unique was interrupted, which id says. If it is not known, either it has been
// answered or its worker is about to begin with it. The kernel knows, and says it again in the latter case if it is told EAGAIN. An interrupt
// that got lost would leave a process that cannot be killed.
func (e *engine) interrupt(id, unique uint64) {
	if e.tryInterrupt(unique) {
		return
	}
	const pause = time.Millisecond // for the worker
	time.AfterFunc(pause, func() {
		if !e.tryInterrupt(unique) { // the kernel looks for it where it was read; this fails if it has been answered
			_ = e.send(e.fd, id, -int32(unix.EAGAIN), nil)
			_ = e.send(e.eager, id, -int32(unix.EAGAIN), nil)
		}
	})
}

func (e *engine) tryInterrupt(unique uint64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for w := range e.workers {
		if w.caller.Load().interrupt(unique) {
			return true
		}
	}
	return false
}

// end lets go of the requests that wait, when the file system is unmounted. It may have been by force, and then nobody can
// end their waits.
func (e *engine) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended.Store(true)
	for w := range e.workers {
		w.caller.Load().abort()
	}
}

// unmount detaches the mount.
func (e *engine) unmount() error { return Detach(e.point, false) }

// dropCache makes the kernel forget the attributes and, if data, the cached pages of a file.
func (e *engine) dropCache(node uint64, data bool) {
	body := fusefs.NotifyInvalInodeOut{Ino: node, Off: -1} // attributes only
	if data {
		body.Off = 0
	}
	// An inode that the kernel does not know has no cache.
	_ = e.send(e.fd, 0, -fusefs.NOTIFY_INVAL_INODE, bytesOf(&body))
}

// send writes a message that is no reply to a worker's request to a descriptor of the connection. It may come from outside, after the end.
func (e *engine) send(fd int, unique uint64, status int32, body []byte) error {
	e.mu.Lock()
	if e.served {
		e.mu.Unlock()
		return unix.ENODEV // the number of the connection may mean another file
	}
	e.senders++
	e.mu.Unlock()
	out := fusefs.OutHeader{Length: uint32(outHeaderSize + len(body)), Status: status, Unique: unique}
	b := append(bytesOf(&out), body...)
	_, err := unix.Write(fd, b)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.senders--
	e.closeLocked()
	return err
}
