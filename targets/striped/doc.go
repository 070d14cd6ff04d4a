// Package striped spreads a segment over several disks, chunk by chunk (RAID 0).
//
// # Use
//
// Speed: a large request, or many small ones, keep all the disks busy. A failed disk loses the segment.
//
// # Table line
//
//	START LENGTH striped STRIPES CHUNK (DISK OFFSET)*
//
// STRIPES is the number of DISK OFFSET pairs; CHUNK is in sectors and need not be a power of two, though it is
// faster if it is. LENGTH must be a multiple of STRIPES, and what each stripe gets a multiple of CHUNK. A disk may serve
// several stripes. Two disks, chunks of 64 KiB:
//
//	[devices.fast]
//	table = "0 409600 striped 2 128 data 0 more 2048"
//
// # Status and messages
//
//	STRIPES DISK* 1 HEALTH
//
// HEALTH has a letter for each stripe: A, or D after an I/O of its disk failed, until the table is replaced. The 1 is the
// number of fields that follow. "Not supported" is no failure. The first 14 failures of a disk raise
// an event each; then the disk is known to be bad. There are no messages.
//
// # Limits
//
// Reads and writes are cut at the borders of chunks. Discards, write-zeroes and flushes are not: each stripe gets
// its share in one piece, up to 16 disks at the same time. Discards are supported if all disks support
// them. The preferred I/O is a chunk at least and a chunk of each stripe at best.
//
// # Layout
//
// Chunk c of the segment is chunk c/STRIPES, counted from OFFSET, of stripe c%STRIPES:
//
//	          stripe 0   stripe 1   stripe 2
//	OFFSET+0     0          1          2
//	      +1     3          4          5
//	      +2     6          7          8
//
// # Ordering and crashes
//
// The target keeps nothing of its own. A flush is sent to every distinct disk and returns when all have answered.
// A write that spans chunks may, in a crash, reach some disks and not others, as on any disk with a cache.
//
// # Differences from the kernel
//
//   - A CHUNK that is not a multiple of a disk's logical block is refused; the kernel takes it, and then
//     fails I/O that is not aligned for the disk.
//   - A disk that serves several stripes gets one flush, not one for each.
//   - An OFFSET of 2^64 or more is refused; the kernel takes it modulo 2^64.
//   - Of a request whose context ended (its process was killed) nothing is counted as a failure.
package striped
