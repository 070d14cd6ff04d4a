package pdata

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"
)

// A MapRoot is what a superblock holds of a space map, in its 128 bytes.
type MapRoot struct {
	Blocks, Allocated Block // in the map, and those of them with references
	Bitmaps           Block // of the index: a tree for data, an index block for metadata
	Counts            Block // of the tree with the counts that do not fit into two bits
}

// MapRootSize is the room for a MapRoot in a superblock, in bytes.
const MapRootSize = 128

// DecodeMapRoot reads a MapRoot.
func DecodeMapRoot(p []byte) MapRoot {
	le := binary.LittleEndian
	return MapRoot{Block(le.Uint64(p)), Block(le.Uint64(p[8:])), Block(le.Uint64(p[16:])), Block(le.Uint64(p[24:]))}
}

// Put writes r.
func (r MapRoot) Put(p []byte) {
	le := binary.LittleEndian
	le.PutUint64(p, uint64(r.Blocks))
	le.PutUint64(p[8:], uint64(r.Allocated))
	le.PutUint64(p[16:], uint64(r.Bitmaps))
	le.PutUint64(p[24:], uint64(r.Counts))
}

const (
	bitmapHeader = 16
	// PerBitmap is how many blocks a bitmap block counts: four a byte.
	PerBitmap = (BlockSize - bitmapHeader) * 4
	// many in a bitmap says that the count is in the tree.
	many = 3
	// indexSize is the size of an index entry.
	indexSize = 16
	// MaxMapBlocks bounds what a space map may count: the numbers of data blocks have 40 bits.
	MaxMapBlocks = Block(1) << 40
)

// BitmapKind is that of the blocks with two bits for each block.
var BitmapKind = Kind{Name: "sm_bitmap", Xor: 240779, At: 8, Module: "space map common", Prefix: "bitmap check"}

// An IndexEntry describes a bitmap block.
type IndexEntry struct {
	At            Block
	Free          uint32 // blocks without references
	NoneFreeUnder uint32 // no block under this one, counted within the bitmap, is free
}

// DecodeIndexEntry reads an entry.
func DecodeIndexEntry(p []byte) IndexEntry {
	le := binary.LittleEndian
	return IndexEntry{Block(le.Uint64(p)), le.Uint32(p[8:]), le.Uint32(p[12:])}
}

func (e IndexEntry) put(p []byte) {
	le := binary.LittleEndian
	le.PutUint64(p, uint64(e.At))
	le.PutUint32(p[8:], e.Free)
	le.PutUint32(p[12:], e.NoneFreeUnder)
}

// BitmapCount returns the two bits of block i of a bitmap.
func BitmapCount(data []byte, i int) uint32 {
	word := binary.LittleEndian.Uint64(data[bitmapHeader+i/32*8:])
	v := uint32(word >> (i % 32 * 2))
	return v&1<<1 | v>>1&1 // the high bit of the count comes first
}

func setBitmapCount(data []byte, i int, count uint32) {
	p := data[bitmapHeader+i/32*8:]
	word := binary.LittleEndian.Uint64(p)
	shift := i % 32 * 2
	word = word&^(3<<shift) | uint64(count>>1|count&1<<1)<<shift
	binary.LittleEndian.PutUint64(p, word)
}

// findZero returns the first i in [from, to) whose count is 0 in both bitmaps; b may be nil.
func findZero(a, b []byte, from, to int) (int, bool) {
	for i := from; i < to; {
		at := bitmapHeader + i/32*8
		word := binary.LittleEndian.Uint64(a[at:])
		if b != nil {
			word |= binary.LittleEndian.Uint64(b[at:])
		}
		free := ^(word | word>>1) & 0x5555555555555555 >> (i % 32 * 2) << (i % 32 * 2)
		if free != 0 {
			i = i&^31 + bits.TrailingZeros64(free)/2
			return i, i < to
		}
		i = i&^31 + 32
	}
	return 0, false
}

// An index finds the bitmap blocks of a space map.
type index interface {
	// load returns an entry as it is, and as it was at the last commit, with false if there was none then.
	load(ctx context.Context, i int) (current, committed IndexEntry, was bool, err error)
	save(ctx context.Context, i int, e IndexEntry) error
}

