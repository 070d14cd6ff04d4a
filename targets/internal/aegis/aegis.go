// Package aegis is AEGIS-128 (Wu and Preneel, "AEGIS: A Fast Authenticated Encryption Algorithm", v1.1, the CAESAR submission), which the kernel calls
// aegis128. The libraries have its relatives AEGIS-128L and AEGIS-256 only.
//
// It is written with tables, so that how long it takes depends on what is in the processor's cache: on a machine shared with
// somebody who is not trusted, another cipher is the better choice.
package aegis

import (
	"crypto/subtle"
	"encoding/binary"
	"math/bits"
)

// Sizes in bytes.
const (
	KeySize = 16
	IVSize  = 16
	TagSize = 16
)

const blockSize = 16

// A block is four columns of AES, each a little endian word.
type block [4]uint32

// load reads a block; what p lacks is zeroes.
func load(p []byte) (b block) {
	if len(p) < blockSize {
		var whole [blockSize]byte
		copy(whole[:], p)
		p = whole[:]
	}
	for i := range b {
		b[i] = binary.LittleEndian.Uint32(p[4*i:])
	}
	return b
}

func (b block) store(p []byte) {
	for i, w := range b {
		binary.LittleEndian.PutUint32(p[4*i:], w)
	}
}

func (b block) xor(o block) block {
	return block{b[0] ^ o[0], b[1] ^ o[1], b[2] ^ o[2], b[3] ^ o[3]}
}

func (b block) and(o block) block {
	return block{b[0] & o[0], b[1] & o[1], b[2] & o[2], b[3] & o[3]}
}

// Two constants of the specification: the Fibonacci sequence modulo 256.
var (
	const0 = load([]byte{0x00, 0x01, 0x01, 0x02, 0x03, 0x05, 0x08, 0x0d, 0x15, 0x22, 0x37, 0x59, 0x90, 0xe9, 0x79, 0x62})
	const1 = load([]byte{0xdb, 0x3d, 0x18, 0x55, 0x6d, 0xc2, 0x2f, 0xf1, 0x20, 0x11, 0x31, 0x42, 0x73, 0xb5, 0x28, 0xdd})
)

// table is what SubBytes and MixColumns make of the first byte of a column; those of the others are rotations of it.
var table = func() (t [256]uint32) {
	double := func(x byte) byte { return x<<1 ^ 0x1b&-(x>>7) }
	// Walk the field with the generator 3 and its inverse, which meet in all pairs of inverses.
	p, q := byte(1), byte(1)
	for {
		p ^= double(p)
		q ^= q << 1
		q ^= q << 2
		q ^= q << 4
		q ^= 0x09 & -(q >> 7)
		t[p] = column(q ^ bits.RotateLeft8(q, 1) ^ bits.RotateLeft8(q, 2) ^ bits.RotateLeft8(q, 3) ^ bits.RotateLeft8(q, 4) ^ 0x63)
		if p == 1 {
			break
		}
	}
	t[0] = column(0x63)
	return t
}()

// column is MixColumns of a column that has only its first byte, s.
func column(s byte) uint32 {
	twice := s<<1 ^ 0x1b&-(s>>7)
	return uint32(twice) | uint32(s)<<8 | uint32(s)<<16 | uint32(twice^s)<<24
}

// round is a round of AES on b with the round key k.
func round(b, k block) block {
	for i := range k {
		k[i] ^= table[byte(b[i])] ^ bits.RotateLeft32(table[byte(b[(i+1)&3]>>8)], 8) ^
			bits.RotateLeft32(table[byte(b[(i+2)&3]>>16)], 16) ^ bits.RotateLeft32(table[b[(i+3)&3]>>24], 24)
	}
	return k
}

type state [5]block

func (s *state) update(m block) {
	last := s[4]
	s[4] = round(s[3], s[4])
	s[3] = round(s[2], s[3])
	s[2] = round(s[1], s[2])
	s[1] = round(s[0], s[1])
	s[0] = round(last, s[0].xor(m))
}

// start takes in the key, the IV and the associated data.
func start(key, iv, data []byte) (s state) {
	k, v := load(key), load(iv)
	v = v.xor(k)
	s = state{v, const1, const0, k.xor(const0), k.xor(const1)}
	for range 5 {
		s.update(k)
		s.update(v)
	}
	for ; len(data) > 0; data = data[min(blockSize, len(data)):] {
		s.update(load(data))
	}
	return s
}

// stream returns the key stream for the next block.
func (s *state) stream() block { return s[1].xor(s[4]).xor(s[2].and(s[3])) }

// tag returns the tag of so many bytes of data and text.
func (s *state) tag(data, text int) (tag [TagSize]byte) {
	var lengths [blockSize]byte
	binary.LittleEndian.PutUint64(lengths[:], uint64(data)*8)
	binary.LittleEndian.PutUint64(lengths[8:], uint64(text)*8)
	m := s[3].xor(load(lengths[:]))
	for range 7 {
		s.update(m)
	}
	s[0].xor(s[1]).xor(s[2]).xor(s[3]).xor(s[4]).store(tag[:])
	return tag
}

// Seal encrypts src, whole blocks of 16 bytes, into dst, which may be the same memory, and writes the beginning of the tag of data and src to tag.
func Seal(dst, src, key, iv, data, tag []byte) {
	s := start(key, iv, data)
	n := len(src)
	for ; len(src) > 0; dst, src = dst[blockSize:], src[blockSize:] {
		m := load(src)
		m.xor(s.stream()).store(dst)
		s.update(m)
	}
	whole := s.tag(len(data), n)
	copy(tag, whole[:])
}

// Open decrypts src into dst as Seal encrypts, and reports whether tag is the beginning of the right one.
func Open(dst, src, key, iv, data, tag []byte) bool {
	s := start(key, iv, data)
	n := len(src)
	for ; len(src) > 0; dst, src = dst[blockSize:], src[blockSize:] {
		m := load(src).xor(s.stream())
		m.store(dst)
		s.update(m)
	}
	whole := s.tag(len(data), n)
	return subtle.ConstantTimeCompare(whole[:len(tag)], tag) == 1
}
