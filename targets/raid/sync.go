package raid

import (
	"context"
	"time"

	"dmfs/mapper"
)

// What the syncer does, in the words of status lines.
const (
	idle    = "idle"
	frozen  = "frozen"
	resync  = "resync"
	recover = "recover"
	check   = "check"
	repair  = "repair"
	moves   = "reshape"
)

// A syncState is what the syncer does. Guarded by target.mu.
type syncState struct {
	frozen     bool // by a message
	suspended  bool
	request    string             // check or repair, wanted by a message; "" if none
	action     string             // what runs; "" if nothing
	last       string             // what ran last
	filling    *member            // what it fills, until all is durable
	at         mapper.Sector      // how far it is
	mismatches uint64             // sectors that the last check found
	cancel     context.CancelFunc // stops what runs
	unsaved    bool               // superblocks do not say how far things are
	resumes    bool               // the resync goes on where it was when the table was resumed: md calls that a repair
}

// windowSectors bounds what the syncer works on at a time, and so how long a write may wait for it.
const windowSectors mapper.Sector = 256

const (
	defaultMinRate = 1000 // KiB a second and member that the syncer may do however busy the array is
	saveEvery      = 5 * time.Second
)

// wake makes the syncer look for work.
func (t *target) wake() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// interrupt stops what the syncer does; it then looks anew for what is to do.
func (t *target) interrupt() {
	t.mu.Lock()
	if t.sync.cancel != nil {
		t.sync.cancel()
	}
	t.mu.Unlock()
	t.wake()
}

func (t *target) syncLoop(ctx context.Context) {
	for ctx.Err() == nil {
		action := t.nextAction()
		if action == "" {
			select {
			case <-ctx.Done():
			case <-t.kick:
			}
			continue
		}
		t.act(ctx, action)
	}
}

// nextAction returns what is to do, "" if nothing.
func (t *target) nextAction() string {
	lost, rs := t.lost(), t.reshaping.Load()
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.sync.frozen, rs != nil && (rs.waits || t.sync.stuck(moves)):
		return ""
	case rs != nil:
		return moves
	case t.unsynced.Load() && t.canResync(lost) && !t.sync.stuck(resync):
		return resync
	case t.recovering() != nil && !t.awaitsTable() && !t.sync.stuck(recover):
		return recover
	}
	return t.sync.request
}

// stuck reports whether an action failed for a reason that stays until something happens.
func (s *syncState) stuck(action string) bool { return s.last == action+" failed" }

// reaches notes how far the action is. That all is done is said when it is durable and the action over: who reads a status takes DONE for that.
func (s *syncState) reaches(at, end mapper.Sector) {
	if at < end {
		s.at = at
	}
}

// canResync reports whether an array that lacks so many members has redundancy to resync.
func (t *target) canResync(lost int) bool {
	if t.geo.parity > 0 {
		return lost < t.geo.parity
	}
	return lost < t.geo.members-1
}

// recovering returns a member that is to be rebuilt, or nil.
func (t *target) recovering() *member {
	for i := range t.needed() {
		if m := &t.members[i]; !m.dead.Load() && m.good.Load() != uint64(done) {
			return m
		}
	}
	return nil
}

// act does something until it is done or interrupted.
func (t *target) act(ctx context.Context, action string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.mu.Lock()
	t.sync.action, t.sync.at, t.sync.cancel = action, 0, cancel
	if action == resync && t.syncedTo != done {
		t.sync.at = t.syncedTo
	}
	if action == check || action == repair {
		t.sync.mismatches = 0
		t.sync.request = ""
	}
	t.mu.Unlock()
	var err error
	switch action {
	case resync:
		err = t.resync(ctx)
	case recover:
		err = t.rebuild(ctx)
	case moves:
		err = t.reshaping.Load().run(ctx)
	default:
		err = t.scrub(ctx, action)
	}
	t.mu.Lock()
	t.sync.last = action
	if err != nil && ctx.Err() == nil {
		t.sync.last += " failed"
	}
	t.sync.action, t.sync.filling, t.sync.cancel = "", nil, nil
	if err == nil {
		t.sync.at, t.sync.resumes = 0, false
	}
	t.mu.Unlock()
	if err == nil {
		t.host.Event()
	} else if ctx.Err() == nil {
		t.host.Logf("%s of the array stopped: %v", action, err)
	}
}

// A pace bounds how fast the syncer goes.
type pace struct {
	t     *target
	began time.Time
	last  time.Time
	saved time.Time
	moved mapper.Sector
}

func (t *target) newPace() *pace {
	now := time.Now()
	return &pace{t: t, began: now, last: now, saved: now}
}

