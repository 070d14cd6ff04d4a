package pdata

import (
	"encoding/binary"
	"fmt"
)

// A node is the block of a node of a tree:
//
//	offset  size
//	     0     4  checksum
//	     4     4  flags: 1 internal, 2 leaf
//	     8     8  number of this block
//	    16     4  entries
//	    20     4  most entries: what fits, rounded down to a multiple of three
//	    24     4  size of a value: 8 in internal nodes, which hold block numbers
//	    28     4
//	    32   8*m  keys, ascending; in an internal node a key is no larger than any below it
//	      s*m     values, m being the most entries
type node []byte

const (
	nodeHeader   = 32
	internalFlag = 1
	leafFlag     = 2
	keySize      = 8
	// maxValueSize is the largest of which six fit: fewer could not be split and shared out.
	maxValueSize = (BlockSize-nodeHeader)/6 - keySize
)

// NodeKind is that of the nodes of trees.
var NodeKind = Kind{Name: "btree_node", Xor: 121107, At: 8, Check: checkNode, Module: "btree spine", Prefix: "node_check"}

// maxEntriesOf returns how many entries with values of size bytes fit into a node.
func maxEntriesOf(size int) int {
	n := (BlockSize - nodeHeader) / (keySize + size)
	return n / 3 * 3
}

func (n node) u32(at int) int         { return int(binary.LittleEndian.Uint32(n[at:])) }
func (n node) put32(at, v int)        { binary.LittleEndian.PutUint32(n[at:], uint32(v)) }
func (n node) leaf() bool             { return n.u32(4)&leafFlag != 0 }
func (n node) len() int               { return n.u32(16) }
func (n node) setLen(v int)           { n.put32(16, v) }
func (n node) cap() int               { return n.u32(20) }
func (n node) size() int              { return n.u32(24) }
func (n node) key(i int) uint64       { return binary.LittleEndian.Uint64(n[nodeHeader+i*keySize:]) }
func (n node) setKey(i int, k uint64) { binary.LittleEndian.PutUint64(n[nodeHeader+i*keySize:], k) }

// values returns the values from i to j.
func (n node) values(i, j int) []byte {
	at := nodeHeader + n.cap()*keySize
	return n[at+i*n.size() : at+j*n.size()]
}

func (n node) value(i int) []byte      { return n.values(i, i+1) }
func (n node) child(i int) Block       { return Block(binary.LittleEndian.Uint64(n.value(i))) }
func (n node) setChild(i int, b Block) { binary.LittleEndian.PutUint64(n.value(i), uint64(b)) }
func (n node) keys(i, j int) []byte    { return n[nodeHeader+i*keySize : nodeHeader+j*keySize] }
func (n node) minLen() int             { return n.cap() / 3 }
func (n node) full() bool              { return n.len() == n.cap() }

// init makes n an empty node.
func (n node) init(flags, size int) {
	n.put32(4, flags)
	n.setLen(0)
	n.put32(20, maxEntriesOf(size))
	n.put32(24, size)
}

// checkNode says whether a block may be used as a node.
func checkNode(data []byte) error {
	n := node(data)
	flags, count, most, size := n.u32(4), n.len(), n.cap(), n.size()
	switch {
	case size == 0 || size > maxValueSize || most != maxEntriesOf(size):
		return fmt.Errorf("bad max_entries or value_size: %d, %d", most, size)
	case count > most:
		return fmt.Errorf("too many entries: %d of %d", count, most)
	case flags != internalFlag && flags != leafFlag:
		return fmt.Errorf("node is neither INTERNAL or LEAF")
	case flags == internalFlag && (size != 8 || count == 0):
		return fmt.Errorf("internal node with %d entries of %d bytes", count, size)
	}
	for i := 1; i < count; i++ {
		if n.key(i-1) >= n.key(i) {
			return fmt.Errorf("keys are not in order: entry %d", i)
		}
	}
	return nil
}

// find returns the number of keys that are not greater than k, less one: -1 if all are greater. In a leaf whose keys follow each other without
// gaps, as those of a filled device do, it looks at one.
func (n node) find(k uint64) int {
	low, high := 0, n.len()
	if high > 0 {
		if d := k - n.key(0); d < uint64(high) && n.key(int(d)) == k {
			return int(d)
		}
	}
	for low < high {
		if i := int(uint(low+high) / 2); n.key(i) > k {
			high = i
		} else {
			low = i + 1
		}
	}
	return low - 1
}

// trimmedSize returns how many bytes trim writes.
func (n node) trimmedSize() int { return nodeHeader + n.len()*(keySize+n.size()) }

// trim writes to p the node with room for no more entries than it has. What only looks at entries can do so there.
func (n node) trim(p node) {
	c := n.len()
	copy(p, n[:nodeHeader])
	p.put32(20, c)
	copy(p.keys(0, c), n.keys(0, c))
	copy(p.values(0, c), n.values(0, c))
}

// restore undoes trim: it writes the whole node to p.
func (n node) restore(p node) {
	c := n.len()
	clear(p)
	copy(p, n[:nodeHeader])
	p.put32(20, maxEntriesOf(n.size()))
	copy(p.keys(0, c), n.keys(0, c))
	copy(p.values(0, c), n.values(0, c))
}

// has reports whether entry i, as find says, has just that key.
func (n node) has(i int, k uint64) bool { return i >= 0 && n.key(i) == k }

// insertAt makes room for an entry and sets it.
func (n node) insertAt(i int, k uint64, v []byte) {
	c := n.len()
	copy(n.keys(i+1, c+1), n.keys(i, c))
	copy(n.values(i+1, c+1), n.values(i, c))
	n.setKey(i, k)
	copy(n.value(i), v)
	n.setLen(c + 1)
}

// deleteAt removes entry i.
func (n node) deleteAt(i int) {
	c := n.len()
	copy(n.keys(i, c-1), n.keys(i+1, c))
	copy(n.values(i, c-1), n.values(i+1, c))
	n.setLen(c - 1)
}

// moveLeft moves the first c entries of right to the end of left, its neighbour.
func moveLeft(left, right node, c int) {
	l, r := left.len(), right.len()
	copy(left.keys(l, l+c), right.keys(0, c))
	copy(left.values(l, l+c), right.values(0, c))
	copy(right.keys(0, r-c), right.keys(c, r))
	copy(right.values(0, r-c), right.values(c, r))
	left.setLen(l + c)
	right.setLen(r - c)
}

// moveRight moves the last c entries of left to the beginning of right.
func moveRight(left, right node, c int) {
	l, r := left.len(), right.len()
	copy(right.keys(c, r+c), right.keys(0, r))
	copy(right.values(c, r+c), right.values(0, r))
	copy(right.keys(0, c), left.keys(l-c, l))
	copy(right.values(0, c), left.values(l-c, l))
	left.setLen(l - c)
	right.setLen(r + c)
}

// share moves entries between neighbours so that left has want.
func share(left, right node, want int) {
	if have := left.len(); have > want {
		moveRight(left, right, have-want)
	} else if have < want {
		moveLeft(left, right, want-have)
	}
}
