package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// A File is a regular file or a block device.
type File struct {
	f    *os.File
	fd   int
	path string
	name string       // as listings print it
	size atomic.Int64 // bytes, whole sectors; it only grows

	limits   mapper.Limits
	direct   bool
	zeroable atomic.Bool // FALLOC_FL_ZERO_RANGE works as far as is known
	block    bool        // a block device

	mu     sync.Mutex
	failed error // of the first flush that failed
}

var (
	_ mapper.NamedDisk   = (*File)(nil)
	_ mapper.KernelNamed = (*File)(nil)
	_ mapper.Extenter    = (*File)(nil)
	_ mapper.Measurer    = (*File)(nil)
	_ mapper.Growing     = (*File)(nil)
)

// maxAtOnce bounds a discard or a zeroing request, in sectors: 1 GiB.
const maxAtOnce = 1 << 21

// DiskName returns MAJOR:MINOR of a block device, the quoted path of a file.
func (d *File) DiskName() string { return d.name }

// KernelName returns the last part of the path.
func (d *File) KernelName() string { return filepath.Base(d.path) }

// Path returns the absolute path.
func (d *File) Path() string { return d.path }

// TableWord returns what a table calls the file so that it is opened like this.
func (d *File) TableWord() string {
	if d.direct {
		return mapper.QuoteArg(mapper.DirectPrefix + d.path)
	}
	return mapper.QuoteArg(d.path)
}

// BlockDevice returns the number of a block device; ok is false for a regular file.
func (d *File) BlockDevice() (major, minor uint32, ok bool) {
	if !d.block {
		return 0, 0, false
	}
	_, err := fmt.Sscanf(d.name, "%d:%d", &major, &minor)
	return major, minor, err == nil
}

// Sectors returns the size when the file was opened, or when Measure looked last, without a partial sector at the end.
func (d *File) Sectors() mapper.Sector { return mapper.SectorsOf(d.size.Load()) }

// Measure implements mapper.Growing. A file that has shrunk keeps its size: I/O to what is missing fails.
func (d *File) Measure() {
	end, err := unix.Seek(d.fd, 0, unix.SEEK_END)
	if err != nil {
		return
	}
	size := mapper.SectorsOf(end).Bytes()
	for have := d.size.Load(); size > have && !d.size.CompareAndSwap(have, size); have = d.size.Load() {
	}
}

// Limits returns the limits, which do not change.
func (d *File) Limits() mapper.Limits { return d.limits }

// Close closes the file.
func (d *File) Close() error { return d.f.Close() }

// Submit implements mapper.Disk. Requests of any alignment in sectors are carried out, except that a disk opened
// for direct I/O wants them aligned to its logical blocks.
func (d *File) Submit(ctx context.Context, r mapper.Request) error {
	if r.Op == mapper.OpFlush {
		return d.flush()
	}
	if size := d.Sectors(); r.Start > size || r.Count > size-r.Start {
		return fmt.Errorf("%s past the end of %s at sector %d: %w", r.Op, d.KernelName(), size, mapper.ErrIO)
	}
	if d.direct && r.Data != nil && !mapper.Aligned(r.Data, d.limits.LogicalBlock) {
		return d.bounced(r)
	}
	switch r.Op {
	case mapper.OpRead:
		return d.read(r)
	case mapper.OpWrite:
		return d.write(r)
	case mapper.OpDiscard:
		err := d.fallocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, r)
		if errors.Is(err, unix.EOPNOTSUPP) {
			return mapper.ErrNotSupported
		}
		return d.wrap(r.Op, err)
	case mapper.OpWriteZeroes:
		return d.zero(r)
	}
	return mapper.ErrNotSupported
}

