package aescbc

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"testing"

	"dmfs/targets/internal/aeskey/aestest"
)

// No implementation reads or writes beside what it is given, not even what it then ignores.
func TestStaysInside(t *testing.T) {
	const most = 1040
	src, _ := aestest.Source(t)
	key, plain, iv := aestest.Random(src, 32), aestest.Random(src, 9*most), aestest.Random(src, 9*BlockSize)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	forEach(t, func(t *testing.T, impl implementation) {
		c := newImpl(t, impl, key)
		for _, atEnd := range []bool{false, true} {
			for _, units := range []int{1, 3, 9} {
				from, to, ivs := aestest.Fenced(t, units*most, atEnd), aestest.Fenced(t, units*most, atEnd), aestest.Fenced(t, units*BlockSize, atEnd)
				copy(ivs, iv)
				for unit := BlockSize; unit <= most; unit += BlockSize {
					n := units * unit
					from, to := from[:n], to[:n]
					if atEnd {
						from, to = from[cap(from)-n:cap(from)], to[cap(to)-n:cap(to)]
					}
					copy(from, plain)
					want := make([]byte, n)
					for u := range units {
						cipher.NewCBCEncrypter(block, iv[u*BlockSize:][:BlockSize]).CryptBlocks(want[u*unit:][:unit], plain[u*unit:][:unit])
					}
					c.Encrypt(to, from, unit, ivs)
					if !bytes.Equal(to, want) {
						t.Fatalf("%d units of %d bytes: encrypted wrong", units, unit)
					}
					c.Decrypt(to, to, unit, ivs)
					if !bytes.Equal(to, plain[:n]) {
						t.Fatalf("%d units of %d bytes: decrypted wrong", units, unit)
					}
				}
			}
		}
	})
}
