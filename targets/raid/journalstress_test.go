package raid

import (
	"context"
	"testing"
	"testing/synctest"
)

// Whoever waits for what others reserved of an empty log goes on when they have used it up: to begin it anew.
func TestJournalRoomComesBack(t *testing.T) {
	a := journaledArray(t, writethrough)
	defer a.close()
	ctx := context.Background()
	if err := a.tg.journal.empty(ctx); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) { // which tells a wait that never ends
		j := newJournal(a.tg, a.disks[journalDisk], false)
		j.head, j.seq, j.ready = a.tg.journal.head, a.tg.journal.seq, true
		e := &logEntry{rows: 1, data: []logData{{0, make([]byte, journalBlock)}}, parity: [][]byte{make([]byte, journalBlock)}}
		n, most := e.bound(), int(j.size/blockSectors)-1
		if err := j.reserve(ctx, n); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- j.reserve(ctx, most) }()
		synctest.Wait()
		if err := j.append(e); err != nil {
			t.Error(err)
		}
		j.release(0) // as a write that used all it had
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
