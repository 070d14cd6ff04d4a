// Package dust is linear with bad blocks: reading one fails, writing it makes it good again, as a disk does that remaps what it cannot read.
//
// # Use
//
// What file systems, RAID and backups do about medium errors: which blocks are bad is said by messages, at any time.
//
// # Table line
//
//	START LENGTH dust DISK OFFSET BLOCK
//
// BLOCK is the size of a block in bytes: a power of two from 512 on, not more than the segment has and at most 1 GiB.
//
//	[devices.worn]
//	table = "0 204800 dust data 0 4096"
//
// # Status and messages
//
//	DISK bypass|fail_read_on_bad_block verbose|quiet
//
// At first there are no bad blocks, and they would do nothing (bypass). The messages, in upper or lower case, are
//
//	addbadblock BLOCK [COUNT]  BLOCK is bad; the first COUNT writes of it, up to 255, fail and leave it bad
//	removebadblock BLOCK       BLOCK is good
//	queryblock BLOCK           answers whether it is bad
//	countbadblocks             answers how many are
//	listbadblocks              answers which are, one a line, in ascending order
//	clearbadblocks             none is, and answers whether any was
//	enable, disable            bad blocks fail, or do nothing
//	quiet                      verbose becomes quiet and back; when quiet, changes of the list are not logged
//
// Blocks are numbered from the start of DISK, not of the segment: sector s of DISK is in block s*512/BLOCK.
//
// # Limits
//
// Those of the disk. Reads and writes are cut to blocks, which count from the start of the segment: if OFFSET is no multiple
// of a block, a request may lie in two blocks of the disk, of which the first decides. So it does for a discard, which is not cut. While
// bad blocks are enabled, write-zeroes are done as writes and free no space.
//
// There are at most 4194304 bad blocks; each takes 8 to 16 bytes.
//
// # Ordering and crashes
//
// The list of bad blocks is kept in memory only: a table that is loaded begins with none. A block becomes good before the write that
// does it has returned, and also if that write fails below.
//
// # Differences from the kernel
//
//   - A flush touches no block. The kernel takes it for a write of the first block of the segment: with bad blocks enabled it makes that one
//     good, or fails if writes of it shall.
//   - The log names the block that a write made good; the kernel divides its number by the sectors of a block.
//   - A message with a number that does not fit is refused; the kernel drops the bits. So is an OFFSET of 2^64 or more.
//   - More than 4194304 bad blocks are refused with the kernel's words for a lack of memory.
package dust
