package pdata

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

// A DataMap counts references to the blocks of another disk.
type DataMap struct {
	spaceMap
	root         Block // of the tree of index entries
	cache        map[int]*dataEntry
	oldAllocated Block
}

// A dataEntry is an index entry in memory.
type dataEntry struct {
	now, old IndexEntry
	was      bool // old is that of the last commit
	dirty    bool
}

// maxEntries bounds the clean entries in memory: they are for 10^9 blocks.
const maxEntries = 1 << 16

func (m *DataMap) tree() *Tree { return &Tree{TM: m.tm, Size: indexSize} }

// NewDataMap makes an empty map.
func NewDataMap(ctx context.Context, tm *TM) (*DataMap, error) {
	m := newDataMap(tm)
	var err error
	if m.root, err = m.tree().Empty(ctx); err != nil {
		return nil, err
	}
	m.counts, err = m.countTree().Empty(ctx)
	return m, err
}

func newDataMap(tm *TM) *DataMap {
	m := &DataMap{cache: make(map[int]*dataEntry)}
	m.tm, m.held = tm, make(map[Block]struct{})
	m.index = m
	return m
}

// OpenDataMap returns the map with that root.
func OpenDataMap(tm *TM, root MapRoot) (*DataMap, error) {
	if root.Blocks > MaxMapBlocks || root.Allocated > root.Blocks {
		return nil, fmt.Errorf("a space map counts %d of %d blocks in use: %w", root.Allocated, root.Blocks, unix.EINVAL)
	}
	m := newDataMap(tm)
	m.blocks, m.allocated, m.root, m.counts = root.Blocks, root.Allocated, root.Bitmaps, root.Counts
	m.committed, m.oldAllocated = m.blocks, m.allocated
	return m, nil
}

// load implements index.
func (m *DataMap) load(ctx context.Context, i int) (current, committed IndexEntry, was bool, err error) {
	if e := m.cache[i]; e != nil {
		return e.now, e.old, e.was, nil
	}
	var v [indexSize]byte
	if err := m.tree().Lookup(ctx, m.root, uint64(i), v[:]); err != nil {
		return IndexEntry{}, IndexEntry{}, false, fmt.Errorf("index entry %d: %w", i, err)
	}
	e := DecodeIndexEntry(v[:])
	m.cache[i] = &dataEntry{now: e, old: e, was: true}
	return e, e, true, nil
}

// save implements index.
func (m *DataMap) save(_ context.Context, i int, e IndexEntry) error {
	have := m.cache[i]
	if have == nil {
		have = &dataEntry{}
		m.cache[i] = have
	}
	have.now, have.dirty = e, true
	return nil
}

// Extend adds n blocks.
func (m *DataMap) Extend(ctx context.Context, n Block) error {
	if m.blocks+n > MaxMapBlocks {
		return fmt.Errorf("%d more data blocks: %w", n, unix.EINVAL)
	}
	m.tm.touched = true
	return m.newBitmaps(ctx, n)
}

// Reserve returns a free block that nobody else is given until Release, or Take and a later release of the reference.
func (m *DataMap) Reserve(ctx context.Context) (Block, error) {
	b, err := m.find(ctx)
	if err != nil {
		return 0, err
	}
	m.begin = b + 1
	m.held[b] = struct{}{}
	return b, nil
}

// IsFree reports whether b has no reference and is not reserved.
func (m *DataMap) IsFree(ctx context.Context, b Block) (bool, error) {
	n, err := m.count(ctx, b)
	_, held := m.held[b]
	return n == 0 && !held, err
}

// Release ends Reserve.
func (m *DataMap) Release(b Block) { delete(m.held, b) }

// Take counts the first reference to a reserved block.
func (m *DataMap) Take(ctx context.Context, b Block) error {
	if err := m.Inc(ctx, b); err != nil {
		return err
	}
	delete(m.held, b)
	return nil
}

// Inc counts one more reference to b.
func (m *DataMap) Inc(ctx context.Context, b Block) error { return m.change(ctx, b, 1) }

// Dec counts one less.
func (m *DataMap) Dec(ctx context.Context, b Block) error { return m.change(ctx, b, -1) }

// Count returns the number of references to b.
func (m *DataMap) Count(ctx context.Context, b Block) (uint32, error) { return m.count(ctx, b) }

// Blocks returns how many blocks are counted.
func (m *DataMap) Blocks() Block { return m.blocks }

// Free returns how many blocks can be allocated before the next commit.
func (m *DataMap) Free() Block {
	n := m.free(m.oldAllocated)
	return n - min(n, Block(len(m.held)))
}

// CommitTakes returns how many metadata blocks Commit copies at most.
func (m *DataMap) CommitTakes() Block {
	dirty := 0
	for _, e := range m.cache {
		if e.dirty {
			dirty++
		}
	}
	const leastInLeaf = (BlockSize - nodeHeader) / (keySize + indexSize) / 3
	leaves := m.entries()/leastInLeaf + 1
	return Block(min(dirty, leaves) + 3) // and the nodes above, which so few leaves have
}

// Commit writes the index entries that changed. It comes before TM.PreCommit.
func (m *DataMap) Commit(ctx context.Context) (err error) {
	if m.begin >= m.blocks {
		m.begin = 0
	}
	for _, i := range slices.Sorted(maps.Keys(m.cache)) {
		e := m.cache[i]
		if !e.dirty {
			if len(m.cache) > maxEntries {
				delete(m.cache, i)
			}
			continue
		}
		var v [indexSize]byte
		e.now.put(v[:])
		if m.root, _, err = m.tree().Insert(ctx, m.root, uint64(i), v[:]); err != nil {
			return err
		}
		e.old, e.was, e.dirty = e.now, true, false
	}
	m.committed, m.oldAllocated, m.taken = m.blocks, m.allocated, 0
	return nil
}

// Root returns what the superblock is to hold.
func (m *DataMap) Root() MapRoot { return MapRoot{m.blocks, m.allocated, m.root, m.counts} }
