package pdata

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	indexHeader = 16
	// maxIndex is how many bitmaps the index block has room for.
	maxIndex = (BlockSize - indexHeader) / indexSize
	// MaxMetaBlocks is how many metadata blocks can be counted: a little less than 16 GiB. Larger disks are used up to there.
	MaxMetaBlocks = Block(maxIndex) * PerBitmap
)

// IndexKind is that of the one block with the index of the space map of the metadata.
var IndexKind = Kind{Name: "index", Xor: 160478, At: 8, Module: "space map common", Prefix: "index_check"}

// A MetaMap counts references to the blocks of the metadata, those of its own bitmaps and trees among them. So a change may need
// another before it is complete: to count a block, the bitmap must be copied, to which end a block must be allocated, which
// must be counted. What arises within a change is therefore put off and carried out when the change is complete; until then the
// blocks in question are held, so that they are not handed out twice.
//
// While the map is made or grows it cannot count at all. Then (bootstrap) blocks are handed out one after the other, from where all
// are known to be free, and are counted when the map can.
type MetaMap struct {
	spaceMap
	entry, old   [maxIndex]IndexEntry
	root         Block // of the index block
	oldAllocated Block
	depth        int // of changes
	later        []pendingCount
	bootstrap    bool
}

// A pendingCount is a change that was put off.
type pendingCount struct {
	block Block
	delta int
}

// load implements index.
func (m *MetaMap) load(_ context.Context, i int) (current, committed IndexEntry, was bool, err error) {
	return m.entry[i], m.old[i], Block(i)*PerBitmap < m.committed, nil
}

// save implements index.
func (m *MetaMap) save(_ context.Context, i int, e IndexEntry) error {
	m.entry[i] = e
	return nil
}

func newMeta(tm *TM) *MetaMap {
	m := &MetaMap{}
	m.tm, m.held = tm, make(map[Block]struct{})
	m.index = m
	return m
}

// openMeta reads the map with that root.
func openMeta(ctx context.Context, tm *TM, root MapRoot) (*MetaMap, error) {
	if root.Blocks > MaxMetaBlocks || root.Blocks > tm.Store.Blocks() || root.Allocated > root.Blocks {
		return nil, fmt.Errorf("the space map counts %d metadata blocks, %d of them in use, on a disk of %d: %w",
			root.Blocks, root.Allocated, tm.Store.Blocks(), unix.EINVAL)
	}
	m := newMeta(tm)
	data, err := tm.Read(ctx, root.Bitmaps, &IndexKind)
	if err != nil {
		return nil, err
	}
	for i := range m.entry {
		m.entry[i] = DecodeIndexEntry(data[indexHeader+i*indexSize:])
	}
	m.blocks, m.allocated, m.counts, m.root = root.Blocks, root.Allocated, root.Counts, root.Bitmaps
	m.settled()
	return m, nil
}

// settled makes what is the state at the last commit.
func (m *MetaMap) settled() {
	m.old, m.committed, m.oldAllocated = m.entry, m.blocks, m.allocated
	m.taken = 0
}

// format makes the map of n blocks, of which block 0 is in use.
func (m *MetaMap) format(ctx context.Context, n Block) (err error) {
	m.bootstrap, m.begin = true, 1
	if m.root, _, err = m.tm.New(ctx, &IndexKind); err != nil {
		return err
	}
	if m.counts, err = m.countTree().Empty(ctx); err != nil {
		return err
	}
	if err := m.newBitmaps(ctx, n); err != nil {
		return err
	}
	m.bootstrap = false
	if _, err := m.countNew(ctx, 0); err != nil {
		return err
	}
	return m.commit(ctx)
}

// countNew counts the blocks that were handed out uncounted, from block from on, and what that takes. It returns the end.
func (m *MetaMap) countNew(ctx context.Context, from Block) (Block, error) {
	m.depth++
	defer func() { m.depth-- }()
	to := m.begin
	for b := from; b < to; b++ {
		if err := m.change(ctx, b, 1); err != nil {
			return 0, err
		}
	}
	return to, m.applyLater(ctx)
}

// applyLater carries out what was put off.
func (m *MetaMap) applyLater(ctx context.Context) error {
	for len(m.later) > 0 {
		p := m.later[0]
		m.later = m.later[1:]
		if p.delta > 0 {
			delete(m.held, p.block)
		}
		if err := m.change(ctx, p.block, p.delta); err != nil {
			return err
		}
	}
	m.later = nil
	return nil
}

// Extend adds n blocks. The metadata may have been full: what the growth takes is taken from the new blocks.
func (m *MetaMap) Extend(ctx context.Context, n Block) error {
	if m.blocks+n > min(MaxMetaBlocks, m.tm.Store.Blocks()) {
		return fmt.Errorf("%d more metadata blocks: %w", n, unix.EINVAL)
	}
	m.tm.touched = true
	from := m.blocks
	m.bootstrap, m.begin = true, from
	defer func() { m.bootstrap = false }()
	if err := m.newBitmaps(ctx, n); err != nil {
		return err
	}
	for from < m.begin {
		to, err := m.countNew(ctx, from)
		if err != nil {
			return err
		}
		from = to
	}
	return nil
}

// allocate returns a free block, and counts it.
func (m *MetaMap) allocate(ctx context.Context) (Block, error) {
	if m.bootstrap {
		b := m.begin
		if m.blocks != 0 && b >= m.blocks || b >= m.tm.Store.Blocks() {
			return 0, ErrNoSpace
		}
		m.begin++
		return b, nil
	}
	b, err := m.find(ctx)
	if err != nil {
		return 0, err
	}
	m.begin = b + 1
	return b, m.adjust(ctx, b, 1)
}

// adjust changes the count of b, or notes that it is to be changed.
func (m *MetaMap) adjust(ctx context.Context, b Block, delta int) error {
	if m.depth > 0 || m.bootstrap {
		m.later = append(m.later, pendingCount{b, delta})
		if delta > 0 {
			m.held[b] = struct{}{}
		}
		return nil
	}
	m.depth++
	defer func() { m.depth-- }()
	if err := m.change(ctx, b, delta); err != nil {
		return err
	}
	return m.applyLater(ctx)
}

// Count returns the number of references to b.
func (m *MetaMap) Count(ctx context.Context, b Block) (uint32, error) {
	if m.bootstrap {
		return 1, nil // all that is touched is in use, and nothing is shared
	}
	n, err := m.count(ctx, b)
	for _, p := range m.later {
		if p.block == b {
			n += uint32(p.delta)
		}
	}
	return n, err
}

// Inc counts one more reference to b.
func (m *MetaMap) Inc(ctx context.Context, b Block) error { return m.adjust(ctx, b, 1) }

// Dec counts one less.
func (m *MetaMap) Dec(ctx context.Context, b Block) error { return m.adjust(ctx, b, -1) }

// Blocks returns how many blocks are counted.
func (m *MetaMap) Blocks() Block { return m.blocks }

// Free returns how many blocks can be allocated before the next commit.
func (m *MetaMap) Free() Block { return m.free(m.oldAllocated) }

// commit writes the index.
func (m *MetaMap) commit(ctx context.Context) error {
	at, data, _, err := m.tm.Shadow(ctx, m.root, &IndexKind)
	if err != nil {
		return err
	}
	m.root = at
	for i, e := range m.entry {
		e.put(data[indexHeader+i*indexSize:])
	}
	m.settled()
	return nil
}

// Root returns what the superblock is to hold.
func (m *MetaMap) Root() MapRoot { return MapRoot{m.blocks, m.allocated, m.root, m.counts} }
