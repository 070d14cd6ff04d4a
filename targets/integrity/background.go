package integrity

import (
	"context"
	"errors"
	"sync"
	"time"

	"dmfs/mapper"
	"dmfs/targets/internal/worker"
)

// background is what goes on while nobody asks for it, between Resume and PostSuspend: commits, writing back, clearing of bits, recalculation.
type background struct {
	t       *target
	changes chan struct{} // something was written that no flush was asked for
	kick    chan struct{} // the journal has little room
	dirty   chan struct{} // bits of the bitmap were set
	group   worker.Group

	mu   sync.Mutex
	left chan struct{} // closed while requests are to be handed back
}

func (b *background) init(t *target) {
	b.t = t
	b.changes, b.kick, b.dirty = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	b.left = make(chan struct{})
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (b *background) changed() { signal(b.changes) }
func (b *background) now()     { signal(b.kick) }
func (b *background) bits()    { signal(b.dirty) }

// leaving is closed when requests that wait are to be handed back.
func (b *background) leaving() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left
}

// start starts it.
func (b *background) start() {
	b.group.Start(b.run)
	if b.t.recalculates() {
		b.group.Start(b.recalculate)
	}
}

// run commits when it is time, and has room in the journal.
func (b *background) run(end context.Context) {
	ctx := context.Background()
	t := b.t
	commit, flush := stopped(), stopped()
	var waits, flushes bool
	for {
		select {
		case <-end.Done():
			commit.Stop()
			flush.Stop()
			return
		case <-b.changes:
			if !waits {
				waits = true
				commit.Reset(time.Duration(t.line.commitTime) * time.Millisecond)
			}
		case <-commit.C:
			waits = false
			b.say(t.flush(ctx))
			b.say(b.makeRoom(ctx, false))
		case <-b.kick:
			waits = false
			commit.Stop()
			b.say(b.makeRoom(ctx, true))
		case <-b.dirty:
			if !flushes {
				flushes = true
				flush.Reset(t.line.flushInterval)
			}
		case <-flush.C:
			flushes = false
			if err := t.bitmap.flush(ctx); err != nil {
				b.say(err)
				b.bits() // later again
			}
		}
	}
}

func stopped() *time.Timer {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return timer
}

// makeRoom writes the journal back if little of it is free.
func (b *background) makeRoom(ctx context.Context, commit bool) error {
	j := b.t.journal
	if b.t.line.mode != 'J' {
		return nil
	}
	var err error
	if commit {
		err = j.commit(ctx)
	}
	if err == nil {
		j.mu.RLock()
		few := j.free <= j.few
		j.mu.RUnlock()
		if few {
			err = j.writeBack(ctx)
		}
	}
	j.mu.Lock()
	if err != nil || j.free > 0 {
		j.wake(err)
	}
	j.mu.Unlock()
	return err
}

// say logs an error that nobody else is told.
func (b *background) say(err error) {
	if err != nil && b.t.logged.Allow() {
		b.t.host.Logf("Error on %v", err)
	}
}

// recalcSectors is how much is recalculated at a time; the superblock is written after so many of those.
const (
	recalcSectors = 2048
	recalcSupers  = 64
)

// recalculates reports whether there are tags that are to be computed from the data.
func (t *target) recalculates() bool {
	t.superMu.Lock()
	defer t.superMu.Unlock()
	return t.hash != nil && t.super.flags&flagRecalc != 0 && t.super.recalc < t.geometry.provided && t.line.mode != 'R' && !t.host.ReadOnly()
}

// recalculate computes tags, from where the superblock says on.
func (b *background) recalculate(end context.Context) {
	t := b.t
	ctx := context.Background()
	for n := 1; t.recalculates() && t.failure() == nil; n++ {
		select {
		case <-end.Done():
			b.say(t.noteRecalculated(ctx))
			return
		default:
		}
		if err := t.recalculateNext(ctx); err != nil {
			b.say(err)
			break
		}
		if n%recalcSupers == 0 {
			b.say(t.noteRecalculated(ctx))
		}
	}
	b.say(t.noteRecalculated(ctx))
	if t.bitmap != nil {
		b.bits()
	}
}

// noteRecalculated writes the superblock, after the tags that it says are there.
func (t *target) noteRecalculated(ctx context.Context) error {
	return errors.Join(t.flushTags(ctx, false), t.writeSuper(ctx))
}

// recalculateNext does so for the next sectors.
func (t *target) recalculateNext(ctx context.Context) error {
	g := &t.geometry
	t.superMu.Lock()
	at := t.super.recalc
	t.superMu.Unlock()
	n := min(recalcSectors, g.provided-at)
	if !g.meta {
		n = min(n, 1<<g.areaShift-at&(1<<g.areaShift-1))
	}
	s, err := t.hold(ctx, mapper.Request{Op: mapper.OpRead, Start: mapper.Sector(at), Count: mapper.Sector(n)}, false)
	if err != nil {
		return err
	}
	defer t.letGo(s)
	// What a bitmap says is known is left alone: computed anew, a tag that does not match would match.
	end, from, count := at+n, at, n
	if t.bitmap != nil {
		if from, count = t.bitmap.nextUnknown(at, n); count > 0 {
			end = from + count
		}
	}
	if count > 0 {
		if err := t.retag(ctx, from, count); err != nil {
			return err
		}
	}
	t.superMu.Lock()
	t.super.recalc = end
	t.superMu.Unlock()
	t.recalcAt.Store(end)
	if t.bitmap != nil {
		t.bitmap.known(at, end)
	}
	return nil
}

// retag computes the tags of n sectors from s on, which the caller holds and lie in one area, from their data.
func (t *target) retag(ctx context.Context, s, n uint64) error {
	count := mapper.Sector(n)
	buf := mapper.GetBuffer(int(count.Bytes()))
	defer buf.Free()
	r := mapper.Request{Op: mapper.OpRead, Start: mapper.Sector(t.geometry.dataSector(s)), Count: count, Data: buf.Data}
	if err := t.line.data.Submit(ctx, r); err != nil {
		return err
	}
	list := t.room(count)
	defer list.free()
	t.tags(list.data, r.Data, s)
	buffer, off := t.geometry.tagPlace(s)
	return t.cache.store(ctx, list.data, buffer, off)
}

// known notes that the tags of sectors from..to are known. A bit whose last sector is among them is clear then: what comes
// before was recalculated before.
func (b *bitmap) known(from, to uint64) {
	shift := b.t.geometry.bitShift
	end := to >> shift
	if to == b.t.geometry.provided {
		_, end = b.bits(0, to)
	}
	b.mu.Lock()
	b.recalc.clear(from>>shift, end)
	b.mu.Unlock()
}
