// Package camellia is the block cipher Camellia, from RFC 3713. Like most implementations it looks up tables by secret data, so a
// program that shares the processor's cache may learn something of the key.
package camellia

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// BlockSize is the block in bytes.
const BlockSize = 16

// A Cipher is Camellia with a key. It has no pointers.
type Cipher struct {
	rounds int        // 18 or 24
	kw     [4]uint64  // whitening
	k      [24]uint64 // of the rounds
	ke     [6]uint64  // of FL and its inverse, between each six rounds
}

// sigma are the constants of the key schedule.
var sigma = [6]uint64{
	0xa09e667f3bcc908b, 0xb67ae8584caa73b2, 0xc6ef372fe94f82be,
	0x54ff53a5f1d36f1c, 0x10e527fade682d1d, 0xb05688c2b3e6c1fd,
}

// A word is 128 bits.
type word struct{ hi, lo uint64 }

// rot returns w rotated to the left by n bits, 0 < n < 128 and n != 64.
func (w word) rot(n uint) word {
	if n > 64 {
		w.hi, w.lo = w.lo, w.hi
		n -= 64
	}
	return word{w.hi<<n | w.lo>>(64-n), w.lo<<n | w.hi>>(64-n)}
}

// NewCipher returns the cipher for a key of 16, 24 or 32 bytes.
func NewCipher(key []byte) (*Cipher, error) {
	var l, r word
	switch len(key) {
	case 32:
		r.lo = binary.BigEndian.Uint64(key[24:])
		r.hi = binary.BigEndian.Uint64(key[16:])
	case 24:
		r.hi = binary.BigEndian.Uint64(key[16:])
		r.lo = ^r.hi
	case 16:
	default:
		return nil, fmt.Errorf("camellia: a key of %d bytes: want 16, 24 or 32", len(key))
	}
	l = word{binary.BigEndian.Uint64(key), binary.BigEndian.Uint64(key[8:])}
	d1, d2 := l.hi^r.hi, l.lo^r.lo
	d2 ^= f(d1, sigma[0])
	d1 ^= f(d2, sigma[1])
	d1 ^= l.hi
	d2 ^= l.lo
	d2 ^= f(d1, sigma[2])
	d1 ^= f(d2, sigma[3])
	a := word{d1, d2}
	c := new(Cipher)
	if len(key) == 16 {
		c.schedule128(l, a)
		return c, nil
	}
	d1 ^= r.hi
	d2 ^= r.lo
	d2 ^= f(d1, sigma[4])
	d1 ^= f(d2, sigma[5])
	c.schedule256(l, r, a, word{d1, d2})
	return c, nil
}

// put writes both halves of the words to keys.
func put(keys []uint64, words ...word) {
	for i, w := range words {
		keys[2*i], keys[2*i+1] = w.hi, w.lo
	}
}

// schedule128 fills in the subkeys of section 2.2 for keys of 128 bits.
func (c *Cipher) schedule128(l, a word) {
	c.rounds = 18
	c.kw = [4]uint64{l.hi, l.lo, a.rot(111).hi, a.rot(111).lo}
	put(c.k[:], a, l.rot(15), a.rot(15), l.rot(45))
	c.k[8], c.k[9] = a.rot(45).hi, l.rot(60).lo
	put(c.k[10:], a.rot(60), l.rot(94), a.rot(94), l.rot(111))
	put(c.ke[:], a.rot(30), l.rot(77))
}

// schedule256 fills in the subkeys of section 2.2 for keys of 192 and 256 bits.
func (c *Cipher) schedule256(l, r, a, b word) {
	c.rounds = 24
	c.kw = [4]uint64{l.hi, l.lo, b.rot(111).hi, b.rot(111).lo}
	put(c.k[:], b, r.rot(15), a.rot(15), b.rot(30), l.rot(45), a.rot(45), r.rot(60), b.rot(60), l.rot(77), r.rot(94), a.rot(94), l.rot(111))
	put(c.ke[:], r.rot(30), l.rot(60), a.rot(77))
}

