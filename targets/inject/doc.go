// Package inject makes faults in requests to one disk, chosen by rules. The kernel has no such target: its flakey and dust do
// some of this.
//
// # Use
//
// Testing what a file system, a database or a RAID does when its disk misbehaves: at one chosen request, with a probability, in one place, or
// from a moment on that a test chooses. Which requests were hit is counted exactly, and chance follows from a seed.
//
// # Table line
//
//	START LENGTH inject DISK OFFSET [seed=N] RULE*
//
// DISK serves all requests, from sector OFFSET on. A RULE is a KIND and then its KEY=VALUE words. A disk whose tenth write fails, and which
// flips a bit in one of a hundred reads of its first mebibyte:
//
//	[devices.bad]
//	table = "0 204800 inject data.img 0 seed=7 error op=write nth=10 corrupt op=read sectors=0+2048 p=0.01"
//
// The kinds, with the keys that only they have:
//
//	error [errno=E]      the request fails and has no effect; E is EIO (if not given), ENOSPC, ENODATA, EILSEQ or ETIMEDOUT
//	stall [time=T]       the request waits: for T, such as 20ms or 1m30s, or until it is released; then later rules are asked.
//	                     Its process can be killed
//	lost                 it is acknowledged and not carried out
//	misdirect by=±N      it is carried out N sectors further on or back; one that would leave the segment is not hit
//	corrupt [bits=N]     N bits (1 if not given, at most 4096) of its data are flipped: those of a read on the way up, so that the next
//	                     read may be right; those of a write on the way down, for good
//	torn [unit=B] [errno=E]
//	                     a part of its units of B bytes is written, at least one and not all; B is a power of two from 16 to 1048576, and
//	                     the logical block if not given. It is acknowledged, or fails if there is an errno. One of a
//	                     single unit is not hit
//
// The keys that all have:
//
//	op=OP[+OP]*          read, write (with write-zeroes), discard, flush, any. If not given: any for error and stall; write+discard for
//	                     lost, which may be told flush; read+write for misdirect and corrupt; write for torn, which is all that these have
//	sectors=A+N          that touch the N sectors from A on, counted in the segment; a flush touches none
//	nth=N                only the N-th of the requests that match, counted from 1 and from when the rule was made
//	every=N              each N-th of them
//	p=P                  each with probability P, such as 0.25
//	count=N              at most N of them; then the rule is spent
//
// At most one of nth, every and p. Without any of them each request that matches is hit.
//
// Rules are asked in their order. The first that hits a request has it, and those after it neither see nor count it, except behind a stall.
//
// What is one request: that of a program through a mount arrives in pieces of at most 1 MiB, or whatever smaller size the kernel's FUSE
// was told; the core cuts at the ends of segments, and one that is not aligned to logical blocks becomes a read and a write of
// whole blocks. Each piece counts. One that waits in a stall when the device is suspended without a flush comes again, and counts again.
//
// # Status and messages
//
//	seed=N requests=N injected=N stalled=N rules=N (rule=ID KIND KEY=VALUE* matched=N injected=N state=STATE)*
//
// The seed is that of the table line or one by chance; injected counts the faults of all rules, also of those that are gone; stalled are the
// requests that wait in a stall. Of each rule: how many requests matched, by op and sectors; how many were hit; and whether it is armed
// or spent. Rules of the table line are numbered from 1.
//
//	arm KIND [KEY=VALUE]*  a new rule, behind the others. The reply is "armed ID"; a request that begins after it meets the rule
//	disarm ID|all          takes rules away and releases what waits in them; the reply is "disarmed N", their number
//	release                ends the stalls under way, and not the rules; the reply is "released N"
//	list                   the rules as in the status, one a line
//	counters [reset]       "requests=N injected=N error=N stall=N lost=N misdirect=N corrupt=N torn=N"; reset sets them to zero, after
//
// A fault is counted when it has been made: a read that failed below, and so was not corrupted, is not.
//
// # Limits
//
// Those of the disk, but that flushes are always asked for. At most 256 rules. While a rule of misdirect, corrupt or torn waits for writes,
// write-zeroes arrive as writes of zeroes.
//
// Umount flushes first, so it fails with a flush that fails and waits for one that stalls: disarm such a rule before, or remove the device,
// which ends stalls.
//
// # Ordering and crashes
//
// The target keeps nothing of its own. What a fault did not touch is as durable as the disk below makes it.
//
// A suspend ends the stalls under way, and none begin until the resume: their requests go on, or with a suspend without a flush are handed
// to the table that comes after. Rules that came by message, and all counts, end with the table.
//
// # Differences from the kernel
//
// The kernel has no target of this name.
package inject
