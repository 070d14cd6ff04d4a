package pdata

import (
	"context"
	"encoding/binary"
)

// A Bitset is an array of bits, 64 to a value, the first the lowest. Sets are known by the blocks of their roots and their users know how
// many bits they have, as with an Array.
type Bitset struct{ TM *TM }

const wordBits = 64

func (s *Bitset) array() *Array { return &Array{TM: s.TM, Size: wordBits / 8} }

func words(bits uint64) uint64 { return (bits + wordBits - 1) / wordBits }

// Empty makes a set without bits.
func (s *Bitset) Empty(ctx context.Context) (root Block, err error) { return s.array().Empty(ctx) }

// Delete gives up the set.
func (s *Bitset) Delete(ctx context.Context, root Block) error { return s.array().Delete(ctx, root) }

// Resize makes a set of from bits one of to. As in the kernel it is whole words that are new and get the value: bits between from and
// the end of its word keep what was there.
func (s *Bitset) Resize(ctx context.Context, root Block, from, to uint64, value bool) (newRoot Block, err error) {
	var v [wordBits / 8]byte
	if value {
		binary.LittleEndian.PutUint64(v[:], ^uint64(0))
	}
	return s.array().Resize(ctx, root, words(from), words(to), v[:])
}

// Set sets bit i, or clears it.
func (s *Bitset) Set(ctx context.Context, root Block, i uint64, value bool) (newRoot Block, err error) {
	return s.array().Update(ctx, root, i/wordBits, func(word []byte) {
		if mask := byte(1) << (i % 8); value {
			word[i%wordBits/8] |= mask
		} else {
			word[i%wordBits/8] &^= mask
		}
	})
}

// Get returns bit i.
func (s *Bitset) Get(ctx context.Context, root Block, i uint64) (bool, error) {
	var word [wordBits / 8]byte
	err := s.array().Get(ctx, root, i/wordBits, word[:])
	return word[i%wordBits/8]>>(i%8)&1 != 0, err
}

// Walk calls f for each of the first n bits, in order, until it returns an error.
func (s *Bitset) Walk(ctx context.Context, root Block, n uint64, f func(i uint64, value bool) error) error {
	return s.array().Walk(ctx, root, words(n), func(w uint64, word []byte) error {
		bits := binary.LittleEndian.Uint64(word)
		for i := w * wordBits; i < min(n, (w+1)*wordBits); i++ {
			if err := f(i, bits>>(i%wordBits)&1 != 0); err != nil {
				return err
			}
		}
		return nil
	})
}
