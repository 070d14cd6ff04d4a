package inprocess

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"

	"dmfs/mapper"
)

// Open keeps a device open.
func (d *Driver) Open(name string) (func(), error) {
	dev := d.m.ByName(name)
	if dev == nil {
		return nil, mapper.ErrNotFound
	}
	return dev.Close, dev.Open()
}

// Size returns a size in sectors.
func (d *Driver) Size(name string) (n uint64, err error) {
	if slices.Contains(d.disks, name) {
		st, err := os.Stat(d.path(name))
		if err != nil {
			return 0, err
		}
		return uint64(mapper.SectorsOf(st.Size())), nil
	}
	err = d.on(name, func(_ context.Context, dev *mapper.Device) error {
		n = uint64(dev.Sectors())
		return nil
	})
	return n, err
}

// Read reads a device, or the file of a disk.
func (d *Driver) Read(name string, start uint64, p []byte) (n int, err error) {
	off := mapper.Sector(start).Bytes()
	if slices.Contains(d.disks, name) {
		f, err := os.Open(d.path(name))
		if err != nil {
			return 0, err
		}
		defer f.Close()
		n, err = f.ReadAt(p, off)
		return n, notEOF(err)
	}
	err = d.on(name, func(ctx context.Context, dev *mapper.Device) error {
		n, err = dev.ReadAt(ctx, p, off)
		return notEOF(err)
	})
	return n, err
}

func notEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// Write writes to a device, or to the file of a disk. At the end of a device it is short, as write(2) is.
func (d *Driver) Write(name string, start uint64, p []byte, fua bool) (n int, err error) {
	off := mapper.Sector(start).Bytes()
	if slices.Contains(d.disks, name) {
		f, err := os.OpenFile(d.path(name), os.O_WRONLY, 0)
		if err != nil {
			return 0, err
		}
		n, err = f.WriteAt(p, off)
		return n, errors.Join(err, f.Close())
	}
	err = d.on(name, func(ctx context.Context, dev *mapper.Device) error {
		n, err = dev.WriteAt(ctx, p, off, fua)
		if n > 0 && errors.Is(err, mapper.ErrNoSpace) {
			return nil
		}
		return err
	})
	return n, err
}

// Discard discards as a table above would.
func (d *Driver) Discard(name string, start, count uint64) error {
	return d.on(name, func(ctx context.Context, dev *mapper.Device) error {
		switch {
		case dev.Limits().MaxDiscard == 0:
			return mapper.ErrNotSupported
		case start+count > uint64(dev.Sectors()):
			return mapper.ErrInvalid
		case dev.ReadOnly():
			return mapper.ErrReadOnly
		}
		err := dev.Submit(ctx, mapper.Request{Op: mapper.OpDiscard, Start: mapper.Sector(start), Count: mapper.Sector(count)})
		if errors.Is(err, mapper.ErrNotSupported) {
			return nil // a device below that cannot after all: a discard is a hint, the kernel's block layer forgets it, too
		}
		return err
	})
}

// Zero zeroes, and may free what it zeroes.
func (d *Driver) Zero(name string, start, count uint64) error {
	return d.on(name, func(ctx context.Context, dev *mapper.Device) error {
		if start+count > uint64(dev.Sectors()) {
			return mapper.ErrInvalid
		}
		return dev.Zero(ctx, mapper.Sector(start).Bytes(), mapper.Sector(count).Bytes(), false)
	})
}

// Flush makes durable what was written.
func (d *Driver) Flush(name string) error {
	return d.on(name, func(ctx context.Context, dev *mapper.Device) error { return dev.Flush(ctx) })
}
