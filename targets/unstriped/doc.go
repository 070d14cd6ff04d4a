// Package unstriped is the inverse of striped: one stripe of a striped disk as a device of its own.
//
// # Use
//
// Disks that stripe inside, as some NVMe devices do, and whose halves are to be used apart; looking at one stripe of a RAID 0.
//
// # Table line
//
//	START LENGTH unstriped STRIPES CHUNK INDEX DISK OFFSET
//
// DISK, from OFFSET on, is striped over STRIPES in chunks of CHUNK sectors, of which the device has those of stripe INDEX,
// from 0 to STRIPES-1. LENGTH must be a multiple of CHUNK, which need not be a power of two. The two halves of a
// disk that stripes in 128 KiB:
//
//	[devices.half0]
//	table = "0 204800 unstriped 2 256 0 whole 0"
//	[devices.half1]
//	table = "0 204800 unstriped 2 256 1 whole 0"
//
// # Status and messages
//
// The status is empty. There are no messages.
//
// # Limits
//
// Requests are cut at the borders of chunks. Discards are not supported; write-zeroes pass.
//
// # Layout
//
// Chunk c of the segment is chunk c*STRIPES+INDEX of the disk, counted from OFFSET. That the disk is long enough for the last is not checked when
// the table is loaded: I/O past its end fails.
//
// # Ordering and crashes
//
// The target keeps nothing of its own: what the disk has made durable is durable.
//
// # Differences from the kernel
//
//   - An INDEX of STRIPES or more is refused. The kernel takes STRIPES itself, and any with one stripe; the device then is
//     part of another stripe, whose data a write would damage.
//   - A flush reaches the disk; the kernel's target forgets it, and what was written is lost in a power cut.
//   - STRIPES times CHUNK is right beyond 32 bits, where the kernel's wraps around.
//   - A CHUNK that is not a multiple of the disk's logical block is refused; the kernel takes it, and then
//     fails I/O that is not aligned for the disk.
//   - An OFFSET of 2^64 or more is refused; the kernel takes it modulo 2^64.
package unstriped
