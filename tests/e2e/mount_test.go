package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// `dmfs mount` returns when the mount serves, `dmfs umount` when everything is written and the daemon gone. What was
// written lies in the images where the table says.
func TestMountUmount(t *testing.T) {
	for _, user := range []string{"root", "ordinary user"} {
		t.Run(user, func(t *testing.T) {
			b := newBench(t)
			switch {
			case user != "root":
				b.asUser()
			case os.Geteuid() != 0:
				t.Skip("needs root")
			}
			config := b.sample()
			if out := b.run(program, "mount", "--config", config, b.mnt); out != "" {
				t.Errorf("said %q", out)
			}
			want := bytes.Repeat([]byte("0123456789abcdef"), 16*512/16)
			b.file("data", string(want))
			b.run("dd", "if=data", "of=mnt/vol0", "bs=1000", "conv=notrunc", "status=none")
			b.run("cmp", "data", "mnt/vol0")
			b.run(program, "umount", b.mnt)
			if left := b.daemons(); len(left) > 0 {
				t.Errorf("when umount returns there still runs %v", left)
			}
			for i, name := range []string{"a.img", "b.img"} {
				got, err := os.ReadFile(b.path(name))
				must(t, err)
				if !bytes.Equal(got, want[i*4096:][:4096]) {
					t.Errorf("%s does not hold its half", name)
				}
			}
		})
	}
}

// A mount without configuration is empty, relative disks resolve against where it was made, and the daemon keeps no
// directory busy.
func TestEmptyMount(t *testing.T) {
	b := newBench(t)
	b.image("a.img", 8)
	b.run(program, "mount", "mnt")
	must(t, os.WriteFile(b.mnt+"/control", []byte("create x 0 8 linear a.img 0\n"), 0))
	b.run("cmp", "a.img", "mnt/x")
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", b.daemon()))
	if err != nil || cwd != "/" {
		t.Errorf("the daemon is in %s, %v", cwd, err)
	}
	for fd := range 3 {
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", b.daemon(), fd)); err != nil || to != os.DevNull {
			t.Errorf("descriptor %d of the daemon is %s, %v", fd, to, err)
		}
	}
	b.run(program, "umount", "mnt")
}

