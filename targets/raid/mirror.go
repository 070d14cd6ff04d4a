package raid

import (
	"context"

	"dmfs/mapper"
)

// readMirror reads from the copy that promises to be fastest.
func (t *plane) readMirror(ctx context.Context, r mapper.Request) error {
	var room [8]place
	places := t.geo.copies(room[:0], r.Start)
	k := t.pick(places, r.Start, r.Count)
	if k < 0 {
		return mapper.ErrIO
	}
	m, s := &t.members[places[k].member], r.Start
	r.Start = t.offset + places[k].at
	m.pending.Add(1)
	err := m.data.Submit(ctx, r)
	m.pending.Add(-1)
	if err == nil || !mapper.DiskFailed(err) {
		return err
	}
	r.Start = s
	return t.repairMirror(ctx, r, k, err)
}

// pick returns the copy to read n sectors of, -1 if there is none: the first while copies may differ, so that two reads
// give the same; else the one whose member has least to do. Members that are to be written mostly come last.
func (t *plane) pick(places []place, s, n mapper.Sector) int {
	best, least := -1, int32(0)
	inOrder := !t.synced(s, s+n)
	for k, p := range places {
		m := &t.members[p.member]
		if !m.readable(p.at + n) {
			continue
		}
		load := m.pending.Load()
		if m.mostly {
			load += 1 << 20
		}
		if best < 0 || !inOrder && load < least {
			best, least = k, load
		}
	}
	return best
}

// synced reports whether sectors [from, to), of what a resync runs over, agree with their redundancy.
func (t *target) synced(from, to mapper.Sector) bool {
	if !t.unsynced.Load() {
		return true
	}
	return to <= t.syncedUpTo() && !t.bitmap.need(from, to)
}

func (t *target) syncedUpTo() mapper.Sector {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.syncedTo
}

// repairMirror reads r elsewhere after copy bad could not be read, and writes it over what could not be read. A member on
// which that does not help has failed.
func (t *plane) repairMirror(ctx context.Context, r mapper.Request, bad int, cause error) error {
	c, err := t.claims.take(ctx, r.Start, r.End(), false)
	if err != nil {
		return err
	}
	defer t.claims.end(c)
	places := t.geo.copies(nil, r.Start)
	for k, p := range places {
		m := &t.members[p.member]
		if k == bad || !m.readable(p.at+r.Count) {
			continue
		}
		err := t.read(ctx, m, p.at, r.Data)
		if err == nil {
			return t.rewrite(&t.members[places[bad].member], places[bad].at, r.Data)
		}
		if !mapper.DiskFailed(err) {
			return err
		}
		cause = err
	}
	return cause
}

// rewrite writes data, which was recovered, over what m could not read, and looks whether m can read it now.
func (t *plane) rewrite(m *member, at mapper.Sector, data []byte) error {
	if t.readOnly || m.dead.Load() {
		return nil
	}
	ctx := context.Background()
	err := t.write(ctx, m, at, data, 0)
	if err == nil {
		again := mapper.GetBuffer(len(data))
		defer again.Free()
		err = t.read(ctx, m, at, again.Data)
	}
	if err != nil && mapper.DiskFailed(err) {
		t.failed(m) // whether or not the array can do without m, the data was read
	}
	return nil
}

// writeMirror writes, or discards, all copies.
func (t *plane) writeMirror(ctx context.Context, r mapper.Request) error {
	c, err := t.claims.take(ctx, r.Start, r.End(), false)
	if err != nil {
		return err
	}
	defer t.claims.end(c)
	if err := t.bitmap.begin(ctx, r.Start, r.End()); err != nil {
		return err
	}
	torn, err := t.writeCopies(context.WithoutCancel(ctx), r)
	t.bitmap.end(r.Start, r.End(), torn)
	return err
}

// writeCopies writes all copies. torn says that they may differ.
func (t *plane) writeCopies(ctx context.Context, r mapper.Request) (torn bool, err error) {
	var room [8]place
	places := t.geo.copies(room[:0], r.Start)
	errs := make([]error, len(places))
	_ = mapper.FanOut(len(places), fanWidth, func(k int) error {
		m := &t.members[places[k].member]
		if m.dead.Load() {
			return nil
		}
		down := r
		down.Start = t.offset + places[k].at
		errs[k] = m.data.Submit(ctx, down)
		return nil
	})
	stored := false
	for k, p := range places {
		m := &t.members[p.member]
		switch {
		case errs[k] == nil:
			stored = stored || m.readable(p.at+r.Count)
		case !mapper.DiskFailed(errs[k]) || !t.failed(m):
			torn, err = true, errs[k]
		}
	}
	if !stored && err == nil {
		err = mapper.ErrIO
	}
	return torn && r.Op == mapper.OpWrite, err
}
