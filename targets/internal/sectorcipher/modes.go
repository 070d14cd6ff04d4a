package sectorcipher

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"dmfs/mapper/secret"
	"dmfs/targets/internal/adiantum"
	"dmfs/targets/internal/aescbc"
	"dmfs/targets/internal/aesxts"
)

// A mode makes a cipher for sectors of a block cipher.
type mode struct {
	make   func(b *block, m *secret.Memory, key []byte) (Cipher, error)
	wide   bool // it needs blocks of 16 bytes
	stream bool // it takes any number of bytes
	noIV   bool
}

var modes = map[string]mode{
	"ecb": {make: plain(func(b cipher.Block) Cipher { return &ecb{b} }), noIV: true},
	"cbc": {make: newCBC},
	"ctr": {make: plain(func(b cipher.Block) Cipher { return &ctr{b} }), stream: true},
	"xts": {make: newXTS, wide: true},
	"lrw": {make: newLRW, wide: true},
}

// plain makes a mode whose key is that of the block cipher.
func plain(f func(b cipher.Block) Cipher) func(*block, *secret.Memory, []byte) (Cipher, error) {
	return func(b *block, m *secret.Memory, key []byte) (Cipher, error) {
		c, err := b.make(m, key)
		if err != nil {
			return nil, err
		}
		if b.name == "cipher_null" {
			return f(new(null)), nil
		}
		return f(c), nil
	}
}

// each calls f with each unit and its IV.
func each(dst, src []byte, unit int, ivs []byte, f func(dst, src, iv []byte)) {
	n := len(src) / unit
	if n == 0 {
		return
	}
	width := len(ivs) / n
	for i := range n {
		f(dst[i*unit:(i+1)*unit:(i+1)*unit], src[i*unit:(i+1)*unit], ivs[i*width:(i+1)*width])
	}
}

// ecb encrypts each block alone.
type ecb struct{ b cipher.Block }

func (c *ecb) Encrypt(dst, src []byte, _ int, _ []byte) {
	for n := c.b.BlockSize(); len(src) > 0; dst, src = dst[n:], src[n:] {
		c.b.Encrypt(dst, src)
	}
}

func (c *ecb) Decrypt(dst, src []byte, _ int, _ []byte) {
	for n := c.b.BlockSize(); len(src) > 0; dst, src = dst[n:], src[n:] {
		c.b.Decrypt(dst, src)
	}
}

// cbc adds to each block the encrypted one before it, SP 800-38A.
type cbc struct{ b cipher.Block }

func (c *cbc) Encrypt(dst, src []byte, unit int, ivs []byte) {
	each(dst, src, unit, ivs, func(dst, src, iv []byte) {
		n := c.b.BlockSize()
		for before := iv[:n]; len(src) > 0; dst, src = dst[n:], src[n:] {
			subtle.XORBytes(dst, src[:n], before)
			c.b.Encrypt(dst, dst)
			before = dst[:n]
		}
	})
}

// Decrypt goes backwards, so that the block before is still encrypted when dst and src are the same.
func (c *cbc) Decrypt(dst, src []byte, unit int, ivs []byte) {
	each(dst, src, unit, ivs, func(dst, src, iv []byte) {
		n := c.b.BlockSize()
		for i := len(src) - n; i > 0; i -= n {
			c.b.Decrypt(dst[i:], src[i:])
			subtle.XORBytes(dst[i:], dst[i:i+n], src[i-n:i])
		}
		c.b.Decrypt(dst, src)
		subtle.XORBytes(dst, dst[:n], iv)
	})
}

// ctr adds the encrypted numbers that follow the IV, SP 800-38A, which count in big endian.
type ctr struct{ b cipher.Block }

func (c *ctr) Encrypt(dst, src []byte, unit int, ivs []byte) {
	each(dst, src, unit, ivs, func(dst, src, iv []byte) {
		n := c.b.BlockSize()
		at := ivNumber(iv[:n])
		for ; len(src) > 0; at = at.next() {
			at.put(iv[:n])
			c.b.Encrypt(iv, iv) // the key stream takes the place of the IV
			k := subtle.XORBytes(dst, src, iv[:n])
			dst, src = dst[k:], src[k:]
		}
	})
}

func (c *ctr) Decrypt(dst, src []byte, unit int, ivs []byte) { c.Encrypt(dst, src, unit, ivs) }

// A number is one of 128 bits. Of a counter of 8 bytes or of one byte the low bits count.
type number struct{ hi, lo uint64 }

func ivNumber(p []byte) (n number) {
	for _, b := range p {
		n = number{n.hi<<8 | n.lo>>56, n.lo<<8 | uint64(b)}
	}
	return n
}

func (n number) put(p []byte) {
	for i := len(p) - 1; i >= 0; i-- {
		p[i] = byte(n.lo)
		n = number{n.hi >> 8, n.lo>>8 | n.hi<<56}
	}
}

func (n number) next() number {
	n.lo++
	if n.lo == 0 {
		n.hi++
	}
	return n
}

// A fastCipher is AES in assembly, for many sectors at a time.
type fastCipher interface {
	Cipher
	InMemory() bool
	Wipe()
}

