// Package adiantum is the wide-block cipher Adiantum by Crowley and Biggers, from "Adiantum: length-preserving encryption for
// entry-level processors" (IACR ToSC 2018/4): every bit of a sector depends on every other. It is XChaCha with 12 or 20
// rounds, a block cipher for one block of the sector, and a hash of NH and Poly1305.
package adiantum

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Sizes in bytes.
const (
	KeySize   = 32
	TweakSize = 32
	blockSize = 16
)

const (
	nhPasses  = 4
	nhUnit    = 16   // NH reads the message so many bytes at a time
	nhMessage = 1024 // what one hash of NH covers
	nhWords   = nhMessage/4 + 4*(nhPasses-1)
	nhHash    = 8 * nhPasses
)

// A Key is what a key comes to. It has no pointers, so that it can live in memory for secrets.
type Key struct {
	stream  [8]uint32
	rounds  int
	header  polyKey // hashes the tweak and the length
	message polyKey // hashes the hashes of NH
	nh      [nhWords]uint32
}

// BlockKeySize is what Expand returns of the key of the block cipher, in bytes.
const BlockKeySize = 32

// Expand fills in k from a key of KeySize bytes, for XChaCha of so many rounds, and writes the key of the block cipher to block.
func (k *Key) Expand(key []byte, rounds int, block []byte) error {
	if len(key) != KeySize || len(block) != BlockKeySize {
		return fmt.Errorf("adiantum: a key of %d bytes: want %d", len(key), KeySize)
	}
	k.rounds = rounds
	for i := range k.stream {
		k.stream[i] = binary.LittleEndian.Uint32(key[4*i:])
	}
	var out [BlockKeySize + 2*blockSize + 4*nhWords]byte
	nonce := [TweakSize]byte{1}
	k.xchacha(out[:], nonce[:])
	copy(block, out[:])
	k.header.set(out[BlockKeySize:])
	k.message.set(out[BlockKeySize+blockSize:])
	for i := range k.nh {
		k.nh[i] = binary.LittleEndian.Uint32(out[BlockKeySize+2*blockSize+4*i:])
	}
	clear(out[:])
	return nil
}

// Encrypt encrypts the sector src into dst, which may be the same: at least 16 bytes, a multiple of 16. b has BlockKeySize
// bytes of key and blocks of 16 bytes.
func (k *Key) Encrypt(b cipher.Block, dst, src, tweak []byte) {
	bulk := len(src) - blockSize
	if &dst[0] != &src[0] {
		copy(dst, src)
	}
	header := k.hashHeader(bulk, tweak)
	last := dst[bulk:]
	k.hash(dst[:bulk], header).addTo(last)
	b.Encrypt(last, last)
	k.stretch(dst[:bulk], last)
	k.hash(dst[:bulk], header).subtractFrom(last)
}

// Decrypt undoes Encrypt.
func (k *Key) Decrypt(b cipher.Block, dst, src, tweak []byte) {
	bulk := len(src) - blockSize
	if &dst[0] != &src[0] {
		copy(dst, src)
	}
	header := k.hashHeader(bulk, tweak)
	last := dst[bulk:]
	k.hash(dst[:bulk], header).addTo(last)
	k.stretch(dst[:bulk], last)
	b.Decrypt(last, last)
	k.hash(dst[:bulk], header).subtractFrom(last)
}

// stretch adds to bulk the key stream of which the nonce is the middle block, a bit 1, and zeroes.
func (k *Key) stretch(bulk, middle []byte) {
	var nonce [TweakSize]byte
	copy(nonce[:], middle)
	nonce[blockSize] = 1
	k.xchacha(bulk, nonce[:])
}

// A sum is a number of 128 bits.
type sum struct{ lo, hi uint64 }

func (s sum) add(o sum) sum {
	lo, carry := bits.Add64(s.lo, o.lo, 0)
	hi, _ := bits.Add64(s.hi, o.hi, carry)
	return sum{lo, hi}
}

func load(p []byte) sum {
	return sum{binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])}
}

func (s sum) store(p []byte) {
	binary.LittleEndian.PutUint64(p, s.lo)
	binary.LittleEndian.PutUint64(p[8:], s.hi)
}

func (s sum) addTo(p []byte) { load(p).add(s).store(p) }

func (s sum) subtractFrom(p []byte) {
	n := load(p)
	lo, borrow := bits.Sub64(n.lo, s.lo, 0)
	hi, _ := bits.Sub64(n.hi, s.hi, borrow)
	sum{lo, hi}.store(p)
}

// hashHeader hashes the length of the bulk, in bits, and the tweak.
func (k *Key) hashHeader(bulk int, tweak []byte) sum {
	var p poly
	p.block(&k.header, uint64(bulk)*8, 0)
	for i := 0; i < TweakSize; i += blockSize {
		p.block(&k.header, binary.LittleEndian.Uint64(tweak[i:]), binary.LittleEndian.Uint64(tweak[i+8:]))
	}
	return p.sum()
}

// hash returns the hash of the bulk and of the header.
func (k *Key) hash(bulk []byte, header sum) sum {
	var p poly
	for len(bulk) > 0 {
		n := min(len(bulk), nhMessage)
		h := k.nhHash(bulk[:n])
		p.block(&k.message, h[0], h[1])
		p.block(&k.message, h[2], h[3])
		bulk = bulk[n:]
	}
	return p.sum().add(header)
}

// nhHash is NH: four sums of products of the message and the key, of which each has the key shifted.
func (k *Key) nhHash(m []byte) (h [nhPasses]uint64) {
	key := k.nh[:]
	for ; len(m) >= nhUnit; m, key = m[nhUnit:], key[4:] {
		m0, m1 := binary.LittleEndian.Uint32(m), binary.LittleEndian.Uint32(m[4:])
		m2, m3 := binary.LittleEndian.Uint32(m[8:]), binary.LittleEndian.Uint32(m[12:])
		w := (*[4 * nhPasses]uint32)(key)
		for i := range h {
			h[i] += uint64(m0+w[4*i])*uint64(m2+w[4*i+2]) + uint64(m1+w[4*i+1])*uint64(m3+w[4*i+3])
		}
	}
	return h
}
