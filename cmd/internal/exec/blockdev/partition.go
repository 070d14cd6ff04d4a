package blockdev

import (
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"

	"dmfs/cmd/internal/exec/caller"
	"dmfs/cmd/internal/exec/parttable"
	"dmfs/mapper"
)

// Layouts, from include/uapi/linux/blkpg.h. Positions and lengths are in bytes.
//
//	struct blkpg_ioctl_arg            struct blkpg_partition
//	offset  size  field               offset  size  field
//	0       4     op                  0       8     start
//	4       4     flags               8       8     length
//	8       4     datalen             16      4     pno
//	16      8     data                20      128   names, which nobody reads
const (
	pgArgLen  = 24
	pgPartLen = 152
)

// partition answers BLKPG.
func (c call) partition() unix.Errno {
	var p [pgArgLen]byte
	if e := c.m.Read(c.arg, p[:]); e != 0 {
		return e
	}
	op := binary.NativeEndian.Uint32(p[:])
	if op != unix.BLKPG_ADD_PARTITION && op != unix.BLKPG_DEL_PARTITION && op != unix.BLKPG_RESIZE_PARTITION {
		return unix.EINVAL
	}
	var q [pgPartLen]byte
	if e := c.m.Read(binary.NativeEndian.Uint64(p[16:]), q[:]); e != 0 {
		return e
	}
	start, n := int64(binary.NativeEndian.Uint64(q[:])), int64(binary.NativeEndian.Uint64(q[8:]))
	number := binary.NativeEndian.Uint32(q[16:])
	disk := c.d.Partitions()
	switch unit := int64(max(c.d.Limits().LogicalBlock, mapper.SectorSize)); {
	case disk == nil || number == 0 || int32(number) < 0:
		return unix.EINVAL
	case op == unix.BLKPG_DEL_PARTITION:
		return caller.Errno(disk.Delete(number))
	case start < 0 || n <= 0 || start > math.MaxInt64-n || start%unit != 0 || n%unit != 0:
		return unix.EINVAL
	case number > parttable.MaxPartitions && op == unix.BLKPG_ADD_PARTITION:
		return unix.EINVAL
	}
	part := parttable.Partition{Number: number, Start: mapper.SectorsOf(start), Len: mapper.SectorsOf(n)}
	if op == unix.BLKPG_ADD_PARTITION {
		return caller.Errno(disk.Add(part))
	}
	return caller.Errno(disk.Resize(part))
}
