// Package mirror keeps the same data on several disks, its legs (RAID 1 as LVM's older mirrors have it), with a log of regions that may differ.
//
// # Use
//
// Disks that fail: what one leg cannot read another has. Moving data while it is in use (pvmove): a mirror of the old place and the new one
// copies, and then the old leg is taken away. With a log on disk only what was being written is copied after a crash.
//
// # Table line
//
//	START LENGTH mirror core 1|2 REGION [sync|nosync] LEGS (DISK OFFSET)* [FEATURES]
//	START LENGTH mirror disk 2|3 LOGDISK REGION [sync|nosync] LEGS (DISK OFFSET)* [FEATURES]
//
// LEGS is the number of DISK OFFSET pairs, 2 to 9. A mirror is a row of regions of REGION sectors: a power of two from 2 on, no more than
// LENGTH, and a multiple of the disks' blocks. The log says which regions are alike on all legs. One in memory (core) knows of none
// at first, and the first leg is copied to the others; one on disk remembers. With sync all regions are copied at each resume, with nosync
// none at the first: whoever says it knows that the legs are alike. FEATURES is nothing, or
//
//	1 handle_errors
//	2 handle_errors keep_log
//
// A disk log of 64 KiB is enough for half a million regions. Here are two legs, regions of 512 KiB, and a log:
//
//	[devices.safe]
//	table = "0 409600 mirror disk 2 log 1024 2 data 0 more 0 1 handle_errors"
//
// # Status and messages
//
//	LEGS DISK* ALIKE/REGIONS 1 HEALTH 1 core
//	LEGS DISK* ALIKE/REGIONS 1 HEALTH 3 disk LOGDISK A|D|F
//
// ALIKE is how many of the REGIONS are alike on all legs. HEALTH has a letter for each leg, the worst that happened since all were alike:
//
//	A  nothing
//	R  a read failed
//	S  it was not copied to, or not from
//	D  a write failed, so that it lacks data
//	F  a flush failed before regions could be called clean
//
// That of the log is A, D after it failed, and F after it failed a flush. An event tells that all regions are alike, that the log
// failed and, with handle_errors, of each leg the first failure of each kind. There are no messages.
//
// # Reads
//
// A region that is alike is read from the primary leg, at first the first one. With handle_errors, and without nosync,
// a leg that has fewer reads to do than the primary one is read instead. A read that fails is tried on another leg. A region that is not alike is read from the primary leg or not at all.
//
// # Failures
//
// With handle_errors a write that a leg did not take marks its region as not alike, and waits; so do writes that the log cannot be marked for,
// and those to regions that are not alike. If the failed leg is the primary one, and all regions are alike, another becomes that. Whoever gets
// the event mends the mirror: he loads a table without the failed leg or log, suspends with noflush and resumes, and what waited goes to the new
// table. A suspend without noflush fails what waits. A wait ends when its process is killed.
//
// With keep_log writes do not wait: they go on to the legs that are left, and what the failed leg missed is copied when the same table is
// suspended and resumed. When the log fails, writes do.
//
// Without handle_errors errors of legs and log are ignored, but for a write that the primary leg did not take.
//
// # Limits
//
// Reads and writes are cut at the borders of regions. Discards go to all legs in one piece, if all can, and are not logged: what was discarded
// may differ. There are at most 2^28 regions; each takes two bits of memory. A resync copies one region at a time, 512 KiB
// after 512 KiB, in ascending order; writes to that region wait meanwhile, and nothing else does.
//
// # Layout
//
// Each leg has the segment as it is, from its OFFSET on. The log disk has a header in its first sector and, from sector 2 on, a bit for each region,
// which is set if the region is clean; see format.go.
//
// # Ordering and crashes
//
//  1. Before a write goes to the legs, the bit of its region is cleared in the log, and the log is flushed, unless it is clear already.
//  2. The write goes to all legs, and returns when all have it.
//  3. When nothing was written to the region for a while (25 to 50 ms), the legs are flushed, and then the bit is set again.
//
// A crash leaves the bit clear from 1 to 3, whatever the legs took: at the next resume the first leg is copied to the others. What was
// flushed is on all legs, and so on the first. A copied region gets its bit by 3, too. A log with more or fewer regions is taken over: those
// that are new are copied, or, with nosync, are clean. A suspend ends the copying at once and sets the bits of all regions that are alike.
//
// A crash after the primary leg failed is another matter: the log does not say which leg was primary. Take the failed leg out of
// the table first, as dmeventd does.
//
// # Differences from the kernel
//
//   - Logs of userspace daemons and of clusters (userspace, clustered-core, clustered-disk) are refused.
//   - Without handle_errors a write or flush that the primary leg failed is an error. The kernel says that it succeeded, and copies the
//     old data over it at the next resume.
//   - Without handle_errors a region that could not be read from the primary leg is not called alike, and the other legs keep what they
//     have. The kernel writes to them what happens to be in its memory. A leg that could not be copied to is never read;
//     the kernel reads it, when another fails.
//   - With nosync and a disk log the kernel calls all regions clean at every resume, also those that a leg has missed writes of. Here that is so at the
//     first resume of a table; later ones believe the log.
//   - After a flush failed, regions that are written count as not alike at the next resume.
//   - The primary leg of a mirror that is being copied again, as each resume does with sync, stays the primary one when it fails.
//   - Reads are balanced; the kernel reads from the primary leg alone.
//   - A suspend need not wait for the region that is being copied.
//   - Clean bits are set a little later, many at once; the parts of the log that change are written, not all of it.
//   - A REGION smaller than a block of a leg is refused; the kernel fails the I/O. An OFFSET of 2^64 or more is refused.
//   - A read-only table copies nothing and writes no log.
package mirror
