// Package mounted plays scenarios to a dmfs mount: commands and questions through its control file, data through the
// devices' files.
package mounted

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"dmfs/fs/control"
	"dmfs/mapper"
	"dmfs/tests/scenario"
)

// A Driver plays to one mount, on which there is nothing else.
type Driver struct {
	mnt   string
	dir   string // of the disks
	log   scenario.LogTail
	disks []string
	loops map[string]loop // disks with blocks that a file does not have
}

// A loop is a loop device on the file of a disk.
type loop struct {
	path   string // /dev/loopN
	number string // MAJOR:MINOR
}

var _ scenario.Driver = (*Driver)(nil)

// New returns a driver for the mount at mnt. Disks are files in dir and are left there.
func New(mnt, dir string) *Driver { return &Driver{mnt: mnt, dir: dir} }

// Move makes disks be files in another directory from now on.
func (d *Driver) Move(dir string) { d.dir = dir }

func (d *Driver) path(name string) string {
	if l, ok := d.loops[name]; ok {
		return l.path
	}
	if slices.Contains(d.disks, name) {
		return filepath.Join(d.dir, name)
	}
	return filepath.Join(d.mnt, name)
}

// Disk makes a file, and a loop device on it if it is to have larger blocks.
func (d *Driver) Disk(name string, sectors uint64, block int) error {
	file := filepath.Join(d.dir, name)
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was truncated
	if err := f.Truncate(mapper.Sector(sectors).Bytes()); err != nil {
		return err
	}
	if block != mapper.SectorSize {
		l, err := attach(file, block)
		if err != nil {
			return scenario.Cannot(fmt.Sprintf("blocks of %d bytes need a loop device: %v", block, err))
		}
		if d.loops == nil {
			d.loops = make(map[string]loop)
		}
		d.loops[name] = l
	}
	d.disks = append(d.disks, name)
	return nil
}

// attach makes a loop device with blocks of so many bytes.
func attach(file string, block int) (loop, error) {
	out, err := exec.Command("losetup", "--find", "--show", "--sector-size", strconv.Itoa(block), "--", file).CombinedOutput()
	path := strings.TrimSpace(string(out))
	if err != nil {
		return loop{}, fmt.Errorf("%w: %s", err, path)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return loop{}, err
	}
	return loop{path, fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))}, nil
}

// LetGo has nothing to do: dmfs closes a disk that no table uses.
func (d *Driver) LetGo() error { return nil }

// Ref returns the path of a disk, the name of a device.
func (d *Driver) Ref(name string) string {
	if slices.Contains(d.disks, name) {
		return d.path(name)
	}
	return name
}

// Normal takes the directory from the disks' paths.
func (d *Driver) Normal(text string) string {
	for name, l := range d.loops {
		text = regexp.MustCompile(`\b`+l.number+`\b|\b`+filepath.Base(l.path)+`\b`).ReplaceAllString(text, name)
	}
	return scenario.Normal(text, d.dir)
}

// command writes a command to the control file and returns its reply.
func (d *Driver) command(lines ...string) (string, error) {
	fd, err := unix.Open(filepath.Join(d.mnt, "control"), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd) //nolint:errcheck // the command is complete
	text := strings.Join(lines, "\n") + "\n"
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		return "", err
	}
	reply := make([]byte, 1<<20)
	n, err := unix.Pread(fd, reply, 0)
	return string(reply[:max(n, 0)]), err
}

// run runs a command that is words, quoted where needed, with a table if there is one.
func (d *Driver) run(table []scenario.Line, words ...string) error {
	for i, w := range words {
		words[i] = mapper.QuoteArg(w)
	}
	lines := []string{strings.Join(words, " ")}
	if table != nil {
		lines[0] += " {"
		for _, l := range table {
			lines = append(lines, fmt.Sprintf("%d %d %s %s", l.Start, l.Len, l.Type, l.Params))
		}
		lines = append(lines, "}")
	}
	_, err := d.command(lines...)
	return err
}

// with adds words for what is true to a command.
func with(words []string, flags map[string]bool) []string {
	for _, f := range []string{"ro", "noflush", "force", "deferred"} {
		if flags[f] {
			words = append(words, f)
		}
	}
	return words
}

// Create makes a device.
func (d *Driver) Create(n scenario.NewDevice) error {
	words := with([]string{"create", n.Name}, map[string]bool{"ro": n.ReadOnly})
	if n.UUID != "" {
		words = append(words, "uuid="+n.UUID)
	}
	if n.Minor >= 0 {
		words = append(words, "minor="+strconv.Itoa(n.Minor))
	}
	if n.Table == nil {
		words = append(words, "notable")
	}
	return d.run(n.Table, words...)
}

// Load loads a table.
func (d *Driver) Load(name string, table []scenario.Line, readOnly bool) error {
	return d.run(table, with([]string{"load", name}, map[string]bool{"ro": readOnly})...)
}

