package hashalg

import (
	"encoding/binary"
	"hash"

	//lint:ignore SA1019 the kernel has it as a hash function, and disks with its tags are to be read
	"golang.org/x/crypto/poly1305"
)

// Any returns what makes the function called name, as New, and knows those, too, that make tags of blocks and are of no use elsewhere:
// poly1305 and crct10dif.
func Any(name string) (maker func() hash.Hash, ok bool) {
	switch name {
	case "poly1305":
		return func() hash.Hash { return new(poly) }, true
	case "crct10dif":
		return func() hash.Hash { return new(t10) }, true
	}
	return New(name)
}

// poly is Poly1305 (RFC 8439) without a key of its own, as the kernel has it: the key is what it is fed first.
type poly struct {
	key [32]byte
	n   int // bytes of key that are there
	mac *poly1305.MAC
}

func (p *poly) Reset()         { *p = poly{} }
func (p *poly) Size() int      { return poly1305.TagSize }
func (p *poly) BlockSize() int { return 16 }

func (p *poly) Write(b []byte) (int, error) {
	length := len(b)
	if p.n < len(p.key) {
		n := copy(p.key[p.n:], b)
		p.n += n
		if b = b[n:]; p.n == len(p.key) {
			p.mac = poly1305.New(&p.key)
		}
	}
	if len(b) > 0 {
		p.mac.Write(b) //nolint:errcheck // it takes everything
	}
	return length, nil
}

// Sum ends what was begun: nothing more may be written before Reset. Of less than a key it is as if zeroes followed, where the kernel has
// an error; there is no tag of so little.
func (p *poly) Sum(b []byte) []byte {
	if p.mac == nil {
		p.mac = poly1305.New(&p.key)
	}
	return p.mac.Sum(b)
}

// t10 is the CRC of T10 DIF, of 16 bits, in little endian.
type t10 struct{ sum uint16 }

var t10Table = func() (table [256]uint16) {
	const polynomial = 0x8bb7
	for i := range table {
		c := uint16(i) << 8
		for range 8 {
			c = c<<1 ^ polynomial&-(c>>15)
		}
		table[i] = c
	}
	return table
}()

func (c *t10) Reset()         { c.sum = 0 }
func (c *t10) Size() int      { return 2 }
func (c *t10) BlockSize() int { return 1 }

func (c *t10) Write(p []byte) (int, error) {
	s := c.sum
	for _, b := range p {
		s = s<<8 ^ t10Table[byte(s>>8)^b]
	}
	c.sum = s
	return len(p), nil
}

func (c *t10) Sum(b []byte) []byte { return binary.LittleEndian.AppendUint16(b, c.sum) }
