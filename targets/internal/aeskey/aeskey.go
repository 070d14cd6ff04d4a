// Package aeskey is what the AES modes that we have in assembly share: expanding and wiping keys, finding out what the processor
// can do, and checking arguments.
//
// Expansion of keys uses the AES instructions of the processor and no tables, so that its time does not depend on the key. Source: FIPS 197.
package aeskey

import (
	"fmt"
	"unsafe"
)

// RoundKeys has room for the round keys of AES-256, 14 rounds and the whitening before them, as they lie in memory. It holds no
// pointers, so that it may lie where the garbage collector does not look: in memory that is locked and kept out of dumps.
type RoundKeys [15][16]byte

// Rounds returns how many rounds a key of 16, 24 or 32 bytes makes: 10, 12 or 14.
func Rounds(key []byte) int { return len(key)/4 + 6 }

// In returns mem as a T, which holds no pointers. mem is long enough for it and begins where it may begin, or the error says what is wrong.
func In[T any](mem []byte) (*T, error) {
	size, align := unsafe.Sizeof(*new(T)), unsafe.Alignof(*new(T))
	if uintptr(len(mem)) < size {
		return nil, fmt.Errorf("memory of %d bytes: want at least %d", len(mem), size)
	}
	p := unsafe.Pointer(unsafe.SliceData(mem))
	if uintptr(p)%align != 0 {
		return nil, fmt.Errorf("memory that does not begin at a multiple of %d", align)
	}
	return (*T)(p), nil
}
