// Package rs decodes the Reed-Solomon codes that verity's error correction is made with: words of 255 bytes over GF(2^8) with the polynomial
// x^8+x^4+x^3+x^2+1, generator roots alpha^0, alpha^1, …, of which the last bytes are the parity.
package rs

import "errors"

const (
	// WordSize is the length of a code word in bytes, parity included.
	WordSize = 255
	// polynomial is x^8+x^4+x^3+x^2+1.
	polynomial = 0x11d
)

// ErrTooMany says that a word has more errors than its parity can correct.
var ErrTooMany = errors.New("too many errors to correct")

// exp and log are the powers of the generator alpha = x, and their inverse. exp is long enough for a sum of two logarithms.
var exp, log = tables()

func tables() (exp [2 * WordSize]byte, log [256]int) {
	x := 1
	for i := range WordSize {
		exp[i], exp[i+WordSize] = byte(x), byte(x)
		log[x] = i
		if x <<= 1; x > 0xff {
			x ^= polynomial
		}
	}
	return exp, log
}

func mul(a, b byte) byte {
	if a == 0 || b == 0 {
		return 0
	}
	return exp[log[a]+log[b]]
}

// div returns a/b; b is not 0.
func div(a, b byte) byte {
	if a == 0 {
		return 0
	}
	return exp[log[a]+WordSize-log[b]]
}

// power returns alpha^n, n >= 0.
func power(n int) byte { return exp[n%WordSize] }

// A Decoder corrects words with a number of parity bytes. It is not for concurrent use.
type Decoder struct {
	roots             int
	syndromes         []byte
	locator, old, sum []byte // polynomials, the constant first
	evaluator         []byte
	found             []int
}

// NewDecoder returns a decoder for words with so many parity bytes, 1 to 254.
func NewDecoder(roots int) *Decoder {
	poly := func() []byte { return make([]byte, roots+1) }
	return &Decoder{roots: roots, syndromes: make([]byte, roots), locator: poly(), old: poly(), sum: poly(), evaluator: poly()}
}

// Decode corrects word, of WordSize bytes, in place. erasures are places that are known to be wrong, or may be. E erasures and N other errors
// can be corrected if E+2N is at most the number of parity bytes. On ErrTooMany word is unchanged. Of a word with more errors it may make
// another valid one: who can, checks the result.
func (d *Decoder) Decode(word []byte, erasures []int) error {
	if len(word) != WordSize || len(erasures) > d.roots {
		return ErrTooMany
	}
	if d.syndrome(word) {
		return nil
	}
	errorsMost := d.locate(erasures)
	if errorsMost < 0 || !d.search() {
		return ErrTooMany
	}
	return d.correct(word)
}

// syndrome evaluates word at the roots and reports whether it is valid.
func (d *Decoder) syndrome(word []byte) bool {
	valid := true
	for i := range d.syndromes {
		s, a := byte(0), power(i)
		for _, c := range word {
			s = mul(s, a) ^ c
		}
		d.syndromes[i] = s
		valid = valid && s == 0
	}
	return valid
}

// locate finds the error locator, whose roots tell where the errors are, beginning with the erasures, by the algorithm of Berlekamp and
// Massey. It returns its degree, -1 if there are too many errors.
func (d *Decoder) locate(erasures []int) int {
	clear(d.locator)
	d.locator[0] = 1
	for _, at := range erasures {
		x := power(WordSize - 1 - at)
		for i := d.roots; i > 0; i-- {
			d.locator[i] ^= mul(d.locator[i-1], x)
		}
	}
	copy(d.old, d.locator)
	length := len(erasures)
	for r := length; r < d.roots; r++ {
		var discrepancy byte
		for i := 0; i <= r; i++ {
			discrepancy ^= mul(d.locator[i], d.syndromes[r-i])
		}
		copy(d.old[1:], d.old[:d.roots]) // times x
		d.old[0] = 0
		if discrepancy == 0 {
			continue
		}
		for i := range d.sum {
			d.sum[i] = d.locator[i] ^ mul(discrepancy, d.old[i])
		}
		if 2*length <= r+len(erasures) {
			length = r + 1 + len(erasures) - length
			for i := range d.old {
				d.old[i] = div(d.locator[i], discrepancy)
			}
		}
		copy(d.locator, d.sum)
	}
	degree := 0
	for i, c := range d.locator {
		if c != 0 {
			degree = i
		}
	}
	if degree != length {
		return -1
	}
	return degree
}

// search finds the places of the errors, and reports whether there are as many as the locator says.
func (d *Decoder) search() bool {
	degree := 0
	for i, c := range d.locator {
		if c != 0 {
			degree = i
		}
	}
	d.found = d.found[:0]
	for at := range WordSize {
		// The inverse of alpha^(254-at) is alpha^(at+1).
		x, sum := power(at+1), byte(0)
		for i := degree; i >= 0; i-- {
			sum = mul(sum, x) ^ d.locator[i]
		}
		if sum == 0 {
			d.found = append(d.found, at)
		}
	}
	return len(d.found) == degree
}

// correct computes the errors by Forney's algorithm and takes them out of word.
func (d *Decoder) correct(word []byte) error {
	degree := len(d.found)
	for i := range degree {
		d.evaluator[i] = 0
		for j := 0; j <= i; j++ {
			d.evaluator[i] ^= mul(d.syndromes[i-j], d.locator[j])
		}
	}
	for _, at := range d.found {
		inverse := power(at + 1)
		var numerator, denominator byte
		for i := degree - 1; i >= 0; i-- {
			numerator = mul(numerator, inverse) ^ d.evaluator[i]
		}
		// The formal derivative has the odd coefficients only.
		for i := degree | 1; i > 0; i -= 2 {
			denominator = mul(denominator, mul(inverse, inverse))
			if i <= degree {
				denominator ^= d.locator[i]
			}
		}
		if denominator == 0 {
			return ErrTooMany
		}
		// With the first root alpha^0 the error is X * numerator/denominator, X the place.
		word[at] ^= mul(power(WordSize-1-at), div(numerator, denominator))
	}
	return nil
}
