package powercut

import (
	"context"
	"errors"
	"fmt"

	"dmfs/mapper"
)

// NewType returns the powercut target for one mount: supplies are shared by the targets of the value it returns.
func NewType() *mapper.Type {
	all := &supplies{byName: make(map[string]*supply)}
	return &mapper.Type{
		Name: "powercut", Version: [3]int{1, 0, 0},
		New: func(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
			return all.newTarget(ctx, h, s)
		},
	}
}

type target struct {
	config
	host   mapper.Host
	all    *supplies
	supply *supply

	// wire holds a token while somebody changes the disk. What is in the cache leaves it only then.
	wire chan struct{}

	// Guarded by supply.mu.
	cache     *cache
	count     counters
	live      bool // it was resumed: somebody may care about its cuts
	nextSeed  uint64
	unsettled bool    // a cut has happened and nobody has decided yet what survives
	rank      uint64  // among the supply's members at that cut
	result    outcome // of the last cut
}

var (
	_ mapper.Areaser       = (*target)(nil)
	_ mapper.Tabler        = (*target)(nil)
	_ mapper.Statuser      = (*target)(nil)
	_ mapper.Messenger     = (*target)(nil)
	_ mapper.Hinter        = (*target)(nil)
	_ mapper.Resumer       = (*target)(nil)
	_ mapper.PostSuspender = (*target)(nil)
)

func (all *supplies) newTarget(ctx context.Context, h mapper.Host, s mapper.Spec) (*target, error) {
	c, err := parse(ctx, h, s)
	if err != nil {
		return nil, err
	}
	t := &target{config: c, host: h, all: all, wire: make(chan struct{}, 1)}
	t.cache = newCache(int(c.block.Bytes()), uint64(c.cacheSectors/c.block))
	t.nextSeed = c.seed
	t.supply = all.join(c.supplyName, t)
	return t, nil
}

// Close leaves the supply.
func (t *target) Close() error {
	t.all.leave(t)
	return nil
}

// errOff is what a request without power fails with.
var errOff = fmt.Errorf("the power is off: %w", mapper.ErrIO)

// A moment is when a request began.
type moment struct{ cuts, tail uint64 }

// Submit carries r out in the cache, and through it for flushes, FUA, and what is not cached.
func (t *target) Submit(ctx context.Context, r mapper.Request) error {
	m, err := t.admit(r)
	if err != nil {
		return err
	}
	switch {
	case r.Op == mapper.OpRead:
		err = t.read(ctx, r, m)
	case r.Op == mapper.OpFlush:
		err = t.flush(ctx, r, m)
	case r.Flags&mapper.FlagFUA != 0, t.blocks(r.Count) > t.cache.limit:
		err = t.writeThrough(ctx, r, m)
	default:
		err = t.write(ctx, r, m)
	}
	if err == errOff {
		t.supply.mu.Lock()
		t.count.failed++
		t.supply.mu.Unlock()
	}
	return err
}

// admit counts r, and cuts the power if r is what the armed cut has waited for.
func (t *target) admit(r mapper.Request) (moment, error) {
	s := t.supply
	s.mu.Lock()
	if s.off {
		t.count.failed++
		s.mu.Unlock()
		return moment{}, errOff
	}
	t.count.request(r)
	if s.armed.target != t || !s.armed.matches(r.Op) {
		m := moment{s.cuts, t.cache.tail}
		s.mu.Unlock()
		return m, nil
	}
	if s.armed.after--; s.armed.after > 0 {
		m := moment{s.cuts, t.cache.tail}
		s.mu.Unlock()
		return m, nil
	}
	// Its effect is as volatile as that of the requests before it.
	if n := t.blocks(r.Count); r.Op != mapper.OpRead && n <= t.cache.limit {
		t.cache.put(t.blockOf(r.Start), n, kindOf(r), r.Data)
	}
	s.trip(s.armed.cut)
	t.count.failed++
	s.mu.Unlock()
	s.settle()
	return moment{}, errOff
}

// blockOf returns the block that begins at sector s of the segment.
func (t *target) blockOf(s mapper.Sector) block { return block(s / t.block) }

// blocks returns how many blocks n sectors are.
func (t *target) blocks(n mapper.Sector) uint64 { return uint64(n / t.block) }

// read takes from the cache what is there, and the rest from the disk. What is not in the cache cannot leave it either,
// so the disk has it.
func (t *target) read(ctx context.Context, r mapper.Request, m moment) error {
	s := t.supply
	for asked := false; r.Count > 0 || asked; {
		s.mu.Lock()
		seen := s.cuts != m.cuts
		cached, missing := t.cache.read(t.blockOf(r.Start), r.Data)
		s.mu.Unlock()
		if seen {
			return errOff
		}
		n := mapper.Sector(cached) * t.block
		r = r.Slice(n, r.Count-n)
		n = mapper.Sector(missing) * t.block
		if asked = n > 0; asked {
			below := r.Slice(0, n)
			below.Start += t.start
			if err := t.disk.Submit(ctx, below); err != nil {
				return err
			}
			r = r.Slice(n, r.Count-n)
		}
	}
	return nil
}

