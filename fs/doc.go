// Package fs is the FUSE edge of dmfs: inodes, byte ranges, errno and interrupts. It holds no storage logic: it calls the
// byte methods and the control operations of mapper.Device, and nothing else.
//
// # Layers
//
//	attach.go   mounts, by mount(2) or fusermount3, and gets the connection to the kernel
//	engine.go   speaks FUSE on it: workers (worker.go) with buffers (buffer.go), which try for a request before they sleep
//	             (spin.go); knows no file of ours
//	answer.go   the seam between the two: requests (wire.go) become calls of tree, their results replies
//	tree.go     which files there are; data.go, text.go: what reading and writing them does
//
// The engine is ours since it is the data path: go-fuse, whose structures of the protocol it uses, costs a third of the small
// requests a second, and cannot bound the memory of reads (docs/performance.md).
//
// # Caching
//
// Device files are opened for direct I/O, so the kernel keeps none of their data except for shared mappings, which
// a resume with another table drops. Attributes and names are never cached: a table swap changes the size at once.
//
// # Interrupts
//
// A signal to the caller ends only waits. On a device file only a signal that kills counts, as for a block
// device: Go programs are sent SIGURG all the time, and a short read or EINTR from a disk is no answer they expect. On the
// control file any signal ends a wait with EINTR, except those which are ignored by default (SIGURG, SIGCHLD, SIGWINCH, SIGCONT): a shell
// whose window changes its size has not given up.
//
// # Memory
//
// The data of requests that are carried out is bounded by maxBuffers of 1 MiB, that of requests which wait by
// maxWaitingBytes, beyond which they fail with ENOMEM; a read of a suspended device waits without a buffer. See engine.
package fs
