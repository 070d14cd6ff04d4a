package adiantum

import (
	"encoding/binary"
	"math/bits"
)

// A polyKey is the key of Poly1305, RFC 8439, clamped.
type polyKey struct{ r0, r1 uint64 }

func (k *polyKey) set(p []byte) {
	k.r0 = binary.LittleEndian.Uint64(p) & 0x0ffffffc0fffffff
	k.r1 = binary.LittleEndian.Uint64(p[8:]) & 0x0ffffffc0ffffffc
}

// A poly is Poly1305 without the number that is added last: a number modulo 2^130-5, in 64-bit limbs, below 2^131.
type poly struct{ h0, h1, h2 uint64 }

// block takes in 16 bytes.
func (p *poly) block(k *polyKey, lo, hi uint64) {
	var c uint64
	p.h0, c = bits.Add64(p.h0, lo, 0)
	p.h1, c = bits.Add64(p.h1, hi, c)
	p.h2 += c + 1

	// The product in limbs of 64 bits. h2 is below 8 and the key is clamped, so the sums fit.
	a1, a0 := bits.Mul64(p.h0, k.r0)
	b1, b0 := bits.Mul64(p.h1, k.r0)
	d1, d0 := bits.Mul64(p.h0, k.r1)
	e1, e0 := bits.Mul64(p.h1, k.r1)
	m1, c := bits.Add64(b0, d0, 0)
	m2, _ := bits.Add64(b1, d1, c)
	m1, c = bits.Add64(m1, a1, 0)
	m2, c = bits.Add64(m2, p.h2*k.r0, c)
	m3 := e1 + p.h2*k.r1 + c
	m2, c = bits.Add64(m2, e0, 0)
	m3 += c

	// What is above 2^130 counts five times: four times, and once.
	p.h0, p.h1, p.h2 = a0, m1, m2&3
	lo, hi = m2&^3, m3
	for range 2 {
		p.h0, c = bits.Add64(p.h0, lo, 0)
		p.h1, c = bits.Add64(p.h1, hi, c)
		p.h2 += c
		lo, hi = lo>>2|hi<<62, hi>>2
	}
}

// sum returns the number modulo 2^130-5, of it the low 128 bits.
func (p *poly) sum() sum {
	t0, c := bits.Add64(p.h0, 5, 0)
	t1, c := bits.Add64(p.h1, 0, c)
	if t2 := p.h2 + c; t2>>2 != 0 { // at least 2^130-5
		return sum{t0, t1}
	}
	return sum{p.h0, p.h1}
}