// write puts r into the cache, for which it may have to make room.
func (t *target) write(ctx context.Context, r mapper.Request, m moment) error {
	s, n := t.supply, t.blocks(r.Count)
	for {
		s.mu.Lock()
		if s.cuts != m.cuts {
			s.mu.Unlock()
			return errOff
		}
		if t.cache.room(n) {
			t.cache.put(t.blockOf(r.Start), n, kindOf(r), r.Data)
			s.mu.Unlock()
			return nil
		}
		until := t.cache.head + max(n, t.cache.limit/64) // some more, so that small requests do not go one by one
		s.mu.Unlock()
		if err := t.hold(ctx); err != nil {
			return err
		}
		err := t.destage(ctx, until, m)
		t.release()
		if err != nil {
			return err
		}
	}
}

// flush makes durable what was in the cache when it was submitted.
func (t *target) flush(ctx context.Context, r mapper.Request, m moment) error {
	if err := t.hold(ctx); err != nil {
		return err
	}
	defer t.release()
	if err := t.destage(ctx, m.tail, m); err != nil {
		return err
	}
	return t.disk.Submit(ctx, r)
}

// writeThrough carries r out on the disk, which makes older versions in the cache void.
func (t *target) writeThrough(ctx context.Context, r mapper.Request, m moment) error {
	if err := t.hold(ctx); err != nil {
		return err
	}
	defer t.release()
	s := t.supply
	s.mu.Lock()
	seen, before := s.cuts != m.cuts, t.cache.tail
	s.mu.Unlock()
	if seen {
		return errOff
	}
	below := r
	below.Start += t.start
	if err := t.disk.Submit(ctx, below); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.cache.supersede(t.blockOf(r.Start), t.blocks(r.Count), before)
	return nil
}

// destage writes to the disk what is in the cache before the position until. The wire is held.
func (t *target) destage(ctx context.Context, until uint64, m moment) error {
	s := t.supply
	buf := mapper.GetBuffer(mapper.MaxBuffer)
	defer buf.Free()
	for {
		s.mu.Lock()
		if s.cuts != m.cuts {
			s.mu.Unlock()
			return errOff
		}
		last := min(until, t.cache.tail)
		if t.cache.head >= last {
			s.mu.Unlock()
			return nil
		}
		run := t.cache.pick(last, buf.Data, t.cache.needed(last))
		s.mu.Unlock()
		if err := t.store(ctx, run); err != nil {
			return err
		}
		s.mu.Lock()
		t.cache.drop(run.end)
		s.mu.Unlock()
	}
}

// store writes a run to the disk.
func (t *target) store(ctx context.Context, run run) error {
	if run.n == 0 {
		return nil
	}
	r := mapper.Request{Op: mapper.OpWrite, Start: t.start + mapper.Sector(run.start)*t.block, Count: mapper.Sector(run.n) * t.block}
	limits, most := t.disk.Limits(), mapper.MaxSectors
	switch run.kind {
	case data:
		r.Data = run.data
		return t.disk.Submit(ctx, r)
	case zeroes:
		r.Op, most = mapper.OpWriteZeroes, limits.MaxWriteZeroes
	case zeroesKept:
		r.Op, r.Flags, most = mapper.OpWriteZeroes, mapper.FlagNoUnmap, limits.MaxWriteZeroes
	case discarded:
		r.Op, most = mapper.OpDiscard, limits.MaxDiscard
	}
	most = most / t.block * t.block
	for done := mapper.Sector(0); done < r.Count; {
		part := r.Slice(done, min(r.Count-done, max(most, t.block)))
		err := t.disk.Submit(ctx, part)
		switch {
		case errors.Is(err, mapper.ErrNotSupported) && part.Op == mapper.OpDiscard:
			err = nil // the disk holds what it held, which a discard allows
		case errors.Is(err, mapper.ErrNotSupported):
			err = t.storeZeroes(ctx, part)
		}
		if err != nil {
			return err
		}
		done += part.Count
	}
	return nil
}

// storeZeroes writes zeroes where the disk has no request for that.
func (t *target) storeZeroes(ctx context.Context, r mapper.Request) error {
	const most = 256 // sectors
	buf := mapper.GetBuffer(int(mapper.Sector(most).Bytes()))
	defer buf.Free()
	clear(buf.Data)
	for done := mapper.Sector(0); done < r.Count; {
		w := mapper.Request{Op: mapper.OpWrite, Start: r.Start + done, Count: min(r.Count-done, most)}
		w.Data = buf.Data[:w.Count.Bytes()]
		if err := t.disk.Submit(ctx, w); err != nil {
			return err
		}
		done += w.Count
	}
	return nil
}

// hold takes the wire. The error is that of ctx.
func (t *target) hold(ctx context.Context) error {
	select {
	case t.wire <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t *target) tryHold() bool {
	select {
	case t.wire <- struct{}{}:
		return true
	default:
		return false
	}
}

// release gives the wire back. A cut that found it taken has left it to its holder to decide what survives.
func (t *target) release() {
	for {
		t.settle()
		<-t.wire
		t.supply.mu.Lock()
		again := t.unsettled
		t.supply.mu.Unlock()
		if !again || !t.tryHold() {
			return
		}
	}
}

// Resume begins to tell of cuts.
func (t *target) Resume() {
	t.supply.mu.Lock()
	defer t.supply.mu.Unlock()
	t.live = true
}

// PostSuspend empties the cache onto the disk, unless the power is off.
func (t *target) PostSuspend(ctx context.Context) error {
	if err := t.hold(ctx); err != nil {
		return err
	}
	defer t.release()
	t.settle()
	s := t.supply
	s.mu.Lock()
	m, off := moment{s.cuts, t.cache.tail}, s.off
	s.mu.Unlock()
	if off {
		return nil
	}
	return t.destage(ctx, m.tail, m)
}
