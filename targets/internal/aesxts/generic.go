package aesxts

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"sync"

	"dmfs/targets/internal/aeskey"
)

// implementation says which code a Cipher runs.
type implementation string

const implGeneric implementation = "generic"

// best is what New takes, the first of available.
var best = available()[0]

// generic is XTS on crypto/aes, for processors without an implementation in assembly; the others are tested against it.
type generic struct {
	data, tweak cipher.Block
	tweaks      sync.Pool // of *[BlockSize]byte: what is passed to a cipher.Block is on the heap
}

func newGeneric(data, tweak []byte) (*generic, error) {
	g := &generic{tweaks: sync.Pool{New: func() any { return new([BlockSize]byte) }}}
	var err error
	if g.data, err = aes.NewCipher(data); err != nil {
		return nil, err
	}
	g.tweak, err = aes.NewCipher(tweak)
	return g, err
}

func (g *generic) crypt(dst, src []byte, unit int, tweaks []byte, decrypt bool) {
	transform := g.data.Encrypt
	if decrypt {
		transform = g.data.Decrypt
	}
	t := g.tweaks.Get().(*[BlockSize]byte)
	defer g.tweaks.Put(t)
	for ; len(src) > 0; dst, src, tweaks = dst[unit:], src[unit:], tweaks[BlockSize:] {
		copy(t[:], tweaks)
		g.tweak.Encrypt(t[:], t[:])
		for i := 0; i < unit; i += BlockSize {
			d := dst[i : i+BlockSize]
			subtle.XORBytes(d, src[i:i+BlockSize], t[:])
			transform(d, d)
			subtle.XORBytes(d, d, t[:])
			timesX(t)
		}
	}
}

// timesX multiplies t by x in GF(2^128) modulo x^128 + x^7 + x^2 + x + 1, the lowest bit of the first byte being the
// coefficient of x^0.
func timesX(t *[BlockSize]byte) {
	lower, upper := binary.LittleEndian.Uint64(t[:]), binary.LittleEndian.Uint64(t[8:])
	binary.LittleEndian.PutUint64(t[:], lower<<1^upper>>63*0x87)
	binary.LittleEndian.PutUint64(t[8:], upper<<1|lower>>63)
}

func (g *generic) wipe() {
	aeskey.Wipe(g.data)
	aeskey.Wipe(g.tweak)
}
