package thin

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
	"dmfs/targets/pdata"
)

// A target is the target thin: one device of a pool.
type target struct {
	host     mapper.Host
	pool     *pool
	poolDisk mapper.Disk // the mapped device of the pool
	origin   mapper.Disk // what unmapped blocks show; nil for zeroes
	dev      *device
	length   mapper.Sector

	mu      sync.Mutex
	requeue chan struct{} // closed while requests that wait for space are handed back
}

var (
	_ mapper.Hinter        = (*target)(nil)
	_ mapper.Areaser       = (*target)(nil)
	_ mapper.Tabler        = (*target)(nil)
	_ mapper.Statuser      = (*target)(nil)
	_ mapper.Extenter      = (*target)(nil)
	_ mapper.PreSuspender  = (*target)(nil)
	_ mapper.SuspendUndoer = (*target)(nil)
	_ mapper.Resumer       = (*target)(nil)
)

func (f *family) newThin(ctx context.Context, h mapper.Host, s mapper.Spec) (*target, error) {
	if len(s.Args) != 2 && len(s.Args) != 3 {
		return nil, mapper.BadArg("Invalid argument count", "%d arguments: want POOL ID [ORIGIN]", len(s.Args))
	}
	t := &target{host: h, length: s.Len, requeue: make(chan struct{})}
	const badOrigin = "Error setting origin device"
	var err error
	if len(s.Args) == 3 {
		if s.Args[2] == s.Args[0] {
			return nil, mapper.BadArg(badOrigin, "%s is the pool", s.Args[2])
		}
		if t.origin, err = args.Open(ctx, h, s.Args[2], "Error opening origin device"); err != nil {
			return nil, err
		}
	}
	if t.poolDisk, err = args.Open(ctx, h, s.Args[0], "Error opening pool device"); err != nil {
		return nil, err
	}
	if t.origin == t.poolDisk {
		return nil, mapper.BadArg(badOrigin, "%s and %s are one device", s.Args[0], s.Args[2])
	}
	id, ok := args.LongUint64(s.Args[1])
	if !ok || id > maxDevID {
		return nil, mapper.BadArg("Invalid device id", "%s: want a number up to %d", mapper.ShowArg(s.Args[1]), maxDevID)
	}
	if _, mapped := t.poolDisk.(interface{ Minor() uint32 }); !mapped {
		return nil, mapper.BadArg("Couldn't get pool mapped device", "%s is no mapped device", s.Args[0])
	}
	if t.pool = f.join(mapper.DiskName(t.poolDisk)); t.pool == nil {
		return nil, mapper.BadArg("Couldn't find pool object", "%s is no thin-pool", s.Args[0])
	}
	if err := t.openDevice(ctx, DevID(id)); err != nil {
		t.pool.release(false)
		return nil, err
	}
	if t.pool.isShut() {
		return nil, errors.Join(t.Close(), mapper.BadArg("Unable to activate thin device while pool is suspended", "resume %s first", s.Args[0]))
	}
	return t, nil
}

// isShut reports whether the pool is suspended, or was never resumed.
func (p *pool) isShut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shut
}

// join returns the pool of the mapped device with that number, with a reference, or nil.
func (f *family) join(number string) *pool {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.byNumber[number]
	if p != nil {
		p.refs++
	}
	return p
}

// openDevice finds the device in the metadata.
func (t *target) openDevice(ctx context.Context, id DevID) error {
	p := t.pool
	if mode(p.mode.Load()) == modeFail {
		return mapper.BadArg("Couldn't open thin device, Pool is in fail mode", "")
	}
	if err := p.take(ctx); err != nil {
		return err
	}
	defer p.leave()
	err := error(unix.ENODATA)
	if !p.blank {
		if err := p.look.Lock(ctx); err != nil {
			return err
		}
		t.dev, err = p.md.open(ctx, id)
		p.look.Unlock()
	}
	if err != nil {
		return &mapper.ArgError{Reason: "Couldn't open thin internal device", Detail: fmt.Sprintf("id %d: %v", id, err), Errno: mapper.Errno(err)}
	}
	return nil
}

// Close gives up the device.
func (t *target) Close() error {
	p := t.pool
	p.turn <- struct{}{}
	if err := p.look.Lock(context.Background()); err == nil {
		p.md.close(t.dev)
		p.look.Unlock()
	}
	p.leave()
	p.release(false)
	return nil
}

// maxDiscardSectors is the longest discard, the kernel's.
const maxDiscardSectors = 2048 * 1024 * 16

// Hints makes requests stay within a block.
func (t *target) Hints(l *mapper.Limits) {
	p := t.pool
	l.Split, l.SplitDiscard = p.blockSectors, false
	l.VolatileCache = true
	l.MaxWriteZeroes = maxDiscardSectors
	if t.origin != nil { // only read, so of its limits the size of its blocks counts
		l.LogicalBlock = max(p.data.Limits().LogicalBlock, t.origin.Limits().LogicalBlock)
	}
	l.DiscardGranularity, l.MaxDiscard = 0, 0
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.features.ignoreDiscard {
		l.DiscardGranularity, l.MaxDiscard = p.blockSectors, maxDiscardSectors
	}
}

