package pdata

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// A Block is the number of a metadata block, or of whatever else a space map counts.
type Block uint64

const (
	// BlockSize is the size of a metadata block in bytes.
	BlockSize = 4096
	// BlockSectors is BlockSize in sectors.
	BlockSectors = mapper.Sector(BlockSize / mapper.SectorSize)
)

var (
	// ErrNoSpace: a space map has no free block. The transaction is to be given up.
	ErrNoSpace = errors.New("no free block")
	// ErrNotFound: the key is not in the tree.
	ErrNotFound = errors.New("no such key")
)

// A CorruptError says which metadata block is damaged, and how.
type CorruptError struct {
	Block  Block
	Kind   string
	Reason string
	Errno  unix.Errno // EILSEQ for what a checksum or a check of the contents found, ENOTBLK for a block in another's place, else EINVAL or EIO
}

// Error returns "KIND block N: reason".
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s block %d: %s", e.Kind, e.Block, e.Reason)
}

// Unwrap returns the errno.
func (e *CorruptError) Unwrap() error { return e.Errno }

// A Kind is a kind of block: where its number stands, the constant by which its checksum differs from those of other
// kinds, and what must be true of its contents.
type Kind struct {
	Name string // as the kernel calls its validator
	Xor  uint32 // the checksum is the CRC-32C of all that follows it, seeded with ones, not inverted, xor this
	At   int    // offset of the block's own number, a u64
	// Check looks at the contents of a block with the right checksum. nil: nothing to check.
	Check func(data []byte) error
	// First reports, like Check, but before the checksum, since the kernel does so. nil: nothing.
	First func(data []byte) error
	// Module and Prefix are how the kernel's log begins a complaint: "block manager" and so on.
	Module, Prefix string
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum returns the checksum that belongs into the first four bytes of a block of this kind.
func (k *Kind) sum(data []byte) uint32 {
	return ^crc32.Checksum(data[4:BlockSize], castagnoli) ^ k.Xor
}

// Seal writes the block's number and its checksum into data.
func (k *Kind) Seal(b Block, data []byte) {
	binary.LittleEndian.PutUint64(data[k.At:], uint64(b))
	binary.LittleEndian.PutUint32(data, k.sum(data))
}

// Verify says whether data is a sound block of this kind that belongs at b. The error is a *CorruptError.
func (k *Kind) Verify(b Block, data []byte) error {
	if have := Block(binary.LittleEndian.Uint64(data[k.At:])); have != b {
		return &CorruptError{b, k.Name, fmt.Sprintf("blocknr %d: wanted %d", have, b), unix.ENOTBLK}
	}
	if k.First != nil {
		if err := k.First(data); err != nil {
			return &CorruptError{b, k.Name, err.Error(), unix.EILSEQ}
		}
	}
	if have, want := binary.LittleEndian.Uint32(data), k.sum(data); have != want {
		return &CorruptError{b, k.Name, fmt.Sprintf("csum %d: wanted %d", want, have), unix.EILSEQ}
	}
	if k.Check != nil {
		if err := k.Check(data); err != nil {
			return &CorruptError{b, k.Name, err.Error(), unix.EILSEQ}
		}
	}
	return nil
}

// A buf is a metadata block in memory. Once it is in a Store its data changes only within a change (see Store), so that readers
// need no lock for it. A buf that was dropped from the cache stays good for whoever still looks at it.
type buf struct {
	block Block
	kind  *Kind
	data  []byte
	dirty atomic.Bool // it is in Store.dirty
	pins  atomic.Int32
	// trimmed: data is a node without the room for more entries (see node.trim). Only pin returns such.
	trimmed bool
	// noted is the outline of a node that is not dirty, if isNoted.
	noted   outline
	isNoted atomic.Bool
	// Guarded by the shard's mu:
	used   bool // looked at since the hand of the clock came by
	shared bool // its data was given to somebody who does not say when he is done, so it cannot be used for another block
	slot   int  // in the clock
}

// A Store reads and writes the blocks of a metadata disk and keeps some in memory.
//
// It has one user who changes blocks at a time, and while he does so nobody reads: that is for the user of the package to see to.
// Any number may read at once. Readers and Flush may run together.
type Store struct {
	disk mapper.Disk
	log  Logger

	shards [cacheShards]shard

	dirtyMu sync.Mutex
	dirty   map[Block]*buf
}

// A Logger takes what the kernel would log: the module that speaks, and its words.
type Logger func(module, format string, args ...any)

const (
	cacheShards = 64
	// cacheBytes bounds the clean blocks in memory: the mappings of ten million blocks, whether their nodes are full or, as those
	// that thin_restore writes, half full.
	cacheBytes = 180 << 20
	// dirtyBlocks is how many changed blocks a transaction keeps in memory before it writes some out early.
	dirtyBlocks = 8 << 10
)

// A shard is a part of the cache, with a clock for a replacement policy.
type shard struct {
	mu    sync.Mutex
	bufs  map[Block]*buf
	clock []*buf
	hand  int
	bytes int                        // of data, of all bufs
	spare [spareClasses + 1][][]byte // data of blocks that went, by their capacity in units of spareUnit
}

const (
	spareUnit    = 256
	spareClasses = BlockSize / spareUnit
)

// maxSpare bounds the spare data of a shard, for each size.
const maxSpare = 4

// NewStore returns a store on disk.
func NewStore(disk mapper.Disk, log Logger) *Store {
	if log == nil {
		log = func(string, string, ...any) {}
	}
	return &Store{disk: disk, log: log, dirty: make(map[Block]*buf)}
}

// Blocks returns how many blocks the disk has room for.
func (s *Store) Blocks() Block { return Block(s.disk.Sectors() / BlockSectors) }

func (s *Store) shard(b Block) *shard { return &s.shards[uint64(b)%cacheShards] }

// cached returns the block if it is in memory, pinned or shared.
func (s *Store) cached(b Block, pin bool) *buf {
	sh := s.shard(b)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	have := sh.bufs[b]
	if have != nil {
		have.take(pin)
	}
	return have
}

// take notes that n is in use. The shard's mu is held.
func (n *buf) take(pin bool) {
	n.used = true
	if pin {
		n.pins.Add(1)
	} else {
		n.shared = true
	}
}

// unpin ends the use of what pin returned.
func (n *buf) unpin() { n.pins.Add(-1) }

// getSpare returns memory of n bytes for a block of this shard.
func (sh *shard) getSpare(n int) []byte {
	class := (n + spareUnit - 1) / spareUnit
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if of := &sh.spare[class]; len(*of) > 0 {
		last := len(*of) - 1
		data := (*of)[last]
		*of = (*of)[:last]
		return data[:n]
	}
	return make([]byte, n, class*spareUnit)
}

// putSpare gives memory back that nobody looks at. mu is held.
func (sh *shard) putSpare(data []byte) {
	if of := &sh.spare[cap(data)/spareUnit]; len(*of) < maxSpare {
		*of = append(*of, data)
	}
}

// keep puts a block into the cache; if it is there already, the one that is there wins, unless replace.
func (s *Store) keep(n *buf, replace, pin bool) *buf {
	sh := s.shard(n.block)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	have := sh.bufs[n.block]
	if have != nil && !replace && (pin || !have.trimmed) {
		sh.putSpare(n.data)
		have.take(pin)
		return have
	}
	n.take(pin)
	if sh.bufs == nil {
		sh.bufs = make(map[Block]*buf)
	}
	if have != nil {
		n.slot = have.slot
		sh.clock[n.slot] = n
		sh.bytes -= cap(have.data)
	} else {
		n.slot = len(sh.clock)
		sh.clock = append(sh.clock, n)
	}
	sh.bufs[n.block] = n
	sh.bytes += cap(n.data)
	sh.evict(n)
	return n
}

// evict drops blocks that nobody looked at lately until the others fit: none but clean ones, and not n. mu is held.
func (sh *shard) evict(n *buf) {
	for steps := 2 * len(sh.clock); steps > 0 && sh.bytes > cacheBytes/cacheShards; steps-- {
		if sh.hand >= len(sh.clock) {
			sh.hand = 0
		}
		c := sh.clock[sh.hand]
		if c.used || c.dirty.Load() || c == n {
			c.used = false
			sh.hand++
			continue
		}
		last := len(sh.clock) - 1
		sh.clock[sh.hand] = sh.clock[last]
		sh.clock[sh.hand].slot = sh.hand
		sh.clock[last] = nil
		sh.clock = sh.clock[:last]
		delete(sh.bufs, c.block)
		sh.bytes -= cap(c.data)
		if !c.shared && c.pins.Load() == 0 {
			sh.putSpare(c.data)
		}
	}
}

// read returns block b, which is to be of kind k.
func (s *Store) read(ctx context.Context, b Block, k *Kind) (*buf, error) {
	return s.get(ctx, b, k, false)
}

// pin is read for a caller who calls unpin when he is done, so that the memory can be used again, and who only looks at the entries of a node:
// it may be trimmed.
func (s *Store) pin(ctx context.Context, b Block, k *Kind) (*buf, error) {
	return s.get(ctx, b, k, true)
}

func (s *Store) get(ctx context.Context, b Block, k *Kind, pin bool) (*buf, error) {
	have := s.cached(b, pin)
	switch {
	case have == nil:
		return s.load(ctx, b, k, pin)
	case have.kind != k:
		if pin {
			have.unpin()
		}
		s.log("block manager", "validator mismatch (old=%s vs new=%s) for block %d", have.kind.Name, k.Name, b)
		return nil, &CorruptError{b, k.Name, "in use as " + have.kind.Name, unix.EINVAL}
	case have.trimmed && !pin:
		whole := s.shard(b).getSpare(BlockSize)
		node(have.data).restore(whole)
		n := &buf{block: b, kind: k, data: whole}
		n.note()
		return s.keep(n, false, false), nil
	}
	return have, nil
}

// load reads block b into the cache.
func (s *Store) load(ctx context.Context, b Block, k *Kind, pin bool) (*buf, error) {
	if b >= s.Blocks() {
		return nil, &CorruptError{b, k.Name, fmt.Sprintf("past the end of the disk at %d", s.Blocks()), unix.EIO}
	}
	page := mapper.GetBuffer(BlockSize)
	defer page.Free()
	if err := s.ReadRaw(ctx, b, page.Data); err != nil {
		return nil, err
	}
	if err := s.verify(b, k, page.Data); err != nil {
		return nil, err
	}
	n := &buf{block: b, kind: k}
	if pin && k == &NodeKind && node(page.Data).trimmedSize() <= BlockSize-spareUnit {
		n.data, n.trimmed = s.shard(b).getSpare(node(page.Data).trimmedSize()), true
		node(page.Data).trim(n.data)
	} else {
		n.data = s.shard(b).getSpare(BlockSize)
		copy(n.data, page.Data)
	}
	n.note()
	return s.keep(n, false, pin), nil
}

// verify is Verify, and logs as the kernel does.
func (s *Store) verify(b Block, k *Kind, data []byte) error {
	err := k.Verify(b, data)
	var bad *CorruptError
	if errors.As(err, &bad) {
		s.log(k.Module, "%s failed: %s", k.Prefix, bad.Reason)
		s.log("block manager", "%s validator check failed for block %d", k.Name, b)
	}
	return err
}

// ReadRaw reads block b as it is on the disk, past the cache.
func (s *Store) ReadRaw(ctx context.Context, b Block, data []byte) error {
	err := s.disk.Submit(ctx, mapper.Request{Op: mapper.OpRead, Start: mapper.Sector(b) * BlockSectors, Count: BlockSectors, Data: data})
	if err != nil {
		return fmt.Errorf("metadata block %d: %w", b, err)
	}
	return nil
}

// ReadChecked reads block b past the cache and verifies it.
func (s *Store) ReadChecked(ctx context.Context, b Block, k *Kind) ([]byte, error) {
	data := make([]byte, BlockSize)
	if err := s.ReadRaw(ctx, b, data); err != nil {
		return nil, err
	}
	return data, s.verify(b, k, data)
}

// fresh returns block b filled with zeroes, to be written.
func (s *Store) fresh(b Block, k *Kind) *buf {
	n := &buf{block: b, kind: k, data: s.shard(b).getSpare(BlockSize)}
	clear(n.data)
	s.markDirty(n)
	return s.keep(n, true, false)
}

// markDirty notes that n was changed.
func (s *Store) markDirty(n *buf) {
	s.dirtyMu.Lock()
	n.dirty.Store(true)
	n.isNoted.Store(false)
	s.dirty[n.block] = n
	s.dirtyMu.Unlock()
}

// forget drops what is in memory, changed or not.
func (s *Store) forget() {
	s.dirtyMu.Lock()
	clear(s.dirty)
	s.dirtyMu.Unlock()
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		sh.bufs, sh.clock, sh.hand, sh.bytes = nil, nil, 0, 0
		clear(sh.spare[:])
		sh.mu.Unlock()
	}
}