// A spaceMap counts references to blocks: two bits each, and a tree for counts of three and more.
type spaceMap struct {
	tm    *TM
	index index

	blocks, allocated Block
	counts            Block // root of the tree
	committed         Block // blocks at the last commit

	begin Block              // where the search for a free block goes on
	taken Block              // allocated in this transaction, and not free at the last commit
	held  map[Block]struct{} // not to be handed out, though free
}

func (m *spaceMap) countTree() *Tree { return &Tree{TM: m.tm, Size: 4} }

func (m *spaceMap) entries() int { return int((m.blocks + PerBitmap - 1) / PerBitmap) }

func (m *spaceMap) check(b Block) error {
	if b >= m.blocks {
		return fmt.Errorf("block %d of %d in a space map: %w", b, m.blocks, unix.EINVAL)
	}
	return nil
}

// Count returns the number of references to b.
func (m *spaceMap) count(ctx context.Context, b Block) (uint32, error) {
	if err := m.check(b); err != nil {
		return 0, err
	}
	e, _, _, err := m.index.load(ctx, int(b/PerBitmap))
	if err != nil {
		return 0, err
	}
	data, err := m.tm.Read(ctx, e.At, &BitmapKind)
	if err != nil {
		return 0, err
	}
	c := BitmapCount(data, int(b%PerBitmap))
	if c < many {
		return c, nil
	}
	var v [4]byte
	if err := m.countTree().Lookup(ctx, m.counts, uint64(b), v[:]); err != nil {
		return 0, fmt.Errorf("count of block %d: %w", b, err)
	}
	return binary.LittleEndian.Uint32(v[:]), nil
}

// wasFree reports whether b was free at the last commit.
func (m *spaceMap) wasFree(ctx context.Context, b Block) (bool, error) {
	if b >= m.committed {
		return true, nil
	}
	_, old, was, err := m.index.load(ctx, int(b/PerBitmap))
	if err != nil || !was {
		return err == nil, err
	}
	data, err := m.tm.Read(ctx, old.At, &BitmapKind)
	if err != nil {
		return false, err
	}
	return BitmapCount(data, int(b%PerBitmap)) == 0, nil
}

// errTooMany: a count does not go beyond 32 bits.
var errTooMany = errors.New("too many references")

// change adds delta, 1 or -1, to the count of b.
func (m *spaceMap) change(ctx context.Context, b Block, delta int) error {
	if err := m.check(b); err != nil {
		return err
	}
	i, bit := int(b/PerBitmap), int(b%PerBitmap)
	e, _, _, err := m.index.load(ctx, i)
	if err != nil {
		return err
	}
	at, data, _, err := m.tm.Shadow(ctx, e.At, &BitmapKind)
	if err != nil {
		return err
	}
	e.At = at
	if err := m.index.save(ctx, i, e); err != nil {
		return err
	}
	old := BitmapCount(data, bit)
	if old == many {
		var v [4]byte
		if err := m.countTree().Lookup(ctx, m.counts, uint64(b), v[:]); err != nil {
			return fmt.Errorf("count of block %d: %w", b, err)
		}
		old = binary.LittleEndian.Uint32(v[:])
	}
	switch {
	case delta < 0 && old == 0:
		return fmt.Errorf("block %d of a space map has no reference to give up: %w", b, unix.EINVAL)
	case delta > 0 && old == ^uint32(0):
		return errTooMany
	}
	now := old + uint32(delta)
	setBitmapCount(data, bit, min(now, many))
	if err := m.changeMany(ctx, b, old, now); err != nil {
		return err
	}
	if old != 0 && now != 0 {
		return nil
	}
	return m.changeFree(ctx, b, now == 0)
}

// changeMany keeps the tree with the large counts.
func (m *spaceMap) changeMany(ctx context.Context, b Block, old, now uint32) (err error) {
	switch {
	case now >= many:
		var v [4]byte
		binary.LittleEndian.PutUint32(v[:], now)
		m.counts, _, err = m.countTree().Insert(ctx, m.counts, uint64(b), v[:])
	case old >= many:
		m.counts, err = m.countTree().Remove(ctx, m.counts, uint64(b))
	}
	return err
}

