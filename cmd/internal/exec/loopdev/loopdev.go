// Package loopdev answers the ioctls of loop devices and of /dev/loop-control: their structures, and which request does
// what. Binding itself is somebody else's.
package loopdev

import (
	"encoding/binary"

	"dmfs/cmd/internal/exec/caller"

	"golang.org/x/sys/unix"
)

// Flags of a loop device.
const (
	flagReadOnly  = unix.LO_FLAGS_READ_ONLY
	flagAutoClear = unix.LO_FLAGS_AUTOCLEAR
	flagPartScan  = unix.LO_FLAGS_PARTSCAN
	flagDirect    = unix.LO_FLAGS_DIRECT_IO
)

// A Status is what a loop device is bound to.
type Status struct {
	File       string // as its user calls it
	Dev, Inode uint64 // of the file
	Offset     uint64 // bytes
	SizeLimit  uint64 // bytes; 0 if there is none
	Block      uint32 // logical block in bytes; 0 for the smallest
	ReadOnly   bool
	AutoClear  bool // it is unbound by the last close
	PartScan   bool // its partition table counts
	Direct     bool // its I/O goes past the page cache
}

// A Loop is one loop device. Its errors wrap the kernel's errnos: EBUSY for one that is bound, ENXIO for one that is not.
type Loop interface {
	Number() uint32
	Status() (Status, error)
	Bind(fd uint32, s Status) error // Direct is a wish
	SetStatus(s Status) error       // of Offset, SizeLimit and AutoClear; PartScan can be set and not be taken away
	Clear() error
	Resize() error // it takes the size that its file has
	SetBlock(bytes uint32) error
	SetDirect(on bool) error
}

// A Control is all loop devices of a session.
type Control interface {
	Free() (uint32, error) // the lowest that is not bound; it is made if there is none
	Add(n uint32) error
	Remove(n uint32) error
}

// Layouts, from include/uapi/linux/loop.h.
//
//	struct loop_info64                struct loop_info (64-bit programs)
//	offset  size  field               offset  size  field
//	0       8     lo_device           0       4     lo_number
//	8       8     lo_inode            8       8     lo_device
//	16      8     lo_rdevice          16      8     lo_inode
//	24      8     lo_offset           24      8     lo_rdevice
//	32      8     lo_sizelimit        32      4     lo_offset
//	40      4     lo_number           36      4     lo_encrypt_type
//	44      4     lo_encrypt_type     40      4     lo_encrypt_key_size
//	48      4     lo_encrypt_key_size 44      4     lo_flags
//	52      4     lo_flags            48      64    lo_name
//	56      64    lo_file_name
//
//	struct loop_config: fd, 4 bytes; block_size, 4 bytes; loop_info64; 64 bytes reserved
const (
	info64Len    = 232
	infoLen      = 168
	fileNameLen  = 64
	configLen    = 8 + info64Len + 64
	configInfo   = 8
	maxOldOffset = 1<<31 - 1
)

// Ioctl carries out a request on l.
func Ioctl(l Loop, m caller.Memory, request uint32, arg uint64) unix.Errno {
	switch request {
	case unix.LOOP_CONFIGURE:
		return configure(l, m, arg)
	case unix.LOOP_SET_FD:
		return caller.Errno(l.Bind(uint32(arg), Status{}))
	case unix.LOOP_CLR_FD:
		return caller.Errno(l.Clear())
	case unix.LOOP_GET_STATUS64, unix.LOOP_GET_STATUS:
		s, err := l.Status()
		if err != nil {
			return caller.Errno(err)
		}
		if request == unix.LOOP_GET_STATUS64 {
			return m.Write(arg, encode64(l.Number(), s))
		}
		p, e := encode(l.Number(), s)
		if e != 0 {
			return e
		}
		return m.Write(arg, p)
	case unix.LOOP_SET_STATUS64, unix.LOOP_SET_STATUS:
		return setStatus(l, m, arg, request == unix.LOOP_SET_STATUS64)
	case unix.LOOP_SET_CAPACITY:
		return caller.Errno(l.Resize())
	case unix.LOOP_SET_BLOCK_SIZE:
		if !isBlock(arg) {
			return unix.EINVAL
		}
		return caller.Errno(l.SetBlock(uint32(arg)))
	case unix.LOOP_SET_DIRECT_IO:
		return caller.Errno(l.SetDirect(arg != 0))
	}
	return unix.ENOTTY
}

// minBlock and maxBlock bound a logical block in bytes.
const minBlock, maxBlock = 512, 4096

func isBlock(bytes uint64) bool {
	return bytes >= minBlock && bytes <= maxBlock && bytes&(bytes-1) == 0
}

