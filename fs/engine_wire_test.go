package fs

import (
	"testing"
	"time"
	"unsafe"

	fusefs "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"dmfs/mapper/mappertest"
)

// A wire is the kernel's end of a connection with an engine that serves.
type wire struct {
	t     *testing.T
	fd    int
	e     *engine
	ended chan struct{} // closed when serve has returned
}

func newWire(t *testing.T, tree *tree) *wire {
	here, there := connect(t)
	k := &wire{t: t, fd: here, e: newEngine(tree, there, ""), ended: make(chan struct{})}
	k.serve()
	return k
}

// newEagerWire returns both descriptors' ends. The engine tries for requests on the second for ever.
func newEagerWire(t *testing.T, tree *tree) (k, eager *wire) {
	here, there := connect(t)
	k = &wire{t: t, fd: here, e: newEngine(tree, there, ""), ended: make(chan struct{})}
	here, k.e.eager = connect(t)
	must(t, unix.SetNonblock(k.e.eager, true))
	eager = &wire{t: t, fd: here, e: k.e, ended: k.ended}
	k.e.spin.small, k.e.spin.large = time.Hour, time.Hour
	k.serve()
	t.Cleanup(eager.hangUp)
	t.Cleanup(func() { must(t, unix.Shutdown(k.fd, unix.SHUT_RDWR)) })
	return k, eager
}

func connect(t *testing.T) (here, there int) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	must(t, unix.SetsockoptTimeval(pair[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20}))
	return pair[0], pair[1]
}

func (k *wire) serve() {
	go func() {
		defer close(k.ended)
		k.e.serve()
	}()
	k.t.Cleanup(k.hangUp)
}

// hangUp is what the kernel does when a mount is gone, and waits until the engine has ended.
func (k *wire) hangUp() {
	if k.fd < 0 {
		return
	}
	unix.Close(k.fd)
	k.fd = -1
	select {
	case <-k.ended:
	case <-time.After(20 * time.Second):
		k.t.Fatal("the engine goes on without its mount")
	}
}

// send sends a request that has a header h.
func send[T any](k *wire, request *T, h *fusefs.InHeader, opcode uint32, unique uint64) {
	k.t.Helper()
	h.Length, h.Opcode, h.Unique, h.NodeId = uint32(unsafe.Sizeof(*request)), opcode, unique, rootNode
	_, err := unix.Write(k.fd, unsafe.Slice((*byte)(unsafe.Pointer(request)), h.Length))
	must(k.t, err)
}

func (k *wire) read(unique, fh uint64, n uint32) {
	k.t.Helper()
	in := &fusefs.ReadIn{Fh: fh, Size: n}
	send(k, in, &in.InHeader, opRead, unique)
}

func (k *wire) statFS(unique uint64) {
	k.t.Helper()
	in := new(fusefs.InHeader)
	send(k, in, in, opStatFS, unique)
}

// reply returns the next reply's header.
func (k *wire) reply() fusefs.OutHeader {
	k.t.Helper()
	b := make([]byte, outHeaderSize+maxWrite)
	n, err := unix.Read(k.fd, b)
	must(k.t, err)
	return *view[fusefs.OutHeader](b[:n])
}

// Reads that have waited for a resume and then wait again, here for a path, hold up nothing else, however many there
// are: the command that ends their wait gets through. None of them is counted for ever.
func TestReadsWaitTwice(t *testing.T) {
	disk := mappertest.NewDisk("disk", 64)
	tree := testTree(t, disk)
	tree.mustControl(t, "create d 0 64 multipath 3 queue_if_no_path queue_mode bio 0 1 1 round-robin 0 1 1 disk 1\nmessage d 0 fail_path disk\nsuspend d\n")
	h := tree.mustOpen(t, "d")
	defer h.release()
	k := newWire(t, tree)
	fh := tree.handles.add(h)
	const reads, size = 2 * maxBuffers, 4096
	for i := range uint64(reads) {
		k.read(1+i, fh, size)
	}
	k.statFS(reads + 1) // is answered when all reads have been taken
	if got := k.reply(); got.Unique != reads+1 {
		t.Fatalf("request %d is answered, of a suspended device", got.Unique)
	}
	tree.mustControl(t, "resume d\n")
	deadline := time.Now().Add(20 * time.Second)
	for tree.waiting.Load() != reads*size {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes wait for a path, want %d", tree.waiting.Load(), reads*size)
		}
		time.Sleep(time.Millisecond)
	}
	k.statFS(reads + 2)
	if got := k.reply(); got.Unique != reads+2 {
		t.Fatalf("request %d is answered, without a path", got.Unique)
	}
	tree.mustControl(t, "message d 0 reinstate_path disk\n")
	for range reads {
		if got := k.reply(); got.Status != 0 || got.Length != uint32(outHeaderSize)+size {
			t.Fatalf("a read gets %+v", got)
		}
	}
	k.hangUp()
	if n := tree.waiting.Load(); n != 0 {
		t.Errorf("%d bytes wait for ever", n)
	}
}

