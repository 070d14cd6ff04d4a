package sha256x2

import "encoding/binary"

// Size is the length of a digest, in bytes.
const Size = 32

// block is what the function takes at a time, in bytes.
const block = 64

// A state is the hash between two blocks.
type state [8]uint32

// start is the state before the first block.
var start = state{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}

// A Hash hashes messages that begin with one prefix and end with one suffix, in pairs. Both may be empty. It is not changed by that, so any
// number of goroutines may use it.
type Hash struct {
	after  state  // after the whole blocks of the prefix
	prefix []byte // what is left of it
	suffix []byte
	done   uint64 // bytes that after stands for
}

// New returns a Hash, which is to be used only where Supported. It keeps copies of prefix and suffix.
func New(prefix, suffix []byte) *Hash {
	h := &Hash{after: start, done: uint64(len(prefix) / block * block)}
	whole := prefix[:h.done]
	if len(whole) > 0 {
		other := start // both hash the same; one is thrown away
		compress(&h.after, &other, whole, whole)
	}
	h.prefix = append([]byte(nil), prefix[h.done:]...)
	h.suffix = append([]byte(nil), suffix...)
	return h
}

// Sum puts the digests of prefix a suffix and prefix b suffix into sums. a and b have one length.
func (h *Hash) Sum(sums *[2][Size]byte, a, b []byte) {
	b = b[:len(a)]
	s, t := h.after, h.after
	length := h.done + uint64(len(h.prefix)+len(a)+len(h.suffix))
	var x, y [block]byte // the block that is not whole
	n := copy(x[:], h.prefix)
	copy(y[:], h.prefix)
	if n > 0 {
		used := copy(x[n:], a)
		copy(y[n:], b)
		a, b = a[used:], b[used:]
		if n += used; n == block {
			compress(&s, &t, x[:], y[:])
			n = 0
		}
	}
	if whole := len(a) / block * block; whole > 0 { // then n is 0
		compress(&s, &t, a[:whole], b[:whole])
		a, b = a[whole:], b[whole:]
	}
	copy(y[n:], b)
	n += copy(x[n:], a)
	for suffix := h.suffix; len(suffix) > 0; {
		used := copy(x[n:], suffix)
		copy(y[n:], suffix)
		suffix = suffix[used:]
		if n += used; n == block {
			compress(&s, &t, x[:], y[:])
			n = 0
		}
	}
	finish(&s, &t, &x, &y, n, length)
	for i := range s {
		binary.BigEndian.PutUint32(sums[0][4*i:], s[i])
		binary.BigEndian.PutUint32(sums[1][4*i:], t[i])
	}
}

// finish pads messages of length bytes, whose last n bytes are in x and y: with a bit, zeroes, and the length in bits.
func finish(s, t *state, x, y *[block]byte, n int, length uint64) {
	x[n], y[n] = 0x80, 0x80
	clear(x[n+1:])
	clear(y[n+1:])
	if n+1 > block-8 {
		compress(s, t, x[:], y[:])
		clear(x[:])
		clear(y[:])
	}
	binary.BigEndian.PutUint64(x[block-8:], length*8)
	binary.BigEndian.PutUint64(y[block-8:], length*8)
	compress(s, t, x[:], y[:])
}
