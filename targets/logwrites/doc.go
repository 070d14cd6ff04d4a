// Package logwrites passes I/O through to a disk and logs what changes it to another, in an order in which it may have become durable.
//
// # Use
//
// Testing what a file system or a database would find after a crash at any moment of its life: run it once on this target, then replay the log
// with dmfs log-replay up to each write, flush or mark in turn, and check.
//
// # Table line
//
//	START LENGTH log-writes DISK LOGDISK
//
// DISK is used from its first sector on. LOGDISK holds the log, from its first sector on, which each table that is resumed begins anew.
// More arguments are taken and forgotten.
//
//	[devices.traced]
//	table = "0 204800 log-writes data.img log.img"
//
// # Status and messages
//
//	ENTRIES LAST [logging_disabled]
//
// ENTRIES is how many were logged, LAST the last sector of the log, in sectors of 512 bytes. When the log is full, or cannot be written, a line in
// the mount's log says so, nothing more is logged, and I/O goes on.
//
//	mark TEXT   logs a mark: a place to replay to. TEXT is one word, at most a log sector less 32 bytes long
//
// # Limits
//
// Those of DISK. Blocks are as large as the larger of both disks have them, and so are the sectors of the log. Discards are always
// taken; those that DISK cannot do are logged all the same. Write-zeroes become writes of zeroes. At most 64 MiB of data wait for a flush in memory.
//
// # Layout
//
// See format.go: a super block with the number of entries, then the entries with their data.
//
// # Ordering and crashes
//
//  1. A write or discard that has completed waits in memory, in the order of completion.
//  2. A flush, when it has completed, logs what had completed before it was submitted, and then itself.
//  3. A write with FUA is logged when it has completed, before what waits. If it overlaps what waits, that comes first, with all that is older:
//     in the log as on the disk the newer data is the later.
//  4. When more than 64 MiB wait the oldest are logged early, as a disk may write back its cache at any time.
//  5. After each flush, FUA and mark the super block is written; not before what it counts. So after a crash of this program
//     the log replays to the last of them. When the host crashes the log may be lost, since it is flushed at suspend and close only.
//  6. When the table is removed, what waits is logged, and the mark dm-log-writes-end.
//
// A request that failed is not logged.
//
// # Differences from the kernel
//
//   - Two flushes that overlap: the kernel logs with each what had completed since the one before was submitted. If the second completes first
//     its entry comes before writes that it covers, and a correct file system seems to be broken. Here all that a flush
//     covers is logged before its entry, whichever completes first.
//   - The kernel logs a write with FUA before older writes to the same sectors that wait for a flush, so that the log ends with old data. See 3.
//   - The kernel logs a flush that failed as if it had not.
//   - The kernel logs from a thread of its own: a mark may come behind writes that were flushed later, and when the table goes away what waits
//     may come before what a flush has already covered. Here the log is written before the flush, the write with FUA or the
//     message returns.
//   - A suspend without noflush is a flush here, and so is logged.
//   - The super block is written when logging starts, and after flushes too; the kernel does so after FUA and marks only, and before that the
//     super block of an older log may stand before new entries. It is also written when the log has run full.
//   - The kernel holds all data until a flush, however much it is.
//   - A mark that is too long is refused, where the kernel cuts it; so is one while logging is disabled, which the kernel forgets.
//   - A log disk that another target is logging to is refused at the resume.
//   - When a table is replaced by one with the same log, the old one's closing entries are not written over the new log.
//   - A log disk with larger blocks than the disk works; in the kernel logging to it fails.
package logwrites
