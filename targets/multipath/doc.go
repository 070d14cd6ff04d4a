// Package multipath reaches one storage by several paths: when a path fails, its requests go down another and nobody above
// notices.
//
// # Use
//
// Storage that has two ways to it: an export that two NBD servers serve, two gateways to a Ceph pool, two network cards. The paths
// must lead to the same storage, see Ordering. docs/nbd.md has a worked example.
//
// # Table line
//
//	START LENGTH multipath #FEATURES FEATURES #HANDLER HANDLER #GROUPS FIRST GROUPS
//	GROUP := SELECTOR #ARGS ARGS #PATHS #PATHARGS PATHS
//	PATH  := DISK PATHARGS
//
// Each # stands for the number of words, groups or paths that follow. The target is alone in its table. Of the groups one is in use: FIRST,
// which counts from 1, then the one that has a path. Two groups, of which the second is for emergencies:
//
//	[disks]
//	left = "nbd://left.example/disk"
//	right = "nbd://right.example/disk"
//	slow = "nbd://far.example/disk"
//
//	[devices.vol0]
//	table = "0 204800 multipath 1 queue_if_no_path 0 2 1 queue-length 0 2 0 left right round-robin 0 1 0 slow"
//
// Features, in any order and case:
//
//	queue_if_no_path            requests wait while no path is left; without it they fail
//	queue_mode bio|rq|mq        what a suspend makes of those that wait, see below; rq if not given, and mq is rq
//	retain_attached_hw_handler  echoed; has no effect without SCSI
//	pg_init_retries N           likewise, 1 to 50
//	pg_init_delay_msecs N       likewise, 0 to 60000
//
// A hardware handler (alua, emc, …) is refused: it talks to SCSI disks. Selectors, and what a path may say to them:
//
//	round-robin [REPEAT]                 one path after the other
//	queue-length [REPEAT]                the one with the fewest requests in flight
//	service-time [REPEAT [THROUGHPUT]]   the one that is done first, if each moves bytes at its relative throughput, 0 to 100; 0 is used
//	                                     only when there is no other
//	historical-service-time [REPEAT]     the one that is done first, going by how long requests took; the selector itself may
//	                                     have #ARGS 2: BASE_WEIGHT (0 to 1023, of 1024; 972) and THRESHOLD_MULTIPLIER (0)
//	io-affinity CPUMASK                  the one of the processor that serves the request, a hexadecimal mask
//
// REPEAT above 1 counts as 1, as in the kernel.
//
// # Status and messages
//
//	2 FRESH 0 0 #GROUPS GROUP_NUMBER { D|A|E SELECTOR_ARGS #PATHS #WORDS { DISK A|F FAILURES WORDS } }
//
// FRESH is 1 until the first request. A group is disabled, active (in use) or enabled; a path is active or failed. WORDS of a path: the requests in
// flight (queue-length); the bytes in flight and the throughput (service-time); the average in ns·1024, the requests in flight and when the
// average gets stale (historical-service-time); how often a processor had no path (io-affinity).
//
//	fail_path DISK         reinstate_path DISK
//	switch_group N         use this group next; it and those before it are no longer disabled
//	disable_group N        use it only when no other group has a path
//	enable_group N
//	queue_if_no_path       fail_if_no_path
//
// A path fails when a request down it ends in an error that another path might not have; each failure and reinstatement is an event. A failed path
// is not tried again until reinstate_path, or a new table, says so. Not supported, no space, medium error, failed authentication and
// read-only are answers of the storage: they go to the caller and fail no path.
//
// # Limits
//
// Those of all paths together. Discards, write-zeroes and flushes go down one path, as reads do.
//
// # Waiting
//
// With queue_if_no_path requests wait for reinstate_path or fail_if_no_path; the process that waits can be killed. A suspend does not wait for
// them: in queue_mode rq they go to the table that the resume brings; in queue_mode bio they do so if the suspend is noflush, and fail otherwise.
// While a device is suspended no messages are taken (EBUSY).
//
// # Ordering and crashes
//
// The target keeps nothing of its own. A flush goes down one path and stands for writes that went down any, for the paths lead to the same
// storage: what one of them has acknowledged, a flush by any other makes durable. Two servers of one file on one machine do so, and so does a
// cluster. Two servers on different machines, each with a cache that it writes back on its own, do not, and with them no
// flush can be trusted: have the servers write through (qemu-nbd --cache=none or writethrough, nbdkit without caching filters).
//
// A write that failed on one path is sent again on another. If the server behind the first one is not dead but slow, it may carry out its
// copy later, over what was written to the same sectors since then. Fence it (stop it, or take its access to the storage) before
// paths to it are given up for other reasons than its death.
//
// # Differences from the kernel
//
// The kernel built without SCSI takes any hardware handler; one with SCSI refuses them on disks that are not, as here.
// Request-based multipath (queue_mode rq) of the kernel refuses mapped devices as paths; here they are paths like others.
// The kernel counts failures in quick succession as one event; here each is one.
// io-affinity knows no NUMA nodes: from a processor without a usable path it takes the lowest processor's. The processor is that of the
// thread of this program which serves the request, most often the one that the caller ran on.
package multipath
