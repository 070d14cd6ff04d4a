// Package serpent is the block cipher Serpent by Anderson, Biham and Knudsen, from the specification they
// submitted for the AES ("Serpent: A Proposal for the Advanced Encryption Standard", 1998), in its bitslice form and with
// the byte order that everybody uses: words are little endian.
//
// It is written for disks that exist; it takes no other care of timing than having no tables.
package serpent

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// BlockSize is the block in bytes.
const BlockSize = 16

const rounds = 32

// A Cipher is Serpent with a key. It has no pointers.
type Cipher struct{ keys [rounds + 1][4]uint32 }

// NewCipher returns the cipher for a key of up to 32 bytes.
func NewCipher(key []byte) (*Cipher, error) {
	if len(key) > 32 {
		return nil, fmt.Errorf("serpent: a key of %d bytes: want at most 32", len(key))
	}
	var padded [33]byte // a shorter key is followed by a bit 1, then by zeroes
	copy(padded[:], key)
	padded[len(key)] = 1
	var w [8 + 4*(rounds+1)]uint32
	for i := range 8 {
		w[i] = binary.LittleEndian.Uint32(padded[4*i:])
	}
	const golden = 0x9e3779b9 // the fractional part of the golden ratio
	for i := 8; i < len(w); i++ {
		w[i] = bits.RotateLeft32(w[i-8]^w[i-5]^w[i-3]^w[i-1]^golden^uint32(i-8), 11)
	}
	c := new(Cipher)
	for i := range c.keys {
		p := w[8+4*i:]
		k := &c.keys[i]
		k[0], k[1], k[2], k[3] = sbox((rounds+3-i)%8, p[0], p[1], p[2], p[3])
	}
	clear(w[:])
	clear(padded[:])
	return c, nil
}

// BlockSize returns 16.
func (c *Cipher) BlockSize() int { return BlockSize }

// sbox applies S-box n, 0 to 7.
func sbox(n int, a, b, c, d uint32) (w, x, y, z uint32) {
	switch n {
	case 0:
		return sbox0(a, b, c, d)
	case 1:
		return sbox1(a, b, c, d)
	case 2:
		return sbox2(a, b, c, d)
	case 3:
		return sbox3(a, b, c, d)
	case 4:
		return sbox4(a, b, c, d)
	case 5:
		return sbox5(a, b, c, d)
	case 6:
		return sbox6(a, b, c, d)
	}
	return sbox7(a, b, c, d)
}

// inverse undoes sbox.
func inverse(n int, a, b, c, d uint32) (w, x, y, z uint32) {
	switch n {
	case 0:
		return inverse0(a, b, c, d)
	case 1:
		return inverse1(a, b, c, d)
	case 2:
		return inverse2(a, b, c, d)
	case 3:
		return inverse3(a, b, c, d)
	case 4:
		return inverse4(a, b, c, d)
	case 5:
		return inverse5(a, b, c, d)
	case 6:
		return inverse6(a, b, c, d)
	}
	return inverse7(a, b, c, d)
}

// Encrypt encrypts the first block of src into dst, which may be the same.
func (c *Cipher) Encrypt(dst, src []byte) {
	_, _ = src[BlockSize-1], dst[BlockSize-1]
	x0, x1 := binary.LittleEndian.Uint32(src), binary.LittleEndian.Uint32(src[4:])
	x2, x3 := binary.LittleEndian.Uint32(src[8:]), binary.LittleEndian.Uint32(src[12:])
	for i := range rounds {
		k := &c.keys[i]
		x0, x1, x2, x3 = sbox(i%8, x0^k[0], x1^k[1], x2^k[2], x3^k[3])
		if i == rounds-1 {
			break
		}
		x0 = bits.RotateLeft32(x0, 13)
		x2 = bits.RotateLeft32(x2, 3)
		x1 = bits.RotateLeft32(x1^x0^x2, 1)
		x3 = bits.RotateLeft32(x3^x2^x0<<3, 7)
		x0 = bits.RotateLeft32(x0^x1^x3, 5)
		x2 = bits.RotateLeft32(x2^x3^x1<<7, 22)
	}
	k := &c.keys[rounds]
	binary.LittleEndian.PutUint32(dst, x0^k[0])
	binary.LittleEndian.PutUint32(dst[4:], x1^k[1])
	binary.LittleEndian.PutUint32(dst[8:], x2^k[2])
	binary.LittleEndian.PutUint32(dst[12:], x3^k[3])
}

// Decrypt decrypts the first block of src into dst, which may be the same.
func (c *Cipher) Decrypt(dst, src []byte) {
	_, _ = src[BlockSize-1], dst[BlockSize-1]
	k := &c.keys[rounds]
	x0, x1 := binary.LittleEndian.Uint32(src)^k[0], binary.LittleEndian.Uint32(src[4:])^k[1]
	x2, x3 := binary.LittleEndian.Uint32(src[8:])^k[2], binary.LittleEndian.Uint32(src[12:])^k[3]
	for i := rounds - 1; i >= 0; i-- {
		if i != rounds-1 {
			x2 = bits.RotateLeft32(x2, -22) ^ x3 ^ x1<<7
			x0 = bits.RotateLeft32(x0, -5) ^ x1 ^ x3
			x3 = bits.RotateLeft32(x3, -7) ^ x2 ^ x0<<3
			x1 = bits.RotateLeft32(x1, -1) ^ x0 ^ x2
			x2 = bits.RotateLeft32(x2, -3)
			x0 = bits.RotateLeft32(x0, -13)
		}
		x0, x1, x2, x3 = inverse(i%8, x0, x1, x2, x3)
		k := &c.keys[i]
		x0, x1, x2, x3 = x0^k[0], x1^k[1], x2^k[2], x3^k[3]
	}
	binary.LittleEndian.PutUint32(dst, x0)
	binary.LittleEndian.PutUint32(dst[4:], x1)
	binary.LittleEndian.PutUint32(dst[8:], x2)
	binary.LittleEndian.PutUint32(dst[12:], x3)
}
