// Package fs is the FUSE edge of dmfs: inodes, byte ranges, errno and interrupts. It holds no storage logic: it calls the
// byte methods and the control operations of mapper.Device, and nothing else.
//
// # Layers
//
//	gofuse.go   the engine: speaks the wire protocol (go-fuse), knows no file of ours
//	engine.go   the seam between the two
//	tree.go     which files there are; data.go, text.go: what reading and writing them does
//
// A second engine calls the same methods of tree.
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
// control file any signal ends a wait with EINTR.
//
// # Memory
//
// The engine reads requests into buffers of 1 MiB, at most maxRequestBytes together. Writes that wait for a suspended device
// keep theirs; when they have half of it, further ones fail with ENOMEM, so that the command that resumes still
// gets through.
package fs
