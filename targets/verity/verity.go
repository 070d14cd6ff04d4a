package verity

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"

	"dmfs/mapper"
)

// Type is the verity target.
var Type = mapper.Type{Name: "verity", Version: [3]int{1, 9, 0}, Features: mapper.Immutable, New: newTarget}

// maxLogged is how many blocks that do not verify are logged.
const maxLogged = 100

type target struct {
	config
	host   mapper.Host
	length mapper.Sector // of the segment
	tree   tree
	zero   []byte // the digest of a data block of zeroes, if they are not read

	cache   cache
	checked []atomic.Uint32 // bits, by data block: it was verified before; nil unless once
	works   sync.Pool       // of *work

	corrupt atomic.Bool   // something did not verify
	dead    atomic.Bool   // and that was not to be survived
	logged  atomic.Uint32 // how many times that was logged
}

var (
	_ mapper.Areaser  = (*target)(nil)
	_ mapper.Tabler   = (*target)(nil)
	_ mapper.Statuser = (*target)(nil)
	_ mapper.Hinter   = (*target)(nil)
)

func newTarget(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
	c, err := parse(ctx, h, s)
	if err != nil {
		return nil, err
	}
	t := &target{config: c, host: h, length: s.Len}
	if t.tree, err = newTree(&t.config); err != nil {
		return nil, err
	}
	if err := t.fec.prepare(&t.config, &t.tree); err != nil {
		return nil, err
	}
	t.cache.limit = max(64, int(cacheBytes/c.hashBlock.Bytes()))
	t.works.New = func() any {
		return &work{h: c.newHash(), want: make([]byte, 0, c.digest), sum: make([]byte, 0, c.digest)}
	}
	if c.once {
		const most = 1 << 33 // blocks: a bitmap of 1 GiB
		if c.blocks > most {
			return nil, mapper.BadArg("failed to allocate bitset for check_at_most_once", "%d blocks: want at most %d", c.blocks, uint64(most))
		}
		t.checked = make([]atomic.Uint32, (c.blocks+31)/32)
	}
	if c.zeroBlocks {
		w := t.works.Get().(*work)
		t.zero = bytes.Clone(t.digestOf(w, make([]byte, c.dataBlock.Bytes())))
		t.works.Put(w)
	}
	return t, nil
}

// A work is what verifying needs, for one goroutine.
type work struct {
	h         hash.Hash
	want, sum []byte // digests
}

// digestOf returns the digest of a block. It is valid until the next.
func (t *target) digestOf(w *work, block []byte) []byte {
	w.h.Reset()
	if t.version == 1 {
		w.h.Write(t.salt) //nolint:errcheck // a hash takes everything
	}
	w.h.Write(block) //nolint:errcheck // likewise
	if t.version == 0 {
		w.h.Write(t.salt) //nolint:errcheck // likewise
	}
	w.sum = w.h.Sum(w.sum[:0])
	return w.sum
}

// Submit reads, and verifies what was read.
func (t *target) Submit(ctx context.Context, r mapper.Request) error {
	switch {
	case r.Op == mapper.OpFlush:
		return nil // nothing is ever written
	case r.Op != mapper.OpRead:
		return mapper.ErrReadOnly
	case t.dead.Load():
		return errDead
	}
	n := r.Count / t.dataBlock
	width := min(runtime.GOMAXPROCS(0), max(1, len(r.Data)/sharedBytes))
	// Each goroutine gets a part, since what they do takes the same time, and reads it, too: to read all first would leave the others idle.
	each := (n + mapper.Sector(width) - 1) / mapper.Sector(width)
	return mapper.FanOut(width, width, func(i int) error {
		from := min(mapper.Sector(i)*each, n)
		blocks := min(each, n-from)
		if blocks == 0 {
			return nil
		}
		part := r.Slice(from*t.dataBlock, blocks*t.dataBlock)
		if err := t.readData(ctx, part); err != nil {
			return err
		}
		return t.verify(ctx, uint64(part.Start/t.dataBlock), part.Data)
	})
}

// readData reads the data. Blocks that cannot be read are read as zeroes if they may be repaired.
func (t *target) readData(ctx context.Context, r mapper.Request) error {
	err := t.data.Submit(ctx, r)
	if err == nil || t.fec.disk == nil || ctx.Err() != nil {
		return err
	}
	for at := mapper.Sector(0); at < r.Count; at += t.dataBlock {
		if part := r.Slice(at, t.dataBlock); t.data.Submit(ctx, part) != nil {
			clear(part.Data)
		}
	}
	return nil
}

// sharedBytes is from what size on, in bytes, verifying is worth another processor.
const sharedBytes = 64 << 10

var errDead = fmt.Errorf("the device has failed since a block did not verify: %w", mapper.ErrIO)

// verify verifies the data blocks from first on, which are in data.
func (t *target) verify(ctx context.Context, first uint64, data []byte) error {
	w := t.works.Get().(*work)
	defer t.works.Put(w)
	size := int(t.dataBlock.Bytes())
	for block := first; len(data) > 0; block, data = block+1, data[size:] {
		if t.once && t.wasChecked(block) {
			continue
		}
		if err := t.verifyBlock(ctx, w, block, data[:size]); err != nil {
			return err
		}
	}
	return nil
}