// fast returns AES in a mode that this processor has instructions for, with its keys in m; nil if it has none.
func fast[C fastCipher](m *secret.Memory, size int, key []byte, in func(mem, key []byte) (C, error)) (Cipher, error) {
	mem, err := m.Alloc(size)
	if err != nil {
		return nil, err
	}
	c, err := in(mem, key)
	if err != nil {
		return nil, err
	}
	if !c.InMemory() {
		c.Wipe() // it has the key elsewhere
		return nil, nil
	}
	return c, nil
}

// newCBC returns CBC, in which AES has instructions.
func newCBC(b *block, m *secret.Memory, key []byte) (Cipher, error) {
	if b.name == "aes" && b.takes(len(key)) {
		if c, err := fast(m, aescbc.MemorySize, key, aescbc.NewIn); c != nil || err != nil {
			return c, err
		}
	}
	return plain(func(b cipher.Block) Cipher { return &cbc{b} })(b, m, key)
}

// xts is XTS of IEEE 1619 for whole blocks: two keys, the first for the data.
type xts struct{ data, tweak cipher.Block }

func newXTS(b *block, m *secret.Memory, key []byte) (Cipher, error) {
	if len(key)%2 != 0 {
		return nil, fmt.Errorf("%w: xts takes two keys of one size, not %d bytes", ErrKeySize, len(key))
	}
	if b.name == "aes" && b.takes(len(key)/2) {
		if c, err := fast(m, aesxts.MemorySize, key, aesxts.NewIn); c != nil || err != nil {
			return c, err
		}
	}
	data, err := b.make(m, key[:len(key)/2])
	if err != nil {
		return nil, err
	}
	tweak, err := b.make(m, key[len(key)/2:])
	if err != nil {
		return nil, err
	}
	return &xts{data, tweak}, nil
}

func (c *xts) Encrypt(dst, src []byte, unit int, ivs []byte) {
	each(dst, src, unit, ivs, func(dst, src, iv []byte) {
		c.tweak.Encrypt(iv, iv)
		t := tweak{binary.LittleEndian.Uint64(iv[8:]), binary.LittleEndian.Uint64(iv)}
		for ; len(src) > 0; dst, src = dst[wideBlock:], src[wideBlock:] {
			t.add(dst, src)
			c.data.Encrypt(dst, dst)
			t.add(dst, dst)
			t = t.double()
		}
	})
}

func (c *xts) Decrypt(dst, src []byte, unit int, ivs []byte) {
	each(dst, src, unit, ivs, func(dst, src, iv []byte) {
		c.tweak.Encrypt(iv, iv)
		t := tweak{binary.LittleEndian.Uint64(iv[8:]), binary.LittleEndian.Uint64(iv)}
		for ; len(src) > 0; dst, src = dst[wideBlock:], src[wideBlock:] {
			t.add(dst, src)
			c.data.Decrypt(dst, dst)
			t.add(dst, dst)
			t = t.double()
		}
	})
}

// A tweak is an element of GF(2^128), little endian.
type tweak struct{ hi, lo uint64 }

func (t tweak) double() tweak {
	return tweak{t.hi<<1 | t.lo>>63, t.lo<<1 ^ 0x87&-(t.hi>>63)}
}

func (t tweak) add(dst, src []byte) {
	lo, hi := binary.LittleEndian.Uint64(src), binary.LittleEndian.Uint64(src[8:])
	binary.LittleEndian.PutUint64(dst, lo^t.lo)
	binary.LittleEndian.PutUint64(dst[8:], hi^t.hi)
}

// essiv encrypts each IV with a cipher whose key is the hash of the key.
type essiv struct {
	Cipher
	salted cipher.Block
	size   int // of an IV, bytes
}

func (c *essiv) Encrypt(dst, src []byte, unit int, ivs []byte) {
	c.salt(len(src)/unit, ivs)
	c.Cipher.Encrypt(dst, src, unit, ivs)
}

func (c *essiv) Decrypt(dst, src []byte, unit int, ivs []byte) {
	c.salt(len(src)/unit, ivs)
	c.Cipher.Decrypt(dst, src, unit, ivs)
}

func (c *essiv) salt(n int, ivs []byte) {
	for i := range n {
		iv := ivs[i*(len(ivs)/n):]
		c.salted.Encrypt(iv, iv)
	}
}

// wide is Adiantum.
type wide struct {
	key *adiantum.Key
	b   cipher.Block
}

func newAdiantum(m *secret.Memory, b *block, rounds int, key []byte) (Cipher, error) {
	if len(key) != adiantum.KeySize {
		return nil, fmt.Errorf("%w: adiantum does not take %d bytes", ErrKeySize, len(key))
	}
	k, err := secret.Place[adiantum.Key](m)
	if err != nil {
		return nil, err
	}
	sub, err := m.Alloc(adiantum.BlockKeySize)
	if err != nil {
		return nil, err
	}
	if err := k.Expand(key, rounds, sub); err != nil {
		return nil, err
	}
	c, err := b.make(m, sub)
	if err != nil {
		return nil, err
	}
	return &wide{k, c}, nil
}

func (c *wide) Encrypt(dst, src []byte, unit int, ivs []byte) {
	each(dst, src, unit, ivs, func(dst, src, iv []byte) { c.key.Encrypt(c.b, dst, src, iv) })
}

func (c *wide) Decrypt(dst, src []byte, unit int, ivs []byte) {
	each(dst, src, unit, ivs, func(dst, src, iv []byte) { c.key.Decrypt(c.b, dst, src, iv) })
}
