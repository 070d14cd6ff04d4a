// Package inprocess plays scenarios to the core and the targets directly, with files as disks.
package inprocess

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"dmfs/mapper"
	"dmfs/mapper/disk"
	"dmfs/targets"
	"dmfs/tests/scenario"
)

// patience bounds what may wait: an event that does not come.
const patience = 10 * time.Second

// A Driver has a manager of its own for each scenario.
type Driver struct {
	From string // directory of the disks' content by name before a scenario; "" means zeroes

	dir   string // of the disks
	files *opener
	m     *mapper.Manager
	log   scenario.LogTail
	disks []string
}

var _ scenario.Driver = (*Driver)(nil)

// New returns a driver whose disks are files in dir. They are left there.
func New(dir string) *Driver {
	d := &Driver{dir: dir}
	d.reset()
	return d
}

func (d *Driver) reset() {
	d.files = &opener{blocks: make(map[string]int)}
	g := new(mapper.Registry)
	targets.Register(g)
	d.m = mapper.NewManager(g, mapper.Options{Dir: d.dir, Files: d.files})
	d.log, d.disks = scenario.LogTail{}, nil
}

// An opener opens files and gives some of them larger blocks, as a disk may have.
type opener struct {
	disk.Opener
	blocks map[string]int // bytes, by path
}

// A blockFile is a file with its own logical block size.
type blockFile struct {
	*disk.File
	block int
}

func (f *blockFile) Limits() mapper.Limits {
	l := f.File.Limits()
	l.LogicalBlock, l.PhysicalBlock = f.block, f.block
	return l
}

func (o *opener) Open(ctx context.Context, c mapper.DiskConfig) (mapper.Disk, error) {
	d, err := o.Opener.Open(ctx, c)
	f, ok := d.(*disk.File)
	if block := o.blocks[c.Path]; err == nil && ok && block != mapper.SectorSize {
		return &blockFile{f, block}, nil
	}
	return d, err
}

func (d *Driver) path(name string) string { return filepath.Join(d.dir, name) }

// Disk makes a file.
func (d *Driver) Disk(name string, sectors uint64, block int) error {
	f, err := os.Create(d.path(name))
	if err != nil {
		return err
	}
	defer f.Close()
	if d.From != "" {
		from, err := os.Open(filepath.Join(d.From, name))
		if err != nil {
			return err
		}
		_, err = io.Copy(f, from)
		if err = errors.Join(err, from.Close()); err != nil {
			return err
		}
	}
	d.files.blocks[d.path(name)] = block
	d.disks = append(d.disks, name)
	return f.Truncate(mapper.Sector(sectors).Bytes())
}

// LetGo has nothing to do: the core closes a disk that no table uses.
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
	return scenario.Normal(text, d.dir)
}

// Specs returns a table as the core takes it.
func Specs(table []scenario.Line) ([]mapper.Spec, error) {
	specs := make([]mapper.Spec, len(table))
	for i, l := range table {
		args, err := mapper.SplitArgs(l.Params)
		if err != nil {
			return nil, err
		}
		specs[i] = mapper.Spec{Start: mapper.Sector(l.Start), Len: mapper.Sector(l.Len), Type: l.Type, Args: args}
	}
	return specs, nil
}

// Create makes a device by the one call that does all of it.
func (d *Driver) Create(n scenario.NewDevice) error {
	specs, err := Specs(n.Table)
	if err != nil {
		return err
	}
	_, err = d.m.Create(context.Background(), mapper.NewDevice{
		Name: n.Name, UUID: n.UUID, Minor: n.Minor, ReadOnly: n.ReadOnly, Table: specs, NoTable: n.Table == nil,
	})
	return err
}

