package exec

import (
	"context"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"dmfs/fs/control"
)

// reserved is how names of devices begin that stand for block files and loop devices.
const reserved = "dmfs-"

// Major numbers of SCSI disks, loop devices, and of partitions that have no number beside their disk's. A disk has 16 minor numbers, of which the others
// are its first partitions.
const (
	diskMajor  = 8
	diskMinors = 16
	loopMajor  = 7
	partMajor  = 259
)

// A number is that of a device, as callers see it.
type number struct{ major, minor uint32 }

func (n number) String() string { return fmt.Sprintf("%d:%d", n.major, n.minor) }

// rdev returns n as stat(2) has it.
func (n number) rdev() uint64 { return unix.Mkdev(n.major, n.minor) }

// numberOf returns the number that rdev stands for.
func numberOf(rdev uint64) number { return number{unix.Major(rdev), unix.Minor(rdev)} }

// parseNumber parses MAJOR:MINOR.
func parseNumber(s string) (number, bool) {
	a, b, ok := strings.Cut(s, ":")
	x, err := strconv.ParseUint(a, 10, 12)
	y, err2 := strconv.ParseUint(b, 10, 20)
	return number{uint32(x), uint32(y)}, ok && err == nil && err2 == nil
}

// A device is a mapped device of the mount as callers see it. It does not change.
type device struct {
	control.Device
	number number
	node   string // the kernel's name: dm-3, sda, loop0
	inode  uint64 // of its file in the mount, 0 if it has none
	part   part   // zero for what is no partition
}

// hidden reports whether d stands for a file or a part of one and is no mapped device to callers.
func (d *device) hidden() bool {
	return d.number.major == diskMajor || d.number.major == loopMajor || d.number.major == partMajor
}

// whole reports whether d stands for a file.
func (d *device) whole() bool { return d.hidden() && d.part == part{} }

var reservedName = regexp.MustCompile(`^` + reserved + `(sd([a-z]{1,3})([0-9]{1,3})?|loop([0-9]{1,6})(?:p([0-9]{1,3}))?)$`)

// A hidden is what callers know a device by that stands for a file, or for a part of one.
type hidden struct {
	number number
	node   string
	disk   string // the node of the disk that it is a part of, "" for a whole one
	part   uint32 // its number on that
}

// hiddenAs returns what callers know a device of that name by which has a minor number in the mount. ok is false for what stands for no file.
func hiddenAs(name string, minor uint32) (h hidden, ok bool) {
	m := reservedName.FindStringSubmatch(name)
	if m == nil {
		return hidden{}, false
	}
	h.node = m[1]
	letters, digits, index := m[2], m[4], m[3]+m[5]
	if letters != "" {
		h.number = number{diskMajor, diskMinors * letterIndex(letters)}
	} else {
		i, err := strconv.ParseUint(digits, 10, 20)
		if err != nil || digits != strconv.FormatUint(i, 10) {
			return hidden{}, false
		}
		h.number = number{loopMajor, uint32(i)}
	}
	if index == "" {
		return h, true
	}
	i, err := strconv.ParseUint(index, 10, 8)
	if err != nil || i == 0 || index != strconv.FormatUint(i, 10) || minor < partInMount || minor >= loopInMount {
		return hidden{}, false
	}
	h.part = uint32(i)
	if letters != "" {
		h.disk = "sd" + letters
	} else {
		h.disk = "loop" + digits
	}
	if letters != "" && h.part < diskMinors {
		h.number.minor += h.part
	} else {
		h.number = number{partMajor, minor - partInMount}
	}
	return h, true
}

// Minor numbers in the mount of what stands for files: out of the way, so that mapped devices count from 0.
const (
	diskInMount = 1 << 19
	partInMount = 1<<19 + 1<<17
	loopInMount = 1<<19 + 1<<18
)

// letterIndex counts a, b … z, aa, ab … from 0.
func letterIndex(letters string) uint32 {
	n := uint32(0)
	for _, c := range letters {
		n = n*26 + uint32(c-'a') + 1
	}
	return n - 1
}

