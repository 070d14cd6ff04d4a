// Package ebs emulates small blocks on a disk with large ones: what is not whole blocks is read, changed and written back.
//
// # Use
//
// Images and file systems made for sectors of 512 bytes, on a disk whose logical block has 4096 and that takes nothing smaller; tests of
// what depends on block sizes.
//
// # Table line
//
//	START LENGTH ebs DISK OFFSET EMULATED [UNDERLYING]
//
// EMULATED is the logical block that the device shows, 1, 2, 4 or 8 sectors. UNDERLYING is the block in which the disk is used: a power of two of
// sectors up to 32768, not less than the logical block of the disk, which it is if it is left out. OFFSET must be a multiple of it.
//
//	[devices.small]
//	table = "0 204800 ebs native4k 0 1"
//
// # Status and messages
//
// The status is empty. There are no messages.
//
// # Limits
//
// The logical block is EMULATED, the physical block and the preferred I/O are UNDERLYING. Whole blocks pass as they are. A discard passes for the whole
// blocks in it, and does nothing to the rest. Requests are cut at 1 MiB, or at blocks if they are larger; one that is not whole
// blocks takes a buffer of its size and up to two blocks more.
//
// If LENGTH is no multiple of UNDERLYING, the rest of the last block is not the device's, but is read and written back with it: nothing else may
// write there while the device is used.
//
// # Ordering and crashes
//
// Nothing is kept in memory: a write has reached the disk when it returns, and a flush, or a write with FUA, makes it durable as without the target. A write
// of parts of blocks reads the first and the last of them and writes all of its blocks in one request. While it does, other writes to these
// blocks wait, so that two writes to parts of one block never lose each other. If the power fails amid it, what was not meant to change is not changed:
// it is written as it was.
//
// # Differences from the kernel
//
// The kernel's target was compared by hand, in Linux 6.12 with its module built for it: arguments, refusals, the log, the echo, limits, data and discards
// over disks with blocks of 512 and 4096 bytes.
//
//   - The kernel keeps blocks in a cache, which it writes out before a write returns; here there is none.
//   - An UNDERLYING smaller than a block of the disk is refused; the kernel takes it, and then fails I/O that is not aligned for the disk.
//   - A last block that ends past the disk is refused; the kernel fails I/O to it.
//   - Write-zeroes pass for whole blocks; the kernel writes zeroes.
//   - A number that does not fit is refused; the kernel drops the bits, so that 65537 is 1.
package ebs