// Areas returns the pool: the origin may be shorter than the device.
func (t *target) Areas() []mapper.Area {
	return []mapper.Area{{Disk: t.poolDisk}}
}

// Table returns POOL ID [ORIGIN].
func (t *target) Table(bool) []string {
	words := []string{mapper.DiskName(t.poolDisk), fmt.Sprint(t.dev.id)}
	if t.origin != nil {
		words = append(words, mapper.DiskName(t.origin))
	}
	return words
}

// PreSuspend hands requests that wait for space back to the core, if noFlush.
func (t *target) PreSuspend(noFlush bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if noFlush {
		select {
		case <-t.requeue:
		default:
			close(t.requeue)
		}
	}
}

// PreSuspendUndo lets requests wait again.
func (t *target) PreSuspendUndo() { t.Resume() }

// Resume lets requests wait again. Those that wait already, since a suspend that did not ask for them back was given up, are still asked by the next.
func (t *target) Resume() {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.requeue:
		t.requeue = make(chan struct{})
	default:
	}
}

// Submit carries r out. If the pool has no space it waits, as long as the pool does.
func (t *target) Submit(ctx context.Context, r mapper.Request) error {
	p := t.pool
	for {
		if err := p.io.Share(ctx); err != nil {
			return err
		}
		err := t.carry(ctx, r)
		p.io.Unshare()
		if !errors.Is(err, errWaitForSpace) {
			return err
		}
		if err := t.waitForSpace(ctx); err != nil {
			return err
		}
	}
}

