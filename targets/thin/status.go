package thin

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/targets/pdata"
)

// Status returns the status of the pool. Unless noFlush it commits first, so that the numbers are those on the disk.
func (t *poolTarget) Status(ctx context.Context, noFlush bool) (string, error) {
	p := t.pool
	if mode(p.mode.Load()) == modeFail {
		return "Fail", nil
	}
	if err := p.take(ctx); err != nil {
		return "", err
	}
	defer p.leave()
	if p.blank {
		return "Error", nil
	}
	p.mu.Lock()
	shut := p.shut
	p.mu.Unlock()
	if !noFlush && !shut {
		p.confirm(ctx)
	}
	m := mode(p.mode.Load())
	if m == modeFail { // since it was looked at above: the kernel says so once
		p.logf("dm_pool_get_metadata_transaction_id returned -%d", unix.EINVAL)
		return "Error", nil
	}
	return p.status(m), nil
}

// status composes the line. The turn is held.
func (p *pool) status(m mode) string {
	md := p.md
	p.mu.Lock()
	f := p.features
	p.mu.Unlock()
	held, state, discards, full, check := "-", "rw", "discard_passdown", "queue_if_no_space", "-"
	if md.super.held != 0 {
		held = strconv.FormatUint(uint64(md.super.held), 10)
	}
	switch {
	case m == modeOutOfData:
		state = "out_of_data_space"
	case m >= modeOutOfMetadata:
		state = "ro"
	}
	switch {
	case f.ignoreDiscard:
		discards = "ignore_discard"
	case f.noPassdown:
		discards = "no_discard_passdown"
	}
	if f.errorIfNoSpace {
		full = "error_if_no_space"
	}
	if md.needsCheck() {
		check = "needs_check"
	}
	meta, data := md.tm.Meta().Blocks(), md.data.Blocks()
	return fmt.Sprintf("%d %d/%d %d/%d %s %s %s %s %s %d ", md.super.transaction, meta-md.freeMeta(), meta, data-p.freeData(), data,
		held, state, discards, full, check, p.metaThreshold())
}

// freeData returns how many data blocks can be allocated before the next commit, those in the making included.
func (p *pool) freeData() pdata.Block { return p.md.data.Free() }

// Status returns the mapped sectors and the highest of them.
func (t *target) Status(ctx context.Context, _ bool) (string, error) {
	p := t.pool
	if mode(p.mode.Load()) == modeFail {
		return "Fail", nil
	}
	if err := p.look.Share(ctx); err != nil {
		return "", err
	}
	defer p.look.Unshare()
	mapped := t.dev.mapped * uint64(p.blockSectors)
	var v [mappingSize]byte
	high, err := p.md.sub.Highest(ctx, t.dev.root, v[:])
	switch {
	case errors.Is(err, pdata.ErrNotFound):
		return fmt.Sprintf("%d -", mapped), nil
	case err != nil:
		p.logf("dm_thin_get_highest_mapped_block returned -%d", mapper.Errno(err))
		return "Error", nil
	}
	return fmt.Sprintf("%d %d", mapped, (high+1)*uint64(p.blockSectors)-1), nil
}
