package integrity

import (
	"context"
	"fmt"
	"math"

	"dmfs/mapper"
)

// PreResume makes the metadata ready. The first time it reads them anew, for the table before may have written since New read
// them, and formats a disk that has none.
func (t *target) PreResume(ctx context.Context) error {
	if !t.started {
		fresh, err := t.readSuper(ctx)
		if err != nil {
			return err
		}
		t.back.init(t)
		t.cache = newTagCache(t.metaDisk, &t.geometry)
		if t.line.mode == 'B' {
			t.bitmap = newBitmap(t)
		}
		if fresh && t.line.mode != 'R' {
			if err := t.format(ctx); err != nil {
				return err
			}
		}
	}
	t.recalcAt.Store(math.MaxUint64)
	if t.line.mode != 'R' {
		if err := t.open(ctx); err != nil {
			return err
		}
	}
	t.started = true
	t.superMu.Lock()
	if t.super.flags&flagRecalc != 0 {
		t.recalcAt.Store(t.super.recalc)
	}
	t.superMu.Unlock()
	return nil
}

// format writes an empty journal and then the superblock, which makes the disk formatted.
func (t *target) format(ctx context.Context) error {
	if t.host.ReadOnly() {
		return fmt.Errorf("the disk is to be formatted: %w", mapper.ErrReadOnly)
	}
	t.journal.allocate()
	t.journal.setIDs()
	if err := t.journal.clearSections(ctx, 0, t.geometry.sections, 0); err != nil {
		return err
	}
	return t.writeSuper(ctx)
}

// open replays the journal, or takes over the bitmap, whichever is there, and says in the superblock which of them is in use from here on.
func (t *target) open(ctx context.Context) error {
	t.journal.setIDs()
	t.journal.wrote = false
	if t.host.ReadOnly() {
		return t.openReadOnly(ctx)
	}
	t.superMu.Lock()
	s := t.super
	t.superMu.Unlock()
	if s.provided != t.geometry.provided {
		if err := t.resize(ctx, &s); err != nil {
			return err
		}
	}
	var err error
	if s.flags&flagDirtyBitmap != 0 && !t.started {
		err = t.openBitmap(ctx, &s)
	} else {
		err = t.openJournal(ctx)
	}
	if err != nil || t.failure() != nil {
		return err
	}
	t.superMu.Lock()
	past := t.super.flags&flagRecalc != 0 && t.super.recalc > t.geometry.provided
	if past {
		t.super.recalc = t.geometry.provided
	}
	t.superMu.Unlock()
	if past {
		return t.noteRecalculated(ctx)
	}
	return nil
}

// errUnclean says that the table is read-only and that something is to be written before the device can be read.
var errUnclean = fmt.Errorf("the disk was not closed: open it once with a table that is not read-only: %w", mapper.ErrReadOnly)

// openReadOnly opens a device that was closed, and writes nothing.
func (t *target) openReadOnly(ctx context.Context) error {
	t.superMu.Lock()
	defer t.superMu.Unlock()
	if t.line.mode == 'B' || t.super.flags&flagDirtyBitmap != 0 || t.super.provided != t.geometry.provided {
		return errUnclean
	}
	if t.started {
		return nil
	}
	return t.replay(ctx)
}

// resize notes that the disk has another size than when it was used last. Bits of what is new are set, if there is a bitmap.
func (t *target) resize(ctx context.Context, s *superblock) error {
	g := &t.geometry
	if g.provided > s.provided && t.bitmap != nil && s.log2Bit == g.bitShift-g.blockShift && s.flags&flagDirtyBitmap != 0 {
		if err := t.bitmap.load(ctx); err != nil {
			return err
		}
		_, to := t.bitmap.bits(0, g.provided)
		t.bitmap.disk.set(s.provided>>g.bitShift, to)
		if err := t.bitmap.writeAll(ctx); err != nil {
			return err
		}
	}
	t.superMu.Lock()
	t.super.provided = g.provided
	t.superMu.Unlock()
	return t.writeSuper(ctx)
}