// changeFree keeps the numbers of free blocks when b has become free, or is no longer.
func (m *spaceMap) changeFree(ctx context.Context, b Block, free bool) error {
	i, bit := int(b/PerBitmap), uint32(b%PerBitmap)
	e, _, _, err := m.index.load(ctx, i) // again: the shadow may have changed it
	if err != nil {
		return err
	}
	was, err := m.wasFree(ctx, b)
	if err != nil {
		return err
	}
	if free {
		m.allocated--
		e.Free++
		e.NoneFreeUnder = min(e.NoneFreeUnder, bit)
		if was {
			m.taken--
		}
	} else {
		m.allocated++
		e.Free -= min(e.Free, 1)
		if e.NoneFreeUnder == bit {
			e.NoneFreeUnder = bit + 1
		}
		if was {
			m.taken++
		}
	}
	return m.index.save(ctx, i, e)
}

// find returns a block that is free, was free at the last commit, and is not held.
func (m *spaceMap) find(ctx context.Context) (Block, error) {
	b, err := m.findFrom(ctx, m.begin, m.blocks)
	if errors.Is(err, ErrNoSpace) && m.begin > 0 {
		b, err = m.findFrom(ctx, 0, min(m.begin, m.blocks))
	}
	return b, err
}

func (m *spaceMap) findFrom(ctx context.Context, begin, end Block) (Block, error) {
	for begin < end {
		i := int(begin / PerBitmap)
		first := Block(i) * PerBitmap
		stop := int(min(end-first, PerBitmap))
		bit, ok, err := m.findIn(ctx, i, int(begin-first), stop)
		if err != nil {
			return 0, err
		}
		if !ok {
			begin = first + PerBitmap
			continue
		}
		b := first + Block(bit)
		if _, held := m.held[b]; !held {
			return b, nil
		}
		begin = b + 1
	}
	return 0, ErrNoSpace
}

// findIn looks in bitmap i.
func (m *spaceMap) findIn(ctx context.Context, i, from, to int) (int, bool, error) {
	e, old, was, err := m.index.load(ctx, i)
	if err != nil || e.Free == 0 {
		return 0, false, err
	}
	data, err := m.tm.Read(ctx, e.At, &BitmapKind)
	if err != nil {
		return 0, false, err
	}
	var before []byte
	if was && old.At != e.At {
		if before, err = m.tm.Read(ctx, old.At, &BitmapKind); err != nil {
			return 0, false, err
		}
	}
	bit, ok := findZero(data, before, max(from, int(min(e.NoneFreeUnder, PerBitmap))), to)
	return bit, ok, nil
}

// free returns how many blocks can be allocated before the next commit.
func (m *spaceMap) free(committedAllocated Block) Block {
	used := committedAllocated + m.taken
	if used > m.committed {
		return 0
	}
	return m.committed - used
}

// newBitmaps adds n blocks, all free. An entry counts all blocks that its bitmap has bits for as free, those past the end too.
func (m *spaceMap) newBitmaps(ctx context.Context, n Block) error {
	from := m.entries()
	if m.blocks%PerBitmap != 0 {
		if err := m.countFree(ctx, from-1); err != nil {
			return err
		}
	}
	m.blocks += n
	for i := from; i < m.entries(); i++ {
		b, _, err := m.tm.New(ctx, &BitmapKind)
		if err != nil {
			return err
		}
		if err := m.index.save(ctx, i, IndexEntry{At: b, Free: PerBitmap}); err != nil {
			return err
		}
	}
	return nil
}

// countFree counts the free blocks of a bitmap: thin_restore leaves out those past the end, which growth makes blocks.
func (m *spaceMap) countFree(ctx context.Context, i int) error {
	e, _, _, err := m.index.load(ctx, i)
	if err != nil {
		return err
	}
	data, err := m.tm.Read(ctx, e.At, &BitmapKind)
	if err != nil {
		return err
	}
	free := uint32(0)
	for bit := range PerBitmap {
		if BitmapCount(data, bit) == 0 {
			free++
		}
	}
	if e.Free == free {
		return nil
	}
	e.Free, e.NoneFreeUnder = free, 0
	return m.index.save(ctx, i, e)
}
