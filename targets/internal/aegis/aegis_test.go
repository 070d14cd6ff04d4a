package aegis

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"testing"
)

// The first vector of the specification.
func TestVector(t *testing.T) {
	zeroes := make([]byte, 16)
	out, tag := make([]byte, 16), make([]byte, TagSize)
	Seal(out, zeroes, zeroes, zeroes, nil, tag)
	if got := hex.EncodeToString(out) + " " + hex.EncodeToString(tag); got != "951b050fa72b1a2fc16d2e1f01b07d7e a7d2a99773249542f422217ee888d5f1" {
		t.Errorf("got %s", got)
	}
}

// The table is that of AES: SubBytes, then MixColumns of one byte.
func TestTable(t *testing.T) {
	for s, c := range map[byte]uint32{0x00: column(0x63), 0x53: column(0xed), 0xff: column(0x16)} { // FIPS 197, figure 7
		if table[s] != c {
			t.Errorf("table[%#x] = %#x, want %#x", s, table[s], c)
		}
	}
}

func TestOpen(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []byte {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(rnd.Uint32())
		}
		return p
	}
	for _, n := range []int{0, 16, 512, 4096} {
		for _, tagSize := range []int{8, 15, TagSize} {
			key, iv, data, text := random(KeySize), random(IVSize), random(24), random(n)
			sealed, tag := bytes.Clone(text), make([]byte, tagSize)
			Seal(sealed, sealed, key, iv, data, tag)
			opened := make([]byte, n)
			if !Open(opened, sealed, key, iv, data, tag) || !bytes.Equal(opened, text) {
				t.Errorf("%d bytes, tag of %d: not what was sealed", n, tagSize)
			}
			for _, p := range [][]byte{sealed, iv, data, tag, key} {
				if len(p) == 0 {
					continue
				}
				i := rnd.IntN(len(p))
				p[i] ^= 4
				if Open(opened, sealed, key, iv, data, tag) {
					t.Errorf("%d bytes: a change is not found", n)
				}
				p[i] ^= 4
			}
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	p, key, tag := make([]byte, 4096), make([]byte, KeySize), make([]byte, TagSize)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		Seal(p, p, key, key, key, tag)
	}
}
