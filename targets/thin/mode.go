package thin

import (
	"context"
	"errors"
	"fmt"

	"dmfs/mapper"
	"dmfs/targets/pdata"
)

// A mode is what a pool still does. They are ordered: each does less than the one before.
type mode int32

// String returns how the log calls the mode.
func (m mode) String() string {
	return [...]string{"write", "out-of-data-space", "read-only", "read-only", "fail"}[m]
}

// setMode changes what the pool does. Nothing leads out of modeFail, and as long as the metadata needs a check nothing leads to modeWrite.
func (p *pool) setMode(to mode) {
	if to == modeWrite && p.md.needsCheck() {
		p.logf("unable to switch pool to write mode until repaired.")
		if to = mode(p.mode.Load()); to == modeWrite {
			to = modeReadOnly
		}
	}
	from := mode(p.mode.Load())
	if from == modeFail {
		return
	}
	p.mode.Store(int32(to))
	if from != to {
		p.tellMode()
	}
	if to == modeOutOfData {
		select {
		case p.spaceIn <- struct{}{}:
		default:
		}
	}
	if to != modeOutOfData {
		p.retry()
	}
}

// tellMode logs the mode and raises an event.
func (p *pool) tellMode() {
	m := mode(p.mode.Load())
	how := ""
	if m == modeOutOfData {
		how = " (queue IO)"
		if p.errorsIfFull() {
			how = " (error IO)"
		}
	}
	p.logf("switching pool to %s%s mode", m, how)
	p.event()
}

func (p *pool) errorsIfFull() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.features.errorIfNoSpace
}

// retry wakes the requests that wait for space.
func (p *pool) retry() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.space)
	p.space = make(chan struct{})
}

// checkMetadataSpace stops changes before they fail for lack of metadata blocks. The turn is held.
func (p *pool) checkMetadataSpace() {
	free := p.md.freeMeta()
	if free == 0 && mode(p.mode.Load()) < modeOutOfMetadata {
		p.logFrom(nil, "thin", "No free metadata blocks")
		p.outOfMetadata()
	}
	p.mu.Lock()
	report := !p.metaReported && p.md.tm.Meta().Free() <= p.metaThreshold()
	p.metaReported = p.md.tm.Meta().Free() <= p.metaThreshold()
	p.mu.Unlock()
	if report {
		p.logf("reached low water mark for metadata device: sending event.")
		p.event()
	}
}

// outOfMetadata ends changes until the metadata grows, and says how.
func (p *pool) outOfMetadata() {
	p.setMode(modeOutOfMetadata)
	p.logf("make the metadata disk %s larger, or delete thin devices after that, and load the table of the pool again", mapper.DiskName(p.meta))
}

// metaThreshold is how many free metadata blocks raise an event: a quarter, at most 4 MiB.
func (p *pool) metaThreshold() pdata.Block { return min(1024, p.store.Blocks()/4) }

// checkDataSpace ends modeOutOfData when blocks have become free. The turn is held.
func (p *pool) checkDataSpace() {
	if mode(p.mode.Load()) == modeOutOfData && p.md.data.Free() > 0 {
		p.setMode(modeWrite)
	}
}

// errWaitForSpace: there is no free data block; the request is to try again.
var errWaitForSpace = errors.New("no free data block")

// reserveBlock returns a free data block that only the caller has. It gives it back with md.data.Release, or maps it.
func (p *pool) reserveBlock(ctx context.Context) (pdata.Block, error) {
	if err := p.take(ctx); err != nil {
		return 0, err
	}
	defer p.leave()
	switch m := mode(p.mode.Load()); {
	case m == modeOutOfData:
		return 0, errWaitForSpace
	case m > modeOutOfData:
		return 0, fmt.Errorf("the pool is read-only: %w", mapper.ErrIO)
	}
	free := p.md.data.Free()
	p.checkLowWater(uint64(free))
	if free == 0 {
		if p.md.tm.Changed() { // what the transaction has freed can be used after it
			if err := p.commitNow(ctx); err != nil {
				return 0, err
			}
		}
		if p.md.data.Free() == 0 {
			p.setMode(modeOutOfData)
			return 0, errWaitForSpace
		}
	}
	if p.md.freeMeta() == 0 { // what is left is for commits
		if err := p.commitNow(ctx); err != nil {
			return 0, err
		}
		if mode(p.mode.Load()) != modeWrite {
			return 0, fmt.Errorf("the metadata is full: %w", mapper.ErrIO)
		}
	}
	b, err := p.md.data.Reserve(context.WithoutCancel(ctx))
	switch {
	case errors.Is(err, pdata.ErrNoSpace):
		p.setMode(modeOutOfData)
		return 0, errWaitForSpace
	case err != nil:
		p.failed(context.WithoutCancel(ctx), "dm_pool_alloc_data_block", err)
		return 0, fmt.Errorf("allocation of a data block: %w: %w", mapper.ErrIO, err)
	}
	return b, nil
}

// unreserve gives back a block that reserveBlock returned.
func (p *pool) unreserve(b pdata.Block) {
	p.turn <- struct{}{}
	p.md.data.Release(b)
	p.leave()
}

// checkLowWater raises an event when free data blocks run low, once until the next resume.
func (p *pool) checkLowWater(free uint64) {
	p.mu.Lock()
	low := free <= p.lowWater && !p.lowReported
	p.lowReported = p.lowReported || low
	p.mu.Unlock()
	if low {
		p.logf("reached low water mark for data device: sending event.")
		p.event()
	}
}

// endWaits makes the pool fail requests for lack of space instead of queueing them.
func (p *pool) endWaits() {
	p.mu.Lock()
	full := mode(p.mode.Load()) == modeOutOfData && !p.features.errorIfNoSpace
	if full {
		p.features.errorIfNoSpace = true
	}
	p.mu.Unlock()
	if full {
		p.tellMode()
		p.retry()
	}
}
