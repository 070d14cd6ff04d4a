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
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	k := &wire{t: t, fd: pair[0], e: newEngine(tree, pair[1], ""), ended: make(chan struct{})}
	must(t, unix.SetsockoptTimeval(k.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20}))
	go func() {
		defer close(k.ended)
		k.e.serve()
	}()
	t.Cleanup(k.hangUp)
	return k
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
	h, errno := tree.openData(tree.m.ByName("d"))
	if errno != 0 {
		t.Fatal(errno)
	}
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
	h, errno := tree.openData(tree.m.ByName("d"))
	if errno != 0 {
		t.Fatal(errno)
	}
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