// ControlIoctl carries out a request on c; value is what it returns.
func ControlIoctl(c Control, request uint32, arg uint64) (value int64, e unix.Errno) {
	switch request {
	case unix.LOOP_CTL_GET_FREE:
		n, err := c.Free()
		return int64(n), caller.Errno(err)
	case unix.LOOP_CTL_ADD:
		return int64(uint32(arg)), caller.Errno(c.Add(uint32(arg)))
	case unix.LOOP_CTL_REMOVE:
		return int64(uint32(arg)), caller.Errno(c.Remove(uint32(arg)))
	}
	return 0, unix.ENOSYS // as the kernel says here
}

func configure(l Loop, m caller.Memory, arg uint64) unix.Errno {
	var p [configLen]byte
	if e := m.Read(arg, p[:]); e != 0 {
		return e
	}
	fd, block := binary.NativeEndian.Uint32(p[:]), binary.NativeEndian.Uint32(p[4:])
	if block != 0 && !isBlock(uint64(block)) {
		return unix.EINVAL
	}
	s, e := decode64(p[configInfo:])
	if e != 0 {
		return e
	}
	s.Block = block
	return caller.Errno(l.Bind(fd, s))
}

func setStatus(l Loop, m caller.Memory, arg uint64, long bool) unix.Errno {
	p := make([]byte, infoLen)
	if long {
		p = make([]byte, info64Len)
	}
	if e := m.Read(arg, p); e != 0 {
		return e
	}
	var s Status
	e := unix.Errno(0)
	if long {
		s, e = decode64(p)
	} else {
		s, e = decode(p)
	}
	if e != 0 {
		return e
	}
	return caller.Errno(l.SetStatus(s))
}

func decode64(p []byte) (Status, unix.Errno) {
	flags := binary.NativeEndian.Uint32(p[52:])
	if binary.NativeEndian.Uint32(p[44:]) != 0 {
		return Status{}, unix.EINVAL
	}
	return Status{
		File: text(p[56 : 56+fileNameLen]), Offset: binary.NativeEndian.Uint64(p[24:]), SizeLimit: binary.NativeEndian.Uint64(p[32:]),
		ReadOnly: flags&flagReadOnly != 0, AutoClear: flags&flagAutoClear != 0, PartScan: flags&flagPartScan != 0, Direct: flags&flagDirect != 0,
	}, 0
}

func decode(p []byte) (Status, unix.Errno) {
	flags := binary.NativeEndian.Uint32(p[44:])
	offset := binary.NativeEndian.Uint32(p[32:])
	if binary.NativeEndian.Uint32(p[36:]) != 0 || offset > maxOldOffset {
		return Status{}, unix.EINVAL
	}
	return Status{
		File: text(p[48 : 48+fileNameLen]), Offset: uint64(offset),
		ReadOnly: flags&flagReadOnly != 0, AutoClear: flags&flagAutoClear != 0, PartScan: flags&flagPartScan != 0, Direct: flags&flagDirect != 0,
	}, 0
}

func encode64(number uint32, s Status) []byte {
	p := make([]byte, info64Len)
	binary.NativeEndian.PutUint64(p, s.Dev)
	binary.NativeEndian.PutUint64(p[8:], s.Inode)
	binary.NativeEndian.PutUint64(p[24:], s.Offset)
	binary.NativeEndian.PutUint64(p[32:], s.SizeLimit)
	binary.NativeEndian.PutUint32(p[40:], number)
	binary.NativeEndian.PutUint32(p[52:], s.flags())
	copy(p[56:56+fileNameLen-1], s.File)
	return p
}

// encode makes the old structure. EOVERFLOW is that the numbers do not fit.
func encode(number uint32, s Status) ([]byte, unix.Errno) {
	if s.Offset > maxOldOffset || s.SizeLimit != 0 {
		return nil, unix.EOVERFLOW
	}
	p := make([]byte, infoLen)
	binary.NativeEndian.PutUint32(p, number)
	binary.NativeEndian.PutUint64(p[8:], s.Dev)
	binary.NativeEndian.PutUint64(p[16:], s.Inode)
	binary.NativeEndian.PutUint32(p[32:], uint32(s.Offset))
	binary.NativeEndian.PutUint32(p[44:], s.flags())
	copy(p[48:48+fileNameLen-1], s.File)
	return p, 0
}

func (s Status) flags() uint32 {
	flags := uint32(0)
	if s.ReadOnly {
		flags |= flagReadOnly
	}
	if s.AutoClear {
		flags |= flagAutoClear
	}
	if s.PartScan {
		flags |= flagPartScan
	}
	if s.Direct {
		flags |= flagDirect
	}
	return flags
}

// text returns what p says up to its first zero.
func text(p []byte) string {
	for i, c := range p {
		if c == 0 {
			return string(p[:i])
		}
	}
	return string(p)
}
