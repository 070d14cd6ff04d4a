// Package delay is linear that takes its time: requests wait, each class as long as it is told, before they go to their disk.
//
// # Use
//
// Slow disks and slow networks for tests: timeouts, queue depths, what a database does while a flush takes a second. With
// two disks, reads of one and writes of another, as a slow mirror has them.
//
// # Table line
//
//	START LENGTH delay DISK OFFSET DELAY [DISK OFFSET DELAY [DISK OFFSET DELAY]]
//
// The first DISK OFFSET DELAY is for reads, the second for writes, discards and write-zeroes, the third for flushes. A class
// that is left out does as the one before it. DELAY is a number of milliseconds up to 4294967295; 0 costs nothing. With a
// unit, us, ms, s, m or h, it is that ("250us", "2h"), up to the same time, 49 days. Writes that take 20 ms, and flushes that
// take a second:
//
//	[devices.slow]
//	table = "0 204800 delay data 0 0 data 0 20 data 0 1s"
//
// # Status and messages
//
//	READS WRITES FLUSHES
//
// are the requests of each class that wait. There are no messages.
//
// # Limits
//
// Those of the disks together. Everything passes, a flush in any case. A write that is to be durable when it returns (FUA) is a write.
//
// # Ordering and crashes
//
// A request waits before it reaches its disk, so what has not returned may not have happened. A request that begins later
// may overtake one that waits, as on any disk. A flush goes to the flush disk and, if that is another, to the write disk: what was written
// is durable when it returns.
//
// A suspend ends all waits: what waits goes to its disk at once, and nothing waits until the resume. A process that is killed while its
// request waits is let go, and the request has had no effect.
//
// # Differences from the kernel
//
//   - Where writes and flushes have different disks, the kernel flushes only that of flushes, and what was
//     written is lost in a power cut.
//   - Units of DELAY. The kernel's timer ticks every 1 to 10 ms and its delays are rounded up to that.
//   - An OFFSET or a DELAY that does not fit into its 64 or 32 bits is refused; the kernel drops the bits.
package delay
