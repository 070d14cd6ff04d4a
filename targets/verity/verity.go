package verity

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"dmfs/mapper"
	"dmfs/targets/internal/sha256x2"
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
	pairs   *sha256x2.Hash  // hashes two data blocks at a time; nil where that cannot be

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
		w := &work{h: c.newHash(), want: make([]byte, 0, c.digest), sum: make([]byte, 0, c.digest)}
		for i := range w.wait {
			w.wait[i].want = make([]byte, 0, c.digest)
		}
		return w
	}
	if c.algorithm == "sha256" && sha256x2.Supported() {
		t.pairs = sha256x2.New(c.around())
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
	block     uint64 // whose digest want is, or leads to
	wait      [2]unverified
	waiting   int // how many of wait there are
	sums      [2][sha256x2.Size]byte
	passed    []corruption // with ignore_corruption
}

// An unverified block is a data block that is to be verified.
type unverified struct {
	number uint64
	data   []byte // its caller's
	want   []byte // its digest, by the tree
	lost   error  // why it could not be read
}

// around returns what is hashed before a block and after it.
func (c *config) around() (before, after []byte) {
	if c.version == 0 {
		return nil, c.salt
	}
	return c.salt, nil
}

// digestOf returns the digest of a block. It is valid until the next.
func (t *target) digestOf(w *work, block []byte) []byte {
	before, after := t.around()
	w.h.Reset()
	w.h.Write(before) //nolint:errcheck // a hash takes everything
	w.h.Write(block)  //nolint:errcheck // likewise
	w.h.Write(after)  //nolint:errcheck // likewise
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
	width := max(1, min(runtime.GOMAXPROCS(0), len(r.Data)/sharedBytes))
	if width == 1 {
		passed, err := t.read(ctx, r)
		t.tell(passed, err)
		return err
	}
	// Each goroutine gets a part, since what they do takes the same time, and reads it, too: to read all first would leave the others idle.
	n := r.Count / t.dataBlock
	each := (n + mapper.Sector(width) - 1) / mapper.Sector(width)
	passed := make([][]corruption, width)
	err := mapper.FanOut(width, width, func(i int) (err error) {
		from := min(mapper.Sector(i)*each, n)
		blocks := min(each, n-from)
		if blocks == 0 {
			return nil
		}
		passed[i], err = t.read(ctx, r.Slice(from*t.dataBlock, blocks*t.dataBlock))
		return err
	})
	t.tell(slices.Concat(passed...), err)
	return err
}

// read reads and verifies what was not verified before. passed is what did not verify and is read all the same.
func (t *target) read(ctx context.Context, r mapper.Request) (passed []corruption, err error) {
	lost, err := t.readData(ctx, r)
	if err != nil {
		return nil, err
	}
	first := uint64(r.Start / t.dataBlock)
	if t.once && lost == nil && t.allChecked(first, uint64(r.Count/t.dataBlock)) {
		return nil, nil
	}
	w := t.works.Get().(*work)
	defer t.works.Put(w)
	err = t.verify(ctx, w, first, r.Data, lost)
	passed, w.passed = w.passed, nil
	slices.SortStableFunc(passed, func(a, b corruption) int { return cmp.Compare(a.met, b.met) }) // blocks are verified two at a time
	return passed, err
}

// readData reads the data. Blocks that cannot be read are zeroes if they may be repaired, and lost says which they are, and why.
func (t *target) readData(ctx context.Context, r mapper.Request) (lost map[uint64]error, err error) {
	err = t.data.Submit(ctx, r)
	if err == nil || !t.mends(ctx) {
		return nil, err
	}
	lost = make(map[uint64]error)
	for at := mapper.Sector(0); at < r.Count; at += t.dataBlock {
		part := r.Slice(at, t.dataBlock)
		if err := t.data.Submit(ctx, part); err != nil {
			clear(part.Data)
			lost[uint64(part.Start/t.dataBlock)] = err
		}
	}
	return lost, nil
}

// mends reports whether what cannot be read may be repaired. Of a read that was called off nothing is known.
func (t *target) mends(ctx context.Context) bool { return t.fec.disk != nil && ctx.Err() == nil }

// sharedBytes is from what size on, in bytes, verifying is worth another processor.
const sharedBytes = 64 << 10

var errDead = fmt.Errorf("the device has failed since a block did not verify: %w", mapper.ErrIO)

