package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// When a disk fails to take what was written, umount says so and leaves the mount, and a daemon that is told to end
// ends with status 1.
func TestWritingOutFails(t *testing.T) {
	requireTool(t, "strace")
	b := newBench(t)
	if out, status := b.try("strace", "-qq", "-o", "/dev/null", "true"); status != 0 {
		t.Skipf("needs to trace processes: strace: %s", out)
	}
	config := b.sample()
	cmd, out := b.start("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:error=EIO",
		program, "mount", "-f", "--config", config, b.mnt)
	b.waitFor("the mount serves", func() bool { _, err := os.Stat(b.mnt + "/control"); return err == nil })
	must(t, os.WriteFile(b.mnt+"/vol0", []byte("lost"), 0))
	b.fails(1, "not unmounted, because writing out failed: ", program, "umount", b.mnt)
	if got := b.mounted(); len(got) != 1 {
		t.Errorf("mounted: %v, want it to stay", got)
	}
	must(t, syscall.Kill(b.daemon(), syscall.SIGTERM))
	cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != 1 || !strings.Contains(out.String(), "not everything could be written") {
		t.Errorf("exit status %d, said\n%s", status, out)
	}
}

// A daemon that hangs does not hang those who look at its mount point.
func TestDaemonHangs(t *testing.T) {
	b := newBench(t)
	b.run(program, "mount", "--config", b.sample(), b.mnt)
	pid := b.daemon()
	must(t, syscall.Kill(pid, syscall.SIGSTOP))
	defer syscall.Kill(pid, syscall.SIGCONT)
	b.fails(1, "is already mounted by a dmfs that does not answer", program, "mount", b.mnt)
	must(t, syscall.Kill(pid, syscall.SIGCONT))
	b.run(program, "umount", b.mnt)
}

// A daemon ends although a reader waits for a suspended device.
func TestSignalWhileSuspended(t *testing.T) {
	b := newBench(t)
	wait, pid, out := b.front("--config", b.sample(), b.mnt)
	must(t, os.WriteFile(b.mnt+"/control", []byte("suspend vol0\n"), 0))
	reader, _ := b.start("cat", b.mnt+"/vol0")
	time.Sleep(50 * time.Millisecond)
	must(t, syscall.Kill(pid, syscall.SIGTERM))
	b.waitFor("the mount is detached", func() bool { return len(b.mounted()) == 0 })
	must(t, syscall.Kill(pid, syscall.SIGTERM))
	if status := wait(); status != 0 {
		t.Errorf("exit status %d, said\n%s", status, out)
	}
	if reader.Wait() == nil {
		t.Error("the reader of the suspended device was served")
	}
}

// umount does not wait for a suspended device that nobody uses.
func TestUmountSuspended(t *testing.T) {
	b := newBench(t)
	b.run(program, "mount", "--config", b.sample(), b.mnt)
	must(t, os.WriteFile(b.mnt+"/control", []byte("suspend vol0\n"), 0))
	b.run(program, "umount", b.mnt)
}

// Blanks, commas, quotes and backslashes in paths come through mount(2), fusermount3 and mountinfo.
func TestStrangePaths(t *testing.T) {
	for _, user := range []bool{false, true} {
		b := newBench(t)
		strange := b.path("a b,c\\d\"e\nf")
		must(t, os.Mkdir(strange, 0o755))
		config := b.sample()
		must(t, os.Rename(config, filepath.Join(strange, "x,y z.toml")))
		b.mnt = filepath.Join(strange, "mnt")
		must(t, os.Mkdir(b.mnt, 0o755))
		for _, name := range []string{"a.img", "b.img"} {
			must(t, os.Rename(b.path(name), filepath.Join(strange, name)))
		}
		if user {
			b.asUser()
		}
		b.run(program, "mount", "--config", filepath.Join(strange, "x,y z.toml"), b.mnt)
		b.run("cmp", "-n", "4096", filepath.Join(strange, "a.img"), b.mnt+"/vol0")
		b.fails(1, "is already mounted by dmfs, pid", program, "mount", b.mnt)
		b.run(program, "umount", b.mnt)
	}
}

// A user replaces his own stale mount with fusermount3.
func TestStaleOfUser(t *testing.T) {
	b := newBench(t)
	b.asUser()
	config := b.sample()
	for range 2 {
		b.run(program, "mount", "--config", config, b.mnt)
		must(t, syscall.Kill(b.daemon(), syscall.SIGKILL))
		b.waitFor("the daemon is gone", func() bool { return len(b.daemons()) == 0 })
	}
	b.run(program, "umount", b.mnt)
}

// A daemon that dies while it is asked leaves a stale mount like any other.
func TestDiesWhenAsked(t *testing.T) {
	b := newBench(t)
	config := b.sample()
	b.run(program, "mount", "--config", config, b.mnt)
	for _, args := range [][]string{{"mount", "--config", config, b.mnt}, {"umount", b.mnt}} {
		pid := b.daemon()
		must(t, syscall.Kill(pid, syscall.SIGSTOP))
		cmd, out := b.start(program, args...)
		time.Sleep(100 * time.Millisecond) // should it take longer, the daemon is dead when it asks
		must(t, syscall.Kill(pid, syscall.SIGKILL))
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
}

// A loop device on a file of the mount is named, with what is mounted from it.
func TestBusyLoop(t *testing.T) {
	requireRoot(t)
	requireTool(t, "losetup")
	b := newBench(t)
	b.run(program, "mount", "--config", b.sample(), b.mnt)
	out, status := b.try("losetup", "-f", "--show", b.mnt+"/vol0")
	if status != 0 {
		b.run(program, "umount", b.mnt)
		t.Skipf("needs a loop device: losetup: %s", out)
	}
	loop := strings.TrimSpace(out)
	b.fails(1, loop+" is attached to "+b.mnt+"/vol0", program, "umount", b.mnt)
	b.run("losetup", "-d", loop)
	b.waitFor("umount succeeds", func() bool { _, status := b.try(program, "umount", b.mnt); return status == 0 })
}

// A daemon that ends leaves alone what others have mounted on its mount point after detaching it.
func TestSignalAfterOthers(t *testing.T) {
	requireRoot(t)
	b := newBench(t)
	wait, pid, _ := b.front("--config", b.sample(), b.mnt)
	f, err := os.Open(b.mnt + "/vol0")
	must(t, err)
	defer f.Close()
	b.run("umount", "-il", b.mnt)
	must(t, syscall.Mount("none", b.mnt, "tmpfs", 0, ""))
	must(t, syscall.Kill(pid, syscall.SIGTERM))
	time.Sleep(100 * time.Millisecond)
	must(t, f.Close())
	if status := wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if got := b.mounted(); len(got) != 1 || got[0] != "tmpfs" {
		t.Errorf("mounted: %v, want tmpfs", got)
	}
	must(t, syscall.Unmount(b.mnt, 0))
}
