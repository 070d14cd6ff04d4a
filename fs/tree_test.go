package fs

import (
	"context"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/fs/control"
	"dmfs/mapper"
	"dmfs/mapper/mappertest"
	"dmfs/targets"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testTree(t *testing.T, disks ...mapper.Disk) *tree {
	registry := new(mapper.Registry)
	targets.Register(registry)
	m := mapper.NewManager(registry, mapper.Options{Files: mappertest.NewFiles(disks...)})
	t.Cleanup(func() { must(t, m.Close(context.Background())) })
	return newTree(m, control.Version{})
}

// asker returns the context of a request that nobody interrupts.
func asker(t *testing.T) *caller {
	c := new(caller)
	t.Cleanup(func() { c.end() })
	return c
}

// mustOpen opens the file of a device.
func (t *tree) mustOpen(tb testing.TB, name string) *dataHandle {
	tb.Helper()
	h, errno := t.openData(t.m.ByName(name))
	if errno != 0 {
		tb.Fatal(errno)
	}
	return h
}

func (t *tree) mustControl(tb testing.TB, commands string) {
	tb.Helper()
	_, err := control.NewSession(t.m, t.version).Write(context.Background(), []byte(commands))
	must(tb, err)
}

func TestHandles(t *testing.T) {
	var h handleTable
	if h.get(0) != nil || h.remove(0) != nil || h.get(1<<63) != nil {
		t.Error("an empty table has something open")
	}
	a, b := h.add("a"), h.add("b")
	if h.get(a) != "a" || h.get(b) != "b" {
		t.Error("handles are mixed up")
	}
	if h.remove(a) != "a" || h.remove(a) != nil || h.get(a) != nil {
		t.Error("a handle outlives its removal")
	}
	if c := h.add("c"); c != a || h.get(c) != "c" || h.get(b) != "b" {
		t.Errorf("the free number is not used again, or its place")
	}
}

func TestAliases(t *testing.T) {
	var a aliases
	x, y := a.add(controlNode), a.add(controlNode)
	if x == y {
		t.Error("two lookups give one inode")
	}
	if a.real(x) != controlNode || a.real(y) != controlNode || a.real(17) != 17 {
		t.Error("an alias stands for something else")
	}
	a.forget(x)
	a.forget(x)
	a.forget(controlNode)
	if a.real(x) != 0 || a.real(y) != controlNode {
		t.Error("the wrong one was forgotten")
	}
	a.forget(y)
	if len(a.node) != 0 {
		t.Errorf("%d aliases are never forgotten", len(a.node))
	}
}

// fallocate(2) answers as a block device does.
func TestAllocate(t *testing.T) {
	disk := mappertest.NewDisk("a", 64)
	tr := testTree(t, disk)
	tr.mustControl(t, "create d 0 64 linear a 0\ncreate ro ro 0 64 linear a 0\n")
	const (
		punch = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
		zero  = unix.FALLOC_FL_ZERO_RANGE
		keep  = unix.FALLOC_FL_KEEP_SIZE
		size  = 64 * 512
	)
	for _, tt := range []struct {
		device string
		mode   uint32
		off, n int64
		want   unix.Errno
		zeroes [2]int64 // the range that is zero after
	}{
		{"d", punch, 0, 512, 0, [2]int64{0, 512}},
		{"d", punch, 100, 1000, 0, [2]int64{100, 1100}},
		{"d", punch, size - 1, 1 << 62, 0, [2]int64{size - 1, size}},
		{"d", punch, 3, 1<<63 - 1, 0, [2]int64{3, size}},
		{"d", punch, size, 1, unix.EINVAL, [2]int64{}},
		{"d", punch, -1, 1, unix.EINVAL, [2]int64{}},
		{"d", punch, 0, 0, unix.EINVAL, [2]int64{}},
		{"d", unix.FALLOC_FL_PUNCH_HOLE, 0, 1, unix.EOPNOTSUPP, [2]int64{}},
		{"d", zero, 511, 2, 0, [2]int64{511, 513}},
		{"d", zero, 0, size, 0, [2]int64{0, size}},
		{"d", zero, 1, size, unix.ENOSPC, [2]int64{}},
		{"d", zero | keep, 1, size, 0, [2]int64{1, size}},
		{"d", 0, 0, 512, unix.EOPNOTSUPP, [2]int64{}},
		{"d", keep, 0, 512, unix.EOPNOTSUPP, [2]int64{}},
		{"d", unix.FALLOC_FL_COLLAPSE_RANGE, 0, 512, unix.EOPNOTSUPP, [2]int64{}},
		{"d", ^uint32(0), 0, 512, unix.EOPNOTSUPP, [2]int64{}},
		{"ro", punch, 0, 512, unix.EPERM, [2]int64{}},
	} {
		disk.Poke(0, []byte(strings.Repeat("x", size)))
		h, e := tr.openData(tr.m.ByName(tt.device))
		if e != 0 {
			t.Fatal(e)
		}
		if got := h.allocate(asker(t), tt.mode, tt.off, tt.n); got != tt.want {
			t.Errorf("%s: mode %#x, %d+%d: %v, want %v", tt.device, tt.mode, tt.off, tt.n, got, tt.want)
		}
		h.release()
		for i, c := range disk.Peek(0, 64) {
			if inside := int64(i) >= tt.zeroes[0] && int64(i) < tt.zeroes[1]; inside != (c == 0) {
				t.Errorf("mode %#x, %d+%d: byte %d is %#x", tt.mode, tt.off, tt.n, i, c)
				break
			}
		}
	}
	must(t, disk.Broken())
}

func TestSeekAndSize(t *testing.T) {
	tr := testTree(t, mappertest.NewDisk("a", 64))
	tr.mustControl(t, "create d { 0 8 linear a 0; 8 8 zero; 16 8 error }\n")
	d := tr.m.ByName("d")
	h, _ := tr.openData(d)
	defer h.release()
	for _, tt := range []struct {
		off    int64
		whence uint32
		want   int64
		errno  unix.Errno
	}{
		{0, unix.SEEK_DATA, 0, 0},
		{0, unix.SEEK_HOLE, 4096, 0},
		{4095, unix.SEEK_DATA, 4095, 0},
		{4096, unix.SEEK_DATA, 8192, 0},
		{4097, unix.SEEK_HOLE, 4097, 0},
		{8192, unix.SEEK_HOLE, 12288, 0},
		{12287, unix.SEEK_DATA, 12287, 0},
		{12288, unix.SEEK_DATA, 0, unix.ENXIO},
		{12288, unix.SEEK_HOLE, 0, unix.ENXIO},
		{1<<63 - 1, unix.SEEK_HOLE, 0, unix.ENXIO},
		{0, unix.SEEK_END, 0, unix.EINVAL},
	} {
		at, errno := h.seek(asker(t), tt.off, tt.whence)
		if errno != tt.errno || errno == 0 && at != tt.want {
			t.Errorf("whence %d from %d: %d, %v; want %d, %v", tt.whence, tt.off, at, errno, tt.want, tt.errno)
		}
	}
	out := make([]byte, 8)
	if e := h.ioctl(0x80081272, out); e != 0 || out[0] != 0 || out[1] != 0x30 {
		t.Errorf("BLKGETSIZE64: %v, %x", e, out)
	}
	if e := h.ioctl(0x80081272, out[:4]); e != unix.ENOTTY {
		t.Errorf("BLKGETSIZE64 into 4 bytes: %v", e)
	}
	if e := h.ioctl(0x5401, out); e != unix.ENOTTY {
		t.Errorf("TCGETS: %v", e)
	}
}

// openTextOf opens a text file by its node.
func (t *tree) openTextOf(tb *testing.T, node uint64, writes bool) *textHandle {
	tb.Helper()
	h, e := t.openText(asker(tb), node, writes)
	if e != 0 {
		tb.Fatal(e)
	}
	return h
}

// The reply is read from where the file position is, wherever writes have moved it.
func TestControlReplyOffsets(t *testing.T) {
	tr := testTree(t)
	read := func(h *textHandle, off int64, n int) string {
		t.Helper()
		p := make([]byte, n)
		got, e := h.read(asker(t), p, off)
		if e != 0 {
			t.Fatalf("read at %d: %v", off, e)
		}
		return string(p[:got])
	}
	h := tr.openTextOf(t, controlNode, true)
	if got := read(h, 0, 100); got != "" {
		t.Errorf("what is saved of nothing: %q", got)
	}
	if _, e := h.write(asker(t), []byte("create d 0 8 zero\n")); e != 0 {
		t.Fatal(e)
	}
	for _, tt := range []struct {
		off  int64
		n    int
		want string
	}{{18, 2, "ok"}, {20, 10, "\n"}, {21, 10, ""}, {18, 10, "ok\n"}, {0, 10, "ok\n"}, {3, 10, ""}, {1 << 62, 10, ""}} {
		if got := read(h, tt.off, tt.n); got != tt.want {
			t.Errorf("read of %d at %d: %q, want %q", tt.n, tt.off, got, tt.want)
		}
	}
	if _, e := h.write(asker(t), []byte("create d 0 8 zero\n")); e != unix.EBUSY {
		t.Errorf("write: %v", e)
	}
	if got := read(h, 18, 100); !strings.HasPrefix(got, "error: d: name d is taken") {
		t.Errorf("reply %q", got)
	}
	if got := read(tr.openTextOf(t, controlNode, false), 0, 100); got != "create d minor=0 {\n0 8 zero\n}\n" {
		t.Errorf("a fresh open says %q", got)
	}
	if e := h.flush(asker(t)); e != 0 {
		t.Errorf("flush: %v", e)
	}
	h.write(asker(t), []byte("create e {\n"))
	if e := h.flush(asker(t)); e != unix.EINVAL {
		t.Errorf("flush of an unfinished command: %v", e)
	}
	h.release(asker(t))
	if !strings.Contains(tr.m.Log().Text(), "unfinished command dropped") {
		t.Error("the log does not say so")
	}
}

// A file that nothing was written to is read from any offset, also by the first read.
func TestTextOffsets(t *testing.T) {
	tr := testTree(t)
	tr.mustControl(t, "create d 0 8 zero\n")
	d := tr.m.ByName("d")
	for _, node := range []uint64{controlNode, deviceNode(d, tableFile), deviceNode(d, statusFile), deviceNode(d, infoFile), deviceNode(d, eventsFile)} {
		whole := make([]byte, 1000)
		n, e := tr.openTextOf(t, node, false).read(asker(t), whole, 0)
		if e != 0 || n == 0 {
			t.Fatalf("node %d: %d bytes, %v", node, n, e)
		}
		for _, off := range []int{1, n - 1, n, n + 1} {
			got := make([]byte, 1000)
			k, e := tr.openTextOf(t, node, false).read(asker(t), got, int64(off))
			if want := whole[min(off, n):n]; e != 0 || string(got[:k]) != string(want) {
				t.Errorf("node %d: read at %d: %q, %v, want %q", node, off, got[:k], e, want)
			}
		}
	}
}

// While a command waits, others who have the same open file can give up.
func TestTextWaitIsInterruptible(t *testing.T) {
	tr := testTree(t)
	tr.mustControl(t, "create d 0 8 zero\n")
	h := tr.openTextOf(t, controlNode, true)
	waits := new(caller)
	wrote := make(chan unix.Errno)
	go func() {
		defer waits.end()
		_, e := h.write(waits, []byte("wait name=d 0\n"))
		wrote <- e
	}()
	for len(h.busy) == 0 {
		time.Sleep(time.Millisecond)
	}
	for what, f := range map[string]func(c *caller) unix.Errno{
		"close": h.flush,
		"read":  func(c *caller) unix.Errno { _, e := h.read(c, make([]byte, 1), 0); return e },
		"write": func(c *caller) unix.Errno { _, e := h.write(c, []byte("x")); return e },
	} {
		c := begun(0, true)
		if e := f(c); e != unix.EINTR {
			t.Errorf("%s: %v, want EINTR", what, e)
		}
		c.end()
	}
	must(t, tr.m.Rename("d", "e"))
	if e := <-wrote; e != 0 {
		t.Errorf("wait: %v", e)
	}
}

// A table file takes the whole table at close, and a message file each line.
func TestTableAndMessageFiles(t *testing.T) {
	tr := testTree(t)
	tr.mustControl(t, "create d 0 8 zero\n")
	d := tr.m.ByName("d")
	table := tr.openTextOf(t, deviceNode(d, tableFile), true)
	for _, part := range []string{"0 8 ze", "ro\n8 8 err", "or"} {
		if n, e := table.write(asker(t), []byte(part)); n != len(part) || e != 0 {
			t.Fatal(e)
		}
	}
	if d.Sectors() != 8 {
		t.Error("applied before close")
	}
	if e := table.flush(asker(t)); e != 0 || d.Sectors() != 16 {
		t.Errorf("close: %v, %d sectors", e, d.Sectors())
	}
	table.write(asker(t), []byte("0 8 nonsense\n"))
	if e := table.flush(asker(t)); e != unix.EINVAL {
		t.Errorf("close of a bad table: %v", e)
	}
	table.release(asker(t))
	if i := d.Info(); i.Sectors != 16 || i.Inactive {
		t.Errorf("after a bad table: %+v", i)
	}
	big := tr.openTextOf(t, deviceNode(d, tableFile), true)
	if _, e := big.write(asker(t), make([]byte, maxTable+1)); e != unix.E2BIG {
		t.Errorf("a huge table: %v", e)
	}
	message := tr.openTextOf(t, deviceNode(d, messageFile), true)
	if _, e := message.write(asker(t), []byte("\n  \n0 @cancel_deferred_remove\n0 @canc")); e != 0 {
		t.Errorf("message: %v", e)
	}
	if e := message.flush(asker(t)); e != unix.EINVAL {
		t.Errorf("a bad last line: %v", e)
	}
	message.release(asker(t))
}
