package thin

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"dmfs/mapper"
	"dmfs/targets/pdata"
)

// discardBatch is how many blocks are unmapped at a time.
const discardBatch = 1024

// discard unmaps the blocks that lie in r as a whole, and leaves the others alone, as the kernel does.
func (t *target) discard(ctx context.Context, r mapper.Request) error {
	if mode(t.pool.mode.Load()) >= modeOutOfMetadata {
		return nil // nothing is promised
	}
	size := t.pool.blockSectors
	return t.unmap(ctx, uint64((r.Start+size-1)/size), uint64(r.End()/size))
}

// unmap unmaps the blocks from from to to.
func (t *target) unmap(ctx context.Context, from, to uint64) error {
	for from < to {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		next, found, err := t.nextMapped(ctx, from, to)
		if err != nil || !found {
			return err
		}
		from = next
		if err := t.unmapSome(ctx, from, min(to, from+discardBatch)); err != nil {
			return err
		}
		from = min(to, from+discardBatch)
	}
	return nil
}

// nextMapped returns the first mapped block in [from, to).
func (t *target) nextMapped(ctx context.Context, from, to uint64) (uint64, bool, error) {
	p := t.pool
	if err := p.look.Share(ctx); err != nil {
		return 0, false, err
	}
	defer p.look.Unshare()
	var v [mappingSize]byte
	key, err := p.md.sub.Next(ctx, t.dev.root, from, v[:])
	if errors.Is(err, pdata.ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("mappings: %w: %w", mapper.ErrIO, err)
	}
	return key, key < to, nil
}

// lockCells takes the cells of the blocks from from to to alone.
func (t *target) lockCells(ctx context.Context, from, to uint64) (unlock func(), err error) {
	p := t.pool
	var held []int
	unlock = func() {
		for _, i := range held {
			p.cells[i].Unlock()
		}
	}
	want := make([]int, 0, min(to-from, cellCount))
	for b := from; b < to && len(want) < cellCount; b++ {
		want = append(want, cellOf(t.dev.id, b))
	}
	slices.Sort(want) // all who take several take them in this order
	for _, i := range slices.Compact(want) {
		if err := p.cells[i].Lock(ctx); err != nil {
			unlock()
			return nil, err
		}
		held = append(held, i)
	}
	return unlock, nil
}

// unmapSome unmaps up to discardBatch blocks. Those that nobody refers to any more are left to the next commit.
func (t *target) unmapSome(ctx context.Context, from, to uint64) error {
	unlock, err := t.lockCells(ctx, from, to)
	if err != nil {
		return err
	}
	defer unlock()
	p := t.pool
	if err := p.take(ctx); err != nil {
		return err
	}
	defer p.leave()
	if p.md.freeMeta() == 0 { // what is left is for commits
		if err := p.commitNow(ctx); err != nil {
			return err
		}
	}
	p.warmRange(ctx, t.dev, from, to)
	if err := p.headroomFor(ctx, t.dev, from, to); err != nil {
		return err
	}
	return p.change(ctx, "dm_thin_remove_range", func(ctx context.Context) error {
		p.changed(t.dev)
		return p.md.remove(ctx, t.dev, from, to)
	})
}

// trimBatch bounds the discards that follow a commit at once, trimSkips the blocks that are found to be in use again.
const trimBatch, trimSkips = 16, 4096

// trim discards blocks of the data disk that have become free. It comes after a commit: before, a power cut would bring back mappings that
// lead to them, of devices that nobody discarded anything of, if these shared the blocks. That the disk cannot discard is no error:
// nobody looks at the blocks any more. The turn is held, so that no block is allocated meanwhile. Of many it leaves some to the next time.
func (p *pool) trim(ctx context.Context) {
	p.mu.Lock()
	passDown := !p.features.noPassdown && !p.features.ignoreDiscard
	p.mu.Unlock()
	most := pdata.Block(p.data.Limits().MaxDiscard / p.blockSectors)
	if !passDown || most == 0 {
		p.trims = nil
		return
	}
	for left, skips := trimBatch, trimSkips; left > 0 && skips > 0 && len(p.trims) > 0; {
		r := &p.trims[0]
		n, err := p.md.data.FreeRun(ctx, r.start, min(r.n, most))
		switch {
		case err != nil:
			n = r.n // the space stays taken
			skips--
		case n == 0:
			n = 1
			skips--
		default:
			left--
			first := mapper.Sector(r.start) * p.blockSectors
			_ = p.data.Submit(ctx, mapper.Request{Op: mapper.OpDiscard, Start: first, Count: mapper.Sector(n) * p.blockSectors})
		}
		if r.start, r.n = r.start+n, r.n-n; r.n == 0 {
			p.trims = p.trims[1:]
		}
	}
	if len(p.trims) == 0 {
		p.trims = nil
	}
}

// trimAll discards all that is left to discard, and gives others their turn now and then. The turn is held.
func (p *pool) trimAll(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	for len(p.trims) > 0 {
		p.leave()
		p.turn <- struct{}{}
		p.trim(ctx)
	}
}

// writeZeroes makes r read as zeroes. Whole blocks are unmapped where unmapped blocks read as zeroes, unless their space is to be kept.
func (t *target) writeZeroes(ctx context.Context, r mapper.Request) error {
	p := t.pool
	size := p.blockSectors
	keep := r.Flags&mapper.FlagNoUnmap != 0
	p.mu.Lock()
	keep = keep || p.features.ignoreDiscard
	p.mu.Unlock()
	for r.Count > 0 {
		block, within := t.place(r.Start)
		n := min(r.Count, size-within)
		var err error
		switch whole := r.Count / size * size; {
		case within == 0 && whole > 0 && !keep && t.origin == nil:
			n = whole
			err = t.unmap(ctx, block, block+uint64(whole/size))
			if err == nil && r.Flags&mapper.FlagFUA != 0 && p.uncommitted(t.dev) {
				err = t.commit(ctx)
			}
		default:
			err = t.zeroPart(ctx, r.Slice(0, n), block)
		}
		if err != nil {
			return err
		}
		r = r.Slice(n, r.Count-n)
	}
	return nil
}

// zeroPart writes zeroes over r, which lies in one block, unless the block reads as zeroes anyway.
func (t *target) zeroPart(ctx context.Context, r mapper.Request, block uint64) error {
	if r.Flags&mapper.FlagNoUnmap == 0 && t.origin == nil {
		_, mapped, err := t.pool.lookup(ctx, t.dev, block)
		if err != nil || !mapped {
			return err
		}
	}
	buf := mapper.GetBuffer(int(min(r.Count, mapper.SectorsOf(mapper.MaxBuffer)).Bytes()))
	defer buf.Free()
	clear(buf.Data)
	for r.Count > 0 {
		n := min(r.Count, mapper.SectorsOf(int64(len(buf.Data))))
		w := mapper.Request{Op: mapper.OpWrite, Flags: r.Flags & mapper.FlagFUA, Start: r.Start, Count: n, Data: buf.Data[:n.Bytes()]}
		if err := t.write(ctx, w); err != nil {
			return err
		}
		r = r.Slice(n, r.Count-n)
	}
	return nil
}
