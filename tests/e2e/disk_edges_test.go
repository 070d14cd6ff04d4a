package e2e

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Locks of every kind keep two openers of a device apart, as QEMU expects.
func TestLocks(t *testing.T) {
	b := newBench(t)
	b.mount("")
	b.control("create z 0 2048 zero\n")
	open := func() *os.File {
		f, err := os.OpenFile(b.mnt+"/z", os.O_RDWR, 0)
		must(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	one, two := open(), open()
	for name, lock := range map[string]func(f *os.File) error{
		"flock": func(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) },
		"OFD": func(f *os.File) error {
			return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: 100, Len: 1})
		},
	} {
		must(t, lock(one))
		if err := lock(two); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("%s: a second lock: %v, want EAGAIN", name, err)
		}
	}
}

// A disk below that is full: whoever writes is told, and what fits is not lost.
func TestFullDiskBelow(t *testing.T) {
	b := newBench(t)
	requireRoot(t)
	small := b.path("small")
	must(t, os.Mkdir(small, 0o755))
	b.run("mount", "-t", "tmpfs", "-o", "size=1m", "none", small)
	t.Cleanup(func() { b.run("umount", small) })
	must(t, os.WriteFile(small+"/img", nil, 0o644))
	must(t, os.Truncate(small+"/img", 8<<20))
	b.mount("")
	b.control("create v 0 16384 linear " + small + "/img 0\n")
	data := b.file("data", string(random(8<<20, 9)))
	out, status := b.try("dd", "if="+data, "of=mnt/v", "bs=64k", "conv=notrunc,fsync")
	if status == 0 || !strings.Contains(out, "No space left on device") {
		t.Errorf("dd: exit status %d\n%s", status, out)
	}
	b.same(512<<10, data, 0, b.mnt+"/v", 0)
	if log, err := os.ReadFile(b.mnt + "/.dm/log"); err != nil || !strings.Contains(string(log), "I/O error: v: linear: write of 128 sectors") {
		t.Errorf("the log says (%v)\n%s", err, log)
	}
	b.run(program, "remove", "v")
}

// What programs do to regular files changes no size, and the ioctl for the size of a disk answers.
func TestSizeStays(t *testing.T) {
	b := newBench(t)
	b.image("a.img", 2048)
	b.mount("")
	b.control("create v 0 2048 linear " + b.path("a.img") + " 0\n")
	b.file("little", "little")
	b.run("cp", "little", "mnt/v")
	b.run("sh", "-c", "echo text | tee mnt/v")
	must(t, os.Truncate(b.mnt+"/v", 5))
	must(t, os.Truncate(b.mnt+"/v", 1<<40))
	if st, err := os.Stat(b.mnt + "/v"); err != nil || st.Size() != 1<<20 {
		t.Errorf("the size is %v (%v)", st, err)
	}
	if out := b.run("blockdev", "--getsize64", "mnt/v"); out != "1048576\n" {
		t.Errorf("BLKGETSIZE64 says %s", out)
	}
	f, err := os.OpenFile(b.mnt+"/v", os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	defer f.Close()
	if _, err := f.Write([]byte("more")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("appending: %v, want ENOSPC", err)
	}
	have, err := os.ReadFile(b.mnt + "/v")
	must(t, err)
	if !strings.HasPrefix(string(have), "text\ne") {
		t.Errorf("the device begins with %q", have[:8])
	}
}
