package raid

import (
	"context"
	"fmt"
	"slices"

	"dmfs/mapper"
)

// Superblocks are written to all members that live, after the bitmap, each through the disk's cache: at the first
// resume if they do not say what is, when a member fails, and when a resync or rebuild has come further. That a member failed is durable before a write
// that it lacks is acknowledged, so that it is never read again as if it were in sync.

// writeMetas writes to the metadata of all living members but one, at a byte offset, and returns the first that could not be written to.
func (t *target) writeMetas(off int64, p []byte, except *member) (bad *member, err error) {
	ctx := context.Background()
	for i := range t.members {
		m := &t.members[i]
		if m.meta == nil || m.dead.Load() || m == except {
			continue
		}
		err := m.meta.Submit(ctx, mapper.Request{
			Op: mapper.OpWrite, Flags: mapper.FlagFUA, Start: mapper.SectorsOf(off), Count: mapper.SectorsOf(int64(len(p))), Data: p,
		})
		if err != nil {
			return m, err
		}
	}
	return nil, nil
}

// writeSupers writes the bitmap's header and the superblocks, without member except. supers is held.
func (t *target) writeSupers(except *member) error {
	if !t.hasMeta() || t.readOnly {
		return nil
	}
	left := 1
	if except != nil {
		left = t.behind()
	}
	for ; left > 0; left-- {
		lost, err := t.nextGeneration(except)
		if err != nil {
			return err
		}
		if lost { // what could not be written may have been, and then tells as many events as the others
			left = max(left, 1+t.behind())
		}
	}
	return nil
}

// behind returns how many events a member that failed must have less than the others, so that nobody takes it for one that did not. One is enough for
// dm-raid, which asks the member with the most events. Linux md takes members that are one behind, for a crash leaves them so.
func (t *target) behind() int {
	if t.isMD() {
		return 2
	}
	return 1
}

// isMD reports whether the metadata are those of Linux md.
func (t *target) isMD() bool { return t.spec.Type == mdInner }

// lacksMember reports whether a member is absent or has failed.
func (t *target) lacksMember() bool {
	for i := range t.members {
		if t.members[i].dead.Load() {
			return true
		}
	}
	return false
}

// nextGeneration writes metadata with one event more. lost says that a member failed meanwhile.
func (t *target) nextGeneration(except *member) (lost bool, err error) {
	t.mu.Lock()
	t.super.events++
	t.super.synced = t.syncedTo
	s := t.super
	t.mu.Unlock()
	t.headerEvents.Store(s.events)
	for {
		bad, err := t.writeGeneration(s, except)
		if bad == nil {
			return lost, err
		}
		if !t.without(bad, except) {
			return lost, fmt.Errorf("metadata of member %d: %w", bad.index, err)
		}
		s.setFailed(bad.index, true)
		t.setDead(bad)
		lost = true
	}
}

// without reports whether the array can do without two members; b may be nil.
func (t *target) without(a, b *member) bool {
	return t.survives(func(i int) bool { m := &t.members[i]; return m != a && m != b && m.inSync() })
}

// setDead notes that m failed.
func (t *target) setDead(m *member) {
	t.mu.Lock()
	t.super.setFailed(m.index, true)
	t.mu.Unlock()
	m.dead.Store(true)
}

// writeGeneration writes one generation of metadata.
func (t *target) writeGeneration(s superblock, except *member) (bad *member, err error) {
	ctx := context.Background()
	if t.bitmap != nil && t.keepsBitmap() {
		if bad, err := t.bitmap.writeOnce(ctx, t.bitmap.touchHeader(), except); bad != nil {
			return bad, err
		}
	}
	buf := mapper.GetBuffer(superBlock)
	defer buf.Free()
	for i := range t.members {
		m := &t.members[i]
		if m.meta == nil || m.dead.Load() || m == except {
			continue
		}
		s.position, s.rebuilt = uint32(i), mapper.Sector(m.good.Load())
		if uint32(i) >= s.members && s.reshape == done {
			s.position = noPosition
		}
		p := buf.Data[:m.meta.Limits().LogicalSectors().Bytes()]
		s.encode(p)
		err := m.meta.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Flags: mapper.FlagFUA, Count: mapper.SectorsOf(int64(len(p))), Data: p})
		if err != nil {
			return m, err
		}
	}
	return nil, nil
}