// step waits after n sectors as long as the rates ask: half of the time if the array is in use.
func (p *pace) step(ctx context.Context, n mapper.Sector) error {
	p.moved += n
	now := time.Now()
	kib, elapsed := float64(p.moved)/2, now.Sub(p.began).Seconds()
	wait := time.Duration(0)
	least := p.t.cfg.minRate
	if least == 0 {
		least = defaultMinRate
	}
	if p.t.busy.Swap(0) > 0 && kib > elapsed*float64(least) {
		wait = now.Sub(p.last)
	}
	if most := p.t.cfg.maxRate; most > 0 {
		wait = max(wait, time.Duration((kib/float64(most)-elapsed)*float64(time.Second)))
	}
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	p.last = time.Now()
	if p.last.Sub(p.saved) > saveEvery {
		p.saved = p.last
		if err := p.t.saveProgress(); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// window returns the end of what is to be done at a time from sector s of a member on.
func (t *target) window(s, end mapper.Sector) mapper.Sector {
	return min(end, (s/windowSectors+1)*windowSectors)
}

// resync makes redundancy agree where it may not: from where the first one got to, and in regions that need it.
func (t *target) resync(ctx context.Context) error {
	p, end := t.newPace(), t.geo.syncSectors()
	for at := mapper.Sector(0); ; {
		from, to, ok := t.bitmap.nextNeed(at)
		if synced := t.syncedUpTo(); synced != done && (!ok || from > max(at, synced)) {
			from, to, ok = max(at, synced), end, max(at, synced) < end
		}
		if !ok {
			break
		}
		for at = from; at < to; {
			next := t.window(at, to)
			if err := t.syncWindow(ctx, at, next, resync); err != nil {
				return err
			}
			t.advance(at, next)
			if err := p.step(ctx, next-at); err != nil {
				return err
			}
			at = next
		}
		t.bitmap.settle(from, at)
	}
	t.mu.Lock()
	if t.syncedTo >= end {
		t.syncedTo = done
	}
	complete := t.syncedTo == done
	t.mu.Unlock()
	if complete {
		t.bitmap.mu.Lock()
		t.unsynced.Store(t.bitmap.needs > 0)
		t.bitmap.mu.Unlock()
	}
	return t.saveProgress()
}

// advance notes that a resync of [from, to) is done.
func (t *target) advance(from, to mapper.Sector) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sync.reaches(to, t.geo.syncSectors())
	if t.syncedTo != done && from <= t.syncedTo && to > t.syncedTo {
		t.syncedTo = to
		t.sync.unsaved = true
	}
}

// scrub compares redundancy, and makes it agree if action is repair.
func (t *target) scrub(ctx context.Context, action string) error {
	p, end := t.newPace(), t.geo.syncSectors()
	for at := mapper.Sector(0); at < end; {
		next := t.window(at, end)
		if err := t.syncWindow(ctx, at, next, action); err != nil {
			return err
		}
		t.mu.Lock()
		t.sync.reaches(next, end)
		t.mu.Unlock()
		if err := p.step(ctx, next-at); err != nil {
			return err
		}
		at = next
	}
	return nil
}

// syncWindow compares the redundancy of sectors [from, to), and makes it agree unless action is check.
func (t *target) syncWindow(ctx context.Context, from, to mapper.Sector, action string) error {
	var wrong mapper.Sector
	var err error
	if t.geo.parity > 0 {
		wrong, err = t.cur.syncRows(ctx, from, to, action)
	} else {
		for s := from; s < to && err == nil; {
			next := to
			if t.geo.level == 10 {
				next = min(to, (s/t.geo.chunk+1)*t.geo.chunk)
			}
			var more mapper.Sector
			more, err = t.cur.syncCopies(ctx, s, next, action)
			wrong += more
			s = next
		}
	}
	t.mu.Lock()
	t.sync.mismatches += uint64(wrong)
	t.mu.Unlock()
	return err
}

// rebuild fills the members that are to be rebuilt.
func (t *target) rebuild(ctx context.Context) error {
	for {
		m := t.recovering()
		if m == nil {
			return nil
		}
		if err := t.rebuildMember(ctx, m); err != nil {
			return err
		}
	}
}

func (t *target) rebuildMember(ctx context.Context, m *member) error {
	p := t.newPace()
	t.mu.Lock()
	partial := m.partial
	t.sync.filling = m
	t.mu.Unlock()
	for at := mapper.Sector(m.good.Load()); at < t.geo.dev; {
		next := t.window(at, t.geo.dev)
		if err := t.rebuildWindow(ctx, m, at, next, partial); err != nil {
			return err
		}
		t.mu.Lock()
		t.sync.reaches(next, t.geo.dev)
		t.sync.unsaved = true
		t.mu.Unlock()
		if err := p.step(ctx, next-at); err != nil {
			return err
		}
		at = next
	}
	m.good.Store(uint64(done))
	t.mu.Lock()
	m.partial = false
	t.mu.Unlock()
	return t.saveProgress()
}

// rebuildWindow fills sectors [from, to) of m. If partial is set, only what the bitmap tells it missed.
func (t *target) rebuildWindow(ctx context.Context, m *member, from, to mapper.Sector, partial bool) error {
	if t.geo.parity > 0 {
		if partial && !t.mayDiffer(from, to) {
			m.good.Store(uint64(to))
			return nil
		}
		return t.cur.rebuildRows(ctx, m, from, to)
	}
	for at := from; at < to; {
		next, s, ok := to, at, true
		if t.geo.level == 10 {
			next = min(to, (at/t.geo.chunk+1)*t.geo.chunk)
			s, ok = t.geo.holds(m.index, at)
		}
		if ok && (!partial || t.mayDiffer(s, s+next-at)) {
			if err := t.cur.rebuildCopy(ctx, m, at, s, next-at); err != nil {
				return err
			}
		} else {
			m.good.Store(uint64(next))
		}
		at = next
	}
	return nil
}

// mayDiffer reports whether a member that was away may lack what was written to sectors [from, to).
func (t *target) mayDiffer(from, to mapper.Sector) bool {
	return to > t.syncedUpTo() || t.bitmap.dirty(from, to)
}

// cleanLoop clears bits of the bitmap, now and then.
func (t *target) cleanLoop(ctx context.Context) {
	sleep := 5 * time.Second
	if t.cfg.given["daemon_sleep"] {
		sleep = max(10*time.Millisecond, time.Duration(t.cfg.sleep)*time.Millisecond)
	}
	ticker := time.NewTicker(sleep)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := t.bitmap.clean(ctx, false); err != nil && ctx.Err() == nil {
			t.host.Logf("Failed to clear the bitmap: %v", err)
		}
	}
}
