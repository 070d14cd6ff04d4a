package thin

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/targets/pdata"
)

// A batch is one commit for all who asked for it before it began.
type batch struct {
	done chan struct{}
	err  error
}

// change lets f change the metadata. The turn is held.
func (p *pool) change(ctx context.Context, what string, f func(ctx context.Context) error) error {
	if mode(p.mode.Load()) >= modeOutOfMetadata {
		return mapper.ErrIO
	}
	ctx = context.WithoutCancel(ctx) // a half-made change is finished
	if err := p.look.Lock(ctx); err != nil {
		return err
	}
	err := f(ctx)
	p.look.Unlock()
	if err == nil && p.alone && p.md.tm.Meta().Free() < p.md.commitTakes() {
		err = pdata.ErrNoSpace // it could not be committed
	}
	switch {
	case errors.Is(err, pdata.ErrNoSpace) && p.alone:
		p.giveUp(ctx, what)
		return fmt.Errorf("%s: the metadata is full: %w: %w", what, mapper.ErrIO, pdata.ErrNoSpace)
	case err != nil && !refusal(err):
		p.failed(ctx, what, err)
		return fmt.Errorf("%s: %w: %w", what, mapper.ErrIO, err)
	}
	p.alone = false
	if !p.kicked.Swap(true) { // else the worker would be woken by every change
		select {
		case p.kick <- struct{}{}:
		default:
		}
	}
	return err
}

// manyMetaBlocks is more than one change takes, but for contrived ones.
const manyMetaBlocks = 1024

// roomy reports whether there are metadata blocks for whatever one change takes.
func (p *pool) roomy() bool { return p.md.tm.Meta().Free() >= p.md.reserve()+manyMetaBlocks }

// headroom sees to it that a change that may take many metadata blocks can be given up without harm: if there are few, it commits what others
// were told is done. How many a change takes cannot be told beforehand: to write to a leaf that snapshots share means to count each of its data
// blocks once more, which may copy every block of the space map. The turn is held.
func (p *pool) headroom(ctx context.Context) error {
	if p.roomy() {
		return nil
	}
	if p.md.tm.Changed() {
		if err := p.commitNow(ctx); err != nil {
			return err
		}
	}
	p.alone = true
	return nil
}

// headroomFor is headroom for mapping or unmapping the blocks of d from from to to, if others share what that changes.
func (p *pool) headroomFor(ctx context.Context, d *device, from, to uint64) error {
	const leaf = 64 // a leaf has more blocks, unless it is the root
	if p.roomy() {
		return nil
	}
	for b := from; b < to; b += leaf {
		shared, err := p.md.sub.Shared(ctx, d.root, b)
		switch {
		case err != nil:
			return nil //nolint:nilerr // what is wrong is left to the change to find
		case shared:
			return p.headroom(ctx)
		}
	}
	return nil
}

// giveUp takes back a change for which there were not enough metadata blocks, and nothing else: the metadata is that of the last commit, and needs no
// check. The turn is held.
func (p *pool) giveUp(ctx context.Context, what string) {
	p.logf("metadata operation '%s' failed: error = -%d", what, unix.ENOSPC)
	if p.look.Lock(ctx) != nil {
		return
	}
	for _, d := range p.md.devices { // what they were told is done was committed before
		d.changed = false
		d.changedIn.Store(min(d.changedIn.Load(), p.durable.Load()))
	}
	p.alone = false
	if p.abort(ctx) {
		p.outOfMetadata()
	}
}

// abort makes the metadata that of the last commit again, and releases look, which is held as the turn is. If that cannot be, the pool fails.
func (p *pool) abort(ctx context.Context) (done bool) {
	err := p.md.abort(ctx)
	p.look.Unlock()
	p.seq.Add(1)
	if err != nil {
		p.logf("failed to abort metadata transaction")
		p.setMode(modeFail)
	}
	return err == nil
}

// warm reads what mapping block of d changes, so that nobody waits for the disk while look is held alone. from is the data block that it gives up, if
// gives. What is wrong is left to the change to find. The turn is held.
func (p *pool) warm(ctx context.Context, d *device, block uint64, from pdata.Block, gives bool) {
	if p.look.Share(ctx) != nil {
		return
	}
	defer p.look.Unshare()
	_ = p.md.top.Warm(ctx, p.md.mappings, uint64(d.id), false)
	_ = p.md.sub.Warm(ctx, d.root, block, false)
	if gives {
		_, _ = p.md.data.Count(ctx, from)
	}
}

