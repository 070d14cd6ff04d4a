package pdata

import (
	"context"
	"errors"
	"fmt"
)

// A Census counts references anew, by walking all that refers to something, to compare them with what the space maps say. It is what
// thin_check does, for tests that have no time for a process per state. It keeps a number for each block in use.
type Census struct {
	refs map[Block]uint32
}

// NewCensus returns a census in which the superblock, block 0, has been counted.
func NewCensus() *Census { return &Census{refs: map[Block]uint32{0: 1}} }

// Count counts a reference to b, and reports whether it is the first.
func (c *Census) Count(b Block) bool {
	c.refs[b]++
	return c.refs[b] == 1
}

// Tree counts a reference to a tree, and if it is the first, all that the tree refers to; f is called for each value. All nodes but the root must be
// a third full, and all leaves on one level.
func (c *Census) Tree(ctx context.Context, t *Tree, root Block, f func(key uint64, value []byte) error) error {
	n, err := t.node(ctx, root)
	if err != nil || !c.Count(root) {
		return err
	}
	leaves := -1
	return c.node(ctx, t, root, n, 0, &leaves, f)
}

func (c *Census) node(ctx context.Context, t *Tree, b Block, n node, level int, leaves *int, f func(uint64, []byte) error) error {
	if level > 0 && n.len() < n.minLen() {
		return corrupt(b, "%d entries of %d: less than a third", n.len(), n.cap())
	}
	if n.leaf() {
		if *leaves >= 0 && *leaves != level {
			return corrupt(b, "a leaf at level %d, others at %d", level, *leaves)
		}
		*leaves = level
		for i := range n.len() {
			if f == nil {
				break
			}
			if err := f(n.key(i), n.value(i)); err != nil {
				return err
			}
		}
		return nil
	}
	for i := range n.len() {
		below, err := t.child(ctx, n, i, level+1)
		if err != nil {
			return err
		}
		if !c.Count(n.child(i)) {
			continue
		}
		if err := c.node(ctx, t, n.child(i), below, level+1, leaves, f); err != nil {
			return err
		}
	}
	return nil
}

// Meta counts what the space map of the metadata is made of.
func (c *Census) Meta(ctx context.Context, m *MetaMap) error {
	c.Count(m.root)
	if err := c.bitmaps(ctx, &m.spaceMap); err != nil {
		return err
	}
	return c.Tree(ctx, m.countTree(), m.counts, nil)
}

// Data counts what a data space map is made of.
func (c *Census) Data(ctx context.Context, m *DataMap) error {
	if err := c.Tree(ctx, m.tree(), m.root, nil); err != nil {
		return err
	}
	if err := c.bitmaps(ctx, &m.spaceMap); err != nil {
		return err
	}
	return c.Tree(ctx, m.countTree(), m.counts, nil)
}

// bitmaps counts the bitmap blocks of m, and compares the numbers of free blocks with them.
func (c *Census) bitmaps(ctx context.Context, m *spaceMap) error {
	allocated := Block(0)
	for i := range m.entries() {
		e, _, _, err := m.index.load(ctx, i)
		if err != nil {
			return err
		}
		c.Count(e.At)
		data, err := m.tm.Read(ctx, e.At, &BitmapKind)
		if err != nil {
			return err
		}
		used := Block(0)
		for bit := range PerBitmap {
			if BitmapCount(data, bit) != 0 {
				used++
			}
		}
		// The kernel counts the bits past the end of the last bitmap as free; thin_restore does not, and counts one block too few.
		inside := min(PerBitmap, m.blocks-Block(i)*PerBitmap)
		if free := Block(e.Free); used+free != PerBitmap && used+free > inside {
			return fmt.Errorf("bitmap %d: %d in use and %d free", i, used, e.Free)
		}
		allocated += used
	}
	if m.allocated != allocated && m.allocated != allocated+1 { // one more is thin_restore's
		return fmt.Errorf("%d blocks in use, the root says %d", allocated, m.allocated)
	}
	return nil
}

// CompareMeta says where the space map of the metadata differs from the census.
func (c *Census) CompareMeta(ctx context.Context, m *MetaMap) error {
	return c.compare(ctx, &m.spaceMap)
}

// CompareData says where a data space map differs from the census, which is one of data blocks: it began with no block counted.
func (c *Census) CompareData(ctx context.Context, m *DataMap) error {
	return c.compare(ctx, &m.spaceMap)
}

// NewDataCensus returns a census in which nothing has been counted.
func NewDataCensus() *Census { return &Census{refs: make(map[Block]uint32)} }

func (c *Census) compare(ctx context.Context, m *spaceMap) error {
	var list []error
	for b := range m.blocks {
		n, err := m.count(ctx, b)
		if err != nil {
			return err
		}
		if n != c.refs[b] {
			list = append(list, fmt.Errorf("block %d has %d references, the space map says %d", b, c.refs[b], n))
		}
		if len(list) > 10 {
			break
		}
	}
	for b := range c.refs {
		if b >= m.blocks {
			list = append(list, fmt.Errorf("a reference to block %d of %d", b, m.blocks))
		}
	}
	return errors.Join(list...)
}
