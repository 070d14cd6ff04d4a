package verity

import (
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// A tree says where the digests are. Level 0 has those of data blocks, level i+1 those of the blocks of level i; the
// topmost level is one block, whose digest is the root. On the disk the topmost level comes first.
type tree struct {
	fanShift int      // log2 of the digests in a hash block that are used
	slot     int      // bytes from one digest to the next
	level    []uint64 // the first hash block of each
	end      uint64   // the hash block after the last
}

// newTree computes the layout, and refuses a hash disk that is too small for it.
func newTree(c *config) (tree, error) {
	size := uint64(c.hashBlock.Bytes())
	t := tree{fanShift: bits.Len64(size/uint64(c.digest)) - 1}
	// Format 1 pads digests to powers of two; format 0 puts them one after the other, and leaves the rest of the block.
	if t.slot = c.digest; c.version == 1 {
		t.slot = int(size >> t.fanShift)
	}
	levels := 0
	for c.blocks > 0 && t.fanShift*levels < 64 && (c.blocks-1)>>(t.fanShift*levels) > 0 {
		levels++
	}
	t.level = make([]uint64, levels)
	at := c.start
	for i := levels - 1; i >= 0; i-- {
		t.level[i] = at
		at += t.above(c.blocks-1, i) + 1
	}
	t.end = at
	if have := uint64(c.hash.Sectors() / c.hashBlock); have < t.end {
		return t, &mapper.ArgError{Reason: "Hash device is too small", Errno: unix.E2BIG,
			Detail: fmt.Sprintf("%s has %d hash blocks, the tree ends at %d", mapper.DiskName(c.hash), have, t.end)}
	}
	return t, nil
}

// above returns which block of a level, counted from the level's first, has the digest that covers a data block.
func (t *tree) above(block uint64, level int) uint64 {
	shift := t.fanShift * (level + 1)
	if shift >= 64 {
		return 0
	}
	return block >> shift
}

// place returns the hash block of a level that covers a data block, and where in it the digest is, in bytes.
func (t *tree) place(block uint64, level int) (hashBlock uint64, off int) {
	index := block
	if level > 0 {
		index = t.above(block, level-1)
	}
	return t.level[level] + t.above(block, level), int(index&(1<<t.fanShift-1)) * t.slot
}
