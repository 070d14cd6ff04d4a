package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openDirectly reports whether the mount has a file open for direct I/O.
func (b *bench) openDirectly(name string) bool {
	b.t.Helper()
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", b.daemon()))
	for _, fd := range fds {
		if target, _ := os.Readlink(fd); target == b.path(name) {
			info, _ := os.ReadFile(strings.Replace(fd, "/fd/", "/fdinfo/", 1))
			var pos, flags int
			if _, err := fmt.Sscanf(string(info), "pos: %d\nflags: %o", &pos, &flags); err != nil {
				b.t.Fatalf("%s: %v", info, err)
			}
			return flags&unix.O_DIRECT != 0
		}
	}
	b.t.Fatalf("the mount has not opened %s", name)
	return false
}

// needDirect skips the test where files cannot be opened for direct I/O.
func (b *bench) needDirect(name string) {
	fd, err := unix.Open(b.path(name), unix.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		b.t.Skipf("needs a file system with direct I/O: %v", err)
	}
	unix.Close(fd)
}

// A table opens a file past the page cache when it says so, and tells that again, also as a command to create the device.
func TestDirectFiles(t *testing.T) {
	b := newBench(t)
	b.run("mkdir", "a dir")
	data := b.stamps("a dir/a.img", 1024)
	b.needDirect("a dir/a.img")
	b.mount("")
	b.run(program, "create", "plain", "--table", `0 2048 linear "`+b.path("a dir/a.img")+`" 0`)
	if b.openDirectly("a dir/a.img") {
		t.Error("direct I/O that nobody has asked for")
	}
	b.run(program, "remove", "plain")
	word := `"direct:` + b.path("a dir/a.img") + `"`
	b.run(program, "create", "vol", "--table", "0 2048 linear "+word+" 0")
	if !b.openDirectly("a dir/a.img") {
		t.Error("no direct I/O")
	}
	commands, err := os.ReadFile(b.mnt + "/control")
	must(t, err)
	says(t, b.run(program, "table", "vol")+string(commands), "0 2048 linear "+word+" 0\n", "create vol", word)
	have, err := os.ReadFile(b.mnt + "/vol")
	must(t, err)
	if string(have) != string(data) {
		t.Error("the device has other data than the file")
	}
	b.fails(1, "No such device", program, "create", "none", "--table", "0 8 linear direct:/nowhere 0")
}

// losetup asks for direct I/O and takes it back, on a loop device in use, which keeps it when it is changed.
func TestExecDirect(t *testing.T) {
	forEach(t, "losetup lsblk", func(t *testing.T, b *bench) {
		b.image("a.img", 2048)
		b.stamps("stamps", 64)
		b.needDirect("a.img")
		step := func(script string) string {
			return b.session("", "exec 3<>/dev/loop2; "+script+"; losetup -nlO DIO,AUTOCLEAR /dev/loop2; cat /sys/block/loop2/loop/dio")
		}
		says(t, step("losetup -b 4096 --direct-io=on /dev/loop2 a.img; dd if=stamps of=/dev/loop2 bs=64k conv=notrunc status=none"), "  1         0\n", "\n1\n")
		if !b.openDirectly("a.img") {
			t.Error("no direct I/O")
		}
		b.run("cmp", "-n", "65536", "stamps", "a.img")
		says(t, step("cmp -n 65536 /dev/loop2 stamps; truncate -s 2M a.img; losetup -c /dev/loop2; blockdev --getsize64 /dev/loop2; losetup --direct-io=on /dev/loop2"), "  1         0\n", "2097152\n")
		says(t, step("losetup --direct-io=off /dev/loop2; cmp -n 65536 /dev/loop2 stamps"), "  0         0\n", "\n0\n")
		if b.openDirectly("a.img") {
			t.Error("direct I/O that nobody wants")
		}
		says(t, b.session("", "losetup /dev/loop3 /dev/loop2; losetup --direct-io=on /dev/loop3 || echo no file; losetup -d /dev/loop3; losetup -d /dev/loop2"), "no file")
	})
}
