package pdata

import (
	"context"
	"encoding/binary"
	"maps"
	"math/bits"
	"slices"
)

// A Survey finds what a tree refers to that no other tree does, as far as that can be told while others change theirs, so that the tree can be given
// up at once. Nobody may change the tree itself, or take a snapshot of it, between Survey and the last of the steps of Drop.
type Survey struct {
	tree  *Tree
	stack []surveyed
	own   []Block // nodes that nothing else refers to
	maybe []Block // nodes that others referred to when they were found
}

// A surveyed is a node on the way down to where the survey is.
type surveyed struct {
	block   Block
	next    int // the entry to go on with
	entered bool
}

// Survey begins a survey of the tree with that root.
func (t *Tree) Survey(root Block) *Survey {
	return &Survey{tree: t, stack: []surveyed{{block: root}}}
}

// More looks at up to leaves more leaves, and calls f for each of their values; f must not keep it. It reports whether there are more. It only
// reads, and may be called together with others who do.
func (s *Survey) More(ctx context.Context, leaves int, f func(value []byte)) (bool, error) {
	for leaves > 0 && len(s.stack) > 0 {
		at := &s.stack[len(s.stack)-1]
		n, err := s.tree.TM.Store.pin(ctx, at.block, &NodeKind)
		if err != nil {
			return false, err
		}
		leaf, err := s.node(ctx, at, n.data, f)
		n.unpin()
		if err != nil {
			return false, err
		}
		if leaf {
			leaves--
		}
	}
	return len(s.stack) > 0, nil
}

// node does what is next at node n. It reports whether that was a leaf, and is done with it.
func (s *Survey) node(ctx context.Context, at *surveyed, n node, f func([]byte)) (leaf bool, err error) {
	pop := func() { s.stack = s.stack[:len(s.stack)-1] }
	if !at.entered {
		at.entered = true
		if err := s.tree.fits(at.block, n); err != nil {
			return false, err
		}
		shared, err := s.tree.TM.Shared(ctx, at.block)
		if err != nil {
			return false, err
		}
		if shared {
			s.maybe = append(s.maybe, at.block)
			pop()
			return false, nil
		}
		s.own = append(s.own, at.block)
	}
	if n.leaf() {
		for i := range n.len() {
			f(n.value(i))
		}
		pop()
		return true, nil
	}
	if at.next == n.len() {
		pop()
		return false, nil
	}
	i := at.next
	at.next++
	below, err := s.tree.TM.Store.pin(ctx, n.child(i), &NodeKind)
	if err != nil {
		return false, err
	}
	err = belongs(n, i, n.child(i), below.data, len(s.stack))
	below.unpin()
	s.stack = append(s.stack, surveyed{block: n.child(i)})
	return false, err
}

// Drop gives up to most nodes of the tree back, of which the survey is complete, and reports whether there are more. What the leaves among
// them refer to is the caller's business, but for nodes that others had given up in the meantime. root is to have no other reference.
func (s *Survey) Drop(ctx context.Context, most int) (more bool, err error) {
	for ; most > 0 && len(s.own) > 0; most-- {
		last := len(s.own) - 1
		if err := s.tree.TM.Dec(ctx, s.own[last]); err != nil {
			return false, err
		}
		s.own = s.own[:last]
	}
	for ; most > 0 && len(s.maybe) > 0; most-- {
		last := len(s.maybe) - 1
		if err := s.tree.Delete(ctx, s.maybe[last]); err != nil {
			return false, err
		}
		s.maybe = s.maybe[:last]
	}
	return len(s.own)+len(s.maybe) > 0, nil
}

// Decrements are references to be given up: a bit for each of many blocks.
type Decrements struct {
	bitmaps map[int]*[PerBitmap/64 + 1]uint64
	order   []int   // of bitmaps, once DecMany was called
	again   []Block // those beyond the first to a block
}

// Add notes a reference to b.
func (d *Decrements) Add(b Block) {
	if d.bitmaps == nil {
		d.bitmaps = make(map[int]*[PerBitmap/64 + 1]uint64)
	}
	set := d.bitmaps[int(b/PerBitmap)]
	if set == nil {
		set = new([PerBitmap/64 + 1]uint64)
		d.bitmaps[int(b/PerBitmap)] = set
	}
	i := int(b % PerBitmap)
	if set[i/64]>>(i%64)&1 != 0 {
		d.again = append(d.again, b)
		return
	}
	set[i/64] |= 1 << (i % 64)
}