// letters is the reverse of letterIndex.
func letters(i uint32) string {
	s := ""
	for i++; i > 0; i = (i - 1) / 26 {
		s = string(rune('a'+(i-1)%26)) + s
	}
	return s
}

// A world is the devices of a mount, as they were when it was looked at last.
type world struct {
	m       *mount
	major   uint32     // of mapped devices, as callers see it
	looking sync.Mutex // held from the question to the mount until what it said is known, so that nothing older takes the place of it; before mu

	mu        sync.RWMutex // guards what follows
	last      string       // what the mount said
	byID      map[uint64]*device
	byNumber  map[number]*device
	byInode   map[uint64]*device
	strangers map[uint64]bool // inodes of the mount that are no devices; none is used again
}

func newWorld(m *mount, major uint32) *world {
	return &world{m: m, major: major, strangers: make(map[uint64]bool)}
}

// look asks the mount what there is and reports whether that has changed.
func (w *world) look(ctx context.Context) (changed bool, err error) {
	w.looking.Lock()
	defer w.looking.Unlock()
	text, err := w.m.Do(ctx, "query")
	if err != nil {
		return false, err
	}
	w.mu.RLock()
	same, old := text == w.last, w.byID
	w.mu.RUnlock()
	if same {
		return false, nil
	}
	list, err := parseDocument(text)
	if err != nil {
		return false, err
	}
	byID, byNumber, byInode := make(map[uint64]*device), make(map[number]*device), make(map[uint64]*device)
	for _, state := range list {
		d := w.describe(state, old[state.ID])
		byID[d.ID], byNumber[d.number] = d, d
		if d.inode != 0 {
			byInode[d.inode] = d
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last, w.byID, w.byNumber, w.byInode = text, byID, byNumber, byInode
	return true, nil
}

// describe makes a device of what the mount says. before is what it was, nil if it was not there, and is returned if nothing has changed.
func (w *world) describe(state control.Device, before *device) *device {
	if before != nil && before.inode != 0 && reflect.DeepEqual(before.Device, state) {
		return before
	}
	d := &device{Device: state, number: number{w.major, state.Minor}, node: fmt.Sprintf("dm-%d", state.Minor)}
	if h, ok := hiddenAs(state.Name, state.Minor); ok {
		d.number, d.node = h.number, h.node
		if h.disk != "" {
			d.part = partOf(h, state.UUID)
		}
	}
	switch {
	case before != nil && before.inode != 0:
		d.inode = before.inode
	case state.Live && state.HasNode:
		var st unix.Stat_t
		if err := unix.Fstatat(w.m.root, state.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil && st.Dev == w.m.dev {
			d.inode = st.Ino
		}
	}
	return d
}

// all returns the devices, in no order.
func (w *world) all() []*device {
	w.mu.RLock()
	defer w.mu.RUnlock()
	list := make([]*device, 0, len(w.byID))
	for _, d := range w.byID {
		list = append(list, d)
	}
	return list
}

// at returns the device with a number, nil if there is none.
func (w *world) at(n number) *device {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.byNumber[n]
}

// ofInode returns the device whose file has that inode, nil if none has.
func (w *world) ofInode(ctx context.Context, inode uint64) *device {
	w.mu.RLock()
	d, stranger := w.byInode[inode], w.strangers[inode]
	w.mu.RUnlock()
	if d != nil || stranger {
		return d
	}
	if _, err := w.look(ctx); err != nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if d = w.byInode[inode]; d == nil {
		w.strangers[inode] = true
	}
	return d
}

// called returns the device that has a name in the mount, nil if none has.
func (w *world) called(name string) *device {
	w.mu.RLock()
	defer w.mu.RUnlock()
	for _, d := range w.byID {
		if d.Name == name {
			return d
		}
	}
	return nil
}

// inMount returns the number that the mount has for d: MAJOR:MINOR.
func (d *device) inMount() string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }

// ofMount returns the device that the mount calls MAJOR:MINOR, nil if there is none.
func (w *world) ofMount(major, minor uint32) *device {
	w.mu.RLock()
	defer w.mu.RUnlock()
	for _, d := range w.byID {
		if d.Major == major && d.Minor == minor {
			return d
		}
	}
	return nil
}
