package mount

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// FSType is what mountinfo calls our mounts.
const FSType = "fuse.dmfs"

// A Mount is one line of /proc/self/mountinfo.
type Mount struct {
	ID, Parent int
	Device     string // st_dev as MAJOR:MINOR, decimal
	Point      string // escapes decoded
	Type       string
	Source     string // escapes decoded
	UserID     int    // user_id= of a FUSE mount, else -1
	GroupID    int    // group_id= of a FUSE mount, else -1
}

// Find returns the mount points of the caller's dmfs mounts: for root all, for others those with
// his user id. Mounts covered by another are left out, since their files cannot be reached.
func Find() ([]string, error) {
	mounts, err := readMounts()
	if err != nil {
		return nil, err
	}
	return own(mounts, os.Geteuid()), nil
}

// own returns the visible dmfs mounts of uid.
func own(mounts []Mount, uid int) []string {
	var points []string
	for _, m := range mounts {
		if m.Type == FSType && (uid == 0 || m.UserID == uid) && visible(mounts, m) {
			points = append(points, m.Point)
		}
	}
	return points
}

// At returns the topmost mount on the directory point, an absolute path without symlinks. ok is false if
// nothing is mounted there.
func At(point string) (m Mount, ok bool, err error) {
	mounts, err := readMounts()
	if err != nil {
		return Mount{}, false, err
	}
	for _, m := range mounts {
		if m.Point == point && visible(mounts, m) {
			return m, true, nil
		}
	}
	return Mount{}, false, nil
}

// visible reports whether the root of m is what a path to m.Point leads to: nothing is mounted on it, and
// none of the mounts between it and the root lies under one mounted later above it.
func visible(mounts []Mount, m Mount) bool {
	for _, other := range mounts {
		if other.Parent == m.ID && other.Point == m.Point && other.ID != m.ID {
			return false
		}
	}
	for range mounts { // at most so many ancestors: a table read while it changes may hold a ring
		parent, found := Mount{}, false
		for _, other := range mounts {
			switch {
			case other.ID == m.ID:
			case other.ID == m.Parent:
				parent, found = other, true
			case other.Parent == m.Parent && within(m.Point, other.Point):
				return false
			}
		}
		if !found {
			return true
		}
		m = parent
	}
	return true
}

// within reports whether p is dir or below it. Both are clean.
func within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

func readMounts() ([]Mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseMounts(f)
}

// parseMounts reads the format of proc_pid_mountinfo(5):
//
//	36 35 98:0 /root /point rw,noatime shared:1 - fuse.dmfs source rw,user_id=1000,group_id=1000
func parseMounts(r io.Reader) ([]Mount, error) {
	var mounts []Mount
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m, err := parseMount(lines.Text())
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, m)
	}
	return mounts, lines.Err()
}

func parseMount(line string) (Mount, error) {
	bad := fmt.Errorf("mountinfo: unexpected line %q", line)
	before, after, ok := strings.Cut(line, " - ")
	f, g := strings.Split(before, " "), strings.Split(after, " ")
	if !ok || len(f) < 6 || len(g) < 3 {
		return Mount{}, bad
	}
	id, err1 := strconv.Atoi(f[0])
	parent, err2 := strconv.Atoi(f[1])
	if err1 != nil || err2 != nil {
		return Mount{}, bad
	}
	m := Mount{
		ID: id, Parent: parent, Device: f[2], Point: unescape(f[4]),
		Type: unescape(g[0]), Source: unescape(g[1]), UserID: -1, GroupID: -1,
	}
	for _, o := range strings.Split(g[2], ",") {
		name, value, _ := strings.Cut(o, "=")
		n, err := strconv.Atoi(value)
		switch {
		case err != nil:
		case name == "user_id":
			m.UserID = n
		case name == "group_id":
			m.GroupID = n
		}
	}
	return m, nil
}

// unescape decodes the \ooo by which the kernel writes blanks, tabs, newlines and backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// resolve returns point as an absolute path without symlinks, without looking at what may be mounted
// there: the last component is read, not entered.
func resolve(point string) (string, error) {
	if point == "" {
		return "", fmt.Errorf("the mount point is an empty string: %w", unix.ENOENT)
	}
	if !path.IsAbs(point) {
		wd, err := os.Getwd()
		if err != nil {
			return "", err
		}
		point = path.Join(wd, point)
	}
	return resolveAbs(path.Clean(point), 0)
}

// maxSymlinks is as many as the kernel follows.
const maxSymlinks = 40

// resolveAbs resolves the absolute, clean path p.
func resolveAbs(p string, followed int) (string, error) {
	if followed > maxSymlinks {
		return "", &os.PathError{Op: "resolve", Path: p, Err: unix.ELOOP}
	}
	if p == "/" {
		return p, nil
	}
	dir, err := resolveAbs(path.Dir(p), followed)
	if err != nil {
		return "", err
	}
	p = path.Join(dir, path.Base(p))
	target, err := os.Readlink(p)
	if err != nil {
		return p, nil // no symlink, or nothing at all: whoever uses the path will say
	}
	if !path.IsAbs(target) {
		target = path.Join(dir, target)
	}
	return resolveAbs(path.Clean(target), followed+1)
}
