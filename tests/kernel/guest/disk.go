package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// images is where the disks' files are, in memory.
const images = "/run/images"

const loopMajor = "7"

// The ioctls of loop devices and of block devices that package unix has no names for.
const (
	loopClear     = 0x4c01
	loopConfigure = 0x4c0a
	loopGetFree   = 0x4c82
	blkDiscard    = 0x1277
	blkZeroOut    = 0x127f
)

// A loop is a disk: a loop device on a file in memory.
type loop struct {
	name   string
	block  int
	number int
	dev    *os.File
}

func (l *loop) path() string { return fmt.Sprintf("%s/loop%d", nodes, l.number) }

func (d *driver) disk(name string) *loop {
	for _, l := range d.disks {
		if l.name == name {
			return l
		}
	}
	return nil
}

// Disk makes a loop device.
func (d *driver) Disk(name string, sectors uint64, block int) error {
	l := &loop{name: name, block: block}
	f, err := os.Create(filepath.Join(images, name))
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // the file is in memory
	if from, err := os.Open(filepath.Join(d.from, name)); err == nil {
		_, err = io.Copy(f, from)
		if err = errors.Join(err, from.Close()); err != nil {
			return err
		}
	}
	if err := f.Truncate(mapper.Sector(sectors).Bytes()); err != nil {
		return err
	}
	if err := d.attach(l, f); err != nil {
		return err
	}
	d.disks = append(d.disks, l)
	return nil
}

func (d *driver) attach(l *loop, f *os.File) (err error) {
	if l.number, err = unix.IoctlRetInt(int(d.loopCtl.Fd()), loopGetFree); err != nil {
		return fmt.Errorf("no loop device: %w", err)
	}
	if err := node(filepath.Base(l.path()), unix.S_IFBLK, 7, uint32(l.number)); err != nil {
		return err
	}
	if l.dev, err = os.OpenFile(l.path(), os.O_RDWR, 0); err != nil {
		return err
	}
	config := [304]byte{} // struct loop_config
	*(*uint32)(unsafe.Pointer(&config[0])) = uint32(f.Fd())
	*(*uint32)(unsafe.Pointer(&config[4])) = uint32(l.block)
	if err := ioctl(l.dev.Fd(), loopConfigure, unsafe.Pointer(&config[0])); err != nil {
		return fmt.Errorf("loop device for %s: %w", l.name, err)
	}
	return nil
}

func (l *loop) detach() error {
	return errors.Join(unix.IoctlSetInt(int(l.dev.Fd()), loopClear, 0), l.dev.Close())
}

// LetGo detaches all loop devices and attaches them again.
func (d *driver) LetGo() error {
	for _, l := range d.disks {
		if err := l.detach(); err != nil {
			return err
		}
	}
	for _, l := range d.disks {
		f, err := os.OpenFile(filepath.Join(images, l.name), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		err = d.attach(l, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (d *driver) closeDisks() error {
	var err error
	for _, l := range d.disks {
		err = errors.Join(err, l.detach(), d.leave(l), os.Remove(filepath.Join(images, l.name)))
	}
	d.disks = nil
	return err
}

// leave gives the host a disk's content, if it wants it.
func (d *driver) leave(l *loop) error {
	out, err := os.Create(filepath.Join(d.to, l.name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	in, err := os.Open(filepath.Join(images, l.name))
	if err != nil {
		return errors.Join(err, out.Close())
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, in.Close(), out.Close())
}

// openBlock opens a disk or device. With O_DIRECT nothing stays in a cache that another device would not see.
func (d *driver) openBlock(name string, flags int) (*os.File, error) {
	path := ""
	if l := d.disk(name); l != nil {
		path = l.path()
	} else {
		c := command{name: name}
		if err := d.call(cmdInfo, &c); err != nil {
			return nil, err
		}
		minor := minorOf(c.dev)
		base := "dm-" + strconv.Itoa(int(minor))
		if err := node(base, unix.S_IFBLK, d.major, minor); err != nil {
			return nil, err
		}
		path = filepath.Join(nodes, base)
	}
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// with calls f with a disk or device opened for I/O at those sectors: directly if they are whole blocks, else through
// the cache, which is emptied after.
func (d *driver) with(name string, flags int, start, count uint64, f func(fd int) error) error {
	dev, err := d.openBlock(name, flags|unix.O_DIRECT)
	if err != nil {
		return err
	}
	defer func() { dev.Close() }() //nolint:errcheck // what was written is on the device
	block, err := unix.IoctlGetInt(int(dev.Fd()), unix.BLKSSZGET)
	if err != nil {
		return err
	}
	sectors := uint64(mapper.SectorsOf(int64(block)))
	if start%sectors == 0 && count%sectors == 0 {
		return f(int(dev.Fd()))
	}
	dev.Close() //nolint:errcheck // nothing was written
	if dev, err = d.openBlock(name, flags); err != nil {
		return err
	}
	if err = f(int(dev.Fd())); err == nil && flags != unix.O_RDONLY {
		err = unix.Fsync(int(dev.Fd()))
	}
	return errors.Join(err, unix.IoctlSetInt(int(dev.Fd()), unix.BLKFLSBUF, 0))
}

func (d *driver) Open(name string) (func(), error) {
	f, err := d.openBlock(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return func() { f.Close() }, nil //nolint:errcheck // nothing was written through it
}

func (d *driver) Size(name string) (n uint64, err error) {
	f, err := d.openBlock(name, unix.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // nothing was written through it
	end, err := f.Seek(0, io.SeekEnd)
	return uint64(mapper.SectorsOf(end)), err
}

func (d *driver) Read(name string, start uint64, p []byte) (n int, err error) {
	b := mapper.GetBuffer(len(p)) // aligned for direct I/O
	defer b.Free()
	buf := b.Data
	err = d.with(name, unix.O_RDONLY, start, uint64(mapper.SectorsOf(int64(len(p)))), func(fd int) error {
		n, err = unix.Pread(fd, buf, mapper.Sector(start).Bytes())
		return err
	})
	if err != nil {
		return 0, err
	}
	copy(p, buf[:n])
	return n, nil
}

func (d *driver) Write(name string, start uint64, p []byte, fua bool) (n int, err error) {
	b := mapper.GetBuffer(len(p)) // aligned for direct I/O
	defer b.Free()
	buf := b.Data
	copy(buf, p)
	flags := 0
	if fua {
		flags = unix.RWF_DSYNC
	}
	err = d.with(name, unix.O_RDWR, start, uint64(mapper.SectorsOf(int64(len(p)))), func(fd int) error {
		n, err = unix.Pwritev2(fd, [][]byte{buf}, mapper.Sector(start).Bytes(), flags)
		return err
	})
	return max(n, 0), err
}

func (d *driver) Discard(name string, start, count uint64) error {
	return d.ranged(name, blkDiscard, start, count)
}

func (d *driver) Zero(name string, start, count uint64) error {
	return d.ranged(name, blkZeroOut, start, count)
}

func (d *driver) ranged(name string, request uintptr, start, count uint64) error {
	f, err := d.openBlock(name, unix.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // nothing was written through it
	r := [2]uint64{uint64(mapper.Sector(start).Bytes()), uint64(mapper.Sector(count).Bytes())}
	return ioctl(f.Fd(), request, unsafe.Pointer(&r[0]))
}

func (d *driver) Flush(name string) error {
	f, err := d.openBlock(name, unix.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was synced
	return unix.Fsync(int(f.Fd()))
}