// warmRange does so for unmapping the blocks from from to to.
func (p *pool) warmRange(ctx context.Context, d *device, from, to uint64) {
	if p.look.Share(ctx) != nil {
		return
	}
	defer p.look.Unshare()
	_ = p.md.top.Warm(ctx, p.md.mappings, uint64(d.id), false)
	_ = p.md.sub.Warm(ctx, d.root, from, true)
	_ = p.md.sub.Warm(ctx, d.root, to-1, true)
	_ = p.md.sub.Walk(ctx, d.root, from, to, func(_ uint64, v []byte) error {
		b, _ := decodeMapping(v)
		_, err := p.md.data.Count(ctx, b)
		return err
	})
}

// changed notes that the transaction changes d.
func (p *pool) changed(d *device) { d.changedIn.Store(p.seq.Load()) }

// uncommitted reports whether there are changes of d that a power cut would undo.
func (p *pool) uncommitted(d *device) bool { return d.changedIn.Load() > p.durable.Load() }

// commit makes durable all changes that were complete when it was called, and what was written to the data disk. Calls that come while a commit runs
// are served together by the next one. ctx ends the wait only.
func (p *pool) commit(ctx context.Context) error {
	p.mu.Lock()
	b := p.batch
	if b == nil {
		b = &batch{done: make(chan struct{})}
		p.batch = b
	}
	p.mu.Unlock()
	select {
	case p.turn <- struct{}{}:
	default:
		select {
		case <-b.done:
			return b.err
		case p.turn <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	p.mu.Lock()
	mine := p.batch == b
	if mine {
		p.batch = nil
	}
	p.mu.Unlock()
	if mine {
		b.err = p.commitNow(ctx)
		close(b.done)
		p.trimAll(ctx)
	}
	p.leave()
	<-b.done
	return b.err
}

// commitNow commits. The turn is held. If there is nothing to commit only the data disk is flushed.
func (p *pool) commitNow(ctx context.Context) error {
	if mode(p.mode.Load()) >= modeOutOfMetadata {
		return fmt.Errorf("the metadata is read-only: %w", mapper.ErrIO)
	}
	ctx = context.WithoutCancel(ctx)
	if !p.md.tm.Changed() {
		return p.flushData(ctx)
	}
	if err := p.look.Lock(ctx); err != nil {
		return err
	}
	err := p.md.prepare(ctx)
	p.look.Unlock()
	number := p.seq.Load()
	p.seq.Add(1)
	if err == nil {
		err = p.flushData(ctx)
	}
	if err == nil {
		err = p.md.write(ctx)
	}
	if err != nil {
		p.failed(ctx, "dm_pool_commit_metadata", err)
		return fmt.Errorf("commit: %w", err)
	}
	p.md.tm.Committed()
	p.durable.Store(number)
	p.trims = append(p.trims, p.md.takeFreed()...)
	p.trim(ctx)
	p.checkMetadataSpace()
	p.checkDataSpace()
	return nil
}

// confirm commits. If there is nothing to commit it writes the superblock of the last transaction once more, as the kernel does who commits
// in any case: whoever asks for the status learns that the metadata disk cannot be written. An error shows in the mode. The turn is held.
func (p *pool) confirm(ctx context.Context) {
	switch {
	case p.md.tm.Changed():
		_ = p.commitNow(ctx)
	case mode(p.mode.Load()) >= modeOutOfMetadata, p.durable.Load() == 0: // of this pool nothing was written
		return
	default:
		ctx = context.WithoutCancel(ctx)
		if err := p.md.write(ctx); err != nil {
			p.failed(ctx, "dm_pool_commit_metadata", err)
		}
	}
}

// flushData flushes the data disk.
func (p *pool) flushData(ctx context.Context) error {
	return p.data.Submit(ctx, mapper.Request{Op: mapper.OpFlush})
}

// failed gives up the transaction: the metadata is that of the last commit again, and is not changed any more. The turn is held.
func (p *pool) failed(ctx context.Context, what string, err error) {
	p.logf("metadata operation '%s' failed: error = -%d", what, cause(err))
	p.logf("aborting current metadata transaction")
	if lockErr := p.look.Lock(ctx); lockErr != nil {
		return
	}
	p.abort(ctx)
	if err := p.md.setNeedsCheck(ctx); err != nil {
		p.logf("failed to set 'needs_check' flag in metadata")
		p.setMode(modeFail)
	}
	p.setMode(modeReadOnly)
	p.logf("remove the thin devices and the pool, run thin_check, and thin_repair or thin_check --clear-needs-check-flag, on %s", mapper.DiskName(p.meta))
}
