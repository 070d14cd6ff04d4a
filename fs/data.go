package fs

import (
	"encoding/binary"
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// A dataHandle is an open device file. Its methods are called concurrently.
type dataHandle struct {
	t   *tree
	dev *mapper.Device
}

func (t *tree) openData(d *mapper.Device) (*dataHandle, unix.Errno) {
	if err := d.Open(); err != nil {
		return nil, errno(err)
	}
	return &dataHandle{t: t, dev: d}, 0
}

// waits reports whether the device is suspended.
func (h *dataHandle) waits() bool { return h.dev.Shut() }

// await returns when it no longer is, which may soon be over again.
func (h *dataHandle) await(c *caller) unix.Errno { return errno(h.dev.Await(c)) }

func (h *dataHandle) read(c *caller, p []byte, off int64) (int, unix.Errno) {
	c.data, c.waiting = len(p), &h.t.waiting
	n, err := h.dev.ReadAt(c, p, off)
	if err != nil && err != io.EOF {
		return 0, errno(err)
	}
	return n, 0
}

// write writes p. sync says that it is to be durable on return: the file was opened with O_SYNC or O_DSYNC, or the
// write itself asks for it.
func (h *dataHandle) write(c *caller, p []byte, off int64, sync bool) (int, unix.Errno) {
	c.data, c.waiting = len(p), &h.t.waiting
	n, err := h.dev.WriteAt(c, p, off, sync)
	if n > 0 && errors.Is(err, mapper.ErrNoSpace) {
		return n, 0 // short at the end of the device
	}
	return n, errno(err)
}

// sync makes durable what was written. Whoever asks what it takes after that is told.
func (h *dataHandle) sync(c *caller) unix.Errno {
	defer h.t.forgetAllocated(h.dev)
	return errno(h.dev.Flush(c))
}

// allocate answers fallocate(2) as a block device does: holes may be punched and ranges zeroed, and
// there is nothing to preallocate.
func (h *dataHandle) allocate(c *caller, mode uint32, off, n int64) unix.Errno {
	noUnmap := false
	switch mode {
	case unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE:
	case unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE:
		noUnmap = true
	default:
		return unix.EOPNOTSUPP
	}
	size := h.dev.Size()
	if off < 0 || n <= 0 || off >= size {
		return unix.EINVAL
	}
	if mode == unix.FALLOC_FL_ZERO_RANGE && n > size-off {
		return unix.ENOSPC // it would have to grow
	}
	defer h.t.forgetAllocated(h.dev)
	return errno(h.dev.Zero(c, off, n, noUnmap))
}

func (h *dataHandle) seek(c *caller, off int64, whence uint32) (int64, unix.Errno) {
	if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE {
		return 0, unix.EINVAL
	}
	at, ok, err := h.dev.Seek(c, off, whence == unix.SEEK_DATA)
	switch {
	case err != nil:
		return 0, errno(err)
	case !ok:
		return 0, unix.ENXIO
	}
	return at, 0
}

// ioctl answers the one block device ioctl that a FUSE file can: BLKGETSIZE64.
func (h *dataHandle) ioctl(cmd uint32, out []byte) unix.Errno {
	const blkGetSize64 = 0x80081272
	if cmd != blkGetSize64 || len(out) < 8 {
		return unix.ENOTTY
	}
	binary.NativeEndian.PutUint64(out, uint64(h.dev.Size()))
	return 0
}

func (h *dataHandle) release() { h.dev.Close() }
