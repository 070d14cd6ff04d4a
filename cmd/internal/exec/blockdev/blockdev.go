// Package blockdev answers the ioctls of block devices as the kernel does.
package blockdev

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"dmfs/cmd/internal/exec/caller"
	"dmfs/cmd/internal/exec/parttable"
	"dmfs/fs/control"
	"dmfs/mapper"
)

// A Device is what is asked about and worked on. Offsets and lengths are in bytes.
type Device interface {
	Size() (int64, error)
	ReadOnly() bool
	Limits() control.Limits
	Geometry() [4]uint64 // cylinders, heads, sectors, start; zeroes if none was set
	Serial() string
	// ReadAhead is what the device's users are told to read ahead, in sectors. Nothing else comes of it: what is read through a mount
	// the kernel reads ahead as it does of files.
	ReadAhead() uint64
	SetReadAhead(sectors uint64)
	Discard(off, n int64) error
	Zero(off, n int64) error
	Flush() error
	Partitions() Partitioned // nil if it can have none
}

// A Partitioned is a device that can have partitions. Its errors wrap the kernel's errnos.
type Partitioned interface {
	Rescan() error // reads the table anew
	Add(p parttable.Partition) error
	Delete(number uint32) error
	Resize(to parttable.Partition) error // that of the same number and start
}

// Requests that x/sys does not name.
const (
	blkDiscardZeroes = 0x127c
	blkSecDiscard    = 0x127d
	blkZeroOut       = 0x127f
	blkAlignOff      = 0x127a
	blkIOOpt         = 0x1279
	blkIOMin         = 0x1278
	blkRotational    = 0x127e
	blkBszGet        = 0x80081270
	blkBszSet        = 0x40081271
	blkGetSize64     = 0x80081272
	blkGetZoneSize   = 0x80041284
	blkGetNrZones    = 0x80041285
	blkGetDiskSeq    = 0x80081280
	hdioGetGeo       = 0x0301
	sgIO             = 0x2285
)

// ReadAhead is what the kernel reads ahead of a device if nobody says otherwise, in sectors.
const ReadAhead = 256

// blockSize is what the page cache of a device works with: a page.
const blockSize = 4096

// Ioctl carries out a request on d. The errors are the kernel's; ENOTTY is that it has none of that name.
func Ioctl(d Device, m caller.Memory, request uint32, arg uint64) unix.Errno {
	c := call{d, m, arg}
	switch request {
	case blkGetSize64, unix.BLKGETSIZE:
		return c.size(request)
	case unix.BLKROGET:
		return c.put32(boolean(d.ReadOnly()))
	case unix.BLKSSZGET:
		return c.put32(uint32(d.Limits().LogicalBlock))
	case unix.BLKPBSZGET:
		return c.put32(uint32(d.Limits().PhysicalBlock))
	case blkIOMin:
		return c.put32(uint32(d.Limits().MinIO))
	case blkIOOpt:
		return c.put32(uint32(d.Limits().OptIO))
	case blkAlignOff, blkDiscardZeroes:
		return c.put32(0)
	case blkRotational:
		return c.put16(1)
	case blkBszGet:
		return c.put32(blockSize)
	case blkBszSet:
		return 0 // it says how to cache, and nothing is cached
	case unix.BLKRASET, unix.BLKFRASET:
		const page = blockSize / mapper.SectorSize
		c.d.SetReadAhead(c.arg - c.arg%page)
		return 0
	case unix.BLKRAGET, unix.BLKFRAGET:
		return c.put64(c.d.ReadAhead())
	case unix.BLKSECTGET:
		return c.put16(0xffff)
	case blkGetZoneSize, blkGetNrZones:
		return c.put32(0)
	case blkGetDiskSeq:
		return c.put64(1)
	case unix.BLKFLSBUF:
		return caller.Errno(d.Flush())
	case unix.BLKROSET:
		return unix.EACCES // whether it may be written to is its table's
	case unix.BLKRRPART:
		if d.Partitions() == nil {
			return unix.EINVAL
		}
		return caller.Errno(d.Partitions().Rescan())
	case unix.BLKPG:
		return c.partition()
	case unix.BLKDISCARD, blkSecDiscard, blkZeroOut:
		return c.rangeOf(request)
	case hdioGetGeo:
		return c.geometry()
	case sgIO:
		return c.inquiry()
	}
	return unix.ENOTTY
}

// A call is a request in progress.
type call struct {
	d   Device
	m   caller.Memory
	arg uint64
}

func (c call) put16(v uint16) unix.Errno {
	return c.m.Write(c.arg, binary.NativeEndian.AppendUint16(nil, v))
}

func (c call) put32(v uint32) unix.Errno {
	return c.m.Write(c.arg, binary.NativeEndian.AppendUint32(nil, v))
}

func (c call) put64(v uint64) unix.Errno {
	return c.m.Write(c.arg, binary.NativeEndian.AppendUint64(nil, v))
}

func (c call) size(request uint32) unix.Errno {
	n, err := c.d.Size()
	if err != nil {
		return caller.Errno(err)
	}
	if request == unix.BLKGETSIZE {
		return c.put64(uint64(mapper.SectorsOf(n)))
	}
	return c.put64(uint64(n))
}

// rangeOf discards or zeroes the range of bytes that the caller gives as two numbers.
func (c call) rangeOf(request uint32) unix.Errno {
	var p [16]byte
	if e := c.m.Read(c.arg, p[:]); e != 0 {
		return e
	}
	off, n := binary.NativeEndian.Uint64(p[:]), binary.NativeEndian.Uint64(p[8:])
	size, err := c.d.Size()
	if err != nil {
		return caller.Errno(err)
	}
	unit := uint64(max(c.d.Limits().LogicalBlock, mapper.SectorSize))
	switch {
	case c.d.ReadOnly():
		return unix.EBADF
	case request != blkZeroOut && c.d.Limits().MaxDiscard == 0, request == blkSecDiscard:
		return unix.EOPNOTSUPP
	case off%unit != 0 || n%unit != 0 || n > uint64(size) || off > uint64(size)-n:
		return unix.EINVAL
	case n == 0:
		return 0
	case request == blkZeroOut:
		return caller.Errno(c.d.Zero(int64(off), int64(n)))
	}
	return caller.Errno(c.d.Discard(int64(off), int64(n)))
}

// geometry answers HDIO_GETGEO: heads and sectors, bytes; cylinders, 16 bits; start, in sectors, 64 bits, aligned to 8.
func (c call) geometry() unix.Errno {
	g := c.d.Geometry()
	if g == [4]uint64{} {
		return unix.ENOTTY
	}
	p := []byte{byte(g[1]), byte(g[2])}
	p = binary.NativeEndian.AppendUint16(p, uint16(g[0]))
	p = append(p, 0, 0, 0, 0)
	return c.m.Write(c.arg, binary.NativeEndian.AppendUint64(p, g[3]))
}

func boolean(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