// A mount that is gone, by force, takes the requests that wait with it: nobody could resume them.
func TestWaitsEndWithMount(t *testing.T) {
	tree := testTree(t)
	tree.mustControl(t, "create d 0 64 zero\nsuspend d\n")
	h := tree.mustOpen(t, "d")
	defer h.release()
	k := newWire(t, tree)
	k.read(1, tree.handles.add(h), 512)
	k.statFS(2)
	k.reply()
	k.hangUp()
}

// An interrupt of a request that no worker knows is given back to the kernel, which says it again as long as the request
// is not answered: an interrupt that gets lost would leave a process that cannot be killed.
func TestInterruptTooEarly(t *testing.T) {
	k := newWire(t, testTree(t))
	in := &fusefs.InterruptIn{Unique: 2}
	send(k, in, &in.InHeader, opInterrupt, 3)
	if got := k.reply(); got.Unique != 3 || got.Status != -int32(unix.EAGAIN) {
		t.Errorf("reply %+v, want EAGAIN to request 3", got)
	}
}

// A worker that tries for the next request answers it where it came from, also when it has waited, and an interrupt of a request that nobody knows
// is given back wherever it may have been read.
func TestEager(t *testing.T) {
	tree := testTree(t)
	tree.mustControl(t, "create d 0 64 zero\nsuspend d\n")
	h := tree.mustOpen(t, "d")
	defer h.release()
	k, eager := newEagerWire(t, tree)
	k.statFS(1)
	if got := k.reply(); got.Unique != 1 {
		t.Fatalf("reply %+v to request 1", got)
	}
	eager.statFS(2)
	if got := eager.reply(); got.Unique != 2 {
		t.Fatalf("reply %+v to request 2", got)
	}
	eager.read(3, tree.handles.add(h), 512)
	k.statFS(4)
	if got := k.reply(); got.Unique != 4 {
		t.Fatalf("reply %+v to request 4", got)
	}
	tree.mustControl(t, "resume d\n")
	if got := eager.reply(); got.Unique != 3 || got.Status != 0 {
		t.Fatalf("reply %+v to request 3", got)
	}
	in := &fusefs.InterruptIn{Unique: 5}
	send(k, in, &in.InHeader, opInterrupt, 6)
	for _, wire := range []*wire{k, eager} {
		if got := wire.reply(); got.Unique != 6 || got.Status != -int32(unix.EAGAIN) {
			t.Errorf("reply %+v, want EAGAIN to request 6", got)
		}
	}
}

// One worker at a time tries, and after attempts in vain fewer and fewer do.
func TestSpin(t *testing.T) {
	var s spin
	if !s.begin() || s.begin() {
		t.Fatal("not one at a time")
	}
	s.end(false)
	attempts := 0
	for range 100_000 {
		if s.begin() {
			attempts++
			s.end(false)
		}
	}
	if most := spinMisses + spinRests + 100_000>>spinRests; attempts > most || attempts < spinRests {
		t.Errorf("%d attempts in vain, want %d at most", attempts, most)
	}
	for !s.begin() {
	}
	s.end(true)
	for range spinMisses {
		if !s.begin() {
			t.Error("no attempt after one that was not in vain")
		}
		s.end(false)
	}
	if s.begin() {
		t.Error("no rest after attempts in vain")
	}
}
