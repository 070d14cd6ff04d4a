package thin

import (
	"context"
	"errors"

	"dmfs/mapper"
	"dmfs/targets/pdata"
)

// Allocated returns how much of the whole device is mapped. Of parts, and with an origin, it does not know.
func (t *target) Allocated(s, n mapper.Sector) (data mapper.Sector, ok bool) {
	if s != 0 || n != t.length || t.origin != nil {
		return 0, false
	}
	p := t.pool
	if err := p.look.Share(context.Background()); err != nil {
		return 0, false
	}
	defer p.look.Unshare()
	return min(n, mapper.Sector(t.dev.mapped)*p.blockSectors), true
}

// extentBatch bounds how many mappings are looked at for one extent.
const extentBatch = 4096

// Extent says what is mapped. What an origin shows counts as data.
func (t *target) Extent(ctx context.Context, s, most mapper.Sector) (run mapper.Sector, data bool, err error) {
	p := t.pool
	size := p.blockSectors
	block, within := t.place(s)
	if err := p.look.Share(ctx); err != nil {
		return 0, false, err
	}
	defer p.look.Unshare()
	if mode(p.mode.Load()) == modeFail {
		return most, true, nil
	}
	end := block
	last := uint64((s+most-1)/size) + 1
	err = p.md.sub.Walk(ctx, t.dev.root, block, last, func(key uint64, _ []byte) error {
		if key != end || end-block >= extentBatch {
			return errEnough
		}
		end++
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return 0, false, err
	}
	if end > block {
		return min(most, mapper.Sector(end-block)*size-within), true, nil
	}
	var v [mappingSize]byte
	next, err := p.md.sub.Next(ctx, t.dev.root, block, v[:])
	if errors.Is(err, pdata.ErrNotFound) {
		next, err = last, nil
	}
	if err != nil {
		return 0, false, err
	}
	run = min(most, mapper.Sector(min(next, last)-block)*size-within)
	if t.origin != nil {
		if shown := t.origin.Sectors(); s < shown {
			return min(run, shown-s), true, nil
		}
	}
	return run, false, nil
}

// errEnough ends a walk.
var errEnough = errors.New("enough")
