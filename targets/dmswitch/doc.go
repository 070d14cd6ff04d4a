// Package dmswitch is the switch target: the segment is divided into regions of one size, each of which goes down one of several
// paths, by a table that messages change while it is used.
//
// # Use
//
// Storage that spreads a volume over many members and lets each be reached by the path that is best for it. The table is
// compact, so that it may have millions of entries: bits for a path, no ranges.
//
// # Table line
//
//	START LENGTH switch PATHS REGION 0 (DISK OFFSET)*
//
// PATHS is the number of DISK OFFSET pairs that follow; REGION is the size of a region in sectors and need not be a power of two; 0 is the number
// of optional arguments, of which there are none. Sector s of the segment is sector OFFSET+s of the disk that its region goes
// to. At first region r goes down path r%PATHS:
//
//	[devices.spread]
//	table = "0 204800 switch 2 8192 0 member0 0 member1 0"
//
// # Status and messages
//
// The status is empty. The message
//
//	set_region_mappings WORD*
//
// changes the table, word by word; all numbers are hexadecimal, and regions count from 0.
//
//	REGION:PATH  the region goes down that path
//	:PATH        so does the region after the one before; after none, region 1
//	RLAST,COUNT  the last LAST mappings are repeated for the next COUNT regions
//
// so that "0:1 :2 R2,10" maps region 0 to path 1, 1 to 2, and the next 16 to 1 and 2 in turn. LAST reaches back into what the
// table held before the message, if need be. A word that is wrong ends the message with an error; those before it
// have taken effect. A request that is under way keeps its path.
//
// # Limits
//
// Those of the disks together. Requests, discards too, are cut at the borders of regions. The table of regions takes 256 MiB at most:
// with two to four paths that is 2^30 regions and more.
//
// # Ordering and crashes
//
// The table of regions is kept in memory only: a table that is loaded begins anew. A flush is sent to every distinct disk and returns
// when all have answered, whatever path the writes before it took.
//
// # Differences from the kernel
//
//   - A flush reaches every disk; the kernel's target forgets flushes, and what was written is lost in a power cut unless the disks are safe by themselves.
//   - A discard is cut at the borders of regions; the kernel sends it whole down the path of its first region, and where paths do not lead to the same
//     data that discards what it should not.
//   - Numbers of a message that do not fit into 64 bits are refused; the kernel drops the bits.
//   - An OFFSET of 2^64 or more, or a REGION of 2^32, is refused; the kernel drops the bits.
//   - A table of regions of more than 256 MiB is refused; the kernel tries to get the memory.
package dmswitch
