package serpent

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// The tables of the specification.
var tables = [8][16]uint32{
	{3, 8, 15, 1, 10, 6, 5, 11, 14, 13, 4, 2, 7, 0, 9, 12},
	{15, 12, 2, 7, 9, 0, 5, 10, 1, 11, 14, 8, 6, 13, 3, 4},
	{8, 6, 7, 9, 3, 12, 10, 15, 13, 1, 14, 4, 0, 11, 5, 2},
	{0, 15, 11, 8, 12, 9, 6, 3, 13, 1, 2, 4, 10, 7, 5, 14},
	{1, 15, 8, 3, 12, 0, 11, 6, 2, 5, 4, 10, 9, 14, 7, 13},
	{15, 5, 2, 11, 4, 10, 9, 12, 0, 3, 14, 8, 13, 6, 7, 1},
	{7, 2, 12, 5, 8, 4, 6, 11, 14, 9, 1, 15, 13, 3, 10, 0},
	{1, 13, 15, 0, 14, 8, 2, 11, 7, 4, 12, 10, 9, 3, 5, 6},
}

func TestSboxes(t *testing.T) {
	spread := func(n uint32) (a, b, c, d uint32) { return -(n & 1), -(n >> 1 & 1), -(n >> 2 & 1), -(n >> 3 & 1) }
	for box := range 8 {
		for n := range uint32(16) {
			a, b, c, d := spread(n)
			w, x, y, z := sbox(box, a, b, c, d)
			if got := w&1 | x&2 | y&4 | z&8; got != tables[box][n] {
				t.Errorf("S%d(%d) = %d, want %d", box, n, got, tables[box][n])
			}
			if a, b, c, d = inverse(box, w, x, y, z); a&1|b&2|c&4|d&8 != n {
				t.Errorf("the inverse of S%d does not give %d back", box, n)
			}
		}
	}
}

// Vectors as other implementations print them, for each size of key.
func TestVectors(t *testing.T) {
	for _, c := range []struct{ key, plain, cipher string }{
		{"000102030405060708090a0b0c0d0e0f", "00112233445566778899aabbccddeeff", "563e2cf8740a27c164804560391e9b27"},
		{"000102030405060708090a0b0c0d0e0f1011121314151617", "00112233445566778899aabbccddeeff", "6ab816c82de53b93005008afa2246a02"},
		{"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "00112233445566778899aabbccddeeff", "2868b7a2d28ecd5e4fdefac3c4330074"},
	} {
		key, _ := hex.DecodeString(c.key)
		plain, _ := hex.DecodeString(c.plain)
		want, _ := hex.DecodeString(c.cipher)
		b, err := NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, BlockSize)
		b.Encrypt(got, plain)
		if !bytes.Equal(got, want) {
			t.Errorf("key %s: %x, want %s", c.key, got, c.cipher)
		}
		b.Decrypt(got, got)
		if !bytes.Equal(got, plain) {
			t.Errorf("key %s: decrypts to %x", c.key, got)
		}
	}
}

func TestLongKey(t *testing.T) {
	if _, err := NewCipher(make([]byte, 33)); err == nil {
		t.Error("a key of 33 bytes was taken")
	}
}

func BenchmarkEncrypt(b *testing.B) {
	c, _ := NewCipher(make([]byte, 32))
	block := make([]byte, BlockSize)
	b.SetBytes(BlockSize)
	for b.Loop() {
		c.Encrypt(block, block)
	}
}
