package exec

import (
	"context"
	"crypto/rand"
	"path"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"dmfs/cmd/internal/exec/caller"
	"dmfs/cmd/internal/exec/sandbox"
	"dmfs/cmd/internal/exec/seccomp"
)

// pass has the kernel carry c out.
func (s *supervisor) pass(c *call) { s.listener.Continue(&c.Call) }

// answer has c return 0, or fail.
func (s *supervisor) answer(c *call, errno unix.Errno) { s.listener.Answer(&c.Call, 0, errno) }

// openat2 is open with its flags in a structure.
func (s *supervisor) openat2(c *call) {
	var how unix.OpenHow
	p := unsafe.Slice((*byte)(unsafe.Pointer(&how)), unsafe.Sizeof(how))
	if c.Args[3] < uint64(len(p)) || c.Read(c.Args[2], p) != 0 {
		s.pass(c)
		return
	}
	s.open(c, c.Args[0], c.Args[1], how.Flags)
}

// open answers open(2) for nodes and devices.
func (s *supervisor) open(c *call, dir, name, flags uint64) {
	if flags&(unix.O_PATH|unix.O_DIRECTORY) != 0 {
		s.pass(c) // it opens no file
		return
	}
	text, errno := c.String(name, seccomp.PathMax)
	if errno != 0 {
		s.pass(c)
		return
	}
	f := s.lookup(c, dir, text, flags&unix.O_NOFOLLOW != 0)
	defer f.close()
	const exclusive = unix.O_CREAT | unix.O_EXCL
	switch {
	case !f.ours():
		if flags&exclusive == unix.O_CREAT && flags&unix.O_NOFOLLOW == 0 && !f.exists() {
			s.place(c, dir, text)
		}
		s.pass(c)
	case flags&exclusive == exclusive:
		s.answer(c, unix.EEXIST)
	case f.block():
		s.openDevice(c, f.node.number, int(flags))
	case f.node == terminalsNode:
		s.openTerminal(c, flags)
	default:
		s.openCharacter(c, &f, flags)
	}
}

// place has a file that a caller is about to make in /dev lie elsewhere, where there is room for what he writes: its name becomes a link.
func (s *supervisor) place(c *call, dir uint64, name string) {
	abs := absolute(c, dir, name)
	if abs == "" || strings.HasSuffix(abs, "/") {
		return
	}
	parent, err := s.openPath(c, path.Dir(abs), false)
	if err != nil {
		return
	}
	defer unix.Close(parent) //nolint:errcheck // nothing is written through it
	var st unix.Stat_t
	if unix.Fstat(parent, &st) != nil || st.Dev != s.nodes.dev {
		return
	}
	_ = unix.Symlinkat(path.Join(sandbox.FilesDir, rand.Text()), parent, path.Base(abs)) // unless there is something
}

// openTerminal opens a new pseudo-terminal, of those of the surroundings: the session has their /dev/pts, so its own terminals and the one that
// its user sits at are found there alike.
func (s *supervisor) openTerminal(c *call, flags uint64) {
	fd, err := unix.Open("/dev/ptmx", int(flags)&(unix.O_ACCMODE|unix.O_NONBLOCK)|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		s.answer(c, caller.Errno(err))
		return
	}
	defer unix.Close(fd) //nolint:errcheck // the caller has it
	s.listener.AnswerFD(&c.Call, fd, flags&unix.O_CLOEXEC != 0)
}

