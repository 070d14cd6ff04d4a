package exec

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"dmfs/cmd/internal/exec/sandbox"
)

// A tree keeps the directories of a session as the kernel would keep them: what is in /dev, and what /sys and /proc say.
type tree struct {
	s      *supervisor
	dirs   sandbox.Trees
	kernel map[string]string // /proc/devices and /proc/misc, with what a session adds

	mu      sync.Mutex // guards what follows, and is held while files are written
	shown   map[uint64]*shown
	written map[string]string // files of /proc
	names   map[string]number // nodes in /dev/mapper that were made here, not by tools
	links   map[string]string // likewise in directories of volume groups: link to its target
}

// A shown device is one that /sys has.
type shown struct {
	d      *device
	beside string // what is shown of it and is not in d
	files  map[string]string
}

// link is how the contents of a link begin; a file has none that begins so.
const link = "-> "

// put has a file or link at name below a directory have some contents.
func put(dir int, name, text string) error {
	if target, ok := strings.CutPrefix(text, link); ok {
		err := unix.Symlinkat(target, dir, name)
		if err == unix.EEXIST {
			return nil
		}
		return err
	}
	fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	_, err = unix.Write(fd, []byte(text))
	return errors.Join(err, unix.Close(fd))
}

// makeDirs makes name's directory and those above it.
func makeDirs(dir int, name string) error {
	parent := path.Dir(name)
	if parent == "." {
		return nil
	}
	if err := makeDirs(dir, parent); err != nil {
		return err
	}
	if err := unix.Mkdirat(dir, parent, 0o755); err != nil && err != unix.EEXIST {
		return &os.PathError{Op: "mkdir", Path: parent, Err: err}
	}
	return nil
}

// start makes what does not change.
func (t *tree) start() error {
	static := map[string]node{"mapper/control": controlNode, "loop-control": loopControlNode, "ptmx": terminalsNode}
	for name, n := range static {
		if err := t.s.nodes.ensure(name, n); err != nil {
			return &os.PathError{Op: "mknod", Path: "/dev/" + name, Err: err}
		}
	}
	for _, n := range t.s.loops.numbers() {
		if err := t.loop(n); err != nil {
			return err
		}
	}
	for alias, disk := range t.s.aliases {
		if err := put(t.dirs.Dev, alias, link+disk); err != nil {
			return err
		}
	}
	for name, text := range t.kernel {
		if err := put(t.dirs.Proc, name, text); err != nil {
			return err
		}
	}
	return nil
}

// loop makes the node of a loop device, and what /sys says of one that is not bound.
func (t *tree) loop(n uint32) error {
	if err := t.s.nodes.ensure("loop"+strconv.Itoa(int(n)), node{unix.S_IFBLK, number{loopMajor, n}}); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.s.world.at(number{loopMajor, n}) != nil {
		return nil
	}
	return t.writeDevice("loop"+strconv.Itoa(int(n)), number{loopMajor, n}, nil, unboundLoop(n))
}

// update has all be as the devices are. With names it also makes nodes in /dev/mapper, and links, for devices that others made or took
// away; tools that made a device in this session do so themselves, and would be disturbed.
func (t *tree) update(names bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	devices := t.s.world.all()
	holders := holdersOf(devices)
	var errs []error
	gone := maps.Clone(t.shown)
	for _, d := range devices {
		delete(gone, d.ID)
	}
	for id, old := range gone {
		delete(t.shown, id)
		t.s.ahead.Delete(id)
		if d := t.s.world.at(old.d.number); d == nil || d.node != old.d.node { // a number of partitions may be another's
			t.removeDevice(old)
			if n := old.d.number; n.major == loopMajor && t.s.loops.exists(n.minor) {
				errs = append(errs, t.writeDevice(old.d.node, n, nil, unboundLoop(n.minor)), t.s.nodes.ensure(old.d.node, node{unix.S_IFBLK, n}))
			}
		}
	}
	for _, d := range devices {
		above := fmt.Sprint(holders[d.node], t.s.loops.beside(d), t.s.readAhead(d))
		have := t.shown[d.ID]
		if have != nil && have.d == d && have.beside == above {
			continue
		}
		files := t.s.describe(d, holders[d.node])
		before := map[string]string(nil)
		if have != nil {
			before = have.files
		}
		errs = append(errs, t.writeDevice(d.sysPath(), d.number, before, files),
			t.s.nodes.ensure(d.node, node{unix.S_IFBLK, d.number}))
		t.shown[d.ID] = &shown{d, above, files}
	}
	if text := partitions(devices); text != t.written["partitions"] {
		t.written["partitions"] = text
		errs = append(errs, put(t.dirs.Proc, "partitions", text))
	}
	if names {
		errs = append(errs, t.updateNames(devices))
	}
	return errors.Join(errs...)
}

