package aescbc

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"sync"
)

// generic is CBC on crypto/aes, for processors without an implementation in assembly.
type generic struct {
	block cipher.Block
	last  sync.Pool // of *[2][BlockSize]byte: encrypted blocks, the one before and the one at hand
}

func newGeneric(key []byte) (*generic, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return &generic{block: b, last: sync.Pool{New: func() any { return new([2][BlockSize]byte) }}}, nil
}

func (g *generic) encrypt(dst, src []byte, unit int, ivs []byte) {
	for ; len(src) > 0; dst, src, ivs = dst[unit:], src[unit:], ivs[BlockSize:] {
		last := ivs[:BlockSize]
		for i := 0; i < unit; i += BlockSize {
			d := dst[i : i+BlockSize]
			subtle.XORBytes(d, src[i:i+BlockSize], last)
			g.block.Encrypt(d, d)
			last = d
		}
	}
}

func (g *generic) decrypt(dst, src []byte, unit int, ivs []byte) {
	two := g.last.Get().(*[2][BlockSize]byte)
	defer g.last.Put(two)
	last, this := &two[0], &two[1]
	for ; len(src) > 0; dst, src, ivs = dst[unit:], src[unit:], ivs[BlockSize:] {
		copy(last[:], ivs)
		for i := 0; i < unit; i += BlockSize {
			d := dst[i : i+BlockSize]
			copy(this[:], src[i:])
			g.block.Decrypt(d, this[:])
			subtle.XORBytes(d, d, last[:])
			last, this = this, last
		}
	}
}