// DecMany gives up references of up to most bitmaps, takes them out of d, and calls freed for the blocks that have none left. It reports whether d
// has more. Nothing is to be added after the first call.
func (m *DataMap) DecMany(ctx context.Context, d *Decrements, most int, freed func(Block)) (more bool, err error) {
	if d.order == nil {
		d.order = slices.Sorted(maps.Keys(d.bitmaps))
	}
	for ; len(d.order) > 0; d.order = d.order[1:] {
		if most == 0 {
			return true, nil
		}
		most--
		i := d.order[0]
		if err := m.decBitmap(ctx, i, d.bitmaps[i][:], freed); err != nil {
			return false, err
		}
		delete(d.bitmaps, i)
	}
	for _, b := range d.again {
		if err := m.decOne(ctx, b, freed); err != nil {
			return false, err
		}
	}
	d.again = nil
	return false, nil
}

func (m *DataMap) decOne(ctx context.Context, b Block, freed func(Block)) error {
	if err := m.Dec(ctx, b); err != nil {
		return err
	}
	count, err := m.Count(ctx, b)
	if err == nil && count == 0 {
		freed(b)
	}
	return err
}

// decBitmap takes one off the counts of the blocks in set, of bitmap i.
func (m *DataMap) decBitmap(ctx context.Context, i int, set []uint64, freed func(Block)) error {
	first := Block(i) * PerBitmap
	if err := m.check(first); err != nil {
		return err
	}
	e, old, was, err := m.index.load(ctx, i)
	if err != nil {
		return err
	}
	at, data, _, err := m.tm.Shadow(ctx, e.At, &BitmapKind)
	if err != nil {
		return err
	}
	e.At = at
	var before []byte // as of the last commit
	if was {
		if before, err = m.tm.Read(ctx, old.At, &BitmapKind); err != nil {
			return err
		}
	}
	var others []Block
	for w, word := range set {
		for ; word != 0; word &= word - 1 {
			bit := w*64 + bits.TrailingZeros64(word)
			b := first + Block(bit)
			if BitmapCount(data, bit) != 1 || b >= m.blocks {
				others = append(others, b)
				continue
			}
			setBitmapCount(data, bit, 0)
			m.allocated--
			e.Free++
			e.NoneFreeUnder = min(e.NoneFreeUnder, uint32(bit))
			if b >= m.committed || !was || BitmapCount(before, bit) == 0 {
				m.taken--
			}
			freed(b)
		}
	}
	if err := m.index.save(ctx, i, e); err != nil {
		return err
	}
	for _, b := range others {
		if err := m.decOne(ctx, b, freed); err != nil {
			return err
		}
	}
	return nil
}

// FreeRun returns how many blocks from b on, up to n, have no reference, had none at the last commit, and are not reserved.
func (m *DataMap) FreeRun(ctx context.Context, b, n Block) (run Block, err error) {
	for run < n && b+run < m.blocks {
		at := b + run
		i, bit := int(at/PerBitmap), int(at%PerBitmap)
		e, old, was, err := m.index.load(ctx, i)
		if err != nil {
			return run, err
		}
		data, err := m.tm.Read(ctx, e.At, &BitmapKind)
		if err != nil {
			return run, err
		}
		before := data
		if was {
			if before, err = m.tm.Read(ctx, old.At, &BitmapKind); err != nil {
				return run, err
			}
		}
		_, held := m.held[at]
		if held || BitmapCount(data, bit) != 0 || BitmapCount(before, bit) != 0 {
			return run, nil
		}
		if len(m.held) == 0 && bit%32 == 0 && bit+32 <= int(PerBitmap) && run+32 <= n && at+32 <= m.blocks {
			off := bitmapHeader + bit/32*8
			if binary.LittleEndian.Uint64(data[off:])|binary.LittleEndian.Uint64(before[off:]) == 0 {
				run += 32
				continue
			}
		}
		run++
	}
	return run, nil
}
