package exec

import (
	"context"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A file is what a path or a descriptor of a caller leads to, as far as it matters here.
type file struct {
	node node        // zero if it is nothing of ours
	st   unix.Stat_t // of the file that stands for it
	path int         // O_PATH descriptor of it, -1 if there is none
	dev  *device     // that it is, nil if the number has none
}

// ours reports whether f is a node or a device.
func (f *file) ours() bool { return f.node.mode != 0 }

// exists reports whether there is a file at all.
func (f *file) exists() bool { return f.st.Mode != 0 }

func (f *file) block() bool { return f.node.mode == unix.S_IFBLK }

func (f *file) close() {
	if f.path >= 0 {
		unix.Close(f.path) //nolint:errcheck // nothing is written through it
		f.path = -1
	}
}

// classify finds out what the file with f.st is.
func (s *supervisor) classify(f *file) {
	if n, ok := s.nodes.at(&f.st); ok {
		f.node = n
		if f.block() {
			f.dev = s.world.at(n.number)
		}
		return
	}
	if f.st.Dev == s.mount.dev && f.st.Mode&unix.S_IFMT == unix.S_IFREG {
		if d := s.world.ofInode(context.Background(), f.st.Ino); d != nil {
			f.node, f.dev = node{unix.S_IFBLK, d.number}, d
		}
	}
}

// descriptor returns what a descriptor of c's caller is.
func (s *supervisor) descriptor(c *call, fd uint64) (f file) {
	f.path = -1
	name := "/proc/" + strconv.Itoa(int(c.TID)) + "/fd/" + strconv.Itoa(int(int32(fd)))
	if int32(fd) >= 0 && unix.Stat(name, &f.st) == nil {
		s.classify(&f)
	}
	return f
}

// descriptors are the names by which a process reaches what it has open.
var descriptors = regexp.MustCompile(`^/proc/(self|thread-self|[0-9]+)(?:/task/[0-9]+)?/fd/([0-9]+)$`)

// entrances are the names in /proc that lead elsewhere by themselves, not by what they read as, with a path behind them.
var entrances = regexp.MustCompile(`^/proc/(self|thread-self|[0-9]+)((?:/task/[0-9]+)?/(?:cwd|root|fd/[0-9]+))/(.+)$`)

// enter returns abs without an entrance, so that it can be followed from the root of c's caller. "" is that it leads nowhere.
func enter(c *call, abs string) string {
	m := entrances.FindStringSubmatch(abs)
	if m == nil {
		return abs
	}
	pid := m[1]
	if pid[0] < '0' || pid[0] > '9' {
		pid = strconv.Itoa(int(c.TID))
	}
	target, err := os.Readlink("/proc/" + pid + m[2])
	if err != nil || !path.IsAbs(target) {
		return ""
	}
	return target + "/" + m[3]
}

var standard = map[string]string{"/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2"}

// openDescriptor returns the name in our /proc of what a caller reaches by a name that is a descriptor's. ok is false for others.
func openDescriptor(c *call, name string) (proc string, ok bool) {
	if alias := standard[name]; alias != "" {
		name = alias
	} else if rest, isFD := strings.CutPrefix(name, "/dev/fd/"); isFD {
		name = "/proc/self/fd/" + rest
	}
	m := descriptors.FindStringSubmatch(name)
	if m == nil {
		return "", false
	}
	pid := m[1]
	if pid[0] < '0' || pid[0] > '9' {
		pid = strconv.Itoa(int(c.TID))
	}
	return "/proc/" + pid + "/fd/" + m[2], true
}

// absolute returns name as a path from the root of c's caller. "" is that it cannot be told.
func absolute(c *call, dir uint64, name string) string {
	if path.IsAbs(name) {
		return name
	}
	link := "/proc/" + strconv.Itoa(int(c.TID)) + "/cwd"
	if int32(dir) != unix.AT_FDCWD {
		link = "/proc/" + strconv.Itoa(int(c.TID)) + "/fd/" + strconv.Itoa(int(int32(dir)))
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlink(link, buf)
	if err != nil || n == 0 || n == len(buf) || buf[0] != '/' {
		return ""
	}
	return string(buf[:n]) + "/" + name
}

// lookup returns what a path of c's caller leads to. A path that leads nowhere, or where we do not get, is nothing of ours:
// the caller goes that way itself and finds out.
func (s *supervisor) lookup(c *call, dir uint64, name string, noFollow bool) (f file) {
	f.path = -1
	abs := absolute(c, dir, name)
	if abs == "" || name == "" {
		return f
	}
	if proc, ok := openDescriptor(c, path.Clean(abs)); ok {
		if !noFollow && unix.Stat(proc, &f.st) == nil {
			s.classify(&f)
		}
		return f
	}
	if abs = enter(c, abs); abs == "" {
		return f
	}
	fd, err := s.openPath(c, abs, noFollow)
	if err != nil {
		return f
	}
	f.path = fd
	if unix.Fstat(fd, &f.st) == nil {
		s.classify(&f)
	}
	if !f.ours() {
		f.close()
	}
	return f
}

// openPath opens what an absolute path leads to in the root of c's caller, without opening the file.
func (s *supervisor) openPath(c *call, abs string, noFollow bool) (int, error) {
	root, err := unix.Open("/proc/"+strconv.Itoa(int(c.TID))+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(root) //nolint:errcheck // nothing is written through it
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT}
	if noFollow {
		how.Flags |= unix.O_NOFOLLOW
	}
	return unix.Openat2(root, abs, &how)
}
