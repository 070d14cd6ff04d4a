package sectorcipher

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math/bits"

	"dmfs/mapper/secret"
)

// lrw is LRW by Liskov, Rivest and Wagner, as a draft of IEEE 1619 had it: to each block is added, before and after, the
// product of a second key and of the number of the block, in GF(2^128) in big endian. The IV is the number of the first.
type lrw struct {
	b   cipher.Block
	key *lrwKey
}

// An lrwKey has multiples of the key: power[i] by x^i, step[i] by what the numbers n and n+1 differ in if they
// differ in bits 0 to i.
type lrwKey struct{ power, step [128]number }

func newLRW(b *block, m *secret.Memory, key []byte) (Cipher, error) {
	if len(key) < wideBlock {
		return nil, fmt.Errorf("%w: lrw takes the key of %s and 16 bytes, not %d", ErrKeySize, b.name, len(key))
	}
	own := key[len(key)-wideBlock:]
	c, err := b.make(m, key[:len(key)-wideBlock])
	if err != nil {
		return nil, err
	}
	k, err := secret.Place[lrwKey](m)
	if err != nil {
		return nil, err
	}
	at := number{binary.BigEndian.Uint64(own), binary.BigEndian.Uint64(own[8:])}
	var sum number
	for i := range k.power {
		sum = number{sum.hi ^ at.hi, sum.lo ^ at.lo}
		k.power[i], k.step[i] = at, sum
		at = number{at.hi<<1 | at.lo>>63, at.lo<<1 ^ 0x87&-(at.hi>>63)}
	}
	return &lrw{c, k}, nil
}

// times returns the product of the key and n.
func (k *lrwKey) times(n number) (p number) {
	for i := range k.power {
		word := n.lo
		if i >= 64 {
			word = n.hi
		}
		mask := -(word >> (i & 63) & 1)
		p = number{p.hi ^ k.power[i].hi&mask, p.lo ^ k.power[i].lo&mask}
	}
	return p
}

// carried returns the highest bit in which n and n+1 differ; past the last number all bits do.
func carried(n number) int {
	if ^n.lo != 0 {
		return bits.TrailingZeros64(^n.lo)
	}
	return min(127, 64+bits.TrailingZeros64(^n.hi))
}

func (c *lrw) Encrypt(dst, src []byte, unit int, ivs []byte) {
	c.crypt(dst, src, unit, ivs, c.b.Encrypt)
}
func (c *lrw) Decrypt(dst, src []byte, unit int, ivs []byte) {
	c.crypt(dst, src, unit, ivs, c.b.Decrypt)
}

func (c *lrw) crypt(dst, src []byte, unit int, ivs []byte, f func(dst, src []byte)) {
	each(dst, src, unit, ivs, func(dst, src, iv []byte) {
		at := ivNumber(iv[:wideBlock])
		t := c.key.times(at)
		for ; len(src) > 0; dst, src = dst[wideBlock:], src[wideBlock:] {
			t.add(dst, src)
			f(dst, dst)
			t.add(dst, dst)
			s := c.key.step[carried(at)]
			t = number{t.hi ^ s.hi, t.lo ^ s.lo}
			at = at.next()
		}
	})
}

// add adds n to a block.
func (n number) add(dst, src []byte) {
	hi, lo := binary.BigEndian.Uint64(src), binary.BigEndian.Uint64(src[8:])
	binary.BigEndian.PutUint64(dst, hi^n.hi)
	binary.BigEndian.PutUint64(dst[8:], lo^n.lo)
}
