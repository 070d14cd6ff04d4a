package raid

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// Status returns TYPE MEMBERS LETTERS INSYNC/TOTAL ACTION MISMATCHES OFFSET JOURNAL.
func (t *target) Status(context.Context, bool) (string, error) {
	next := t.nextAction()
	t.mu.Lock()
	s, synced, resumed := t.sync, t.syncedTo, t.resumed
	g, rs, offset := t.geo, t.reshaping.Load(), t.cur.offset
	t.mu.Unlock()
	total := g.syncSectors()
	action := idle
	if rs != nil {
		offset = rs.old.offset
		if g.level == 10 {
			total = rs.end
		}
	}
	switch {
	case g.level == 0:
		synced = done
	case s.frozen || s.suspended || !resumed:
		action, synced = frozen, s.at
	case rs != nil:
		action, synced = moves, rs.done(mapper.Sector(rs.pos.Load()))
	case s.action == resync && s.resumes:
		action, synced = repair, s.at
	case s.action != "":
		action, synced = s.action, s.at
	case t.awaitsTable() && t.recovering() != nil:
		action, synced = recover, 0
	case s.request != "":
		action, synced = s.request, 0 // it is about to begin
	}
	unsynced := action == idle && next == resync && synced != done || // it is about to begin
		action == frozen && t.syncedUpTo() != done
	name := typeOf(g.level, g.layout)
	if name == "" {
		name = t.cfg.typ.name // one of md's
	}
	if g.level == 0 {
		name = "raid0"
	}
	mismatches := uint64(0)
	if s.last == check || s.action == check {
		mismatches = s.mismatches
	}
	return fmt.Sprintf("%s %d %s %d/%d %s %d %d %s", name, g.members, t.letters(action, s.filling, unsynced), min(synced, total), total, action, mismatches, offset, t.journal.letter()), nil
}

// letter returns what status lines say of a journal, which may be nil.
func (j *journal) letter() string {
	switch {
	case j == nil:
		return "-"
	case j.dead.Load():
		return "D"
	case j.back:
		return "a"
	}
	return "A"
}

// letters returns a letter for each member; filling is the one that is being filled, and unsynced says that the array is yet to be resynced, which no member knows.
func (t *target) letters(action string, filling *member, unsynced bool) string {
	var b strings.Builder
	for i := range t.members {
		switch m := &t.members[i]; {
		case m.data == nil:
			b.WriteByte('-')
		case m.dead.Load():
			b.WriteByte('D')
		case action == resync, action == moves, unsynced, m == filling, m.good.Load() != uint64(done):
			b.WriteByte('a')
		default:
			b.WriteByte('A')
		}
	}
	return b.String()
}

// Message carries out idle, frozen, resync, recover, check and repair.
func (t *target) Message(_ context.Context, args []string) (string, error) {
	word := ""
	if len(args) > 0 {
		word = strings.ToLower(args[0])
	}
	t.mu.Lock()
	striped := t.geo.level == 0
	t.mu.Unlock()
	if striped {
		return "", &mapper.ArgError{Detail: "raid0 has nothing to sync"}
	}
	t.mu.Lock()
	t.sync.frozen = word == frozen
	busy := t.sync.action != "" || t.sync.request != "" || t.reshaping.Load() != nil
	t.mu.Unlock()
	switch word {
	case idle, frozen:
		t.mu.Lock()
		t.sync.request, t.sync.at = "", 0
		if !busy {
			t.sync.last = ""
		}
		t.mu.Unlock()
		t.interrupt()
		return "", nil
	}
	if busy {
		return "", &mapper.ArgError{Detail: "the array is being synced: say idle or wait", Errno: unix.EBUSY}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch word {
	case resync, recover:
		t.sync.last = "" // try again what failed
	case check, repair:
		if t.readOnly {
			return "", &mapper.ArgError{Detail: "the table is read-only", Errno: unix.EROFS}
		}
		t.sync.request = word
	default:
		t.wake()
		return "", &mapper.ArgError{Detail: fmt.Sprintf("%q: want idle, frozen, resync, recover, check or repair", word)}
	}
	t.wake()
	return "", nil
}