// openCharacter opens a control file. What callers get is the empty file that stands for it, which is known by its inode; whatever
// they asked for, nothing can be written to it.
func (s *supervisor) openCharacter(c *call, f *file, flags uint64) {
	fd, err := unix.Open(procFD(f.path), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		s.answer(c, caller.Errno(err))
		return
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written to it
	s.listener.AnswerFD(&c.Call, fd, flags&unix.O_CLOEXEC != 0)
}

// kept are the flags of open that mean something for a device.
const kept = unix.O_ACCMODE | unix.O_DIRECT | unix.O_SYNC | unix.O_DSYNC | unix.O_NONBLOCK | unix.O_APPEND

// openDevice opens the device with a number.
func (s *supervisor) openDevice(c *call, n number, flags int) {
	ctx, stop := s.patience(c)
	defer stop()
	fd, errno := s.openNumber(ctx, n, flags)
	if errno != 0 {
		s.answer(c, errno)
		return
	}
	defer unix.Close(fd) //nolint:errcheck // the caller has it
	s.listener.AnswerFD(&c.Call, fd, flags&unix.O_CLOEXEC != 0)
}

// openNumber opens the file of the device with a number, as callers see it.
func (s *supervisor) openNumber(ctx context.Context, n number, flags int) (int, unix.Errno) {
	const tries = 5 // it may be renamed or removed between the look and the opening
	for range tries {
		d := s.world.at(n)
		if d == nil && n.major == loopMajor && s.loops.exists(n.minor) {
			if err := s.loops.makeUnbound(ctx, n.minor); err != nil {
				return -1, caller.Errno(err)
			}
			d = s.world.at(n)
		}
		if d != nil && d.inode != 0 {
			if flags&unix.O_EXCL != 0 && flags&unix.O_CREAT == 0 && s.claimed(d) {
				return -1, unix.EBUSY
			}
			fd, err := unix.Openat(s.mount.root, d.Name, flags&kept|unix.O_CLOEXEC, 0)
			if err == nil {
				var st unix.Stat_t
				if unix.Fstat(fd, &st) == nil && st.Ino == d.inode {
					return fd, 0
				}
				unix.Close(fd) //nolint:errcheck // it is another device
			} else if err != unix.ENOENT && err != unix.ENXIO {
				return -1, caller.Errno(err)
			}
		}
		changed, err := s.refresh(ctx)
		if err != nil || !changed && s.world.at(n) == d {
			break
		}
	}
	return -1, unix.ENXIO
}

// claimed reports whether a table stands on d, or on a part of it, or on what it is a part of. That a disk has partitions is no claim.
func (s *supervisor) claimed(d *device) bool {
	all := s.world.all()
	mine := map[string]bool{d.Name: true}
	for _, other := range all {
		if other.part.disk == d.node || d.part.disk == other.node {
			mine[other.Name] = true
		}
	}
	for _, other := range all {
		if other.part != (part{}) {
			continue
		}
		for _, dep := range other.Deps {
			if mine[dep.Device] {
				return true
			}
		}
	}
	return false
}

// fstat answers fstat(2).
func (s *supervisor) fstat(c *call, fd, out uint64) {
	f := s.descriptor(c, fd)
	if !f.ours() {
		s.pass(c)
		return
	}
	s.tell(c, &f, out)
}

// stat answers stat(2) and its variants.
func (s *supervisor) stat(c *call, dir, name, out, flags uint64) {
	f := s.target(c, dir, name, flags)
	defer f.close()
	if !f.ours() {
		s.pass(c)
		return
	}
	s.tell(c, &f, out)
}

// target returns what the calls that take a directory, a path and AT_… flags are about.
func (s *supervisor) target(c *call, dir, name, flags uint64) file {
	text, errno := c.String(name, seccomp.PathMax)
	if flags&unix.AT_EMPTY_PATH != 0 && (name == 0 || errno == 0 && text == "") {
		return s.descriptor(c, dir)
	}
	if errno != 0 {
		return file{path: -1}
	}
	return s.lookup(c, dir, text, flags&unix.AT_SYMLINK_NOFOLLOW != 0)
}

// inodeOf returns the inode that all names of a node and all descriptors of its device have. No file in memory has one so high.
func inodeOf(n node) uint64 { return 1<<40 | uint64(n.mode)<<44 | n.number.rdev() }

// tell writes what stat(2) tells of f.
func (s *supervisor) tell(c *call, f *file, out uint64) {
	st := unix.Stat_t{
		Dev: s.nodes.dev, Ino: inodeOf(f.node), Nlink: 1, Mode: f.node.mode | 0o660, Rdev: f.node.number.rdev(),
		Blksize: 4096, Atim: f.st.Atim, Mtim: f.st.Mtim, Ctim: f.st.Ctim,
	}
	s.answer(c, c.Write(out, unsafe.Slice((*byte)(unsafe.Pointer(&st)), unsafe.Sizeof(st))))
}

// statx answers statx(2).
func (s *supervisor) statx(c *call) {
	f := s.target(c, c.Args[0], c.Args[1], c.Args[2])
	defer f.close()
	if !f.ours() {
		s.pass(c)
		return
	}
	stamp := func(t unix.Timespec) unix.StatxTimestamp {
		return unix.StatxTimestamp{Sec: t.Sec, Nsec: uint32(t.Nsec)}
	}
	st := unix.Statx_t{
		Mask: unix.STATX_BASIC_STATS, Blksize: 4096, Nlink: 1, Mode: uint16(f.node.mode | 0o660), Ino: inodeOf(f.node),
		Atime: stamp(f.st.Atim), Mtime: stamp(f.st.Mtim), Ctime: stamp(f.st.Ctim),
		Rdev_major: f.node.number.major, Rdev_minor: f.node.number.minor,
		Dev_major: unix.Major(s.nodes.dev), Dev_minor: unix.Minor(s.nodes.dev),
	}
	s.answer(c, c.Write(c.Args[4], unsafe.Slice((*byte)(unsafe.Pointer(&st)), unsafe.Sizeof(st))))
}

// mknod answers mknod(2) for devices: nodes can be made in /dev. What else it makes the kernel does.
func (s *supervisor) mknod(c *call, dir, name, mode, rdev uint64) {
	kind := uint32(mode) & unix.S_IFMT
	if kind != unix.S_IFBLK && kind != unix.S_IFCHR {
		s.pass(c)
		return
	}
	text, errno := c.String(name, seccomp.PathMax)
	abs := ""
	if errno == 0 {
		abs = absolute(c, dir, text)
	}
	if abs == "" {
		s.pass(c)
		return
	}
	parent, err := s.openPath(c, path.Dir(abs), false)
	if err != nil {
		s.pass(c) // it tells the caller so itself
		return
	}
	defer unix.Close(parent) //nolint:errcheck // nothing is written through it
	var st unix.Stat_t
	if err := unix.Fstat(parent, &st); err != nil || st.Dev != s.nodes.dev {
		s.pass(c)
		return
	}
	n := node{kind, numberOf(uint64(uint32(rdev)))}
	s.answer(c, caller.Errno(s.nodes.make(parent, path.Base(abs), n)))
}

// chown answers chown(2) for nodes, whose owner is nobody's concern: groups like disk do not exist in the namespace.
func (s *supervisor) chown(c *call, dir, name, flags uint64) {
	f := s.target(c, dir, name, flags)
	defer f.close()
	s.grant(c, f.ours() || f.st.Dev == s.nodes.dev)
}

func (s *supervisor) fchown(c *call) {
	f := s.descriptor(c, c.Args[0])
	s.grant(c, f.ours() || f.st.Dev == s.nodes.dev)
}

// grant has c succeed without being carried out, if it is ours.
func (s *supervisor) grant(c *call, ours bool) {
	if ours {
		s.answer(c, 0)
	} else {
		s.pass(c)
	}
}