// After an error nothing is mounted and nobody runs; it says where the mistake is.
func TestErrorMountsNothing(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown target", "[devices.v]\ntable = \"\"\"\n0 8 linear a.img 0\n8 1 frob\"\"\"", "dmfs.toml:4: device v: segment 1 (8+1 frob): frob: unknown target type"},
		{"missing disk", "[devices.w]\ntable = '0 8 linear a.img 0'\n[devices.v]\ntable = '0 8 linear none.img 0'", "dmfs.toml:4: device v: segment 0 (0+8 linear): "},
		{"past the end of a disk", "[devices.v]\ntable = '0 9 linear a.img 0'", "dmfs.toml:2: device v: segment 0 (0+9 linear): "},
		{"ring", "[devices.v]\ntable = '0 8 linear w 0'\n[devices.w]\ntable = '0 8 linear MNT/v 0'", "dmfs.toml:4: device w: segment 0 (0+8 linear): devices in a ring: v → w → v"},
		{"unknown key", "[devices.v]\ntabel = ''", `dmfs.toml:2: device v: unknown key "tabel"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.image("a.img", 8)
			config := b.file("dmfs.toml", strings.ReplaceAll(tt.text, "MNT", b.mnt))
			b.fails(1, tt.want, program, "mount", "--config", config, b.mnt)
		})
	}
	for _, tt := range []struct {
		name, want string
		args       []string
	}{
		{"unknown option", `unknown mount option "frob"`, []string{"-o", "ro,frob", "mnt"}},
		{"no mount point", "/none does not exist", []string{"none"}},
		{"a file", "/file is not a directory", []string{"file"}},
		{"no configuration", "/none.toml: no such file", []string{"--config", "none.toml", "mnt"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.file("file", "")
			b.fails(1, tt.want, program, append([]string{"mount"}, tt.args...)...)
		})
	}
}

// The mount of a daemon that was killed is replaced, and said so; umount takes it away as well.
func TestStale(t *testing.T) {
	b := newBench(t)
	config := b.sample()
	kill := func() {
		t.Helper()
		must(t, syscall.Kill(b.daemon(), syscall.SIGKILL))
		b.waitFor("the mount is stale", func() bool {
			_, err := os.Stat(b.mnt)
			return errors.Is(err, syscall.ENOTCONN) && len(b.daemons()) == 0
		})
	}
	b.run(program, "mount", "--config", config, b.mnt)
	held, err := os.Open(b.mnt + "/vol0") // somebody still has a file of the dead mount open
	must(t, err)
	defer held.Close()
	kill()
	if out := b.run(program, "mount", "--config", config, b.mnt); !strings.Contains(out, "replaced a stale mount") {
		t.Errorf("said %q", out)
	}
	if got := b.mounted(); len(got) != 1 {
		t.Errorf("mounted: %v, want one", got)
	}
	b.run("cmp", "-n", "4096", "a.img", "mnt/vol0")
	kill()
	if out := b.run(program, "umount", b.mnt); !strings.Contains(out, "was stale") {
		t.Errorf("said %q", out)
	}
}

// A mistake in the configuration leaves a stale mount as it was.
func TestStaleAndMistake(t *testing.T) {
	b := newBench(t)
	b.run(program, "mount", b.mnt)
	must(t, syscall.Kill(b.daemon(), syscall.SIGKILL))
	b.waitFor("the mount is stale", func() bool { _, err := os.Stat(b.mnt); return errors.Is(err, syscall.ENOTCONN) })
	b.fails(1, "unknown key", program, "mount", "--config", b.file("dmfs.toml", "x = 1"), b.mnt)
	if got := b.mounted(); len(got) != 1 {
		t.Errorf("mounted: %v, want the stale one", got)
	}
	b.run(program, "umount", b.mnt)
}

// A second daemon on a mount point is refused, and told who is there; also of many at once only one succeeds.
func TestTwoDaemons(t *testing.T) {
	b := newBench(t)
	config := b.sample()
	var wg sync.WaitGroup
	var mu sync.Mutex
	succeeded := 0
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if b.command(program, "mount", "--config", config, b.mnt).Run() == nil {
				mu.Lock()
				succeeded++
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	if succeeded != 1 || len(b.mounted()) != 1 {
		t.Errorf("%d of 4 succeeded, mounted %v: want 1", succeeded, b.mounted())
	}
	b.fails(1, fmt.Sprintf("is already mounted by dmfs, pid %d", b.daemon()), program, "mount", "--config", config, b.mnt)
	b.run("cmp", "-n", "4096", "a.img", "mnt/vol0")
	b.run(program, "umount", b.mnt)
}

// -o ro makes every device read-only, those created later too, and leaves the control file usable.
func TestReadOnly(t *testing.T) {
	b := newBench(t)
	b.run(program, "mount", "-o", "ro,noexec", "--config", b.sample(), b.mnt)
	must(t, os.WriteFile(b.mnt+"/control", []byte("create later 0 8 linear a.img 0\n"), 0))
	for _, name := range []string{"vol0", "later"} {
		if _, status := b.try("dd", "if=/dev/zero", "of=mnt/"+name, "bs=512", "count=1", "conv=notrunc"); status == 0 {
			t.Errorf("%s can be written", name)
		}
		b.run("cmp", "-n", "4096", "a.img", "mnt/"+name)
	}
	b.run(program, "umount", b.mnt)
}

// A mount point may be named by a symbolic link.
func TestSymlink(t *testing.T) {
	b := newBench(t)
	must(t, os.Symlink("mnt", b.path("link")))
	b.run(program, "mount", "--config", b.sample(), b.path("link"))
	b.fails(1, "already mounted", program, "mount", b.path("link"))
	b.run(program, "umount", "link")
}

// What is not ours is not unmounted.
func TestUmountOthers(t *testing.T) {
	b := newBench(t)
	b.fails(1, b.mnt+": not mounted", program, "umount", b.mnt)
	b.run(program, "umount", "-q", b.mnt)
	b.fails(1, "no such file", program, "umount", b.path("none"))
	b.run(program, "mount", "--config", b.sample(), b.mnt)
	b.fails(1, "is a device: want its mount point, "+b.mnt, program, "umount", filepath.Join(b.mnt, "vol0"))
	b.run(program, "umount", b.mnt)
	requireRoot(t)
	must(t, syscall.Mount("none", b.mnt, "tmpfs", 0, ""))
	b.fails(1, "mounted there is tmpfs, want a dmfs mount", program, "umount", b.mnt)
	must(t, syscall.Unmount(b.mnt, 0))
}
