package adiantum

import (
	"crypto/subtle"
	"encoding/binary"
	"math/bits"
)

// constants are the first words of ChaCha's state: "expand 32-byte k".
var constants = [4]uint32{0x61707865, 0x3320646e, 0x79622d32, 0x6b206574}

func quarter(a, b, c, d uint32) (uint32, uint32, uint32, uint32) {
	a += b
	d = bits.RotateLeft32(d^a, 16)
	c += d
	b = bits.RotateLeft32(b^c, 12)
	a += b
	d = bits.RotateLeft32(d^a, 8)
	c += d
	b = bits.RotateLeft32(b^c, 7)
	return a, b, c, d
}

// permute applies rounds of ChaCha, an even number.
func permute(s *[16]uint32, rounds int) {
	for range rounds / 2 {
		s[0], s[4], s[8], s[12] = quarter(s[0], s[4], s[8], s[12])
		s[1], s[5], s[9], s[13] = quarter(s[1], s[5], s[9], s[13])
		s[2], s[6], s[10], s[14] = quarter(s[2], s[6], s[10], s[14])
		s[3], s[7], s[11], s[15] = quarter(s[3], s[7], s[11], s[15])
		s[0], s[5], s[10], s[15] = quarter(s[0], s[5], s[10], s[15])
		s[1], s[6], s[11], s[12] = quarter(s[1], s[6], s[11], s[12])
		s[2], s[7], s[8], s[13] = quarter(s[2], s[7], s[8], s[13])
		s[3], s[4], s[9], s[14] = quarter(s[3], s[4], s[9], s[14])
	}
}

// xchacha adds the key stream for a nonce of 32 bytes, of which the last 8 are the position in blocks, to p.
func (k *Key) xchacha(p, nonce []byte) {
	var s [16]uint32
	copy(s[:], constants[:])
	copy(s[4:], k.stream[:])
	for i := range 4 {
		s[12+i] = binary.LittleEndian.Uint32(nonce[4*i:])
	}
	permute(&s, k.rounds)
	var start [16]uint32
	copy(start[:], constants[:])
	copy(start[4:], s[:4])
	copy(start[8:], s[12:])
	start[14], start[15] = binary.LittleEndian.Uint32(nonce[16:]), binary.LittleEndian.Uint32(nonce[20:])
	for block := binary.LittleEndian.Uint64(nonce[24:]); len(p) > 0; block++ {
		start[12], start[13] = uint32(block), uint32(block>>32)
		s = start
		permute(&s, k.rounds)
		var stream [64]byte
		for i := range s {
			binary.LittleEndian.PutUint32(stream[4*i:], s[i]+start[i])
		}
		p = p[subtle.XORBytes(p, p, stream[:]):]
	}
}