// verifyBlock verifies one data block, or fills it with zeroes if its digest says that it has nothing else.
func (t *target) verifyBlock(ctx context.Context, w *work, block uint64, data []byte) error {
	if err := t.want(ctx, w, block, true); err != nil {
		return err
	}
	if t.zero != nil && bytes.Equal(w.want, t.zero) {
		clear(data)
		return nil
	}
	if !bytes.Equal(t.digestOf(w, data), w.want) {
		fixed, ok := t.repair(ctx, w, block, w.want)
		if !ok {
			return t.failed("data", block)
		}
		copy(data, fixed)
	}
	if t.once {
		t.checked[block/32].Or(1 << (block % 32))
	}
	return nil
}

func (t *target) wasChecked(block uint64) bool { return t.checked[block/32].Load()>>(block%32)&1 != 0 }

// want puts into w what the digest of a data block is to be. It goes up the tree as far as nothing is known, and down again. mend says to
// repair what does not verify on the way, and to log it.
func (t *target) want(ctx context.Context, w *work, block uint64, mend bool) error {
	top := len(t.tree.level)
	level := 0
	for ; level < top; level++ {
		at, off := t.tree.place(block, level)
		if known := t.cache.get(at); known != nil {
			w.want = append(w.want[:0], known[off:off+t.digest]...)
			break
		}
	}
	if level == top {
		w.want = append(w.want[:0], t.root...)
	}
	for level--; level >= 0; level-- {
		at, off := t.tree.place(block, level)
		if err := t.descend(ctx, w, at, off, mend); err != nil {
			return err
		}
	}
	return nil
}

// descend reads hash block at, whose digest is to be w.want, and puts into that the digest which it has at off.
func (t *target) descend(ctx context.Context, w *work, at uint64, off int, mend bool) error {
	n := t.hashBlock
	block := make([]byte, n.Bytes()) // of which the cache keeps most
	r := mapper.Request{Op: mapper.OpRead, Start: mapper.Sector(at) * n, Count: n, Data: block}
	if err := t.hash.Submit(ctx, r); err != nil && t.fec.disk == nil {
		return err
	}
	if bytes.Equal(t.digestOf(w, block), w.want) {
		t.cache.put(at, block)
	} else if !mend {
		return errUnknown
	} else if fixed, ok := t.repair(ctx, w, at-t.start+t.blocks, w.want); ok {
		block = fixed
		t.cache.put(at, block)
	} else if err := t.failed("metadata", at); err != nil {
		return err
	}
	w.want = append(w.want[:0], block[off:off+t.digest]...)
	return nil
}

// errUnknown says that a digest is not known, since the tree is damaged.
var errUnknown = errors.New("the tree does not verify")

// failed says that a block does not verify, and returns the error that it costs, if any.
func (t *target) failed(kind string, block uint64) error {
	t.corrupt.Store(true)
	name := mapper.DiskName(t.data)
	switch n := t.logged.Add(1); {
	case n <= maxLogged:
		t.host.Logf("%s: %s block %d is corrupted", name, kind, block)
		if n == maxLogged {
			t.host.Logf("%s: reached maximum errors", name)
		}
	default:
		t.logged.Store(maxLogged + 1) // it does not overflow
	}
	switch t.onError {
	case passes:
		return nil
	case restarts, panics:
		if t.dead.CompareAndSwap(false, true) {
			t.host.Logf("dm-verity device corrupted: the device fails from here on (%s)", words[t.onError])
		}
	}
	return fmt.Errorf("%s block %d does not verify: %w", kind, block, mapper.ErrIO)
}

// Areas returns the data. The tree has been found to fit, and its blocks need not be those of the device.
func (t *target) Areas() []mapper.Area { return []mapper.Area{{Disk: t.data, Len: t.length}} }

// Hints asks for whole data blocks, and has nothing that changes.
func (t *target) Hints(l *mapper.Limits) {
	size := int(t.dataBlock.Bytes())
	l.LogicalBlock, l.PhysicalBlock = max(l.LogicalBlock, size), max(l.PhysicalBlock, size)
	l.MinIO = max(l.MinIO, size)
	l.MaxDiscard, l.DiscardGranularity, l.MaxWriteZeroes = 0, 0, 0
}

// Table returns the table line, with the options in the kernel's order.
func (t *target) Table(bool) []string {
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	salt := "-"
	if len(t.salt) > 0 {
		salt = hex.EncodeToString(t.salt)
	}
	list := []string{
		number(uint64(t.version)), mapper.DiskName(t.data), mapper.DiskName(t.hash),
		number(uint64(t.dataBlock.Bytes())), number(uint64(t.hashBlock.Bytes())), number(t.blocks), number(t.start),
		t.algorithm, hex.EncodeToString(t.root), salt,
	}
	if options := t.options(); len(options) > 0 {
		list = append(append(list, strconv.Itoa(len(options))), options...)
	}
	return list
}

// Status returns V, or C if something did not verify.
func (t *target) Status(context.Context, bool) (string, error) {
	if t.corrupt.Load() {
		return "C", nil
	}
	return "V", nil
}