// openBitmap opens a device that was not closed, and has a bitmap.
func (t *target) openBitmap(ctx context.Context, s *superblock) error {
	g := &t.geometry
	b := t.bitmap
	if b == nil {
		b = newBitmap(t)
	}
	same := s.log2Bit == g.bitShift-g.blockShift
	_, end := b.bits(0, g.provided)
	if same {
		if err := b.load(ctx); err != nil {
			return err
		}
	}
	recalc := !same || t.line.resetRecalculate || !b.disk.all(0, end, false)
	if t.bitmap != nil {
		if same && !t.line.resetRecalculate {
			copy(b.recalc, b.disk)
			copy(b.may, b.disk)
		} else {
			b.setAll(0)
			if err := b.writeAll(ctx); err != nil {
				return err
			}
		}
	}
	t.superMu.Lock()
	if recalc && t.hash != nil {
		t.super.flags |= flagRecalc
		t.super.recalc = 0
	}
	t.superMu.Unlock()
	if t.bitmap == nil {
		if err := t.dropBitmap(ctx, recalc); err != nil {
			return err
		}
	}
	t.superMu.Lock()
	if t.bitmap == nil {
		t.super.flags &^= flagDirtyBitmap
	}
	t.super.log2Bit = g.bitShift - g.blockShift
	t.superMu.Unlock()
	return t.writeSuper(ctx)
}

// dropBitmap makes an empty journal in place of the bitmap. If that says something the superblock says before that it is of no use,
// for power may be cut between the two.
func (t *target) dropBitmap(ctx context.Context, recalc bool) error {
	if recalc {
		t.superMu.Lock()
		t.super.log2Bit ^= 1
		t.superMu.Unlock()
		if err := t.writeSuper(ctx); err != nil {
			return err
		}
	}
	j := t.journal
	j.allocate()
	if err := j.clearSections(ctx, 0, t.geometry.sections, 0); err != nil {
		return err
	}
	return t.replay(ctx)
}

// replay replays the journal, and lets go of its memory if the mode has no use for it.
func (t *target) replay(ctx context.Context) error {
	j := t.journal
	j.allocate()
	err := j.replay(ctx)
	if t.line.mode != 'J' {
		j.mem = nil
	}
	return err
}

// openJournal opens a device that was closed, or has a journal.
func (t *target) openJournal(ctx context.Context) error {
	if !t.started {
		if err := t.replay(ctx); err != nil || t.failure() != nil {
			return err
		}
	}
	t.superMu.Lock()
	if t.line.resetRecalculate {
		t.super.flags |= flagRecalc
		t.super.recalc = 0
	}
	recalc := t.geometry.provided
	if t.super.flags&flagRecalc != 0 {
		recalc = t.super.recalc
	}
	t.superMu.Unlock()
	if t.bitmap == nil {
		return nil
	}
	t.superMu.Lock()
	t.super.flags |= flagDirtyBitmap
	t.super.log2Bit = t.geometry.bitShift - t.geometry.blockShift
	t.superMu.Unlock()
	b := t.bitmap
	for _, set := range []bitset{b.disk, b.may, b.recalc} {
		clear(set)
	}
	if recalc < t.geometry.provided {
		b.setAll(recalc)
	}
	// The superblock comes first. If power is cut between them the journal without entries is taken for a bitmap, which has more recalculated than
	// is needed; a bitmap that is taken for a journal would be an error.
	if err := t.writeSuper(ctx); err != nil {
		return err
	}
	return b.writeAll(ctx)
}

// Resume lets the background begin.
func (t *target) Resume() {
	t.back.mu.Lock()
	t.back.left = make(chan struct{})
	t.back.mu.Unlock()
	if t.line.mode != 'R' && !t.host.ReadOnly() {
		t.back.start()
	}
}

// PreSuspend hands back requests that wait for room in the journal, if nothing is to be waited for.
func (t *target) PreSuspend(noFlush bool) {
	t.back.mu.Lock()
	defer t.back.mu.Unlock()
	if noFlush {
		select {
		case <-t.back.left:
		default:
			close(t.back.left)
		}
	}
}

// PreSuspendUndo has requests wait again.
func (t *target) PreSuspendUndo() {
	t.back.mu.Lock()
	defer t.back.mu.Unlock()
	t.back.left = make(chan struct{})
}

// PostSuspend leaves the metadata as somebody finds them who opens the disk next: nothing in the journal, no bit set.
func (t *target) PostSuspend(ctx context.Context) error {
	if t.line.mode == 'R' || !t.started {
		return nil
	}
	t.back.group.Stop()
	if err := t.failure(); err != nil {
		return nil // it was said, and what is on the disk stays
	}
	switch t.line.mode {
	case 'J':
		return t.journal.settle(ctx)
	case 'D':
		return t.flushTags(ctx, true)
	}
	if err := t.flushTags(ctx, true); err != nil {
		return err
	}
	t.journal.allocate()
	err := t.journal.clearSections(ctx, 0, t.geometry.sections, 0)
	t.journal.mem = nil
	if err == nil {
		t.setFlags(0, flagDirtyBitmap)
		err = t.writeSuper(ctx)
	}
	return err
}
