// Package linear maps a segment to a range of one disk, sector for sector.
//
// # Use
//
// Putting devices together from pieces: concatenation, partitions, moving a range to another disk, or
// an offset into a file. LVM builds every plain volume from it.
//
// # Table line
//
//	START LENGTH linear DISK OFFSET
//
// DISK is the disk to stand on; OFFSET is the sector of it where the segment begins. Two disks, one behind the other:
//
//	[devices.vol0]
//	table = """
//	0 204800 linear data 0
//	204800 204800 linear fast 2048
//	"""
//
// # Status and messages
//
// The status is empty. There are no messages.
//
// # Limits
//
// Those of the disk. Discards, flushes and write-zeroes pass through.
//
// # Ordering and crashes
//
// The target keeps nothing of its own: what the disk has made durable is durable.
//
// # Differences from the kernel
//
// An OFFSET of 2^64 or more is refused; the kernel takes it modulo 2^64.
package linear
