package e2e

import (
	"bytes"
	"errors"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A device file answers as a block device does, wherever a regular file lets it.
func TestDeviceFileEdges(t *testing.T) {
	b := newBench(t)
	b.image("a.img", 2048)
	b.image("b.img", 4096)
	b.mount("")
	b.control("create d 0 2048 linear " + b.path("a.img") + " 0\n")
	const size = 2048 * 512
	f, err := os.OpenFile(b.mnt+"/d", os.O_RDWR|os.O_TRUNC, 0)
	must(t, err)
	defer f.Close()
	other, err := os.OpenFile(b.mnt+"/d", os.O_RDWR|syscall.O_DSYNC, 0)
	must(t, err)
	defer other.Close()
	must(t, f.Truncate(0))
	seek := func(off int64, whence int, want int64) {
		t.Helper()
		if got, err := f.Seek(off, whence); err != nil || got != want {
			t.Errorf("seek %d from %d: %d, %v, want %d", whence, off, got, err, want)
		}
	}
	seek(0, unix.SEEK_HOLE, 0)
	data := random(8192, 3)
	_, err = other.WriteAt(data, 4096)
	must(t, err)
	have := make([]byte, len(data))
	if _, err := f.ReadAt(have, 4096); err != nil || !bytes.Equal(have, data) {
		t.Errorf("two opens do not agree: %v", err)
	}
	b.same(8192, b.path("a.img"), 4096, b.mnt+"/d", 4096)
	seek(0, unix.SEEK_DATA, 4096)
	seek(4096, unix.SEEK_HOLE, 12288)
	must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4096, 4096))
	seek(0, unix.SEEK_DATA, 8192)
	if err := unix.Fallocate(int(f.Fd()), 0, 0, 4096); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("preallocation: %v", err)
	}
	if n, err := unix.Pwrite(int(f.Fd()), data, size-100); n != 100 || err != nil {
		t.Errorf("a write that straddles the end: %d, %v", n, err)
	}
	if n, err := unix.Pwrite(int(f.Fd()), data, size); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a write past the end: %d, %v", n, err)
	}
	if n, err := unix.Pread(int(f.Fd()), have, size); n != 0 || err != nil {
		t.Errorf("a read past the end: %d, %v", n, err)
	}
	for _, resize := range []struct {
		table string
		size  int64
	}{{"{\n0 2048 linear " + b.path("a.img") + " 0\n2048 4096 linear " + b.path("b.img") + " 0\n}", 6144 * 512}, {"0 8 linear " + b.path("b.img") + " 0", 4096}} {
		b.control("load d " + resize.table + "\nresume d\n")
		if st, err := f.Stat(); err != nil || st.Size() != resize.size {
			t.Errorf("%d bytes after the resume, want %d (%v)", st.Size(), resize.size, err)
		}
	}
}

// What a mapping shows agrees with read(2) and write(2), and a resume with another table drops it.
func TestSharedMapping(t *testing.T) {
	b := newBench(t)
	b.image("a.img", 64)
	b.image("b.img", 64)
	b.mount("")
	b.control("create d 0 64 linear " + b.path("a.img") + " 0\n")
	f, err := os.OpenFile(b.mnt+"/d", os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	mapped, err := unix.Mmap(int(f.Fd()), 0, 64*512, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Skipf("needs a kernel that maps files of direct I/O: %v", err)
	}
	defer unix.Munmap(mapped)
	was := mapped[5000]
	_, err = f.WriteAt([]byte{was + 1}, 5000)
	must(t, err)
	if mapped[5000] != was+1 {
		t.Error("the mapping does not show what was written")
	}
	mapped[9000]++
	must(t, unix.Msync(mapped, unix.MS_SYNC))
	b.same(64*512, b.path("a.img"), 0, b.mnt+"/d", 0)
	b.control("load d 0 64 linear " + b.path("b.img") + " 0\nresume d\n")
	want, err := os.ReadFile(b.path("b.img"))
	must(t, err)
	if !bytes.Equal(mapped, want) {
		t.Error("the mapping shows the table before")
	}
}

// What was flushed is in the image when the daemon is killed, and a new mount over the stale one has it.
func TestKilledDaemonLosesNothingFlushed(t *testing.T) {
	b := newBench(t)
	config := b.sample()
	b.run(program, "mount", "--config", config, b.mnt)
	data := random(2000, 8)
	f, err := os.OpenFile(b.mnt+"/vol0", os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(data, 777)
	must(t, err)
	must(t, f.Sync())
	must(t, syscall.Kill(b.daemon(), syscall.SIGKILL))
	f.Close()
	b.waitFor("the daemon is gone", func() bool { return len(b.daemons()) == 0 })
	b.mount(config)
	have := make([]byte, len(data))
	f, err = os.Open(b.mnt + "/vol0")
	must(t, err)
	defer f.Close()
	if _, err := f.ReadAt(have, 777); err != nil || !bytes.Equal(have, data) {
		t.Errorf("what was flushed is lost: %v", err)
	}
}
