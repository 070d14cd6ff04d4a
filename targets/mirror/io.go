package mirror

import (
	"context"
	"errors"

	"dmfs/mapper"
)

// choose returns the leg to read from where all are alike: the primary one, or, where reads are balanced, one that has less to do. If the
// primary leg has failed the kernel goes down from it, and round. -1 if all have failed.
func (t *target) choose() int {
	primary := int(t.primary.Load())
	if !t.legs[primary].good() {
		for i := range len(t.legs) - 1 {
			if k := (primary - 1 - i + len(t.legs)) % len(t.legs); t.legs[k].good() {
				return k
			}
		}
		return -1
	}
	best := primary
	if t.balance {
		least := t.legs[primary].reads.Load()
		for i := 0; i < len(t.legs) && least > 0; i++ {
			if n := t.legs[i].reads.Load(); n < least && t.legs[i].good() {
				best, least = i, n
			}
		}
	}
	return best
}

// readLeg reads r from leg i.
func (t *target) readLeg(ctx context.Context, i int, r mapper.Request) error {
	l := &t.legs[i]
	if t.balance {
		l.reads.Add(1)
		defer l.reads.Add(-1)
	}
	return l.disk.Submit(ctx, l.on(r))
}

// read reads from one leg, and from another if that fails.
func (t *target) read(ctx context.Context, r mapper.Request) error {
	id := t.region(r.Start)
	if !t.synced(id) {
		return t.readAgain(ctx, id, r)
	}
	i := t.choose()
	if i < 0 {
		return mapper.ErrIO
	}
	err := t.readLeg(ctx, i, r)
	if err == nil || mapper.Interrupted(err) || errors.Is(err, mapper.ErrNotSupported) {
		return err
	}
	t.host.LogFrom(module, "Mirror read failed from %s. Trying alternative device.", mapper.DiskName(t.legs[i].disk))
	t.fail(i, readFailure)
	if !t.readable(id) {
		t.host.LogFrom(module, "All replicated volumes dead, failing I/O")
		return err
	}
	return t.readAgain(ctx, id, r)
}

// readAgain reads what cannot be read from any leg at once. Each attempt that fails costs a leg, so there are no more
// than legs.
func (t *target) readAgain(ctx context.Context, id int, r mapper.Request) error {
	for {
		i := int(t.primary.Load())
		if t.synced(id) {
			i = t.choose()
		} else if t.legs[i].failures.Load() != 0 {
			i = -1
		}
		if i < 0 {
			t.logSome(&t.limits.unread, "Mirror read failed.")
			return mapper.ErrIO
		}
		err := t.readLeg(ctx, i, r)
		if err == nil || mapper.Interrupted(err) || errors.Is(err, mapper.ErrNotSupported) {
			return err
		}
		name := mapper.DiskName(t.legs[i].disk)
		t.fail(i, readFailure)
		if !t.readable(id) {
			t.logSome(&t.limits.failing, "Read failure on mirror device %s.  Failing I/O.", name)
			t.logSome(&t.limits.unread, "Mirror read failed.")
			return err
		}
		t.logSome(&t.limits.retried, "Read failure on mirror device %s.  Trying alternative device.", name)
	}
}

// readable reports whether a leg is left that may have region id.
func (t *target) readable(id int) bool {
	return t.legs[t.primary.Load()].failures.Load() == 0 || t.synced(id) && t.choose() >= 0
}

// write writes to all legs, or, where they differ, to the primary one.
func (t *target) write(ctx context.Context, r mapper.Request) error {
	id := t.region(r.Start)
	all, mark, err := t.enter(ctx, id)
	if err != nil {
		return err
	}
	defer t.leave(id)
	if err := t.commit(ctx, mark); err != nil {
		if mapper.Interrupted(err) {
			return err
		}
		t.logFailed.Store(true)
	}
	switch {
	case all && t.logFailed.Load() && t.handleErrors:
		return t.unwritten(ctx, r, nil)
	case all:
		return t.writeAll(ctx, r)
	case t.legFailed.Load() && t.handleErrors && !t.keepLog:
		return t.unwritten(ctx, r, nil)
	}
	l := &t.legs[t.primary.Load()]
	return writeTo(ctx, l.disk, l.on(r))
}

