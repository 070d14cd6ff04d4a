package dmswitch

import (
	"math/bits"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	maxTableBytes = 1 << 28
	noMemory      = unix.ENOMEM
)

// A regionTable holds the path of each region in as few bits as a path needs, whole entries to a word. It is read without a lock, while one
// at a time writes it.
type regionTable struct {
	regions uint64
	bits    uint   // of an entry
	perWord uint64 // entries in a word
	words   []atomic.Uint64
}

// newRegionTable maps region r to path r%paths; ok is false if that takes too much memory.
func newRegionTable(regions, paths uint64) (t *regionTable, ok bool) {
	t = &regionTable{regions: regions, bits: max(1, uint(bits.Len64(paths-1)))}
	t.perWord = 64 / uint64(t.bits)
	n := (regions + t.perWord - 1) / t.perWord
	if n > maxTableBytes/8 {
		return nil, false
	}
	t.words = make([]atomic.Uint64, n)
	path := uint64(0)
	for i := range t.words {
		word := uint64(0)
		for k := range uint(t.perWord) {
			word |= path << (k * t.bits)
			if path++; path == paths {
				path = 0
			}
		}
		t.words[i].Store(word)
	}
	return t, true
}

// path returns the path of region r.
func (t *regionTable) path(r uint64) uint64 {
	return t.words[r/t.perWord].Load() >> (uint(r%t.perWord) * t.bits) & (1<<t.bits - 1)
}

// set changes the path of region r. Only one may call it at a time.
func (t *regionTable) set(r, path uint64) {
	word, shift := &t.words[r/t.perWord], uint(r%t.perWord)*t.bits
	word.Store(word.Load()&^((1<<t.bits-1)<<shift) | path<<shift)
}