// Resume resumes a device.
func (d *Driver) Resume(name string, noFlush bool) error {
	return d.run(nil, with([]string{"resume", name}, map[string]bool{"noflush": noFlush})...)
}

// Suspend suspends a device.
func (d *Driver) Suspend(name string, noFlush bool) error {
	return d.run(nil, with([]string{"suspend", name}, map[string]bool{"noflush": noFlush})...)
}

// Clear drops the inactive table.
func (d *Driver) Clear(name string) error { return d.run(nil, "clear", name) }

// Remove removes a device.
func (d *Driver) Remove(name string, force, deferred bool) error {
	return d.run(nil, with([]string{"remove", name}, map[string]bool{"force": force, "deferred": deferred})...)
}

// Rename renames a device.
func (d *Driver) Rename(name, newName string) error { return d.run(nil, "rename", name, newName) }

// SetUUID sets a device's uuid.
func (d *Driver) SetUUID(name, uuid string) error { return d.run(nil, "setuuid", name, uuid) }

// SetGeometry sets a device's geometry.
func (d *Driver) SetGeometry(name string, g [4]uint64) error {
	words := []string{"setgeometry", name}
	for _, n := range g {
		words = append(words, strconv.FormatUint(n, 10))
	}
	return d.run(nil, words...)
}

// Message sends a message.
func (d *Driver) Message(name string, sector uint64, words []string) (string, error) {
	line := fmt.Sprintf("message %s %d", mapper.QuoteArg(name), sector)
	for _, w := range words {
		line += " " + mapper.QuoteArg(w)
	}
	reply, err := d.command(line)
	if reply == "ok\n" {
		reply = ""
	}
	return strings.TrimSuffix(reply, "\n"), err
}

// query asks for the state of a device.
func (d *Driver) query(name string, flags ...string) (control.Device, error) {
	reply, err := d.command(strings.Join(append([]string{"query", mapper.QuoteArg("name=" + name)}, flags...), " "))
	if err != nil {
		return control.Device{}, err
	}
	var doc control.Document
	if err := json.Unmarshal([]byte(reply), &doc); err != nil {
		return control.Device{}, fmt.Errorf("query %s: %w: %q", name, err, reply)
	}
	if len(doc.Devices) != 1 {
		return control.Device{}, fmt.Errorf("query %s: %d devices", name, len(doc.Devices))
	}
	return doc.Devices[0], nil
}

// Lines returns the table or the status.
func (d *Driver) Lines(name string, status, inactive bool) ([]string, error) {
	flags := []string{"table", "showkeys"}
	if status {
		flags = []string{"status"}
	}
	if inactive {
		flags = append(flags, "inactive")
	}
	state, err := d.query(name, flags...)
	var out []string
	for _, l := range append(state.Table, state.Status...) {
		out = append(out, fmt.Sprintf("%d %d %s %s", l.Start, l.Len, l.Target, l.Params))
	}
	return out, err
}

// Info returns the state of a device.
func (d *Driver) Info(name string) (scenario.Info, error) {
	s, err := d.query(name)
	return scenario.Info{
		Live: s.Live, Inactive: s.Inactive, Suspended: s.Suspended, ReadOnly: s.ReadOnly, Deferred: s.DeferredRemove,
		Opens: s.OpenCount, Segments: s.Targets, Events: s.EventNr, Minor: s.Minor, UUID: s.UUID,
	}, err
}

// Deps returns what the live table stands on, sorted.
func (d *Driver) Deps(name string) ([]string, error) {
	s, err := d.query(name)
	var deps []string
	for _, dep := range s.Deps {
		if dep.Path != "" {
			deps = append(deps, d.Normal(dep.Path))
		} else {
			deps = append(deps, d.Normal(fmt.Sprintf("%d:%d", dep.Major, dep.Minor)))
		}
	}
	slices.Sort(deps)
	return deps, err
}

// Wait waits for an event.
func (d *Driver) Wait(name string, nr uint32) error {
	_, err := d.command(fmt.Sprintf("wait %s %d", mapper.QuoteArg("name="+name), nr))
	return err
}

// Log returns the new lines of the mount's log, without their times.
func (d *Driver) Log() []string {
	text, err := os.ReadFile(filepath.Join(d.mnt, ".dm", "log"))
	if err != nil {
		return []string{err.Error()}
	}
	return d.log.Fresh(string(text))
}

// Close removes all devices and loop devices. The disks' files stay.
func (d *Driver) Close() error {
	err := d.run(nil, "remove_all")
	for _, l := range d.loops {
		if out, e := exec.Command("losetup", "--detach", l.path).CombinedOutput(); e != nil {
			err = errors.Join(err, fmt.Errorf("losetup --detach %s: %w: %s", l.path, e, out))
		}
	}
	d.disks, d.loops = nil, nil
	return err
}