// writeAll writes r, which is within a region, to all legs.
func (t *target) writeAll(ctx context.Context, r mapper.Request) error {
	var results [mostLegs]error
	errs := results[:len(t.legs)]
	first := mapper.FanOut(len(t.legs), len(t.legs), func(i int) error {
		errs[i] = writeTo(ctx, t.legs[i].disk, t.legs[i].on(r))
		return errs[i]
	})
	if first == nil {
		return nil
	}
	for _, err := range errs {
		if mapper.Interrupted(err) {
			t.recoverAgain(t.region(r.Start))
			return err
		}
	}
	return t.unwritten(ctx, r, t.failWrites(errs))
}

// failWrites notes the failures of legs and returns which failed.
func (t *target) failWrites(errs []error) []bool {
	failed := make([]bool, len(errs))
	for i, err := range errs {
		if failed[i] = err != nil; failed[i] {
			t.fail(i, writeFailure)
		}
	}
	return failed
}

// writeTo writes to a leg, which need not know how to write zeroes.
func writeTo(ctx context.Context, d mapper.Disk, r mapper.Request) error {
	err := d.Submit(ctx, r)
	if r.Op != mapper.OpWriteZeroes || !errors.Is(err, mapper.ErrNotSupported) {
		return err
	}
	buf := mapper.GetBuffer(int(min(r.Count.Bytes(), mapper.MaxBuffer)))
	defer buf.Free()
	clear(buf.Data)
	for done := mapper.Sector(0); done < r.Count; {
		n := min(r.Count-done, mapper.SectorsOf(int64(len(buf.Data))))
		w := mapper.Request{Op: mapper.OpWrite, Flags: r.Flags & mapper.FlagFUA, Start: r.Start + done, Count: n, Data: buf.Data[:n.Bytes()]}
		if err := d.Submit(ctx, w); err != nil {
			return err
		}
		done += n
	}
	return nil
}

// writeZeroes zeroes region by region: Limits.Split is about requests with data.
func (t *target) writeZeroes(ctx context.Context, r mapper.Request) error {
	size := mapper.Sector(t.log.size)
	for done := mapper.Sector(0); done < r.Count; {
		at := r.Start + done
		n := min(r.Count-done, size-at%size)
		if err := t.write(ctx, r.Slice(done, n)); err != nil {
			return err
		}
		done += n
	}
	return nil
}

// flush flushes all legs.
func (t *target) flush(ctx context.Context, r mapper.Request) error {
	t.mu.Lock()
	suspending := t.suspending
	if !suspending {
		t.checkSync()
	}
	t.mu.Unlock()
	if suspending {
		return t.flushGood(ctx, r)
	}
	if err := t.commit(ctx, 0); err != nil {
		if mapper.Interrupted(err) {
			return err
		}
		t.logFailed.Store(true)
	}
	if t.logFailed.Load() && t.handleErrors {
		return t.unwritten(ctx, r, nil)
	}
	results := make([]error, len(t.disks))
	first := mapper.FanOut(len(t.disks), len(t.disks), func(k int) error {
		results[k] = t.disks[k].Submit(ctx, r)
		return results[k]
	})
	if first == nil {
		return nil
	}
	errs := make([]error, len(t.legs))
	for i := range t.legs {
		for k, d := range t.disks {
			if d == t.legs[i].disk {
				errs[i] = results[k]
			}
		}
		if mapper.Interrupted(errs[i]) {
			return errs[i]
		}
	}
	return t.unwritten(ctx, r, t.failWrites(errs))
}

// flushGood is the flush before a suspend, which the kernel does not do: of legs that have failed nothing is expected.
func (t *target) flushGood(ctx context.Context, r mapper.Request) error {
	return mapper.FanOut(len(t.legs), len(t.legs), func(i int) error {
		if !t.legs[i].good() {
			return nil
		}
		return t.legs[i].disk.Submit(ctx, r)
	})
}

// discard discards on all legs. What was discarded may be anything, on each leg something else, so no region is marked, and a
// leg that cannot is no failure.
func (t *target) discard(ctx context.Context, r mapper.Request) error {
	err := mapper.FanOut(len(t.legs), len(t.legs), func(i int) error {
		return t.legs[i].disk.Submit(ctx, t.legs[i].on(r))
	})
	if err == nil || mapper.Interrupted(err) {
		return err
	}
	return mapper.ErrNotSupported
}
