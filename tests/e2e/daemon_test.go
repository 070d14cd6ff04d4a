package e2e

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A busy mount stays, and umount says who holds it: open files, working directories, mappings, loop devices,
// mounts on it.
func TestBusy(t *testing.T) {
	b := newBench(t)
	b.run(program, "mount", "--config", b.sample(), b.mnt)
	f, err := os.OpenFile(b.mnt+"/vol0", os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	sleep := b.command("sleep", "60")
	sleep.Dir = b.mnt
	must(t, sleep.Start())
	defer func() { sleep.Process.Kill(); sleep.Wait() }()

	out := b.fails(1, fmt.Sprintf("pid %d (%s) has %s/vol0 open", os.Getpid(), comm(t), b.mnt), program, "umount", b.mnt)
	if want := fmt.Sprintf("pid %d (sleep) has its working directory in %s", sleep.Process.Pid, b.mnt); !strings.Contains(out, want) {
		t.Errorf("said\n%swant %s", out, want)
	}
	_, err = f.WriteAt([]byte("still served"), 0)
	must(t, err)
	must(t, f.Close())
	sleep.Process.Kill()
	sleep.Wait()
	b.run(program, "umount", b.mnt)
	got, err := os.ReadFile(b.path("a.img"))
	must(t, err)
	if !strings.HasPrefix(string(got), "still served") {
		t.Error("what was written while umount was refused is lost")
	}
}

func comm(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/comm")
	must(t, err)
	return strings.TrimSpace(string(text))
}

// A lazy umount takes the mount away at once; the daemon ends with its last user.
func TestLazyUmount(t *testing.T) {
	b := newBench(t)
	b.run(program, "mount", "--config", b.sample(), b.mnt)
	f, err := os.OpenFile(b.mnt+"/vol0", os.O_RDWR, 0)
	must(t, err)
	b.run(program, "umount", "-l", b.mnt)
	if got := b.mounted(); len(got) != 0 {
		t.Errorf("still mounted: %v", got)
	}
	_, err = f.WriteAt([]byte("late"), 4096)
	must(t, err)
	must(t, f.Close())
	b.nothingLeft()
	got, err := os.ReadFile(b.path("b.img"))
	must(t, err)
	if !strings.HasPrefix(string(got), "late") {
		t.Error("what was written after the lazy umount is lost")
	}
}

// front starts the daemon in front and returns when it serves.
func (b *bench) front(args ...string) (wait func() int, pid int, out *lockedBuffer) {
	b.t.Helper()
	cmd, out := b.start(program, append([]string{"mount", "-f"}, args...)...)
	b.waitFor("the mount serves", func() bool {
		_, err := os.Stat(b.mnt + "/control")
		return err == nil
	})
	return func() int {
		b.t.Helper()
		done := make(chan struct{})
		go func() { cmd.Wait(); close(done) }()
		select {
		case <-done:
			return cmd.ProcessState.ExitCode()
		case <-time.After(patience):
			b.t.Fatalf("the daemon does not end\n%s", out)
			return -1
		}
	}, cmd.Process.Pid, out
}

// SIGTERM and SIGINT unmount in order; SIGHUP is nothing.
func TestSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			b := newBench(t)
			wait, pid, out := b.front("--config", b.sample(), b.mnt)
			must(t, syscall.Kill(pid, syscall.SIGHUP))
			must(t, os.WriteFile(b.mnt+"/vol0", []byte("written"), 0))
			must(t, syscall.Kill(pid, sig))
			if status := wait(); status != 0 || out.String() != "" {
				t.Errorf("exit status %d, said %q", status, out)
			}
			b.nothingLeft()
			got, err := os.ReadFile(b.path("a.img"))
			must(t, err)
			if !strings.HasPrefix(string(got), "written") {
				t.Error("what was written is lost")
			}
		})
	}
}

