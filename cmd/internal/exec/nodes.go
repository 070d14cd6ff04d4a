package exec

import (
	"errors"
	"os"
	"path"
	"sync"

	"golang.org/x/sys/unix"

	"dmfs/cmd/internal/exec/sandbox"
)

// A node is what mknod(2) makes: the name of a number, be there a device or not.
type node struct {
	mode   uint32 // S_IFBLK or S_IFCHR
	number number
}

// Character devices of a session.
var (
	controlNode     = node{unix.S_IFCHR, number{miscMajor, controlMinor}}
	loopControlNode = node{unix.S_IFCHR, number{miscMajor, 237}}
	terminalsNode   = node{unix.S_IFCHR, number{5, 2}} // /dev/ptmx
)

const (
	miscMajor    = 10
	controlMinor = 236
)

// nodes are the nodes in a session's /dev: empty files in memory, known by their inodes, which are not used again.
type nodes struct {
	dir int    // /dev
	dev uint64 // its st_dev

	mu      sync.RWMutex // guards byInode
	byInode map[uint64]node
}

func newNodes(dir int) (*nodes, error) {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	fd, err := unix.Openat(dir, ".full", unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/.full", Err: err}
	}
	n, err := unix.Write(fd, make([]byte, sandbox.DevBytes))
	if err == nil && n != sandbox.DevBytes {
		err = unix.ENOSPC
	}
	// It is kept open, and so there, as long as this process lives.
	return &nodes{dir: dir, dev: st.Dev, byInode: make(map[uint64]node)}, errors.Join(err, unix.Unlinkat(dir, ".full", 0))
}

// at returns the node that a file is. ok is false if it is none.
func (ns *nodes) at(st *unix.Stat_t) (n node, ok bool) {
	if st.Dev != ns.dev || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return node{}, false
	}
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	n, ok = ns.byInode[st.Ino]
	return n, ok
}

// make makes a node called name in a directory. EEXIST is that there is something.
func (ns *nodes) make(dir int, name string, n node) error {
	// Nobody may see the file before it is known what it is.
	ns.mu.Lock()
	defer ns.mu.Unlock()
	fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o660)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written to it
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Dev != ns.dev {
		return errors.Join(unix.EPERM, unix.Unlinkat(dir, name, 0))
	}
	ns.byInode[st.Ino] = n
	return nil
}

// ensure has the node at name, a path below /dev, be n, in place of another.
func (ns *nodes) ensure(name string, n node) error {
	var st unix.Stat_t
	err := unix.Fstatat(ns.dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil {
		if have, ok := ns.at(&st); ok && have == n {
			return nil
		}
		if err := unix.Unlinkat(ns.dir, name, 0); err != nil {
			return err
		}
	}
	if dir := path.Dir(name); dir != "." {
		if err := unix.Mkdirat(ns.dir, dir, 0o755); err != nil && err != unix.EEXIST {
			return err
		}
	}
	if err := ns.make(ns.dir, name, n); err != nil && err != unix.EEXIST {
		return err
	}
	return nil
}

// remove takes the node at name away if it is n.
func (ns *nodes) remove(name string, n node) {
	var st unix.Stat_t
	if err := unix.Fstatat(ns.dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return
	}
	if have, ok := ns.at(&st); ok && have == n {
		_ = unix.Unlinkat(ns.dir, name, 0) // others may have done so
	}
}