// verify verifies the data blocks from first on, which are in data, two at a time. Those of lost could not be read.
func (t *target) verify(ctx context.Context, w *work, first uint64, data []byte, lost map[uint64]error) error {
	trust := t.once && lost == nil // leave out what was verified before
	w.waiting = 0
	size := int(t.dataBlock.Bytes())
	for block := first; len(data) > 0; block, data = block+1, data[size:] {
		if trust && t.wasChecked(block) {
			continue
		}
		if err := t.want(ctx, w, block, true); err != nil {
			if before := t.verifyWaiting(ctx, w); before != nil {
				return before
			}
			return err
		}
		if t.zero != nil && bytes.Equal(w.want, t.zero) {
			clear(data[:size]) // whatever was read
			continue
		}
		b := &w.wait[w.waiting]
		b.number, b.data, b.want, b.lost = block, data[:size], append(b.want[:0], w.want...), lost[block]
		if w.waiting++; w.waiting == len(w.wait) {
			if err := t.verifyWaiting(ctx, w); err != nil {
				return err
			}
		}
	}
	return t.verifyWaiting(ctx, w)
}

// verifyWaiting verifies the blocks that wait for it.
func (t *target) verifyWaiting(ctx context.Context, w *work) error {
	blocks := w.wait[:w.waiting]
	w.waiting = 0
	paired := t.pairs != nil && len(blocks) == 2
	if paired {
		t.pairs.Sum(&w.sums, blocks[0].data, blocks[1].data)
	}
	for i := range blocks {
		sum := w.sums[i][:]
		if !paired {
			sum = t.digestOf(w, blocks[i].data)
		}
		if err := t.settle(ctx, w, &blocks[i], sum); err != nil {
			return err
		}
		blocks[i].data, blocks[i].lost = nil, nil
	}
	return nil
}

// settle compares the digest of a data block with what it is to be, and repairs the block if it can.
func (t *target) settle(ctx context.Context, w *work, b *unverified, sum []byte) error {
	if !bytes.Equal(sum, b.want) {
		fixed, ok := t.repair(ctx, w, b.number, b.want)
		if !ok {
			return t.failed(ctx, w, "data", b.number, b.number, b.lost)
		}
		copy(b.data, fixed)
	}
	if t.once {
		t.checked[b.number/32].Or(1 << (b.number % 32))
	}
	return nil
}

// allChecked reports whether the n blocks from first on were verified before.
func (t *target) allChecked(first, n uint64) bool {
	for block := first; block < first+n; block++ {
		if !t.wasChecked(block) {
			return false
		}
	}
	return true
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
	w.block = block
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
	lost := t.hash.Submit(ctx, r)
	if lost != nil && !t.mends(ctx) {
		return lost
	}
	if bytes.Equal(t.digestOf(w, block), w.want) {
		t.cache.put(at, block)
	} else if !mend {
		return errUnknown
	} else if fixed, ok := t.repair(ctx, w, at-t.start+t.blocks, w.want); ok {
		block = fixed
		t.cache.put(at, block)
	} else if err := t.failed(ctx, w, "metadata", at, w.block, lost); err != nil {
		return err
	}
	w.want = append(w.want[:0], block[off:off+t.digest]...)
	return nil
}

// errUnknown says that a digest is not known, since the tree is damaged.
var errUnknown = errors.New("the tree does not verify")

// A corruption is a block that does not verify.
type corruption struct {
	kind  string // "data" or "metadata"
	block uint64
	met   uint64 // the data block that was to be verified
}

func (c *corruption) Error() string {
	return fmt.Sprintf("%s block %d does not verify: %v", c.kind, c.block, mapper.ErrIO)
}

func (c *corruption) Unwrap() error { return mapper.ErrIO }

// failed returns the error that it costs, if any, that a block does not verify and was not repaired. One that could not be read, or of
// which the repair was called off, is not known to be corrupted.
func (t *target) failed(ctx context.Context, w *work, kind string, block, met uint64, lost error) error {
	switch {
	case lost != nil:
		return lost
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	t.corrupt.Store(true)
	c := corruption{kind, block, met}
	if t.onError == passes {
		w.passed = append(w.passed, c)
		return nil
	}
	return &c
}

// tell logs what did not verify, and draws the consequence for the device. What passed are all blocks in their order, and what
// costs the request is the first of all, behind which the kernel reads no more.
func (t *target) tell(passed []corruption, err error) {
	for i := range passed {
		t.log(&passed[i])
	}
	if err == nil {
		return
	}
	var c *corruption
	if !errors.As(err, &c) {
		return
	}
	t.log(c)
	if (t.onError == restarts || t.onError == panics) && t.dead.CompareAndSwap(false, true) {
		t.host.Logf("dm-verity device corrupted: the device fails from here on (%s)", words[t.onError])
	}
}

func (t *target) log(c *corruption) {
	name := mapper.DiskName(t.data)
	switch n := t.logged.Add(1); {
	case n <= maxLogged:
		t.host.Logf("%s: %s block %d is corrupted", name, c.kind, c.block)
		if n == maxLogged {
			t.host.Logf("%s: reached maximum errors", name)
		}
	default:
		t.logged.Store(maxLogged + 1) // it does not overflow
	}
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
