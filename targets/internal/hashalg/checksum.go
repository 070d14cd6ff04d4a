package hashalg

import (
	"encoding/binary"
	"hash"
	"hash/crc32"
	"math/bits"
)

// Seeded returns what makes the checksum called name with a seed, which the kernel takes for its key; ok is false if name is
// none of those, and fits if the seed has the right size.
func Seeded(name string, seed []byte) (maker func() hash.Hash, ok, fits bool) {
	switch name {
	case "crc32", "crc32c":
		if len(seed) != 4 {
			return nil, true, false
		}
		return checksum32(name, binary.LittleEndian.Uint32(seed)), true, true
	case "xxhash64":
		if len(seed) != 8 {
			return nil, true, false
		}
		n := binary.LittleEndian.Uint64(seed)
		return func() hash.Hash { return newXX(n) }, true, true
	}
	return nil, false, false
}

// checksum32 makes a CRC as the kernel has it: crc32 begins with the seed and is not inverted, crc32c is inverted at the end. Both are in
// little endian.
func checksum32(name string, seed uint32) func() hash.Hash {
	table, invert := crc32.IEEETable, uint32(0)
	if name == "crc32c" {
		table, invert = crc32.MakeTable(crc32.Castagnoli), ^uint32(0)
	}
	return func() hash.Hash { return &crc{table: table, seed: seed, invert: invert, sum: seed} }
}

type crc struct {
	table             *crc32.Table
	seed, invert, sum uint32
}

func (c *crc) Reset()         { c.sum = c.seed }
func (c *crc) Size() int      { return 4 }
func (c *crc) BlockSize() int { return 1 }

// Write adds p. crc32.Update inverts before and after.
func (c *crc) Write(p []byte) (int, error) {
	c.sum = ^crc32.Update(^c.sum, c.table, p)
	return len(p), nil
}

func (c *crc) Sum(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, c.sum^c.invert) }

// Primes of XXH64. The algorithm is that of its specification, version 0.1.1; the tests have its vectors.
const (
	prime1 uint64 = 0x9e3779b185ebca87
	prime2 uint64 = 0xc2b2ae3d27d4eb4f
	prime3 uint64 = 0x165667b19e3779f9
	prime4 uint64 = 0x85ebca77c2b2ae63
	prime5 uint64 = 0x27d4eb2f165667c5
)

// xxStripe is how many bytes XXH64 takes at a time.
const xxStripe = 32

// xx is XXH64, in little endian.
type xx struct {
	seed  uint64
	lanes [4]uint64
	total uint64
	rest  [xxStripe]byte
	n     int // bytes of rest that are in use
}

func newXX(seed uint64) *xx {
	x := &xx{seed: seed}
	x.Reset()
	return x
}

func (x *xx) Size() int      { return 8 }
func (x *xx) BlockSize() int { return xxStripe }

func (x *xx) Reset() {
	s := x.seed
	*x = xx{seed: s, lanes: [4]uint64{s + prime1 + prime2, s + prime2, s, s - prime1}}
}

func xxRound(lane, v uint64) uint64 { return bits.RotateLeft64(lane+v*prime2, 31) * prime1 }

func (x *xx) stripe(p []byte) {
	for i := range x.lanes {
		x.lanes[i] = xxRound(x.lanes[i], binary.LittleEndian.Uint64(p[8*i:]))
	}
}

func (x *xx) Write(p []byte) (int, error) {
	length := len(p)
	x.total += uint64(length)
	if x.n > 0 {
		n := copy(x.rest[x.n:], p)
		x.n += n
		p = p[n:]
		if x.n < xxStripe {
			return length, nil
		}
		x.stripe(x.rest[:])
		x.n = 0
	}
	for ; len(p) >= xxStripe; p = p[xxStripe:] {
		x.stripe(p)
	}
	x.n = copy(x.rest[:], p)
	return length, nil
}

func (x *xx) Sum(b []byte) []byte {
	h := x.seed + prime5
	if x.total >= xxStripe {
		l := &x.lanes
		h = bits.RotateLeft64(l[0], 1) + bits.RotateLeft64(l[1], 7) + bits.RotateLeft64(l[2], 12) + bits.RotateLeft64(l[3], 18)
		for _, lane := range l {
			h = (h^xxRound(0, lane))*prime1 + prime4
		}
	}
	h += x.total
	p := x.rest[:x.n]
	for ; len(p) >= 8; p = p[8:] {
		h = bits.RotateLeft64(h^xxRound(0, binary.LittleEndian.Uint64(p)), 27)*prime1 + prime4
	}
	if len(p) >= 4 {
		h = bits.RotateLeft64(h^uint64(binary.LittleEndian.Uint32(p))*prime1, 23)*prime2 + prime3
		p = p[4:]
	}
	for _, c := range p {
		h = bits.RotateLeft64(h^uint64(c)*prime5, 11) * prime1
	}
	h = (h ^ h>>33) * prime2
	h = (h ^ h>>29) * prime3
	return binary.LittleEndian.AppendUint64(b, h^h>>32)
}