// failed takes m, which did not do what it should, out of the array, and reports whether the array can do without it. If not,
// m stays, and what it cannot do fails. When failed returns, the other members know.
func (t *target) failed(m *member) bool {
	if t.geo.level == 0 || t.readOnly {
		return false
	}
	if err := t.supers.Lock(context.Background()); err != nil {
		return false
	}
	defer t.supers.Unlock()
	if m.dead.Load() {
		return true
	}
	if !t.without(m, nil) {
		return false
	}
	t.mu.Lock()
	t.super.setFailed(m.index, true)
	t.mu.Unlock()
	if err := t.writeSupers(m); err != nil {
		t.mu.Lock()
		t.super.setFailed(m.index, false)
		t.mu.Unlock()
		return false
	}
	m.dead.Store(true)
	t.host.Event()
	t.interrupt()
	if t.journal != nil {
		t.journal.wake()
	}
	return true
}

// flushData makes durable what the members hold.
func (t *target) flushData(ctx context.Context) error {
	return t.flush(ctx, mapper.Request{Op: mapper.OpFlush})
}

// saveProgress makes durable how far a resync or rebuild is.
func (t *target) saveProgress() error {
	ctx := context.Background()
	if err := t.flushData(ctx); err != nil {
		return err
	}
	if err := t.supers.Lock(ctx); err != nil {
		return err
	}
	defer t.supers.Unlock()
	return t.writeSupers(nil)
}

// A quietHost logs nothing.
type quietHost struct{ mapper.Host }

func (quietHost) Logf(string, ...any) {}