// waitForSpace returns when it is worth another try.
func (t *target) waitForSpace(ctx context.Context) error {
	p := t.pool
	t.mu.Lock()
	requeue := t.requeue
	t.mu.Unlock()
	p.mu.Lock()
	full, fails, space := mode(p.mode.Load()) == modeOutOfData, p.features.errorIfNoSpace, p.space
	p.mu.Unlock()
	switch {
	case !full:
		return nil
	case fails:
		return mapper.ErrNoSpace
	}
	select {
	case <-space:
		return nil
	case <-requeue:
		return mapper.ErrRequeue
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// carry does what r asks for, inside the pool.
func (t *target) carry(ctx context.Context, r mapper.Request) error {
	if mode(t.pool.mode.Load()) == modeFail {
		return fmt.Errorf("the pool has failed: %w", mapper.ErrIO)
	}
	switch r.Op {
	case mapper.OpRead:
		return t.read(ctx, r)
	case mapper.OpWrite:
		return t.write(ctx, r)
	case mapper.OpFlush:
		return t.flush(ctx, r)
	case mapper.OpDiscard:
		return t.discard(ctx, r)
	case mapper.OpWriteZeroes:
		return t.writeZeroes(ctx, r)
	}
	return mapper.ErrNotSupported
}

// place returns the block that r, which stays within one, is in, and the sector within the block.
func (t *target) place(s mapper.Sector) (block uint64, within mapper.Sector) {
	return uint64(s / t.pool.blockSectors), s % t.pool.blockSectors
}

// toData returns r, moved to a data block.
func (t *target) toData(r mapper.Request, at pdata.Block, within mapper.Sector) mapper.Request {
	r.Start = mapper.Sector(at)*t.pool.blockSectors + within
	return r
}

// read reads from the data block, the origin or nowhere.
func (t *target) read(ctx context.Context, r mapper.Request) error {
	p := t.pool
	block, within := t.place(r.Start)
	lock := p.cell(t.dev.id, block)
	if err := lock.Share(ctx); err != nil {
		return err
	}
	defer lock.Unshare()
	m, mapped, err := p.lookup(ctx, t.dev, block)
	if err != nil {
		return err
	}
	if mapped {
		return p.data.Submit(ctx, t.toData(r, m.block, within))
	}
	return t.readOrigin(ctx, r)
}

// readOrigin reads what unmapped blocks show.
func (t *target) readOrigin(ctx context.Context, r mapper.Request) error {
	have := mapper.Sector(0)
	if t.origin != nil {
		if size := t.origin.Sectors(); r.Start < size {
			have = min(r.Count, size-r.Start)
		}
	}
	clear(r.Data[have.Bytes():])
	if have == 0 {
		return nil
	}
	return t.origin.Submit(ctx, r.Slice(0, have))
}

// write writes to the data block, after seeing to it that there is one that is t's alone.
func (t *target) write(ctx context.Context, r mapper.Request) error {
	err := t.writeData(ctx, r)
	if err == nil && r.Flags&mapper.FlagFUA != 0 && t.pool.uncommitted(t.dev) {
		return t.commit(ctx)
	}
	return err
}

func (t *target) writeData(ctx context.Context, r mapper.Request) error {
	p := t.pool
	block, within := t.place(r.Start)
	lock := p.cell(t.dev.id, block)
	if err := lock.Share(ctx); err != nil {
		return err
	}
	m, mapped, err := p.lookup(ctx, t.dev, block)
	if err != nil || mapped && !m.shared {
		if err == nil {
			err = p.data.Submit(ctx, t.toData(r, m.block, within))
		}
		lock.Unshare()
		return err
	}
	lock.Unshare()
	if err := lock.Lock(ctx); err != nil {
		return err
	}
	defer lock.Unlock()
	if m, mapped, err = p.lookup(ctx, t.dev, block); err != nil {
		return err
	}
	if mapped && !m.shared {
		return p.data.Submit(ctx, t.toData(r, m.block, within))
	}
	return t.provision(ctx, r, block, within, m, mapped)
}

// provision gives block a data block of its own and writes r to it: an empty one, or a copy of the one it shares. The cell is held alone.
//
// The data is there before the mapping, so that no crash shows what another device left in the block:
//
//  1. a data block is reserved, in memory only
//  2. it gets what the block shows, and r; a write of all of it needs nothing else
//  3. the mapping is changed to it, which counts it
//  4. a commit flushes the data disk first
func (t *target) provision(ctx context.Context, r mapper.Request, block uint64, within mapper.Sector, from mapping, shared bool) error {
	p := t.pool
	at, err := p.reserveBlock(ctx)
	if err != nil {
		return err
	}
	whole := r.Count == p.blockSectors
	if !whole {
		err = t.fill(ctx, at, block, within, r.Count, from, shared)
	}
	if err == nil {
		err = p.data.Submit(ctx, t.toData(r, at, within))
	}
	if err != nil {
		p.unreserve(at)
		return err
	}
	p.turn <- struct{}{}
	defer p.leave()
	p.warm(ctx, t.dev, block, from.block, shared)
	if err = p.headroomFor(ctx, t.dev, block, block+1); err == nil {
		err = p.insert(ctx, t.dev, block, at)
	}
	if err != nil {
		p.md.data.Release(at)
	}
	return err
}

// insert maps block of d to a reserved data block. The turn is held.
func (p *pool) insert(ctx context.Context, d *device, block uint64, at pdata.Block) error {
	return p.change(ctx, "dm_thin_insert_block", func(ctx context.Context) error {
		if err := p.md.insert(ctx, d, block, at); err != nil {
			return err
		}
		p.changed(d)
		return nil
	})
}

// fill writes to a new data block what block shows, but for the count sectors from within on, which are about to be written.
func (t *target) fill(ctx context.Context, at pdata.Block, block uint64, within, count mapper.Sector, from mapping, shared bool) error {
	size := t.pool.blockSectors
	first := mapper.Sector(block) * size
	if !shared && t.poolSkips() && (t.origin == nil || first >= t.origin.Sectors()) {
		return nil
	}
	for _, part := range [2][2]mapper.Sector{{0, within}, {within + count, size}} {
		for s := part[0]; s < part[1]; {
			n := min(part[1]-s, mapper.SectorsOf(mapper.MaxBuffer))
			if err := t.copyPart(ctx, at, first, s, n, from, shared); err != nil {
				return err
			}
			s += n
		}
	}
	return nil
}

// copyPart fills n sectors of a new data block, s into it.
func (t *target) copyPart(ctx context.Context, at pdata.Block, first, s, n mapper.Sector, from mapping, shared bool) error {
	buf := mapper.GetBuffer(int(n.Bytes()))
	defer buf.Free()
	var err error
	if shared {
		err = t.pool.data.Submit(ctx, t.toData(mapper.Request{Op: mapper.OpRead, Count: n, Data: buf.Data}, from.block, s))
	} else {
		err = t.readOrigin(ctx, mapper.Request{Op: mapper.OpRead, Start: first + s, Count: n, Data: buf.Data})
	}
	if err != nil {
		return err
	}
	return t.pool.data.Submit(ctx, t.toData(mapper.Request{Op: mapper.OpWrite, Count: n, Data: buf.Data}, at, s))
}

// poolSkips reports whether new blocks are not zeroed.
func (t *target) poolSkips() bool {
	p := t.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.features.skipZeroing
}

// flush makes durable what was written: the data, and the mappings that lead to it.
func (t *target) flush(ctx context.Context, r mapper.Request) error {
	if t.dev.aborted.Load() {
		return fmt.Errorf("changes were given up: %w", mapper.ErrIO)
	}
	if t.pool.uncommitted(t.dev) {
		return t.commit(ctx)
	}
	return t.pool.data.Submit(ctx, r)
}

// commit is the pool's, and fails if changes of the device were given up.
func (t *target) commit(ctx context.Context) error {
	if err := t.pool.commit(ctx); err != nil {
		return err
	}
	if t.dev.aborted.Load() {
		return fmt.Errorf("changes were given up: %w", mapper.ErrIO)
	}
	return nil
}
