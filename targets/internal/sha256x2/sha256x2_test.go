package sha256x2

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"testing"
)

// TestSum compares digests with those of crypto/sha256, at all lengths of what comes before, between and after up to some blocks.
func TestSum(t *testing.T) {
	if !Supported() {
		t.Log("the processor has no SHA instructions; nothing uses this package then")
		return
	}
	random := rand.NewChaCha8([32]byte{1})
	for _, prefix := range []int{0, 1, 32, 55, 56, 63, 64, 65, 128, 200} {
		for _, suffix := range []int{0, 1, 32, 63, 64, 130} {
			for _, length := range []int{0, 1, 31, 32, 55, 56, 63, 64, 65, 119, 120, 128, 512, 4096} {
				part := func(n int) []byte {
					p := make([]byte, n)
					random.Read(p)
					return p
				}
				before, after, a, b := part(prefix), part(suffix), part(length), part(length)
				var got [2][Size]byte
				New(before, after).Sum(&got, a, b)
				for i, m := range [][]byte{a, b} {
					if want := sha256.Sum256(bytes.Join([][]byte{before, m, after}, nil)); got[i] != want {
						t.Fatalf("message %d of %d+%d+%d bytes: %x, want %x", i, prefix, length, suffix, got[i], want)
					}
				}
			}
		}
	}
}

func BenchmarkSum(b *testing.B) {
	if !Supported() {
		b.Skip("the processor has no SHA instructions")
	}
	h := New(make([]byte, 32), nil)
	p, q := make([]byte, 4096), make([]byte, 4096)
	b.Run("two", func(b *testing.B) {
		b.SetBytes(8192)
		b.ReportAllocs()
		var sums [2][Size]byte
		for b.Loop() {
			h.Sum(&sums, p, q)
		}
	})
	b.Run("crypto", func(b *testing.B) {
		b.SetBytes(4096)
		for b.Loop() {
			sha256.Sum256(p)
		}
	})
}
