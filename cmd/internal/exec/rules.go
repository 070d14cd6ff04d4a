package exec

import (
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"dmfs/cmd/internal/exec/seccomp"
)

// A handler answers one kind of system call.
type handler func(s *supervisor, c *call)

// atCWD is AT_FDCWD as an argument of a system call has it.
const atCWD = 0xffffffffffffff9c

// calls are the system calls that the supervisor is asked about, beside legacyCalls.
var calls = map[uintptr]handler{
	unix.SYS_OPENAT:   func(s *supervisor, c *call) { s.open(c, c.Args[0], c.Args[1], c.Args[2]) },
	unix.SYS_OPENAT2:  (*supervisor).openat2,
	unix.SYS_FSTAT:    func(s *supervisor, c *call) { s.fstat(c, c.Args[0], c.Args[1]) },
	sysNewfstatat:     func(s *supervisor, c *call) { s.stat(c, c.Args[0], c.Args[1], c.Args[2], c.Args[3]) },
	unix.SYS_STATX:    func(s *supervisor, c *call) { s.statx(c) },
	unix.SYS_MKNODAT:  func(s *supervisor, c *call) { s.mknod(c, c.Args[0], c.Args[1], c.Args[2], c.Args[3]) },
	unix.SYS_FCHOWNAT: func(s *supervisor, c *call) { s.chown(c, c.Args[0], c.Args[1], c.Args[4]) },
	unix.SYS_FCHOWN:   (*supervisor).fchown,
	unix.SYS_IOCTL:    (*supervisor).ioctl,
	unix.SYS_ADD_KEY:  (*supervisor).addKey,
	unix.SYS_KEYCTL:   (*supervisor).keyctl,
}

// ioctlTypes are those of the requests that block devices and the control files take: of the device mapper, block devices, loop
// devices, SCSI, hard disks and CD drives.
var ioctlTypes = []byte{typeMapper, typeBlock, typeLoop, 0x22, 0x03, 0x53}

// Types of ioctls.
const (
	typeMapper = 0xfd
	typeBlock  = 0x12
	typeLoop   = 0x4c
)

// granted are calls that succeed without being carried out: tools lock their memory and raise their priority, which needs
// rights outside of the namespace, and go on with a page of warnings if they cannot.
var granted = []uintptr{unix.SYS_MLOCK, unix.SYS_MLOCK2, unix.SYS_MUNLOCK, unix.SYS_MLOCKALL, unix.SYS_MUNLOCKALL, unix.SYS_SETPRIORITY}

// Rules is the filter of a session.
func Rules() []seccomp.Rule {
	asked := maps.Clone(calls)
	maps.Copy(asked, legacyCalls)
	var rules []seccomp.Rule
	for _, nr := range slices.Sorted(maps.Keys(asked)) {
		r := seccomp.Rule{Call: nr, Action: seccomp.Notify}
		if nr == unix.SYS_IOCTL {
			r.Types = ioctlTypes
		}
		rules = append(rules, r)
	}
	for _, nr := range granted {
		rules = append(rules, seccomp.Rule{Call: nr, Action: seccomp.Return(0)})
	}
	// What is opened through it no filter sees.
	return append(rules, seccomp.Rule{Call: unix.SYS_IO_URING_SETUP, Action: seccomp.Return(unix.ENOSYS)})
}

// handlerOf returns who answers a call, nil if nobody does.
func handlerOf(nr int32) handler {
	if h := calls[uintptr(nr)]; h != nil {
		return h
	}
	return legacyCalls[uintptr(nr)]
}
