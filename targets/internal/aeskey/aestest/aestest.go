// Package aestest is what the tests of the AES modes share: random input and memory between fences.
package aestest

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// Source returns a generator of random bytes, whose seed it logs, and one of numbers from the same source.
func Source(t testing.TB) (*rand.ChaCha8, *rand.Rand) {
	seed := rand.Uint64()
	t.Logf("seed %#x", seed)
	return Seeded(seed)
}

// Seeded does as Source with a seed given.
func Seeded(seed uint64) (*rand.ChaCha8, *rand.Rand) {
	var s [32]byte
	binary.LittleEndian.PutUint64(s[:], seed)
	src := rand.NewChaCha8(s)
	return src, rand.New(src)
}

// Random returns n bytes from src.
func Random(src *rand.ChaCha8, n int) []byte {
	b := make([]byte, n)
	src.Read(b) //nolint:errcheck // it never fails
	return b
}
