package seccomp

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An Action is what a filter has the kernel do with a system call.
type Action uint32

// Notify asks the listener.
const Notify Action = unix.SECCOMP_RET_USER_NOTIF

// Return has a call return at once, without being carried out: 0 for success, else with that errno.
func Return(errno unix.Errno) Action {
	return unix.SECCOMP_RET_ERRNO | Action(errno)&unix.SECCOMP_RET_DATA
}

// A Rule says what becomes of one system call. Those without a rule are carried out.
type Rule struct {
	Call   uintptr // its number
	Action Action
	// Types, if not nil, restricts the rule to those values of bits 8 to 15 of the second argument: the type of an ioctl.
	Types []byte
}

// Offsets in struct seccomp_data.
const (
	offNr   = 0
	offArch = 4
	offArg1 = 24 // its lower half, as on all that Go runs on is little-endian first
)

// program assembles a filter. The kernel finds out by itself which calls always pass, and asks no filter about them, so
// it is the few that are in rules that pay for its length.
func program(rules []Rule) []unix.SockFilter {
	load := func(off uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
	}
	equal := func(k uint32, yes, no int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: uint8(yes), Jf: uint8(no), K: k}
	}
	ret := func(a Action) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(a)}
	}
	const allow = Action(unix.SECCOMP_RET_ALLOW)
	// Programs of another architecture (32-bit ones) have other numbers; they see what there is without the listener.
	p := []unix.SockFilter{load(offArch), equal(auditArch, 1, 0), ret(allow), load(offNr)}
	p = append(p, foreignCalls()...)
	for _, r := range rules {
		if r.Types == nil {
			p = append(p, equal(uint32(r.Call), 0, 1), ret(r.Action))
			continue
		}
		n := len(r.Types)
		p = append(p, equal(uint32(r.Call), 0, n+5), load(offArg1),
			unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, K: 8},
			unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xff})
		for i, t := range r.Types {
			p = append(p, equal(uint32(t), n-i, 0))
		}
		p = append(p, ret(allow), ret(r.Action))
	}
	return append(p, ret(allow))
}

// Install puts a filter on the calling thread, which must stay locked to its goroutine, and returns the listener; both
// outlive an exec by the thread, the listener unless its descriptor is closed by that, which it is. It needs
// CAP_SYS_ADMIN in the thread's user namespace. The error names the cure where it knows one.
func Install(rules []Rule) (fd int, err error) {
	p := program(rules)
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	flags := uintptr(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
	n, errno := install(flags, &prog)
	if errno == unix.EINVAL { // before Linux 5.19: a signal then has half-done calls begin anew
		n, errno = install(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog)
	}
	runtime.KeepAlive(p)
	if errno != 0 {
		return -1, explain(errno)
	}
	return n, nil
}

func install(flags uintptr, prog *unix.SockFprog) (int, unix.Errno) {
	n, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(prog)))
	return int(n), errno
}

// explain says why a filter was refused and what can be done.
func explain(errno unix.Errno) error {
	err := os.NewSyscallError("seccomp", errno)
	switch {
	case errors.Is(errno, unix.EBUSY):
		return fmt.Errorf("seccomp user notification is in use here: %w; a container runtime or sandbox supervises this process already, and the kernel "+
			"allows one supervisor: run outside of it, or with its supervision off (docker and podman: --security-opt seccomp=unconfined)", err)
	case errors.Is(errno, unix.ENOSYS), errors.Is(errno, unix.EINVAL):
		return fmt.Errorf("seccomp user notification is not in this kernel: %w; it needs Linux 5.9 with CONFIG_SECCOMP_FILTER", err)
	case errors.Is(errno, unix.EPERM), errors.Is(errno, unix.EACCES):
		return fmt.Errorf("seccomp user notification is not allowed here: %w; the policy of a container or sandbox forbids seccomp(2): "+
			"allow it there (docker and podman: --security-opt seccomp=unconfined)", err)
	}
	return fmt.Errorf("seccomp user notification: %w", err)
}
