package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dmfs/tests/scenario"
)

// nodes is where device nodes are made.
const nodes = "/run/nodes"

// A driver plays scenarios to the kernel.
type driver struct {
	control  *os.File
	loopCtl  *os.File
	log      int // of the kernel
	major    uint32
	disks    []*loop
	from, to string // directories of the disks' content before and after
}

var _ scenario.Driver = (*driver)(nil)

func newDriver() (*driver, error) {
	d := &driver{}
	var err error
	if d.control, err = character("control", 10, 236); err != nil {
		return nil, err
	}
	if d.loopCtl, err = character("loop-control", 10, 237); err != nil {
		return nil, err
	}
	if err := node("kmsg", unix.S_IFCHR, 1, 11); err != nil {
		return nil, err
	}
	if d.log, err = unix.Open(nodes+"/kmsg", unix.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
		return nil, err
	}
	text, err := os.ReadFile("/proc/devices")
	if err != nil {
		return nil, err
	}
	found := regexp.MustCompile(`(?m)^ *(\d+) device-mapper$`).FindAllStringSubmatch(string(text), -1)
	if len(found) == 0 {
		return nil, fmt.Errorf("/proc/devices has no device-mapper")
	}
	n, err := strconv.ParseUint(found[len(found)-1][1], 10, 32)
	d.major = uint32(n)
	return d, err
}

func character(name string, major, minor uint32) (*os.File, error) {
	if err := node(name, unix.S_IFCHR, major, minor); err != nil {
		return nil, err
	}
	return os.OpenFile(nodes+"/"+name, os.O_RDWR, 0)
}

func node(name string, kind, major, minor uint32) error {
	err := unix.Mknod(nodes+"/"+name, kind|0o600, int(unix.Mkdev(major, minor)))
	if err == unix.EEXIST {
		return nil
	}
	return err
}

// Ref returns the path of a disk, the number of a device.
func (d *driver) Ref(name string) string {
	if l := d.disk(name); l != nil {
		return l.path()
	}
	c := command{name: name}
	if err := d.call(cmdInfo, &c); err != nil {
		return "no-" + name
	}
	return fmt.Sprintf("%d:%d", d.major, minorOf(c.dev))
}

var (
	numberPattern = regexp.MustCompile(`\b(\d+):(\d+)\b`)
	loopPattern   = regexp.MustCompile(`(` + nodes + `/)?\bloop(\d+)\b`)
)

// Normal replaces the numbers and names of disks and the numbers of devices.
func (d *driver) Normal(text string) string {
	byNumber := func(n string) string {
		for _, l := range d.disks {
			if strconv.Itoa(l.number) == n {
				return l.name
			}
		}
		return ""
	}
	text = numberPattern.ReplaceAllStringFunc(text, func(s string) string {
		major, minor, _ := strings.Cut(s, ":")
		if major == strconv.Itoa(int(d.major)) {
			return "dm-" + minor
		}
		if name := byNumber(minor); major == loopMajor && name != "" {
			return name
		}
		return s
	})
	return loopPattern.ReplaceAllStringFunc(text, func(s string) string {
		if name := byNumber(s[strings.LastIndex(s, "loop")+4:]); name != "" {
			return name
		}
		return s
	})
}

func (d *driver) Create(n scenario.NewDevice) error {
	c := command{name: n.Name, uuid: n.UUID}
	if n.Minor >= 0 {
		c.flags |= flagMinor
		c.dev = uint64(n.Minor&0xff) | uint64(d.major)<<8 | uint64(n.Minor&^0xff)<<12
	}
	if err := d.call(cmdCreate, &c); err != nil || n.Table == nil {
		return err
	}
	err := d.Load(n.Name, n.Table, n.ReadOnly)
	if err == nil {
		err = d.Resume(n.Name, false)
	}
	if err != nil {
		if e := d.Remove(n.Name, false, false); e != nil {
			return fmt.Errorf("removing what was not finished: %w", e)
		}
	}
	return err
}

func (d *driver) Load(name string, table []scenario.Line, readOnly bool) error {
	c := command{name: name, data: specs(table), targets: uint32(len(table))}
	if readOnly {
		c.flags |= flagReadOnly
	}
	return d.call(cmdLoad, &c)
}

func (d *driver) Resume(name string, noFlush bool) error { return d.suspend(name, 0, noFlush) }

func (d *driver) Suspend(name string, noFlush bool) error {
	return d.suspend(name, flagSuspend, noFlush)
}

func (d *driver) suspend(name string, flags uint32, noFlush bool) error {
	flags |= flagsOfSafety
	if noFlush {
		flags |= flagNoFlush
	}
	return d.call(cmdSuspend, &command{name: name, flags: flags})
}

func (d *driver) Clear(name string) error { return d.call(cmdClear, &command{name: name}) }

