package fs

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// Buffers do not overlap, their data begins at a page, and memory that is not used goes back to the system.
func TestBuffers(t *testing.T) {
	var f buffers
	var lent []*buffer
	seen := make(map[*byte]bool)
	for range 3*arenaBuffers + 1 {
		b, err := f.take()
		must(t, err)
		p := b.payload(maxWrite)
		if !mapper.Aligned(p, payloadAt) {
			t.Fatal("data does not begin at a page")
		}
		if len(b.withHeader(maxWrite)) != outHeaderSize+maxWrite || &b.withHeader(1)[outHeaderSize] != &p[0] {
			t.Fatal("the header is not right before the data")
		}
		if seen[&p[0]] {
			t.Fatal("two have the same memory")
		}
		seen[&p[0]] = true
		p[0], p[maxWrite-1] = 1, 1
		lent = append(lent, b)
	}
	for i, b := range lent {
		if b.payload(1)[0] != 1 {
			t.Fatalf("buffer %d overlaps another", i)
		}
		b.payload(1)[0] = 0
	}
	for _, b := range lent {
		f.give(b)
	}
	if len(f.free) > spareBuffers {
		t.Errorf("%d unused buffers, want at most %d", len(f.free), spareBuffers)
	}
	b, err := f.take()
	must(t, err)
	b.payload(1)[0] = 1 // the memory is there
	f.give(b)
	f.releaseAll()
}

// A request that is large gets its arena huge pages, where the system has them, and what is in the buffers stays; small ones do not.
func TestLargeRequestsHaveHugePages(t *testing.T) {
	enabled, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled")
	if err != nil || strings.Contains(string(enabled), "[never]") {
		t.Skip("needs transparent huge pages")
	}
	var f buffers
	defer f.releaseAll()
	b, err := f.take()
	must(t, err)
	defer f.give(b)
	b.suit(largeData - 1)
	p := b.payload(maxWrite)
	for i := range p {
		p[i] = byte(i / 4096)
	}
	if n := hugeKiB(t, b.mem); n != 0 {
		t.Errorf("%d KiB in huge pages before a large request", n)
	}
	for range 2 * largeAttempts {
		b.suit(largeData)
	}
	if hugeKiB(t, b.mem) == 0 {
		t.Error("no huge pages after large requests")
	}
	for i := range p {
		if p[i] != byte(i/4096) {
			t.Fatalf("byte %d has changed", i)
		}
	}
}

// hugeKiB returns how much of the mapping that mem is in lies in huge pages.
func hugeKiB(t *testing.T, mem []byte) (n int) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/smaps")
	must(t, err)
	at, inside := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))), false
	for line := range strings.Lines(string(maps)) {
		var from, end uint64
		if c, _ := fmt.Sscanf(line, "%x-%x ", &from, &end); c == 2 {
			inside = from <= at && at < end
		}
		if inside && strings.HasPrefix(line, "AnonHugePages:") {
			_, err := fmt.Sscanf(line, "AnonHugePages: %d kB", &n)
			must(t, err)
			return n
		}
	}
	t.Fatal("no such mapping")
	return 0
}

// When the file system is gone, its connection's number may be another file's: nothing is written to it any more.
func TestNothingIsSentAfterTheEnd(t *testing.T) {
	var pair [2]int
	must(t, unix.Pipe2(pair[:], unix.O_CLOEXEC))
	must(t, unix.Close(pair[1])) // reading it ends at once, as it does after an unmount
	e := newEngine(testTree(t), pair[0], "")
	e.serve()
	file, err := unix.Open(t.TempDir(), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	must(t, err)
	defer unix.Close(file)
	e.fd = file // as if it had got the number of the connection
	e.dropCache(rootNode, true)
	var st unix.Stat_t
	must(t, unix.Fstat(file, &st))
	if st.Size != 0 {
		t.Errorf("%d bytes went to another file", st.Size)
	}
}

// A directory entry that does not fit is left for the next read.
func TestAppendDirent(t *testing.T) {
	list := make([]byte, 0, 64)
	list, ok := appendDirent(list, entry{"control", 2, unix.S_IFREG}, 1)
	if !ok || len(list) != 32 {
		t.Fatalf("%d bytes, %v; want 24 and the name, in units of 8", len(list), ok)
	}
	if got := binary.NativeEndian.Uint32(list[20:]); got != unix.DT_REG {
		t.Errorf("type %d, want %d", got, unix.DT_REG)
	}
	if list, ok = appendDirent(list, entry{"123456789", 3, unix.S_IFREG}, 2); ok || len(list) != 32 {
		t.Error("an entry too long for what is left went in")
	}
	if _, ok = appendDirent(list, entry{"12345678", 3, unix.S_IFREG}, 2); !ok {
		t.Error("an entry that fits did not go in")
	}
}

// FuzzAnswer gives a worker requests of any shape: none makes it panic or leave the bounds of its buffer.
func FuzzAnswer(f *testing.F) {
	for op := range uint32(opTmpFile + 1) {
		f.Add(op, uint64(rootNode), make([]byte, 64))
		f.Add(op, uint64(controlNode), []byte("control\x00"))
	}
	f.Fuzz(func(t *testing.T, op uint32, node uint64, rest []byte) {
		if op == opInterrupt {
			return // looks for its request for some milliseconds more
		}
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		must(t, err)
		defer null.Close()
		e := newEngine(testTree(t), int(null.Fd()), "")
		defer e.unused.releaseAll()
		w := &worker{e: e, counted: true, conn: e.fd}
		w.newCaller()
		w.buf, err = e.takeLocked()
		must(t, err)
		e.t.mustControl(t, "create d 0 64 zero\n")
		h := e.t.mustOpen(t, "d")
		fh := e.t.handles.add(h)

		msg := slices.Concat(make([]byte, inHeaderSize), rest[:min(len(rest), maxWrite)])
		binary.NativeEndian.PutUint32(msg, uint32(len(msg)))
		binary.NativeEndian.PutUint32(msg[4:], op)
		binary.NativeEndian.PutUint64(msg[8:], 7)
		binary.NativeEndian.PutUint64(msg[16:], node)
		w.answer(w.buf.request(copy(w.buf.room(), msg)))
		if h, ok := e.t.handles.remove(fh).(*dataHandle); ok {
			h.release()
		}
	})
}