// BlockSize returns 16.
func (c *Cipher) BlockSize() int { return BlockSize }

// tables are the S-boxes with the P-function behind them, one for each byte of the input of f, the highest first.
var tables = makeTables()

func makeTables() (t [8][256]uint64) {
	// What byte i goes to in the result, the highest byte first, and which S-box it passes: section 2.4.1.
	spread := [8]uint64{
		0x0101010001000001, 0x0001010101010000, 0x0100010100010100, 0x0101000100000101,
		0x0001010100010101, 0x0100010101000101, 0x0101000101010001, 0x0101010001010100,
	}
	box := [8]int{1, 2, 3, 4, 2, 3, 4, 1}
	for i := range t {
		for x := range 256 {
			t[i][x] = spread[i] * uint64(sboxN(box[i], byte(x)))
		}
	}
	return t
}

// sboxN applies SBOX1 to SBOX4, of which the latter three are rotations of the first.
func sboxN(n int, x byte) byte {
	switch n {
	case 2:
		return bits.RotateLeft8(sbox1[x], 1)
	case 3:
		return bits.RotateLeft8(sbox1[x], 7)
	case 4:
		return sbox1[bits.RotateLeft8(x, 1)]
	}
	return sbox1[x]
}

// f is the F-function.
func f(x, k uint64) uint64 {
	x ^= k
	return tables[0][x>>56] ^ tables[1][x>>48&0xff] ^ tables[2][x>>40&0xff] ^ tables[3][x>>32&0xff] ^
		tables[4][x>>24&0xff] ^ tables[5][x>>16&0xff] ^ tables[6][x>>8&0xff] ^ tables[7][x&0xff]
}

// fl is the FL-function.
func fl(x, k uint64) uint64 {
	x1, x2 := uint32(x>>32), uint32(x)
	x2 ^= bits.RotateLeft32(x1&uint32(k>>32), 1)
	x1 ^= x2 | uint32(k)
	return uint64(x1)<<32 | uint64(x2)
}

// flInverse undoes fl.
func flInverse(y, k uint64) uint64 {
	y1, y2 := uint32(y>>32), uint32(y)
	y1 ^= y2 | uint32(k)
	y2 ^= bits.RotateLeft32(y1&uint32(k>>32), 1)
	return uint64(y1)<<32 | uint64(y2)
}

// Encrypt encrypts the first block of src into dst, which may be the same.
func (c *Cipher) Encrypt(dst, src []byte) {
	_, _ = src[BlockSize-1], dst[BlockSize-1]
	d1, d2 := binary.BigEndian.Uint64(src)^c.kw[0], binary.BigEndian.Uint64(src[8:])^c.kw[1]
	for i := 0; i < c.rounds; i += 2 {
		if i > 0 && i%6 == 0 {
			d1, d2 = fl(d1, c.ke[i/3-2]), flInverse(d2, c.ke[i/3-1])
		}
		d2 ^= f(d1, c.k[i])
		d1 ^= f(d2, c.k[i+1])
	}
	binary.BigEndian.PutUint64(dst, d2^c.kw[2])
	binary.BigEndian.PutUint64(dst[8:], d1^c.kw[3])
}

// Decrypt decrypts the first block of src into dst, which may be the same.
func (c *Cipher) Decrypt(dst, src []byte) {
	_, _ = src[BlockSize-1], dst[BlockSize-1]
	d2, d1 := binary.BigEndian.Uint64(src)^c.kw[2], binary.BigEndian.Uint64(src[8:])^c.kw[3]
	for i := c.rounds - 2; i >= 0; i -= 2 {
		d1 ^= f(d2, c.k[i+1])
		d2 ^= f(d1, c.k[i])
		if i > 0 && i%6 == 0 {
			d1, d2 = flInverse(d1, c.ke[i/3-2]), fl(d2, c.ke[i/3-1])
		}
	}
	binary.BigEndian.PutUint64(dst, d1^c.kw[0])
	binary.BigEndian.PutUint64(dst[8:], d2^c.kw[1])
}
