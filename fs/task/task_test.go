package task

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A signal gives up what a thread waits for if it is not one of the harmless, and not blocked.
func TestSignalled(t *testing.T) {
	cmd := exec.Command("env", "--block-signal=USR2", "sh", "-c", "trap : CHLD URG WINCH USR1; echo ready; read x; exit 0")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("needs env: %v", err)
	}
	defer cmd.Wait()
	defer stdin.Close()
	defer cmd.Process.Kill()
	if _, err := stdout.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	signal := func(sig syscall.Signal) {
		t.Helper()
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP) // what it is sent then stays pending
	var status unix.WaitStatus
	if _, err := unix.Wait4(cmd.Process.Pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("%v, %v", status, err)
	}
	tid := uint32(cmd.Process.Pid)
	for _, sig := range []syscall.Signal{syscall.SIGCHLD, syscall.SIGURG, syscall.SIGWINCH, syscall.SIGUSR2} {
		signal(sig)
	}
	if Signalled(tid) {
		t.Error("signalled, with harmless signals and a blocked one")
	}
	signal(syscall.SIGUSR1)
	if !Signalled(tid) {
		t.Error("not signalled, with a signal")
	}
	if Killed(tid) {
		t.Error("killed, with signals that do not")
	}
	signal(syscall.SIGKILL)
	if cmd.Wait(); !Killed(tid) || !Signalled(tid) || Process(tid) != 0 {
		t.Error("a thread that is gone still waits")
	}
}

// A thread belongs to the process whose number its first thread has.
func TestProcess(t *testing.T) {
	tids, done := make(chan uint32), make(chan struct{})
	defer close(done)
	go func() {
		runtime.LockOSThread() // for good: it is a thread of its own
		tids <- uint32(unix.Gettid())
		<-done
	}()
	if got, want := Process(<-tids), os.Getpid(); got != want {
		t.Errorf("process %d, want %d", got, want)
	}
	if Process(0) != 0 || !Killed(0) || !Signalled(0) {
		t.Error("a thread of another pid namespace can be seen")
	}
}