// writeDevice has /sys tell files of a device, where it has told before. dir is the device's directory: its name, behind that of its disk if it is a partition.
func (t *tree) writeDevice(dir string, n number, before, files map[string]string) error {
	for old, text := range before {
		if files[old] != text && (files[old] == "" || strings.HasPrefix(text, link)) {
			_ = unix.Unlinkat(t.dirs.Devices, path.Join(dir, old), 0) // it is made anew, or not any more
		}
	}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if text, ok := before[file]; ok && text == files[file] {
			continue
		}
		at := path.Join(dir, file)
		if err := makeDirs(t.dirs.Devices, at); err != nil {
			return err
		}
		if strings.HasSuffix(file, "/") {
			if err := unix.Mkdirat(t.dirs.Devices, at, 0o755); err != nil && err != unix.EEXIST {
				return &os.PathError{Op: "mkdir", Path: at, Err: err}
			}
			continue
		}
		if err := put(t.dirs.Devices, at, files[file]); err != nil {
			return err
		}
	}
	for where, name := range t.linksTo(dir, n) {
		if err := put(where, name, link+t.s.devicesDir+"/"+dir); err != nil {
			return err
		}
	}
	return put(t.dirs.Dev, "block/"+n.String(), link+"../"+path.Base(dir))
}

// linksTo returns the links in /sys to a device's directory. That /sys/block has none is how partitions are told from disks.
func (t *tree) linksTo(dir string, n number) map[int]string {
	links := map[int]string{t.dirs.Numbers: n.String(), t.dirs.Class: path.Base(dir)}
	if path.Base(dir) == dir {
		links[t.dirs.Block] = dir
	}
	return links
}

// removeDevice takes a device out of /sys and its node out of /dev.
func (t *tree) removeDevice(old *shown) {
	dir, n := old.d.sysPath(), old.d.number
	for where, name := range t.linksTo(dir, n) {
		_ = unix.Unlinkat(where, name, 0) // it may be gone
	}
	_ = unix.Unlinkat(t.dirs.Dev, "block/"+n.String(), 0)
	removeAll(t.dirs.Devices, dir)
	if n.major != loopMajor {
		t.s.nodes.remove(old.d.node, node{unix.S_IFBLK, n})
	}
}

// removeAll takes a directory away with all that is in it.
func removeAll(dir int, name string) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(fd), name)
	entries, _ := f.ReadDir(-1)
	for _, e := range entries {
		if e.IsDir() {
			removeAll(fd, e.Name())
		} else {
			_ = unix.Unlinkat(fd, e.Name(), 0)
		}
	}
	f.Close() //nolint:errcheck // nothing was written to it
	_ = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

// updateNames makes nodes in /dev/mapper for devices that have none, and for logical volumes links as udev makes them. It takes away
// what it made once the device is gone or called otherwise.
func (t *tree) updateNames(devices []*device) error {
	names, links := make(map[string]number), make(map[string]string)
	for _, d := range devices {
		if d.hidden() || !d.HasNode {
			continue
		}
		names["mapper/"+d.Name] = d.number
		if group, volume, ok := volumeOf(d); ok {
			links[group+"/"+volume] = "../mapper/" + d.Name
		}
	}
	var errs []error
	for name, n := range names {
		errs = append(errs, t.s.nodes.ensure(name, node{unix.S_IFBLK, n}))
	}
	for name, n := range t.names {
		if names[name] != n {
			t.s.nodes.remove(name, node{unix.S_IFBLK, n})
		}
	}
	for name, target := range links {
		if err := makeDirs(t.dirs.Dev, name); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, put(t.dirs.Dev, name, link+target))
	}
	for name := range t.links {
		if links[name] == "" {
			_ = unix.Unlinkat(t.dirs.Dev, name, 0)                           // the tool that removed the volume may have done so
			_ = unix.Unlinkat(t.dirs.Dev, path.Dir(name), unix.AT_REMOVEDIR) // if that was the last
		}
	}
	t.names, t.links = names, links
	return errors.Join(errs...)
}
