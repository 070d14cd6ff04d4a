package dmioctl

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// A Mount carries out commands of the language of package control: one command in, without its last newline, and its
// reply out. The error of a refused command wraps the errno. Do is called concurrently; it blocks as long as the command
// takes, and returns when ctx is done. It does not keep command, whose bytes are wiped when it has returned.
type Mount interface {
	Do(ctx context.Context, command string) (string, error)
}

// A Translator stands between the device numbers that callers see and the mount's own: mapped devices have another major number and
// the same minor, other disks may have any. Its methods are called concurrently.
type Translator interface {
	// Disk says what word of a table or message, as the caller wrote it (a path in the caller's namespace, or MAJ:MIN), is
	// called in the mount. A word that names no device comes back unchanged. It is not asked about words that may be keys.
	Disk(word string) string
	// Word is the reverse for MAJ:MIN and paths that the mount prints in tables and statuses.
	Word(disk string) string
	// Major is the major number of mapped devices that the caller sees.
	Major() uint32
	// Hidden reports devices that are not listed and cannot be looked up: those standing for block files and loops.
	Hidden(name, uuid string) bool
}

// A Server answers the ioctls of callers who see one mount in one way. It keeps nothing between calls.
type Server struct {
	m Mount
	t Translator
}

// New returns a server of m's devices as t has callers see them.
func New(m Mount, t Translator) *Server { return &Server{m, t} }

// A Reply is what becomes of the caller's buffer.
type Reply struct {
	// Data is to be copied to the begin of the caller's buffer, also when there is an errno.
	Data []byte
	// Uevent says that an event with Cookie was due: whoever stands for udev lowers the semaphore that the cookie's lower half names,
	// unless it is 0.
	Uevent bool
	Cookie uint32
	// Secure says that the caller's whole buffer is to be wiped, before Data is copied.
	Secure bool
}

// Numbers of the ioctls: the lowest byte of 0xc138fdNN.
const (
	nrVersion = iota
	nrRemoveAll
	nrListDevices
	nrCreate
	nrRemove
	nrRename
	nrSuspend
	nrStatus
	nrWait
	nrLoad
	nrClear
	nrDeps
	nrTable
	nrListVersions
	nrMessage
	nrSetGeometry
	nrArmPoll
	nrTargetVersion
)

// A handler carries out one ioctl: it changes p, of which the first p.size() bytes are the reply.
type handler struct {
	run    func(s *Server, ctx context.Context, p *params) error
	noData bool // only the header is looked at
}

var handlers = map[int]handler{
	nrRemoveAll:     {(*Server).removeAll, true},
	nrListDevices:   {(*Server).listDevices, false},
	nrCreate:        {(*Server).create, true},
	nrRemove:        {(*Server).remove, true},
	nrRename:        {(*Server).rename, false},
	nrSuspend:       {(*Server).suspend, true},
	nrStatus:        {(*Server).status, true},
	nrWait:          {(*Server).wait, false},
	nrLoad:          {(*Server).load, false},
	nrClear:         {(*Server).clear, true},
	nrDeps:          {(*Server).deps, false},
	nrTable:         {(*Server).table, false},
	nrListVersions:  {(*Server).listVersions, false},
	nrMessage:       {(*Server).message, false},
	nrSetGeometry:   {(*Server).setGeometry, false},
	nrArmPoll:       {(*Server).armPoll, true},
	nrTargetVersion: {(*Server).targetVersion, false},
}

// Handle carries out ioctl nr with the caller's buffer, which is as long as its header says and is not kept. It blocks as
// the kernel would, and returns EINTR when ctx is done. It is safe for concurrent use.
func (s *Server) Handle(ctx context.Context, nr int, in []byte) (Reply, unix.Errno) {
	if len(in) < versionLen {
		return Reply{}, unix.EFAULT
	}
	reply := Reply{Data: interfaceVersion()}
	if !speaks(in) {
		return reply, unix.EINVAL
	}
	if nr == nrVersion {
		return reply, 0
	}
	h, ok := handlers[nr]
	if !ok {
		return reply, unix.ENOTTY
	}
	p, err := readParams(in, h.noData)
	if err != nil {
		return reply, errnoOf(ctx, err)
	}
	if p.secure {
		reply = Reply{Secure: true} // and what was written back before is wiped, too
	}
	if err = p.validate(nr); err == nil {
		err = h.run(s, ctx, p)
	}
	if err != nil {
		clear(p.buf)
		return reply, errnoOf(ctx, err)
	}
	clear(p.buf[p.size():])
	if p.size() > 0 {
		reply.Data = p.buf[:p.size()]
	}
	reply.Uevent, reply.Cookie = p.uevent, p.cookie
	return reply, 0
}

// errnoOf returns the errno that stands for err, which is not nil.
func errnoOf(ctx context.Context, err error) unix.Errno {
	if ctx.Err() != nil {
		return unix.EINTR
	}
	var errno unix.Errno
	if errors.As(err, &errno) && errno != 0 {
		return errno
	}
	return unix.EIO
}