// Remove does what dmsetup remove does; with force an error target comes first.
func (d *driver) Remove(name string, force, deferred bool) error {
	if force {
		have, err := d.Lines(name, true, false)
		if err != nil {
			return err
		}
		var start, length uint64
		if len(have) > 0 {
			if _, err := fmt.Sscan(have[len(have)-1], &start, &length); err != nil {
				return err
			}
			err := d.Load(name, []scenario.Line{{Len: start + length, Type: "error"}}, false)
			if err == nil {
				err = d.Resume(name, true)
			}
			if err != nil {
				return err
			}
		}
	}
	c := command{name: name}
	if deferred {
		c.flags |= flagDeferred
	}
	return d.call(cmdRemove, &c)
}

func (d *driver) Rename(name, newName string) error {
	return d.call(cmdRename, &command{name: name, data: []byte(newName + "\x00")})
}

func (d *driver) SetUUID(name, uuid string) error {
	return d.call(cmdRename, &command{name: name, flags: flagUUID, data: []byte(uuid + "\x00")})
}

func (d *driver) SetGeometry(name string, g [4]uint64) error {
	return d.call(cmdGeometry, &command{name: name, data: fmt.Appendf(nil, "%d %d %d %d\x00", g[0], g[1], g[2], g[3])})
}

func (d *driver) Message(name string, sector uint64, words []string) (string, error) {
	data := binary.LittleEndian.AppendUint64(nil, sector)
	c := command{name: name, data: append(data, strings.Join(words, " ")+"\x00"...)}
	err := d.call(cmdMessage, &c)
	if err != nil || c.flags&flagDataOut == 0 {
		return "", err
	}
	return text(c.data), nil
}

func (d *driver) Lines(name string, status, inactive bool) ([]string, error) {
	c := command{name: name}
	if !status {
		c.flags |= flagTable
	}
	if inactive {
		c.flags |= flagQueryIn
	}
	if err := d.call(cmdTable, &c); err != nil {
		return nil, err
	}
	return lines(c.data, c.targets), nil
}

func (d *driver) Info(name string) (scenario.Info, error) {
	c := command{name: name}
	if err := d.call(cmdInfo, &c); err != nil {
		return scenario.Info{}, err
	}
	is := func(flag uint32) bool { return c.flags&flag != 0 }
	return scenario.Info{
		Live: is(flagActive), Inactive: is(flagInactive), Suspended: is(flagSuspend), ReadOnly: is(flagReadOnly),
		Deferred: is(flagDeferred), Opens: int(c.opens), Segments: int(c.targets),
		Events: c.events, Minor: minorOf(c.dev), UUID: c.uuid,
	}, nil
}

// Deps returns them sorted by number; the kernel lists them as it pleases.
func (d *driver) Deps(name string) ([]string, error) {
	c := command{name: name}
	if err := d.call(cmdDeps, &c); err != nil {
		return nil, err
	}
	var deps []string
	if len(c.data) >= 8 {
		for n, at := binary.LittleEndian.Uint32(c.data), 8; n > 0; n, at = n-1, at+8 {
			dev := binary.LittleEndian.Uint64(c.data[at:])
			deps = append(deps, d.Normal(fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))))
		}
	}
	slices.Sort(deps)
	return deps, nil
}

func (d *driver) Wait(name string, nr uint32) error {
	return d.call(cmdWait, &command{name: name, events: nr})
}

// Log returns what the device mapper added to the kernel's log, but for what it says of uevents: nobody here waits for them, and whether one
// is still to be sent when its device is removed is a matter of who comes first.
func (d *driver) Log() []string {
	var found []string
	buf := make([]byte, 8<<10)
	for {
		n, err := unix.Read(d.log, buf)
		if err == unix.EPIPE {
			continue // some were lost
		}
		if err != nil {
			return found
		}
		_, message, _ := strings.Cut(string(buf[:n]), ";")
		line, _, _ := strings.Cut(message, "\n")
		line = strings.TrimPrefix(line, "trusted_key: ") // crypt in Linux 6.1 takes this over from a header
		if strings.HasPrefix(line, "device-mapper: ") && !strings.HasPrefix(line, "device-mapper: uevent: ") {
			found = append(found, line)
		}
	}
}

// Close removes all devices and disks.
func (d *driver) Close() error {
	for range 64 {
		names, err := d.list()
		if err != nil {
			return err
		}
		if len(names) == 0 {
			return d.closeDisks()
		}
		for _, name := range names {
			d.Remove(name, false, false) //nolint:errcheck // one that is in use goes in a later round
		}
	}
	return fmt.Errorf("some devices cannot be removed")
}

func (d *driver) list() ([]string, error) {
	c := command{}
	if err := d.call(cmdList, &c); err != nil {
		return nil, err
	}
	var names []string
	for data := c.data; len(data) > 12 && binary.LittleEndian.Uint64(data) != 0; {
		names = append(names, text(data[12:]))
		next := binary.LittleEndian.Uint32(data[8:])
		if next == 0 {
			break
		}
		data = data[next:]
	}
	return names, nil
}
