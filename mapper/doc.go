// Package mapper is the core of dmfs: mapped devices, their tables, and the way of a request through
// targets to disks. It knows no file system above it and no format below it.
//
// # The life of a read
//
//	fs                Device.ReadAt(ctx, p, off)            bytes.go
//	gate              enter: wait while suspended           gate.go
//	live table        whole blocks, or a bounce buffer      bytes.go
//	segment           binary search; cut at ends, Limits    table.go, split.go
//	target            Submit(ctx, r): edits its copy of r   targets/...
//	disk              pread, or another Device: from the top again
//
// A request is a blocking call on the caller's goroutine and is passed by value: a target edits its copy and
// passes it on, what the kernel does in end_io is the line after the call, and nothing escapes to the heap.
//
// # Device states
//
//	          load           resume                    suspend
//	empty ----------> -I- ----------> live ---------------------> suspended
//	                                    ^                              |
//	                                    +--- resume (with -I-: swap) --+
//
// A device has two slots for tables. Load fills the inactive one while the live one serves; resume makes it live.
// Suspend is: PreSuspend on all targets, shut the gate, wait until nobody is inside, flush, PostSuspend. Resume is: swap,
// PreResume on all targets, Resume, open the gate. Requests that wait at the gate, and those that a target
// gave back with ErrRequeue, go to the table that is live then.
//
// # Lock order
//
//  1. Device.ctl: a channel that one control operation of a device holds; waiting for it ends with ctx
//  2. Manager.mu: names, uuids, minors, counts of users, who stands on whom
//  3. Device.mu: slots and state
//  4. pool.mu: the open disks
//  5. rangeLocks, ascending; eventCounter.mu; Log.mu
//
// 2 to 4 are held briefly, never across I/O, a constructor, or the opening or closing of a disk.
// A control operation holds ctl of one device only. The gate is no lock: who shuts it holds ctl and
// waits for requests, which never take 1 to 4 to complete.
package mapper
