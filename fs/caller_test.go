package fs

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// begun returns the context of a request of thread pid, which the kernel has said was interrupted or not.
func begun(pid uint32, interrupted bool) *caller {
	c := new(caller)
	c.begin(1, pid)
	if interrupted {
		c.interrupt(1)
	}
	return c
}

// A harmless signal ends only the waits that any signal ends; a thread that is gone counts as killed.
func TestCallerInterrupted(t *testing.T) {
	const nobody = 1 << 30
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	self := uint32(unix.Gettid())
	for _, tt := range []struct {
		name        string
		pid         uint32
		anySignal   bool
		interrupted bool
		want        error
	}{
		{"not interrupted", self, true, false, nil},
		{"harmless signal", self, false, true, nil},
		{"a signal that another thread has taken", self, true, true, nil},
		{"gone", nobody, false, true, mapper.ErrInterrupted},
		{"of another namespace", 0, false, true, mapper.ErrInterrupted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := begun(tt.pid, tt.interrupted)
			defer c.end()
			c.anySignal = tt.anySignal
			if err := c.Err(); !errors.Is(err, tt.want) {
				t.Errorf("Err without Done: %v, want %v", err, tt.want)
			}
			done := c.Done()
			select {
			case <-done:
			case <-time.After(50 * time.Millisecond):
			}
			if err := c.Err(); !errors.Is(err, tt.want) {
				t.Errorf("Err: %v, want %v", err, tt.want)
			}
			if err := context.Cause(c); !errors.Is(err, tt.want) {
				t.Errorf("Cause: %v, want %v", err, tt.want)
			}
		})
	}
}

// A process that first got a harmless signal and is then killed is found out, though the kernel says nothing more.
func TestCallerKilledLater(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Skipf("needs sleep: %v", err)
	}
	defer cmd.Wait()
	c := begun(uint32(cmd.Process.Pid), true)
	defer c.end()
	done := c.Done()
	select {
	case <-done:
		t.Fatal("a harmless signal ended the wait")
	case <-time.After(30 * time.Millisecond):
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the killed process waits")
	}
}

// A caller that nobody waited for is used again, clean; one that was watched is not, and its watcher ends.
func TestCallerReuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := begun(1, true)
		c.anySignal, c.data, c.waiting = true, 7, new(atomic.Int64)
		if !c.end() {
			t.Fatal("a caller that nobody waited for is not used again")
		}
		c.begin(2, 3)
		if c.interrupted || c.anySignal || c.data != 0 || c.waiting != nil || c.pid != 3 || c.Err() != nil {
			t.Errorf("a caller that is used again is %+v", c)
		}
		waits := 0
		c.onWait = func() { waits++ }
		done := c.Done()
		if c.Done() != done || waits != 2 {
			t.Errorf("two waits were told %d times", waits)
		}
		if c.end() {
			t.Error("a caller that was watched is used again")
		}
		synctest.Wait() // the watcher has ended, else the test panics at its end
		select {
		case <-done:
			t.Error("the end of a request is no interrupt")
		default:
		}
	})
}

// An interrupt that comes late, or for another request, is nobody's.
func TestInterruptOfAnother(t *testing.T) {
	c := begun(0, false)
	if c.interrupt(2) {
		t.Error("took the interrupt of another request")
	}
	c.end()
	if c.interrupt(1) {
		t.Error("took an interrupt after its end")
	}
	c.begin(2, 0)
	if c.Err() != nil {
		t.Error("the next request is interrupted")
	}
}

// Requests that wait are bounded. One too many keeps its buffer from others, and fails if its wait is long. What ends is not counted
// any more.
func TestTooMuchWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waiting atomic.Int64
		const each = maxWaitingBytes / 4
		var callers []*caller
		waits := 0
		for range 6 {
			c := begun(uint32(os.Getpid()), false)
			c.data, c.waiting, c.onWait = each, &waiting, func() { waits++ }
			c.Done()
			callers = append(callers, c)
		}
		if waits != 4 {
			t.Errorf("%d requests do not count while they wait, want 4", waits)
		}
		time.Sleep(fullTime / 2)
		callers[5].end() // a short wait
		time.Sleep(fullTime)
		synctest.Wait()
		for i, c := range callers {
			if err, want := c.Err(), i == 4; (err != nil) != want || want && mapper.Errno(err) != unix.ENOMEM {
				t.Errorf("wait %d: %v", i, err)
			}
		}
		for _, c := range callers[:5] {
			c.end()
		}
		c := begun(uint32(os.Getpid()), false) // a read, which has waited for a resume without a buffer
		c.Done()
		c.data, c.waiting = each, &waiting
		c.end()
		if n := waiting.Load(); n != 0 {
			t.Errorf("%d bytes wait for ever", n)
		}
	})
}

func TestErrno(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want unix.Errno
	}{
		{nil, 0},
		{errors.New("unknown"), unix.EIO},
		{context.Canceled, unix.EINTR},
		{context.DeadlineExceeded, unix.EINTR},
		{mapper.ErrInterrupted, unix.EINTR},
		{mapper.ErrIO, unix.EIO},
		{mapper.ErrMedium, unix.ENODATA},
		{mapper.ErrProtection, unix.EILSEQ},
		{mapper.ErrNoSpace, unix.ENOSPC},
		{mapper.ErrReadOnly, unix.EPERM},
		{mapper.ErrClosed, unix.ENXIO},
		{&mapper.Error{Err: mapper.ErrProtection}, unix.EILSEQ},
		{errors.Join(mapper.ErrNoSpace, mapper.ErrIO), unix.ENOSPC},
		{&mapper.SegmentError{Err: mapper.BadArg("bad", "")}, unix.EINVAL},
		{errTooManyWaiting, unix.ENOMEM},
	} {
		if got := errno(tt.err); got != tt.want {
			t.Errorf("%v becomes %v, want %v", tt.err, got, tt.want)
		}
	}
}