func (d *File) read(r mapper.Request) error {
	p, off := r.Data, r.Start.Bytes()
	for len(p) > 0 {
		n, err := unix.Pread(d.fd, p, off)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return d.wrap(r.Op, err)
		case n == 0:
			return fmt.Errorf("%s has shrunk: it ends at byte %d, of %d when it was opened: %w", d.path, off, d.size.Load(), mapper.ErrIO)
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (d *File) write(r mapper.Request) error {
	if r.Flags&mapper.FlagFUA != 0 {
		return d.writeDurable(r)
	}
	p, off := r.Data, r.Start.Bytes()
	for len(p) > 0 {
		n, err := unix.Pwrite(d.fd, p, off)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return d.wrap(r.Op, err)
		case n == 0:
			return fmt.Errorf("write to %s made no progress: %w", d.path, mapper.ErrIO)
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// pwriteDurable is pwrite(2) with RWF_DSYNC. Tests replace it.
var pwriteDurable = func(fd int, p []byte, off int64) (int, error) {
	return unix.Pwritev2(fd, [][]byte{p}, off, unix.RWF_DSYNC)
}

// writeDurable is write with FlagFUA. Where RWF_DSYNC fails, writing and syncing apart tells which of them did: a
// failed sync may have been told of an earlier write that was lost, of which the system speaks only once. So it counts as
// a failed flush.
func (d *File) writeDurable(r mapper.Request) error {
	p, off := r.Data, r.Start.Bytes()
	for len(p) > 0 {
		n, err := pwriteDurable(d.fd, p, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return d.writeThenFlush(r, err)
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (d *File) writeThenFlush(r mapper.Request, cause error) error {
	r.Flags &^= mapper.FlagFUA
	if err := d.write(r); err != nil {
		return err
	}
	if cause != nil && !errors.Is(cause, unix.EOPNOTSUPP) && !errors.Is(cause, unix.ENOSYS) {
		return d.fail(cause)
	}
	return d.flush()
}

// bounced carries out r through a buffer that suits direct I/O.
func (d *File) bounced(r mapper.Request) error {
	buf := mapper.GetBuffer(len(r.Data))
	defer buf.Free()
	theirs := r.Data
	r.Data = buf.Data
	if r.Op == mapper.OpWrite {
		copy(r.Data, theirs)
		return d.write(r)
	}
	if err := d.read(r); err != nil {
		return err
	}
	copy(theirs, r.Data)
	return nil
}

// zero makes r read as zeroes: by a hole, by a zeroed range, and where the file system can do
// neither by ErrNotSupported, on which the core writes zeroes.
func (d *File) zero(r mapper.Request) error {
	if r.Flags&mapper.FlagNoUnmap == 0 {
		err := d.fallocate(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, r)
		if err == nil || !errors.Is(err, unix.EOPNOTSUPP) {
			return d.finish(r, err)
		}
	}
	if !d.zeroable.Load() {
		return mapper.ErrNotSupported
	}
	err := d.fallocate(unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, r)
	if errors.Is(err, unix.EOPNOTSUPP) {
		d.zeroable.Store(false)
		return mapper.ErrNotSupported
	}
	return d.finish(r, err)
}

// finish makes a zeroed range durable if that was asked for.
func (d *File) finish(r mapper.Request, err error) error {
	if err != nil {
		return d.wrap(r.Op, err)
	}
	if r.Flags&mapper.FlagFUA != 0 {
		return d.flush()
	}
	return nil
}

func (d *File) fallocate(mode uint32, r mapper.Request) error {
	for {
		err := unix.Fallocate(d.fd, mode, r.Start.Bytes(), r.Count.Bytes())
		if err != unix.EINTR {
			return err
		}
	}
}

// flush makes durable what was written before, and remembers the first failure.
func (d *File) flush() error {
	if err := d.flushError(); err != nil {
		return err
	}
	err := unix.EINTR
	for err == unix.EINTR {
		err, _ = unix.Fdatasync(d.fd).(unix.Errno)
	}
	if err == 0 {
		return d.flushError() // another flush may have been told of a loss meanwhile
	}
	return d.fail(err)
}

// fail remembers that a flush failed and returns the error of the first.
func (d *File) fail(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed == nil {
		d.failed = d.wrap(mapper.OpFlush, err)
	}
	return d.failed
}

func (d *File) flushError() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// wrap says which file err, which may be nil, is about. The errno is one the block layer has: ENOSPC stays, most
// others are EIO.
func (d *File) wrap(op mapper.Op, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
		return fmt.Errorf("%s %s: %v: %w", op, d.path, err, mapper.ErrNoSpace)
	case errors.Is(err, unix.ENODATA):
		return fmt.Errorf("%s %s: %v: %w", op, d.path, err, mapper.ErrMedium)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%s %s: %v: %w", op, d.path, err, mapper.ErrNotSupported)
	}
	return fmt.Errorf("%s %s: %v: %w", op, d.path, err, mapper.ErrIO)
}

// Extent implements mapper.Extenter by the holes of a sparse file. A block device is all data.
func (d *File) Extent(_ context.Context, s, max mapper.Sector) (run mapper.Sector, data bool, err error) {
	if d.block || d.dense() {
		return max, true, nil
	}
	off := s.Bytes()
	at, err := unix.Seek(d.fd, off, unix.SEEK_DATA)
	switch {
	case err == unix.ENXIO: // no data up to the end
		return max, false, nil
	case err != nil:
		return max, true, nil // the file system cannot tell
	case at > off:
		// Data may begin in the middle of a sector: that sector is data.
		if hole := mapper.SectorsOf(at) - s; hole > 0 {
			return min(hole, max), false, nil
		}
	}
	at, err = unix.Seek(d.fd, off, unix.SEEK_HOLE)
	if err != nil {
		return max, true, nil
	}
	n := mapper.SectorsOf(at+mapper.SectorSize-1) - s
	if at <= off {
		n = 1 // the hole was made meanwhile
	}
	return min(n, max), true, nil
}

// dense reports whether the file has no holes, which saves looking for them: some file systems go
// through all pages for that.
func (d *File) dense() bool {
	data, ok := d.Allocated(0, d.Sectors())
	return ok && data == d.Sectors()
}

// Allocated implements mapper.Measurer for the whole file, and for any part of a file without holes.
func (d *File) Allocated(s, n mapper.Sector) (mapper.Sector, bool) {
	if d.block {
		return n, true
	}
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil || st.Blocks < 0 {
		return 0, false
	}
	blocks := mapper.Sector(st.Blocks) // of 512 bytes, whatever the file system's
	if whole := d.Sectors(); blocks >= whole {
		return n, true
	} else if s == 0 && n == whole {
		return blocks, true
	}
	return 0, false
}
