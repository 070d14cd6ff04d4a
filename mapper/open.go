package mapper

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A DiskConfig says how a disk from the configuration is opened.
type DiskConfig struct {
	Path     string // a file, a block device, or what a FileOpener knows otherwise
	Direct   bool   // past the page cache
	ReadOnly bool
}

// A FileID tells whether two paths lead to the same file.
type FileID struct {
	Dev, Ino uint64
	Rdev     uint64 // of a block device, else 0
	URI      string // of a network disk, in its shortest spelling; else "", and the numbers count
}

// DirectPrefix stands in a table before the absolute path of a file or a block device that is to be opened past the page cache.
const DirectPrefix = "direct:"

// IsURI reports whether a table means a network disk by name: SCHEME://.
func IsURI(name string) bool {
	scheme, _, ok := strings.Cut(name, "://")
	return ok && scheme != "" && !strings.ContainsAny(scheme, "/ ")
}

// A FileOpener opens what is no mapped device. Package disk has the one for files, block devices and network disks.
type FileOpener interface {
	// Identify says what path, which is absolute or a URI, leads to, without opening it for I/O. It does not block.
	Identify(path string) (FileID, error)
	// Open opens it. The disk implements io.Closer. ctx ends the wait for a server; it does not bound the disk's life.
	Open(ctx context.Context, c DiskConfig) (Disk, error)
	// BlockDevicePath returns the path of the block device with that number.
	BlockDevicePath(major, minor uint32) (string, error)
}

// SetMountDev tells which st_dev the files of the mount have, so that they are recognised by any path.
func (m *Manager) SetMountDev(dev uint64) {
	m.pool.mu.Lock()
	defer m.pool.mu.Unlock()
	m.pool.mountDev = dev
}

// openDisk resolves what a table calls name and takes a reference to it, on behalf of upper. The caller
// calls release when the table is gone.
func (m *Manager) openDisk(ctx context.Context, upper *Device, name string, readOnly bool) (d Disk, release func(), err error) {
	dev, c, id, err := m.resolve(name)
	switch {
	case err != nil:
		return nil, nil, err
	case dev != nil:
		return m.openDevice(upper, dev)
	case c.ReadOnly && !readOnly:
		return nil, nil, lookupError(unix.EROFS, "%s is configured read-only, the table is not", c.Path)
	}
	c.ReadOnly = readOnly
	return m.openFile(ctx, c, id)
}

// resolve says what a table calls name: a mapped device, or else a file with its identity.
func (m *Manager) resolve(name string) (dev *Device, c DiskConfig, id FileID, err error) {
	p := &m.pool
	c, configured := p.configured[name]
	if path, ok := strings.CutPrefix(name, DirectPrefix); ok && filepath.IsAbs(path) && !configured {
		c.Path, c.Direct = path, true
	} else if !configured {
		if dev, err = m.mappedDevice(name); dev != nil || err != nil {
			return dev, c, id, err
		}
		c.Path = name
	}
	if p.files == nil {
		return nil, c, id, lookupError(unix.ENODEV, "%s: no files can be opened here", c.Path)
	}
	if major, minor, ok := parseNumber(name); ok && !configured {
		if c.Path, err = p.files.BlockDevicePath(major, minor); err != nil {
			return nil, c, id, err
		}
	}
	if !IsURI(c.Path) {
		if !filepath.IsAbs(c.Path) {
			c.Path = filepath.Join(p.dir, c.Path)
		}
		if c.Path, err = filepath.Abs(c.Path); err != nil {
			return nil, c, id, err
		}
	}
	if id, err = p.files.Identify(c.Path); err != nil {
		return nil, c, id, deviceLookup(err)
	}
	if p.ownMount(id) {
		dev, err = m.ownDevice(c.Path)
	}
	return dev, c, id, err
}

func (m *Manager) openDevice(upper, dev *Device) (Disk, func(), error) {
	if err := dev.use(upper); err != nil {
		return nil, nil, err
	}
	return dev, func() { dev.unuse(upper) }, nil
}

// mappedDevice returns the device that name means: its name, its path in the mount, /dev/mapper/NAME or
// MAJOR:MINOR. It is nil if name is something else.
func (m *Manager) mappedDevice(name string) (*Device, error) {
	if major, minor, ok := parseNumber(name); ok {
		if major != m.major {
			return nil, nil
		}
		if d := m.ByMinor(minor); d != nil {
			return d, nil
		}
		return nil, lookupError(unix.ENXIO, "no mapped device has number %s", name)
	}
	if !strings.Contains(name, "/") {
		return m.ByName(name), nil
	}
	path := filepath.Clean(name)
	if rest, ok := strings.CutPrefix(path, m.pool.mountPoint+"/"); ok && m.pool.mountPoint != "" {
		if d := m.ByName(rest); d != nil {
			return d, nil
		}
		return nil, lookupError(unix.ENODEV, "%s is in this mount, and no mapped device is called %s", name, rest)
	}
	if rest, ok := strings.CutPrefix(path, "/dev/mapper/"); ok {
		return m.ByName(rest), nil
	}
	return nil, nil
}

