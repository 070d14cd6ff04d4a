package mounted

import (
	"os"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// open opens the file of a disk or device. Devices that share a disk do not share a cache, so theirs is passed by.
func (d *Driver) open(name string, flags int) (*os.File, error) {
	fd, err := unix.Open(d.path(name), flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// with calls f with a file opened for it.
func (d *Driver) with(name string, flags int, f func(fd int) error) error {
	file, err := d.open(name, flags)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // a mount writes through
	return f(int(file.Fd()))
}

// direct returns the flag that passes the cache by, for devices.
func (d *Driver) direct(name string) int {
	if d.Ref(name) == name {
		return unix.O_DIRECT
	}
	return 0
}

// Open keeps a device open.
func (d *Driver) Open(name string) (func(), error) {
	f, err := d.open(name, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return func() { f.Close() }, nil //nolint:errcheck // nothing was written through it
}

// Size returns a size in sectors.
func (d *Driver) Size(name string) (size uint64, err error) {
	err = d.with(name, unix.O_RDONLY, func(fd int) error {
		end, err := unix.Seek(fd, 0, unix.SEEK_END)
		size = uint64(mapper.SectorsOf(end))
		return err
	})
	return size, err
}

// Read reads.
func (d *Driver) Read(name string, start uint64, p []byte) (n int, err error) {
	b := mapper.GetBuffer(len(p)) // aligned for direct I/O
	defer b.Free()
	buf := b.Data
	err = d.with(name, unix.O_RDONLY|d.direct(name), func(fd int) error {
		n, err = unix.Pread(fd, buf, mapper.Sector(start).Bytes())
		return err
	})
	if err != nil {
		return 0, err
	}
	copy(p, buf[:n])
	return n, nil
}

// Write writes.
func (d *Driver) Write(name string, start uint64, p []byte, fua bool) (n int, err error) {
	b := mapper.GetBuffer(len(p)) // aligned for direct I/O
	defer b.Free()
	buf := b.Data
	copy(buf, p)
	flags := unix.O_RDWR | d.direct(name)
	if fua {
		flags |= unix.O_DSYNC
	}
	err = d.with(name, flags, func(fd int) error {
		n, err = unix.Pwrite(fd, buf, mapper.Sector(start).Bytes())
		return err
	})
	return max(n, 0), err
}

// Discard punches a hole, which is how a loop device discards on a file.
func (d *Driver) Discard(name string, start, count uint64) error {
	return d.allocate(name, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, start, count)
}

// Zero zeroes a range.
func (d *Driver) Zero(name string, start, count uint64) error {
	return d.allocate(name, unix.FALLOC_FL_ZERO_RANGE, start, count)
}

func (d *Driver) allocate(name string, mode uint32, start, count uint64) error {
	return d.with(name, unix.O_RDWR, func(fd int) error {
		return unix.Fallocate(fd, mode, mapper.Sector(start).Bytes(), mapper.Sector(count).Bytes())
	})
}

// Flush makes durable what was written.
func (d *Driver) Flush(name string) error { return d.with(name, unix.O_RDWR, unix.Fsync) }