// on calls f with a device.
func (d *Driver) on(name string, f func(ctx context.Context, dev *mapper.Device) error) error {
	dev := d.m.ByName(name)
	if dev == nil {
		return mapper.ErrNotFound
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return f(ctx, dev)
}

// Load loads a table.
func (d *Driver) Load(name string, table []scenario.Line, readOnly bool) error {
	specs, err := Specs(table)
	if err != nil {
		return err
	}
	return d.on(name, func(ctx context.Context, dev *mapper.Device) error { return dev.Load(ctx, specs, readOnly) })
}

// Resume resumes a device.
func (d *Driver) Resume(name string, noFlush bool) error {
	return d.on(name, func(ctx context.Context, dev *mapper.Device) error {
		return dev.Resume(ctx, mapper.ResumeOptions{NoFlush: noFlush})
	})
}

// Suspend suspends a device.
func (d *Driver) Suspend(name string, noFlush bool) error {
	return d.on(name, func(ctx context.Context, dev *mapper.Device) error { return dev.Suspend(ctx, noFlush) })
}

// Clear drops the inactive table.
func (d *Driver) Clear(name string) error {
	return d.on(name, func(ctx context.Context, dev *mapper.Device) error { return dev.Clear(ctx) })
}

// Remove removes a device.
func (d *Driver) Remove(name string, force, deferred bool) error {
	return d.m.Remove(context.Background(), name, mapper.RemoveOptions{Force: force, Deferred: deferred})
}

// Rename renames a device.
func (d *Driver) Rename(name, newName string) error { return d.m.Rename(name, newName) }

// SetUUID sets a device's uuid.
func (d *Driver) SetUUID(name, uuid string) error { return d.m.SetUUID(name, uuid) }

// SetGeometry sets a device's geometry.
func (d *Driver) SetGeometry(name string, g [4]uint64) error {
	return d.on(name, func(_ context.Context, dev *mapper.Device) error {
		return dev.SetGeometry(mapper.Geometry{Cylinders: g[0], Heads: g[1], Sectors: g[2], Start: g[3]})
	})
}

// Message sends a message.
func (d *Driver) Message(name string, sector uint64, words []string) (reply string, err error) {
	err = d.on(name, func(ctx context.Context, dev *mapper.Device) error {
		reply, err = dev.Message(ctx, mapper.Sector(sector), words)
		return err
	})
	return reply, err
}

// Lines returns the table or the status.
func (d *Driver) Lines(name string, status, inactive bool) (out []string, err error) {
	err = d.on(name, func(ctx context.Context, dev *mapper.Device) error {
		lines := dev.Table(mapper.Slot(inactive), true, false)
		if status {
			lines, err = dev.Status(ctx, mapper.Slot(inactive), false)
		}
		for _, l := range lines {
			out = append(out, l.String())
		}
		return err
	})
	return out, err
}

// Info returns the state of a device.
func (d *Driver) Info(name string) (info scenario.Info, err error) {
	err = d.on(name, func(_ context.Context, dev *mapper.Device) error {
		i := dev.Info()
		info = scenario.Info{
			Live: i.Live, Inactive: i.Inactive, Suspended: i.Suspended, ReadOnly: i.ReadOnly, Deferred: i.DeferredRemove,
			Opens: i.OpenCount, Segments: i.Segments, Events: i.EventNr, Minor: i.Minor, UUID: i.UUID,
		}
		return nil
	})
	return info, err
}

// Deps returns what the live table stands on, sorted.
func (d *Driver) Deps(name string) (deps []string, err error) {
	err = d.on(name, func(_ context.Context, dev *mapper.Device) error {
		for _, below := range dev.Disks(mapper.LiveSlot) {
			deps = append(deps, d.Normal(mapper.DiskName(below)))
		}
		slices.Sort(deps)
		return nil
	})
	return deps, err
}

// Wait waits for an event.
func (d *Driver) Wait(name string, nr uint32) error {
	return d.on(name, func(ctx context.Context, dev *mapper.Device) error {
		_, err := dev.WaitEvent(ctx, nr)
		return err
	})
}

// Log returns the new lines of the log, without their times.
func (d *Driver) Log() []string { return d.log.Fresh(d.m.Log().Text()) }

// Close removes all devices. The disks' files stay.
func (d *Driver) Close() error {
	defer d.reset()
	return d.m.Close(context.Background())
}