// tableName returns what a table calls the device of that name: with a path, if the name alone means something else.
func (m *Manager) tableName(name string) string {
	_, _, number := parseNumber(name)
	if _, configured := m.pool.configured[name]; configured || number {
		return "/dev/mapper/" + name
	}
	return name
}

// parseNumber parses MAJOR:MINOR.
func parseNumber(s string) (major, minor uint32, ok bool) {
	a, b, ok := strings.Cut(s, ":")
	if !ok {
		return 0, 0, false
	}
	x, err := strconv.ParseUint(a, 10, 12)
	y, err2 := strconv.ParseUint(b, 10, 20)
	return uint32(x), uint32(y), err == nil && err2 == nil
}

func (p *pool) ownMount(id FileID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mountDev != 0 && id.Dev == p.mountDev
}

// ownDevice returns the mapped device that path leads to in this mount by way of a symbolic link.
// The path is only looked up: opening it would have this process wait for itself.
func (m *Manager) ownDevice(path string) (*Device, error) {
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		if dev, err := m.mappedDevice(real); dev != nil || err != nil {
			return dev, err
		}
	}
	return nil, lookupError(unix.ENODEV, "%s is a file of this mount; name the device instead", path)
}

// lookupError is what a constructor reports when a disk cannot be had.
func lookupError(errno unix.Errno, detail string, args ...any) error {
	return &ArgError{Reason: "Device lookup failed", Detail: fmt.Sprintf(detail, args...), Errno: errno}
}

// deviceLookup turns the error of opening a file into that of a constructor: a path that does not exist
// is ENODEV to the kernel, other errors keep their errno.
func deviceLookup(err error) error {
	var have *ArgError
	if errors.As(err, &have) {
		return err
	}
	errno := Errno(err)
	if errno == unix.ENOENT || errno == unix.ENOTDIR {
		errno = unix.ENODEV
	}
	return lookupError(errno, "%v", err)
}

// A segmentHost is the Host of one segment.
type segmentHost struct {
	table *Table
	typ   *Type
	disks []Disk // distinct, in order of opening
}

// Open implements Host.
func (h *segmentHost) Open(ctx context.Context, name string) (Disk, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	d, err := h.table.open(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, have := range h.disks {
		if have == d {
			return d, nil
		}
	}
	h.disks = append(h.disks, d)
	return d, nil
}

// Find implements Host.
func (h *segmentHost) Find(name string) (Disk, error) {
	dev, _, id, err := h.table.dev.mgr.resolve(name)
	if err != nil {
		return nil, err
	}
	for _, d := range h.disks {
		if dev != nil && d == Disk(dev) || dev == nil && h.table.dev.mgr.pool.is(d, id) {
			return d, nil
		}
	}
	return nil, nil
}

// DeviceNumber implements Host.
func (h *segmentHost) DeviceNumber() string { return h.table.dev.Number() }

// Event implements Host.
func (h *segmentHost) Event() { h.table.dev.events.bump() }

// Logf implements Host.
func (h *segmentHost) Logf(format string, args ...any) { h.LogFrom(h.typ.Name, format, args...) }

// LogFrom implements Host.
func (h *segmentHost) LogFrom(module, format string, args ...any) {
	h.table.dev.mgr.log.Printf("device-mapper: %s: %s", module, fmt.Sprintf(format, args...))
}

// ReadOnly implements Host.
func (h *segmentHost) ReadOnly() bool { return h.table.readOnly }

func (h *segmentHost) Keys() Keyring { return h.table.dev.mgr.keys }

// replayable returns words with the numbers of this segment's disks replaced by names.
func (h *segmentHost) replayable(words []string) []string {
	names := make(map[string]string)
	for _, d := range h.disks {
		switch x := d.(type) {
		case *Device:
			names[x.DiskName()] = QuoteArg(h.table.dev.mgr.tableName(x.Name()))
		case interface{ TableWord() string }:
			names[DiskName(d)] = x.TableWord()
		}
	}
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = w
		if name, ok := names[w]; ok {
			out[i] = name
		}
	}
	return out
}

// open returns the disk that a line calls name, holding it once for the whole table.
func (t *Table) open(ctx context.Context, name string) (Disk, error) {
	if d, ok := t.byName[name]; ok {
		return d, nil
	}
	d, release, err := t.dev.mgr.openDisk(ctx, t.dev, name, t.readOnly)
	if err != nil {
		return nil, err
	}
	if t.byName == nil {
		t.byName = make(map[string]Disk)
	}
	t.byName[name] = d
	if t.held[d] != nil {
		release()
		return d, nil
	}
	if t.held == nil {
		t.held = make(map[Disk]func())
	}
	t.held[d] = release
	t.disks = append(t.disks, d)
	return d, nil
}
