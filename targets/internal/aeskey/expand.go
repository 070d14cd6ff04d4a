//go:build amd64 || arm64

package aeskey

import (
	"encoding/binary"
	"math/bits"
)

// Expand makes the round keys of key, which is 16, 24 or 32 bytes long. HasInstructions must be true.
//
// It is KeyExpansion of FIPS 197, section 5.2. Words are little endian: RotWord, which moves the first byte to
// the end, is a rotation to the right, and Rcon stands in the lowest byte.
func Expand(to *RoundKeys, key []byte) {
	words, all := len(key)/4, 4*(Rounds(key)+1)
	at := func(i int) []byte { return to[i/4][i%4*4:][:4] }
	rcon := uint32(1)
	var w uint32 // the word before
	for i := range all {
		if i < words {
			w = binary.LittleEndian.Uint32(key[4*i:])
			binary.LittleEndian.PutUint32(at(i), w)
			continue
		}
		switch {
		case i%words == 0:
			w = subWord(bits.RotateLeft32(w, -8)) ^ rcon
			// The next power of x in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1.
			rcon = rcon<<1 ^ rcon>>7*0x11b
		case words == 8 && i%words == 4:
			w = subWord(w)
		}
		w ^= binary.LittleEndian.Uint32(at(i - words))
		binary.LittleEndian.PutUint32(at(i), w)
	}
}

// Invert makes the round keys for decryption from those for encryption, of which there are rounds and one. They are for the
// equivalent inverse cipher of FIPS 197, section 5.3.5: in reverse, all but the outer two through InvMixColumns.
// HasInstructions must be true.
func Invert(to, from *RoundKeys, rounds int) {
	to[0] = from[rounds]
	for i := 1; i < rounds; i++ {
		invMixColumns(&to[i], &from[rounds-i])
	}
	to[rounds] = from[0]
}

//go:noescape
func subWord(w uint32) uint32

//go:noescape
func invMixColumns(dst, src *[16]byte)