// A daemon that is to end while its mount is busy says who is in the way, detaches, and waits for them, or until it is
// told a second time.
func TestSignalWhileBusy(t *testing.T) {
	for _, patient := range []bool{true, false} {
		t.Run(fmt.Sprintf("patient %v", patient), func(t *testing.T) {
			b := newBench(t)
			wait, pid, out := b.front("--config", b.sample(), b.mnt)
			f, err := os.OpenFile(b.mnt+"/vol0", os.O_RDWR, 0)
			must(t, err)
			defer f.Close()
			must(t, syscall.Kill(pid, syscall.SIGTERM))
			b.waitFor("the mount is detached", func() bool { return len(b.mounted()) == 0 })
			if patient {
				_, err = f.WriteAt([]byte("late"), 0)
				must(t, err)
				must(t, f.Close())
			} else {
				must(t, syscall.Kill(pid, syscall.SIGTERM))
			}
			if status := wait(); status != 0 {
				t.Errorf("exit status %d", status)
			}
			if want := fmt.Sprintf("pid %d (%s) has %s/vol0 open", os.Getpid(), comm(t), b.mnt); !strings.Contains(out.String(), want) {
				t.Errorf("said\n%swant %s", out, want)
			}
			got, err := os.ReadFile(b.path("a.img"))
			must(t, err)
			if patient && !strings.HasPrefix(string(got), "late") {
				t.Error("what was written after it was detached is lost")
			}
		})
	}
}

// A daemon in front ends, with everything written, when others unmount.
func TestUnmountedByOthers(t *testing.T) {
	b := newBench(t)
	wait, _, _ := b.front("--config", b.sample(), b.mnt)
	must(t, os.WriteFile(b.mnt+"/vol0", []byte("written"), 0))
	if os.Geteuid() == 0 {
		must(t, syscall.Unmount(b.mnt, 0))
	} else {
		b.run("fusermount3", "-u", b.mnt)
	}
	if status := wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// A service manager is told when the mount serves and when it stops.
func TestServiceManager(t *testing.T) {
	b := newBench(t)
	name := fmt.Sprintf("@dmfs-e2e-%d", os.Getpid())
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	must(t, err)
	defer conn.Close()
	must(t, conn.SetReadDeadline(time.Now().Add(patience)))
	next := func() string {
		t.Helper()
		buf := make([]byte, 1000)
		n, err := conn.Read(buf)
		must(t, err)
		return string(buf[:n])
	}
	b.env = []string{"NOTIFY_SOCKET=" + name}
	cmd, _ := b.start(program, "mount", "-f", "--config", b.sample(), b.mnt)
	if got := next(); !strings.HasPrefix(got, "READY=1\n") {
		t.Errorf("first message %q", got)
	}
	if _, err := os.Stat(b.mnt + "/vol0"); err != nil {
		t.Errorf("when it is ready: %v", err)
	}
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	if got := next(); !strings.HasPrefix(got, "STOPPING=1\n") {
		t.Errorf("second message %q", got)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// A mount that is interrupted before it serves leaves nothing.
func TestInterruptedStart(t *testing.T) {
	b := newBench(t)
	config := b.sample()
	for i := range 10 {
		cmd, _ := b.start(program, "mount", "--config", config, b.mnt)
		time.Sleep(time.Duration(i) * time.Millisecond)
		must(t, cmd.Process.Signal(syscall.SIGTERM))
		cmd.Wait()
		b.waitFor("the child ends or serves", func() bool { return len(b.daemons()) == 0 || len(b.mounted()) > 0 })
		b.run(program, "umount", "-q", b.mnt)
		b.nothingLeft()
	}
}

// umount of a mount whose daemon is about to end by itself says nothing else than one that comes a moment later.
func TestUmountWhileEnding(t *testing.T) {
	b := newBench(t)
	for i := range 100 {
		b.mount("")
		daemon, delay := b.daemon(), time.Duration(i)*100*time.Microsecond
		cmd, out := b.start(program, "umount", "-q", b.mnt)
		time.Sleep(delay)
		_ = syscall.Kill(daemon, syscall.SIGTERM) // which may have ended
		if err := cmd.Wait(); err != nil || out.String() != "" {
			t.Errorf("%v before the daemon is told to end: %v: %s", delay, err, out)
		}
		b.nothingLeft()
	}
}
