// Package powercut is a disk with a volatile write cache whose power can be cut. The kernel has no such target.
//
// # Use
//
// Showing that a file system, a database or a program keeps its promises when the power fails: let it work on a device of this
// target, cut the power at any moment, restore it, and look at what is left. Writes that nobody flushed are lost, in part or as a
// whole, in every way in which a disk may lose them, and in no other; the outcome follows from a seed.
//
// # Table line
//
//	START LENGTH powercut DISK OFFSET [NFEATURES FEATURE*]
//
// DISK holds what is durable, from sector OFFSET on. NFEATURES counts the words that follow. A FEATURE is one of
//
//	seed N             the cuts that are not told a seed take N, N+1, N+2, … instead of seeds by chance
//	cache_sectors N    how much the cache holds, in sectors of 512 bytes: one block to 16777216, 131072 (64 MiB) if not given
//	sector_size N      the bytes of a block, which is never torn: 512, 1024, 2048 or 4096, at least the logical block
//	                   of DISK and that if not given
//	supply NAME        all targets of the mount with that supply lose power at the same instant, and get it back together
//
// A pool whose two disks fail together:
//
//	[devices.data]
//	table = "0 409600 powercut data.img 0 2 supply rack"
//	[devices.metadata]
//	table = "0 8192 powercut metadata.img 0 2 supply rack"
//
// # Status and messages
//
//	STATE KEY=VALUE*
//
// STATE is on, armed or off. The keys, always all of them and in this order; sectors are of 512 bytes:
//
//	dirty=N cache=N    sectors that a cut would endanger; how many the cache holds
//	after=N            requests until the armed cut, 0 if none is armed
//	seed=N             of the last cut, 0 before the first
//	reads= writes= discards= flushes=
//	                   requests that were begun while the power was on; write-zeroes are writes
//	fua=N              of the writes, those that had to be durable
//	failed=N           requests that failed because the power was off or went off
//	cuts=N             power cuts
//	kept= older= lost= sectors that the cuts endangered: those that hold what was written last, those that hold an older version
//	                   that nobody had flushed, those that hold what was durable
//	torn=N             requests of which a part was kept and a part was not
//
// Messages are answered when what they ask for is so:
//
//	cut [seed=N] [keep=MODE]
//	                   cuts the power now. The reply is "cut seed=N keep=MODE dirty=N kept=N older=N lost=N torn=N", of the
//	                   whole supply; from then on the disk below holds what has survived, and all I/O fails.
//	cut [seed=N] [keep=MODE] after=N [op=read|write|flush|any]
//	                   arms: the N-th request of that kind from now on (any, if not given; write includes discards and zeroes)
//	                   finds the power cut. It fails, and may have had any part of its effect. The reply is
//	                   "armed seed=N keep=MODE after=N op=OP". There is one armed cut for a supply; a second replaces it.
//	disarm             forgets an armed cut; the reply is "disarmed"
//	restore            the power is back: I/O works on what has survived. The reply is "on"
//	counters [reset]   the part of the status from reads= on; reset sets it to zero, after
//
// MODE is what becomes of the sectors that are not durable: none is kept; all; random, if nothing is said: each block by itself
// holds what was durable or any version written since; torn: all is kept, but of the last request of several blocks
// only some of them.
//
// A cut, when it has been carried out, is an event of the device and a line in the log: who armed one can wait for it.
//
// # Limits
//
// The logical block is sector_size. Discards are supported if the disk supports them. The device has a volatile cache whatever the
// disk has. A block that is written again while it waits takes room in the cache for each of its versions; when the
// cache is full the oldest are written to the disk, which a disk may do at any time. A request that is larger than the cache goes
// straight to the disk. Memory is that of the cache and some 70 bytes for each of its blocks.
//
// Flushes fail without power, and umount flushes first: restore the power or remove the device before it.
//
// A mapping (mmap) of the device's file is a cache above this one: close it when the power is cut, as a machine would have lost it.
//
// # Ordering and crashes
//
// What a disk may do: keep or lose each block that is not durable, each by itself and whatever its age; keep an older version of it;
// tear a request at the border of any block. What it may not: tear a block; lose what was written before a flush was submitted, once
// that has returned; lose a write with FUA that has returned; bring back a version older than a durable one; change anything else.
//
//  1. A write is complete when it is in the cache, in memory. Reads see the cache. Discards and write-zeroes likewise; a discarded
//     block in the cache reads as zeroes.
//  2. A flush writes to the disk what was in the cache when it was submitted, oldest first, and then flushes the disk. What is
//     written meanwhile stays at stake.
//  3. A write with FUA goes to the disk with FUA, and drops the older versions of its blocks.
//  4. A cut comes between two requests of the whole supply; each has put all of its blocks into the cache, or none. Flushes, and
//     requests to the disk below that are under way, are finished first, as if the cut had come after them, or fail. Then it
//     is decided for each block what survives, that is written to the disk, and the disk is flushed.
//
// The outcome is a function of the seed, the mode, the place of the target among those of its supply, and for each block of the number of
// its versions: the same requests in the same order end the same way. If the disk below cannot write what was to be kept, that counts as lost.
//
// If this program dies at any moment the disk below holds a legal outcome of a power cut too.
//
// A suspend empties the cache onto the disk, also one without a flush. The power belongs to the supply: a table that is loaded anew for a
// device whose power is off finds it off if the supply has a name, and on if it has none.
//
// # Differences from the kernel
//
// The kernel has no target of this name.
package powercut
