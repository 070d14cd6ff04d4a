package camellia

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// The vectors of RFC 3713, appendix A.
func TestVectors(t *testing.T) {
	plain, _ := hex.DecodeString("0123456789abcdeffedcba9876543210")
	for _, c := range []struct{ key, cipher string }{
		{"0123456789abcdeffedcba9876543210", "67673138549669730857065648eabe43"},
		{"0123456789abcdeffedcba98765432100011223344556677", "b4993401b3e996f84ee5cee7d79b09b9"},
		{"0123456789abcdeffedcba987654321000112233445566778899aabbccddeeff", "9acc237dff16d76c20ef7c919e3a7509"},
	} {
		key, _ := hex.DecodeString(c.key)
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

func TestKeySizes(t *testing.T) {
	for _, n := range []int{0, 8, 15, 17, 33} {
		if _, err := NewCipher(make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes was taken", n)
		}
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