// crowded reports whether so many blocks are dirty that some had better be written.
func (s *Store) crowded() bool {
	s.dirtyMu.Lock()
	defer s.dirtyMu.Unlock()
	return len(s.dirty) > dirtyBlocks
}

// writeDirty writes all changed blocks. Nobody may change any meanwhile. What could not be written stays dirty.
func (s *Store) writeDirty(ctx context.Context) error {
	s.dirtyMu.Lock()
	list := make([]*buf, 0, len(s.dirty))
	for _, n := range s.dirty {
		list = append(list, n)
	}
	s.dirtyMu.Unlock()
	slices.SortFunc(list, func(a, b *buf) int {
		if a.block < b.block {
			return -1
		}
		return 1
	})
	const longest = 64 // blocks of one write
	var first error
	for len(list) > 0 {
		n := 1
		for n < len(list) && n < longest && list[n].block == list[n-1].block+1 {
			n++
		}
		if err := s.writeRun(ctx, list[:n]); err != nil && first == nil {
			first = err
		}
		list = list[n:]
	}
	return first
}

// writeRun writes blocks that follow each other.
func (s *Store) writeRun(ctx context.Context, run []*buf) error {
	mem := mapper.GetBuffer(len(run) * BlockSize)
	defer mem.Free()
	for i, n := range run {
		page := mem.Data[i*BlockSize:][:BlockSize]
		copy(page, n.data)
		n.kind.Seal(n.block, page)
	}
	err := s.disk.Submit(ctx, mapper.Request{
		Op: mapper.OpWrite, Start: mapper.Sector(run[0].block) * BlockSectors, Count: mapper.Sector(len(run)) * BlockSectors, Data: mem.Data,
	})
	if err != nil {
		return fmt.Errorf("metadata blocks from %d on: %w", run[0].block, err)
	}
	s.dirtyMu.Lock()
	defer s.dirtyMu.Unlock()
	for _, n := range run {
		if s.dirty[n.block] == n {
			delete(s.dirty, n.block)
			n.dirty.Store(false)
			n.note()
		}
	}
	return nil
}

// WriteSuper makes everything durable that is not, and then block b, whose data is sealed, in the same way: the switch from one
// transaction to the next.
func (s *Store) WriteSuper(ctx context.Context, b Block, k *Kind, data []byte) error {
	if err := s.writeDirty(ctx); err != nil {
		return err
	}
	if err := s.disk.Submit(ctx, mapper.Request{Op: mapper.OpFlush}); err != nil {
		return fmt.Errorf("flush of the metadata: %w", err)
	}
	page := mapper.GetBuffer(BlockSize)
	defer page.Free()
	copy(page.Data, data)
	k.Seal(b, page.Data)
	at := mapper.Sector(b) * BlockSectors
	err := s.disk.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Flags: mapper.FlagFUA, Start: at, Count: BlockSectors, Data: page.Data})
	if err != nil {
		return fmt.Errorf("superblock: %w", err)
	}
	return nil
}
