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

// closed is what the engine's channel is after the kernel said that a request was interrupted.
var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// A harmless signal ends only the waits that any signal ends; a thread that is gone counts as killed.
func TestCallerInterrupted(t *testing.T) {
	const nobody = 1 << 30
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	self := uint32(unix.Gettid())
	for _, tt := range []struct {
		name      string
		pid       uint32
		anySignal bool
		cancel    chan struct{}
		want      error
	}{
		{"not interrupted", self, true, make(chan struct{}), nil},
		{"harmless signal", self, false, closed, nil},
		{"any signal", self, true, closed, mapper.ErrInterrupted},
		{"gone", nobody, false, closed, mapper.ErrInterrupted},
		{"of another namespace", 0, false, closed, mapper.ErrInterrupted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCaller(tt.pid, tt.cancel)
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
	c := newCaller(uint32(cmd.Process.Pid), closed)
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
func TestCallerPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			c := newCaller(1, make(chan struct{}))
			if c.done != nil || c.err != nil || c.anySignal || c.data != 0 || c.waiting != nil || c.pid != 1 {
				t.Fatalf("a caller from the pool is %+v", c)
			}
			c.anySignal, c.data, c.waiting = true, 7, new(atomic.Int64)
			c.end()
		}
		watched := newCaller(1, make(chan struct{}))
		done := watched.Done()
		watched.end()
		synctest.Wait() // the watcher has ended, else the test panics at its end
		select {
		case <-done:
			t.Error("the end of a request is no interrupt")
		default:
		}
		if next := newCaller(2, nil); next == watched {
			t.Error("a caller that was watched is used again")
		}
	})
}

// Writes that wait are bounded, and what ends is not counted any more.
func TestTooMuchWaiting(t *testing.T) {
	var waiting atomic.Int64
	const each = maxWaitingBytes / 4
	var callers []*caller
	for i := range 5 {
		c := newCaller(uint32(os.Getpid()), make(chan struct{}))
		c.data, c.waiting = each, &waiting
		select {
		case <-c.Done():
			if i < 4 || mapper.Errno(c.Err()) != unix.ENOMEM {
				t.Errorf("wait %d: %v", i, c.Err())
			}
		default:
			if i == 4 {
				t.Error("more than the bound waits")
			}
		}
		callers = append(callers, c)
	}
	for _, c := range callers {
		c.end()
	}
	if n := waiting.Load(); n != 0 {
		t.Errorf("%d bytes wait for ever", n)
	}
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
