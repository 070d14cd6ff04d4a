package thin

import (
	"context"

	"golang.org/x/sys/unix"

	"dmfs/targets/pdata"
)

// A removal is a device that is being deleted. It may have many millions of mappings, so it goes in steps between which others get their turn:
//
//  1. its tree is looked through, as it is not in use and does not change, while others change theirs. Nobody can open it any more
//  2. it is taken out of the trees of devices
//  3. the data blocks lose a reference, a few bitmaps at a time, and the nodes of its tree are given back
//  4. a commit
//
// If another device has the whole tree as well, as that of a snapshot which nobody has written to, 2 and 4 are all there is.
//
// Nothing has changed before 2. From there on the turn is kept, so that no commit comes between, and a power cut finds the device whole or
// gone; but between the steps others read. What another device does in 1 to the nodes that it has in common with this one, 3 sees.
type removal struct {
	id     DevID
	root   pdata.Block
	survey *pdata.Survey
	blocks pdata.Decrements
}

// Bounds of a step of a removal.
const (
	surveyLeaves = 256
	dropBitmaps  = 8
	dropNodes    = 2048
)

// beginRemoval begins to delete a device. ENODATA, EBUSY if it is open. The turn is held.
func (m *metadata) beginRemoval(ctx context.Context, id DevID) (*removal, error) {
	d, err := m.get(ctx, id)
	if err != nil {
		return nil, err
	}
	if d.opens > 0 {
		return nil, unix.EBUSY
	}
	m.leaving = &removal{id: id, root: d.root, survey: m.sub.Survey(d.root)}
	return m.leaving, nil
}

// detach takes the device out of the trees. It reports whether its own tree is to be given up, too: a held metadata snapshot may have it.
func (m *metadata) detach(ctx context.Context, r *removal) (alone bool, err error) {
	delete(m.devices, r.id)
	if m.details, err = m.detail.Remove(ctx, m.details, uint64(r.id)); err != nil {
		return false, err
	}
	keeping := m.top
	keeping.Dec = nil
	if m.mappings, err = keeping.Remove(ctx, m.mappings, uint64(r.id)); err != nil {
		return false, err
	}
	shared, err := m.tm.Shared(ctx, r.root)
	if err == nil && shared {
		err = m.tm.Dec(ctx, r.root)
	}
	return !shared, err
}

// drop gives up some of what r refers to, and reports whether there is more.
func (m *metadata) drop(ctx context.Context, r *removal) (more bool, err error) {
	more, err = m.data.DecMany(ctx, &r.blocks, dropBitmaps, m.noteFreed)
	if err != nil || more {
		return more, err
	}
	if more, err = r.survey.Drop(ctx, dropNodes); err != nil {
		return false, err
	}
	return more, m.tm.Relieve(ctx)
}

// deleteThin deletes a device. The turn is held, and given up for a while. Messages are kept out, so that nobody takes a snapshot of the device.
func (p *pool) deleteThin(ctx context.Context, id DevID) error {
	const what = "dm_pool_delete_thin_device"
	var r *removal
	shared := false
	defer func() { p.md.leaving = nil }()
	err := p.change(ctx, what, func(ctx context.Context) (err error) {
		if r, err = p.md.beginRemoval(ctx, id); err != nil {
			return err
		}
		if shared, err = p.md.tm.Shared(ctx, r.root); err == nil && shared {
			_, err = p.md.detach(ctx, r)
		}
		return err
	})
	if err != nil || shared {
		return err
	}
	p.leave()
	err = p.survey(ctx, r)
	p.turn <- struct{}{}
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return p.change(ctx, what, func(context.Context) error { return err })
	}
	if err := p.headroom(ctx); err != nil {
		return err
	}
	more, alone := false, p.alone // all steps are one change
	err = p.change(ctx, what, func(ctx context.Context) (err error) {
		more, err = p.md.detach(ctx, r)
		return err
	})
	for err == nil && more {
		p.alone = alone
		err = p.change(ctx, what, func(ctx context.Context) (err error) {
			more, err = p.md.drop(ctx, r)
			return err
		})
	}
	return err
}

// survey finds out what r refers to.
func (p *pool) survey(ctx context.Context, r *removal) error {
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := p.look.Share(ctx); err != nil {
			return err
		}
		var err error
		more, err = r.survey.More(ctx, surveyLeaves, func(v []byte) {
			b, _ := decodeMapping(v)
			r.blocks.Add(b)
		})
		p.look.Unshare()
		if err != nil {
			return err
		}
	}
	return nil
}
