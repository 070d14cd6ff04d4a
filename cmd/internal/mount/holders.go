package mount

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxHolders bounds how many are named.
const maxHolders = 20

// A system is where holders looks; tests give it directories of their own.
type system struct {
	proc, sys string
	mounts    []Mount
}

// Holders says who keeps m busy, a line each: processes with files open, a directory in use or a file
// mapped, loop devices attached to files of m, mounts on top of it. It touches no file of m.
// Processes that the caller may not look into are missing.
func Holders(m Mount) []string {
	mounts, _ := readMounts() // without them the rest is still worth saying
	s := system{proc: "/proc", sys: "/sys", mounts: mounts}
	all := append(s.mountHolders(m), s.loopHolders(m)...)
	all = append(all, s.processHolders(m)...)
	if len(all) > maxHolders {
		all = append(all[:maxHolders:maxHolders], fmt.Sprintf("and %d more", len(all)-maxHolders))
	}
	return all
}

// mountHolders names the mounts on directories of m.
func (s system) mountHolders(m Mount) []string {
	var found []string
	for _, other := range s.mounts {
		if other.Parent == m.ID && other.ID != m.ID {
			found = append(found, fmt.Sprintf("%s (%s) is mounted on %s", other.Source, other.Type, other.Point))
		}
	}
	return found
}

// loopHolders names the loop devices attached to files of m, and what is mounted from them.
func (s system) loopHolders(m Mount) []string {
	var found []string
	names, _ := filepath.Glob(s.sys + "/block/loop*/loop/backing_file")
	for _, name := range names {
		text, err := os.ReadFile(name)
		file := strings.TrimSuffix(string(text), "\n")
		if err != nil || !within(file, m.Point) {
			continue
		}
		loop := "/dev/" + path.Base(path.Dir(path.Dir(name)))
		line := fmt.Sprintf("%s is attached to %s", loop, file)
		for _, other := range s.mounts {
			if other.Source == loop {
				line += ", and mounted on " + other.Point
			}
		}
		found = append(found, line)
	}
	return found
}

// processHolders names the processes that use m.
func (s system) processHolders(m Mount) []string {
	var found []string
	entries, _ := os.ReadDir(s.proc)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() { // what we hold was inherited from one who is listed
			continue
		}
		dir := path.Join(s.proc, e.Name())
		uses := s.uses(dir, m)
		if len(uses) == 0 {
			continue
		}
		comm, _ := os.ReadFile(dir + "/comm")
		found = append(found, fmt.Sprintf("pid %d (%s) %s", pid, strings.TrimSpace(string(comm)), strings.Join(uses, ", ")))
	}
	return found
}

// uses says how the process with that directory in /proc uses m.
func (s system) uses(dir string, m Mount) []string {
	var uses []string
	for _, link := range []struct{ name, what string }{
		{"cwd", "has its working directory in %s"},
		{"root", "has its root directory in %s"},
		{"exe", "runs %s"},
	} {
		if target, err := os.Readlink(path.Join(dir, link.name)); err == nil && within(target, m.Point) {
			uses = append(uses, fmt.Sprintf(link.what, target))
		}
	}
	seen := make(map[string]bool)
	fds, _ := os.ReadDir(dir + "/fd")
	for _, fd := range fds {
		target, err := os.Readlink(path.Join(dir, "fd", fd.Name()))
		if err != nil || !within(target, m.Point) || seen[target] || !onMount(path.Join(dir, "fdinfo", fd.Name()), m) {
			continue
		}
		seen[target] = true
		uses = append(uses, "has "+target+" open")
	}
	for _, file := range mapped(dir+"/maps", m) {
		if !seen[file] {
			uses = append(uses, "has "+file+" mapped")
		}
	}
	return uses
}

// onMount reports whether a file of /proc/PID/fdinfo is about a file of m. A process in another mount
// namespace may have files of the same names elsewhere.
func onMount(name string, m Mount) bool {
	text, err := os.ReadFile(name)
	if err != nil {
		return true // the names agree: better one too many
	}
	for _, line := range strings.Split(string(text), "\n") {
		if id, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			return strings.TrimSpace(id) == strconv.Itoa(m.ID)
		}
	}
	return true
}

// mapped returns the files of m in a process's maps, each once.
func mapped(name string, m Mount) []string {
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	var major, minor uint32
	fmt.Sscanf(m.Device, "%d:%d", &major, &minor)
	device := fmt.Sprintf("%02x:%02x", major, minor)
	var files []string
	seen := make(map[string]bool)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// 7f0000000000-7f0000001000 rw-s 00000000 00:2d 2   /mnt/vol0
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 || fields[3] != device {
			continue
		}
		if file := unescape(strings.Join(fields[5:], " ")); !seen[file] {
			seen[file] = true
			files = append(files, file)
		}
	}
	return files
}

// busy is the error for a mount that cannot go because it is in use.
func busy(m Mount) error {
	holders := Holders(m)
	if len(holders) == 0 {
		return fmt.Errorf("%s is busy, though no process that this user may look into uses it: %w", m.Point, unix.EBUSY)
	}
	return fmt.Errorf("%s is busy: %w\n  %s", m.Point, unix.EBUSY, strings.Join(holders, "\n  "))
}
