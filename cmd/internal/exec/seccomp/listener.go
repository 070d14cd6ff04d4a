package seccomp

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Call is a system call that waits for an answer, as struct seccomp_notif has it.
type Call struct {
	id    uint64
	TID   uint32 // of the thread that called, in the listener's pid namespace
	flags uint32
	Nr    int32
	arch  uint32
	ip    uint64
	Args  [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	id    uint64
	value int64
	errno int32 // negative
	flags uint32
}

// addition is struct seccomp_notif_addfd.
type addition struct {
	id       uint64
	flags    uint32
	source   uint32
	number   uint32
	newFlags uint32
}

// Requests on a listener.
const (
	requestIDValid  = 0x40082102
	requestAddFD    = 0x40182103
	requestSetFlags = 0x40082104
)

// A Listener answers the calls that a filter asks about. Its methods are called concurrently.
type Listener struct{ fd int }

// NewListener takes over fd, which Install returned, here or in another process.
func NewListener(fd int) *Listener {
	l := &Listener{fd}
	// Where the kernel can (6.6), whoever is answered runs on the processor of the one who answers, and the other way round.
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), requestSetFlags, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	return l
}

func (l *Listener) control(request uintptr, arg unsafe.Pointer) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), request, uintptr(arg))
	return errno
}

// Receive waits for the next call. ENOENT says that a caller has died meanwhile, or, where nobody has the filter any
// more, that there will be none; EINTR that it is to be tried again.
func (l *Listener) Receive(c *Call) error {
	*c = Call{}
	if errno := l.control(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(c)); errno != 0 {
		return errno
	}
	return nil
}

// AwaitEnd returns when nobody has the filter any more.
func (l *Listener) AwaitEnd() error {
	for {
		over, err := l.Over(-1)
		if over || err != nil {
			return err
		}
	}
}

// Over reports whether nobody has the filter any more, after waiting for that so many milliseconds; -1 waits as long as it takes.
func (l *Listener) Over(milliseconds int) (bool, error) {
	for {
		fds := []unix.PollFd{{Fd: int32(l.fd)}} // hang-ups are always told
		_, err := unix.Poll(fds, milliseconds)
		if err == unix.EINTR || err == nil && fds[0].Revents&^unix.POLLHUP != 0 {
			continue // a signal while others have the listener is told as POLLERR
		}
		return fds[0].Revents&unix.POLLHUP != 0, err
	}
}

// Valid reports whether c's caller still waits. A caller's memory that was read before belonged to it then.
func (l *Listener) Valid(c *Call) bool {
	return l.control(requestIDValid, unsafe.Pointer(&c.id)) == 0
}

// Continue has the kernel carry c out. That the caller has died is no error, here and below.
func (l *Listener) Continue(c *Call) {
	l.respond(response{id: c.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE})
}

// Answer has c return value, or fail if errno is not 0.
func (l *Listener) Answer(c *Call, value int64, errno unix.Errno) {
	if errno != 0 {
		value = 0
	}
	l.respond(response{id: c.id, value: value, errno: -int32(errno)})
}

func (l *Listener) respond(r response) {
	_ = l.control(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r))
}

// AnswerFD has c return a descriptor of its own for the file that fd is here, in two steps: the caller takes the descriptor, and is told its number.
// The kernel offers both as one, but when that one is interrupted the caller may go on with descriptor 0 and without the file. A signal between the
// two steps does no worse than to have the first begin anew, and leave the caller a descriptor more than he knows; so signals wait.
func (l *Listener) AnswerFD(c *Call, fd int, closeOnExec bool) {
	a := addition{id: c.id, source: uint32(fd)}
	if closeOnExec {
		a.newFlags = unix.O_CLOEXEC
	}
	n, errno := l.add(&a)
	if errno != unix.ENOENT { // he has died
		l.Answer(c, int64(n), errno) // an error is that he has too many files open
	}
}

// add gives a caller a descriptor and returns its number.
func (l *Listener) add(a *addition) (uintptr, unix.Errno) {
	// Go interrupts threads by the dozen. This one stays locked to its goroutine.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before); err == nil {
		defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) //nolint:errcheck // it cannot fail if the first did not
	}
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.fd), requestAddFD, uintptr(unsafe.Pointer(a)))
	return n, errno
}
