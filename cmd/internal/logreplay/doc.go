// Package logreplay lists logs of the log-writes target, replays them onto a file or block device, and runs a check at chosen points of the
// replay. Logs of the kernel's target and of QEMU's blklogwrites are the same.
//
// A log may come from anywhere: each offset and size in it is checked against the log and the target before it is used.
package logreplay
