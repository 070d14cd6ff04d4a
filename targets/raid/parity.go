package raid

import (
	"crypto/subtle"

	"github.com/klauspost/reedsolomon"
)

// Parity is md's: P is the sum of the chunks in GF(2^8), Q the sum of each times a power of {02}, over the polynomial 0x11d.

var field reedsolomon.LowLevel

// powers of {02}; they repeat after 255.
var powers = func() (p [255]byte) {
	x := 1
	for i := range p {
		p[i] = byte(x)
		if x <<= 1; x > 0xff {
			x ^= 0x11d
		}
	}
	return p
}()

func power(n int) byte { return powers[n%len(powers)] }

// addTo adds src to dst.
func addTo(dst, src []byte) { subtle.XORBytes(dst, dst, src) }

// mulAddTo adds c times src to dst.
func mulAddTo(dst []byte, c byte, src []byte) {
	if c == 1 {
		addTo(dst, src)
		return
	}
	field.GalMulSliceXor(c, src, dst)
}

// scale multiplies p by c.
func scale(p []byte, c byte) {
	if c != 1 {
		field.GalMulSlice(c, p, p)
	}
}

// sumP sets p to the sum of the chunks but number skip, -1 for none.
func sumP(p []byte, data [][]byte, skip int) {
	first := true
	for k, d := range data {
		switch {
		case k == skip:
		case first:
			copy(p, d)
			first = false
		default:
			addTo(p, d)
		}
	}
	if first {
		clear(p)
	}
}

// sumQ sets q to Q of the chunks but two, -1 for none.
func sumQ(q []byte, data [][]byte, coef []byte, skip, skip2 int) {
	first := true
	for k, d := range data {
		switch {
		case k == skip || k == skip2:
		case first:
			field.GalMulSlice(coef[k], d, q)
			first = false
		default:
			mulAddTo(q, coef[k], d)
		}
	}
	if first {
		clear(q)
	}
}

// solve fills in what is lost of a row: at most two of chunks x and y of data (-1: not lost), P and Q. p or q
// is nil if it is lost and nobody needs it; lostP and lostQ say that they hold nothing yet.
func solve(data [][]byte, coef []byte, p, q []byte, x, y int, lostP, lostQ bool) {
	switch {
	case x >= 0 && y >= 0:
		solveTwo(data, coef, p, q, x, y)
	case x >= 0 && !lostP:
		sumP(data[x], data, x)
		addTo(data[x], p)
	case x >= 0:
		sumQ(data[x], data, coef, x, -1)
		addTo(data[x], q)
		scale(data[x], reedsolomon.Inv(coef[x]))
	}
	if lostP && p != nil {
		sumP(p, data, -1)
	}
	if lostQ && q != nil {
		sumQ(q, data, coef, -1, -1)
	}
}

// solveTwo recovers two chunks from P and Q: the sums of the two, weighted in two ways, are two equations.
func solveTwo(data [][]byte, coef []byte, p, q []byte, x, y int) {
	dx, dy := data[x], data[y]
	sumQ(dx, data, coef, x, y)
	addTo(dx, q) // cx*X + cy*Y
	clear(dy)
	for k, d := range data {
		if k != x && k != y {
			addTo(dy, d)
		}
	}
	addTo(dy, p) // X + Y
	mulAddTo(dx, coef[y], dy)
	scale(dx, reedsolomon.Inv(coef[x]^coef[y]))
	addTo(dy, dx)
}