// catchUp builds t anew if the metadata are no longer those that it was built of: the table before it may have moved data, finished a
// resync or lost a member since.
func (t *target) catchUp(ctx context.Context) error {
	found, err := t.loadSupers(ctx)
	if err != nil {
		return err
	}
	if slices.Equal(eventsOf(found), t.loaded) && (t.bitmap == nil || t.isMD()) { // a bitmap changes without a new event; md has no table before
		return nil
	}
	now, err := build(ctx, quietHost{t.host}, t.spec)
	if err != nil {
		return fmt.Errorf("the members changed after the table was loaded: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cfg, t.geo, t.bitmap, t.loaded = now.cfg, now.geo, now.bitmap, now.loaded
	t.super, t.stale, t.syncedTo, t.converted, t.lineage = now.super, now.stale, now.syncedTo, now.converted, now.lineage
	t.headerEvents.Store(now.headerEvents.Load())
	t.cur = now.cur
	t.cur.target = t
	if t.bitmap != nil {
		t.bitmap.t = t
	}
	for i := range t.members {
		m, from := &t.members[i], &now.members[i]
		m.partial = from.partial
		m.dead.Store(from.dead.Load())
		m.good.Store(from.good.Load())
	}
	rs := now.reshaping.Load()
	if rs != nil {
		rs.t, rs.old.target, rs.now.target = t, t, t
	}
	t.reshaping.Store(rs)
	return nil
}

// PreResume writes the metadata the first time.
func (t *target) PreResume(ctx context.Context) error {
	t.mu.Lock()
	first := !t.resumed
	t.mu.Unlock()
	if first && t.hasMeta() {
		if err := t.catchUp(ctx); err != nil {
			return err
		}
	}
	if first && !t.readOnly {
		t.keepNeeds()
	}
	t.mu.Lock()
	t.unsynced.Store(t.syncedTo != done || t.bitmap != nil && t.bitmap.needs > 0)
	if first {
		t.sync.resumes = t.syncedTo != done && t.syncedTo > 0 && !t.isMD()
	}
	t.mu.Unlock()
	if first && t.journal != nil {
		if err := t.journal.recover(ctx); err != nil {
			return err
		}
	}
	t.mu.Lock()
	t.resumed = !t.readOnly
	t.mu.Unlock()
	if t.readOnly {
		return nil
	}
	if !first {
		if t.geo.level != 0 && !t.isMD() { // what failed comes back to md with mdadm --re-add: its superblocks cannot take that back
			t.revive(ctx)
		}
		return nil
	}
	generations := 0
	switch {
	case t.converted:
		generations = 2
	case t.isMD() && t.lacksMember():
		generations = t.behind() // a member that is not there may have as many events
	case t.adopts():
		generations = 2
		t.mu.Lock()
		t.super.log = t.journal.tag
		t.mu.Unlock()
	case t.stale:
		generations = 1
	}
	if generations == 0 {
		return nil
	}
	if err := t.supers.Lock(ctx); err != nil {
		return err
	}
	defer t.supers.Unlock()
	for range generations {
		if err := t.writeSupers(nil); err != nil {
			return err
		}
	}
	return nil
}

// revive takes members back that failed and whose superblock can be read again. They miss what the bitmap tells.
func (t *target) revive(ctx context.Context) {
	revived := false
	for i := range t.members {
		m := &t.members[i]
		if m.meta == nil || m.data == nil || !m.dead.Load() {
			continue
		}
		buf := mapper.GetBuffer(superBlock)
		err := m.meta.Submit(ctx, mapper.Request{Op: mapper.OpRead, Count: mapper.SectorsOf(superBlock), Data: buf.Data})
		var s superblock
		if err == nil {
			s, err = decodeSuper(buf.Data)
		}
		buf.Free()
		if err != nil {
			continue
		}
		t.host.Logf("Faulty %s device #%d has readable super block.  Attempting to revive it.", t.cfg.typ.name, i)
		t.mu.Lock()
		m.good.Store(0)
		m.partial = t.reshaping.Load() == nil && s.position == uint32(i) && s.events >= t.bitmap.cleared && s.rebuilt >= t.geo.dev
		t.super.setFailed(i, false)
		m.dead.Store(false)
		t.mu.Unlock()
		revived = true
	}
	if !revived {
		return
	}
	if err := t.supers.Lock(ctx); err != nil {
		return
	}
	defer t.supers.Unlock()
	if err := t.writeSupers(nil); err != nil {
		t.host.Logf("Failed to update superblocks: %v", err)
	}
}

// Resume starts what runs in the background.
func (t *target) Resume() {
	if t.geo.level == 0 || t.readOnly {
		return
	}
	t.mu.Lock()
	t.sync.frozen, t.sync.suspended, t.sync.last = false, false, ""
	t.mu.Unlock()
	t.run()
}

// run starts the syncer, and what clears the bitmap.
func (t *target) run() {
	t.background.Start(t.syncLoop)
	t.background.Start(t.cleanLoop)
	if t.journal != nil {
		t.background.Start(t.journal.cacheLoop)
		if t.journal.cache.owes.Load() > 0 { // which members that are back may take
			t.journal.wake()
		}
	}
}

// PreSuspend stops what runs in the background. Requests that are under way complete.
func (t *target) PreSuspend(bool) {
	t.background.Stop()
}

// PreSuspendUndo starts it again.
func (t *target) PreSuspendUndo() {
	if t.geo.level != 0 && !t.readOnly {
		t.run()
	}
}

// PostSuspend makes durable how far things are, and clears the bits of what is in sync.
func (t *target) PostSuspend(ctx context.Context) error {
	t.PreSuspend(true)
	t.mu.Lock()
	t.sync.suspended = true
	t.mu.Unlock()
	if t.geo.level == 0 || t.readOnly {
		return nil
	}
	if t.journal != nil {
		if err := t.journal.empty(ctx); err != nil {
			return err
		}
	}
	if !t.hasMeta() {
		return nil
	}
	if err := t.bitmap.clean(ctx, true); err != nil {
		return err
	}
	t.mu.Lock()
	save := t.sync.unsaved
	t.sync.unsaved = false
	t.mu.Unlock()
	if save {
		return t.saveProgress()
	}
	return nil
}

// Close stops what a table that was never suspended left running.
func (t *target) Close() error {
	t.PreSuspend(true)
	return nil
}
