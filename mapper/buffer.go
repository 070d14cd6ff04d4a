package mapper

import (
	"math/bits"
	"sync"
	"unsafe"
)

// BufferAlign is the alignment in bytes of every buffer of the pool: enough for O_DIRECT on any disk.
const BufferAlign = 4096

// MaxBuffer is the largest buffer in bytes that the pool keeps.
const MaxBuffer = 1 << 20

// A Buffer is memory from the pool. Whoever got it owns it until Free.
type Buffer struct {
	Data  []byte // as long as was asked for, aligned to BufferAlign
	whole []byte
	class int // index into pools; -1: too large to keep
}

// pools holds buffers of BufferAlign << class bytes, up to MaxBuffer.
var pools [9]sync.Pool

// GetBuffer returns a buffer of n bytes, n >= 1, with undefined contents.
func GetBuffer(n int) *Buffer {
	class := bits.Len(uint((n - 1) / BufferAlign))
	if class >= len(pools) {
		return &Buffer{Data: alignedBytes(n)[:n], class: -1}
	}
	if b, ok := pools[class].Get().(*Buffer); ok {
		b.Data = b.whole[:n]
		return b
	}
	whole := alignedBytes(BufferAlign << class)
	return &Buffer{Data: whole[:n], whole: whole, class: class}
}

// Free gives the buffer back. It must not be used after.
func (b *Buffer) Free() {
	b.Data = nil
	if b.class >= 0 {
		pools[b.class].Put(b)
	}
}

// Aligned reports whether p begins at a multiple of align bytes, a power of two.
func Aligned(p []byte, align int) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(p)))&uintptr(align-1) == 0
}

func alignedBytes(n int) []byte {
	raw := make([]byte, n+BufferAlign-1)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(raw))) & (BufferAlign - 1))
	return raw[skip : skip+n : skip+n]
}

// zeroes is what the core writes where a disk cannot zero by itself. Nobody writes to it.
var zeroes = sync.OnceValue(func() []byte { return alignedBytes(MaxBuffer) })
