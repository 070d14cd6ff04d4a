package fs

import (
	"encoding/binary"
	"unsafe"

	fusefs "github.com/hanwen/go-fuse/v2/fuse"
)

// The protocol is that of linux/fuse.h: a request is a header and a body, a reply the same, all in the byte order of
// the machine. The structures and flags are go-fuse's; it keeps the numbers of the operations to itself.
const (
	opLookup      = 1
	opForget      = 2
	opGetAttr     = 3
	opSetAttr     = 4
	opSymlink     = 6
	opMknod       = 8
	opMkdir       = 9
	opUnlink      = 10
	opRmdir       = 11
	opRename      = 12
	opLink        = 13
	opOpen        = 14
	opRead        = 15
	opWrite       = 16
	opStatFS      = 17
	opRelease     = 18
	opFsync       = 20
	opFlush       = 25
	opInit        = 26
	opOpenDir     = 27
	opReadDir     = 28
	opReleaseDir  = 29
	opFsyncDir    = 30
	opCreate      = 35
	opInterrupt   = 36
	opDestroy     = 38
	opIoctl       = 39
	opBatchForget = 42
	opFallocate   = 43
	opRename2     = 45
	opLseek       = 46
	opTmpFile     = 51
)

const (
	protocolMajor = 7
	// protocolMinor is what we speak, minMinor the oldest kernel's (5.4) whose structures are all as we know them.
	protocolMinor = 40
	minMinor      = 31

	inHeaderSize  = int(unsafe.Sizeof(fusefs.InHeader{}))
	outHeaderSize = int(unsafe.Sizeof(fusefs.OutHeader{}))
	// writeInSize is how much comes before the data of a write.
	writeInSize = int(unsafe.Sizeof(fusefs.WriteIn{}))
	// forgetOneSize is one element of opBatchForget: node and count.
	forgetOneSize = 16
	// direntSize is what comes before the name of a directory entry: node, offset, length of the name, type.
	direntSize = 24
)

// view returns b as a structure of the protocol, nil if b is too short. b is aligned to 8 bytes.
func view[T any](b []byte) *T {
	if len(b) < int(unsafe.Sizeof(*new(T))) {
		return nil
	}
	return (*T)(unsafe.Pointer(unsafe.SliceData(b)))
}

// bytesOf returns the bytes of a structure of the protocol.
func bytesOf[T any](p *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(p)), unsafe.Sizeof(*p))
}

// appendDirent appends a directory entry to list, which has room for it or is returned as it is with ok false.
// next is the offset of the entry after it.
func appendDirent(list []byte, e entry, next uint64) (_ []byte, ok bool) {
	const fileTypeShift = 12 // of mode: DT_REG and so on
	size := (direntSize + len(e.name) + 7) &^ 7
	if cap(list)-len(list) < size {
		return list, false
	}
	d := list[len(list) : len(list)+size]
	binary.NativeEndian.PutUint64(d, e.node)
	binary.NativeEndian.PutUint64(d[8:], next)
	binary.NativeEndian.PutUint32(d[16:], uint32(len(e.name)))
	binary.NativeEndian.PutUint32(d[20:], e.mode>>fileTypeShift)
	clear(d[direntSize+copy(d[direntSize:], e.name):])
	return list[:len(list)+size], true
}
