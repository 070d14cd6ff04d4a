package raid

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
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

// Many write at once, from a sector to what they have, on the smallest journal: log, cache and rows are too few for them. Meanwhile the log begins anew, a
// member fails, comes back with the next table, and is rebuilt.
func TestJournalCrowd(t *testing.T) {
	seed := mappertest.Seed(t)
	for i, c := range []struct {
		kind          string
		members, data int
	}{{"raid5_ls 1024", 4, 3}, {"raid6_zr 64", 6, 4}} {
		for _, mode := range []string{writethrough, writeback} {
			t.Run(c.kind+" "+mode, func(t *testing.T) {
				const dev = 4096
				s := setup(c.members, dev, dev*mapper.Sector(c.data), c.kind, "region_size 1024 stripe_cache 256", true)
				a := newArray(t, withJournal(s, mode, journalLeast), seed+uint64(i), true)
				a.crowd(seed+uint64(i), func() {})
				a.crowd(seed+uint64(i)+10, func() {
					if !a.tg.failed(&a.tg.members[1]) {
						t.Error("the array cannot do without a member")
					}
				})
				a.close()
				a.open(withMode(a.setup.Args, writethrough))
				a.crowd(seed+uint64(i)+20, func() {}) // while it is rebuilt
				a.wait()
				a.close()
				a.open(a.setup.Args)
				a.check()
				a.agrees()
				a.close()
			})
		}
	}
}

// crowd has some write, each where nobody else does, and read that again. Amid that it calls f.
func (a *array) crowd(seed uint64, f func()) {
	a.t.Helper()
	const writers, rounds = 16, 4
	ctx, cancel := context.WithTimeout(a.t.Context(), 2*time.Minute) // of a hang
	defer cancel()
	each := a.setup.Len / writers
	if err := mapper.FanOut(writers+1, writers+1, func(w int) error {
		rnd := rand.New(rand.NewPCG(seed, uint64(w)))
		if w == writers {
			for i := range 3 {
				if i == 1 {
					f()
				}
				if err := a.tg.journal.empty(ctx); err != nil {
					return err
				}
			}
			return nil
		}
		first := mapper.Sector(w) * each
		for range rounds {
			at := mapper.Sector(rnd.Uint64N(uint64(each)))
			n := 1 + mapper.Sector(rnd.Uint64N(uint64(each-at)))
			if rnd.IntN(2) == 0 {
				n = min(n, 1+mapper.Sector(rnd.Uint64N(20)))
			}
			p := a.want[(first + at).Bytes():][:n.Bytes()]
			for i := 0; i < len(p); i += 8 {
				binary.NativeEndian.PutUint64(p[i:], rnd.Uint64())
			}
			if err := submitIn(ctx, a.tg, mapper.Request{Op: mapper.OpWrite, Start: first + at, Count: n, Data: p}); err != nil {
				return err
			}
			got := make([]byte, each.Bytes())
			if err := submitIn(ctx, a.tg, mapper.Request{Op: mapper.OpRead, Start: first, Count: each, Data: got}); err != nil {
				return err
			}
			if i := firstDifference(got, a.want[first.Bytes():][:len(got)]); i >= 0 {
				return fmt.Errorf("writer %d: sector %d is not what was written", w, first+mapper.Sector(i))
			}
		}
		return nil
	}); err != nil {
		a.t.Fatal(err)
	}
	a.check()
	if err := a.tg.journal.empty(ctx); err != nil {
		a.t.Fatal(err)
	}
	if n := a.tg.journal.reserved; n != 0 {
		a.t.Errorf("%d blocks are reserved for nobody", n)
	}
}

// A crash amid the replay of data without parity leaves the members with one and not the other, and nothing in a log that went around tells. The next replay
// does not trust parity then.
func TestJournalReplayAgain(t *testing.T) {
	s := withJournal(setup(5, 256, 1024, "raid5_ls 16", "region_size 64", true), writethrough, journalLeast)
	a := newArray(t, s, 7, true)
	a.scribble(20)
	a.wait()
	a.close()
	page := mappertest.Stamped(0, blockSectors, 9)
	copy(a.want, page)
	const at = journalLeast - 2*blockSectors
	seq := a.tg.journal.seq + seqJump
	w := logWriter{head: at, seq: seq, tag: a.tg.journal.tag, buf: make([]byte, 4*journalBlock)}
	w.entry(&logEntry{rows: 1, data: []logData{{0, page}}})
	w.seal()
	w.meta.begin(w.next(), seq+1, 0, w.tag)
	w.meta.add(kindData, 8, blockSum(a.want[journalBlock:2*journalBlock]))
	w.meta.end()
	copy(w.next(), a.want[journalBlock:])
	for i := range 4 {
		where := (at + mapper.Sector(i)*blockSectors) % journalLeast
		if err := a.disks[journalDisk].Submit(t.Context(), mapper.Request{Op: mapper.OpWrite, Start: where, Count: blockSectors, Data: w.buf[i*journalBlock:][:journalBlock]}); err != nil {
			t.Fatal(err)
		}
	}
	first := a.tg.geo.row(0).data[0]
	if err := a.disks[fmt.Sprintf("7:%d", 2*first+1)].Submit(t.Context(), mapper.Request{Op: mapper.OpWrite, Count: blockSectors, Data: page}); err != nil {
		t.Fatal(err)
	}
	a.open(s.Args)
	a.check()
	a.agrees()
	a.close()
}

// A replay reads about as much as there is in the log, also where parity lies far behind the data.
func TestJournalReplayReads(t *testing.T) {
	const pages = 400
	s := withJournal(setup(3, 4096, 8192, "raid5_ls 4096", "nosync", false), writethrough, journalLeast)
	disks := make(map[string]mapper.Disk)
	for _, d := range s.Disks {
		disks[d.Name] = mappertest.NewDisk(d.Name, d.Sectors)
	}
	w := logWriter{buf: make([]byte, mapper.Sector(journalLeast).Bytes())}
	w.meta.begin(w.next(), 0, 0, 0)
	w.seal()
	w.seq++
	block := make([]byte, pages*journalBlock)
	w.entry(&logEntry{rows: pages, data: []logData{{0, block}}})
	w.entry(&logEntry{rows: pages, parity: [][]byte{block}})
	w.seal()
	if err := disks[journalDisk].Submit(t.Context(), mapper.Request{Op: mapper.OpWrite, Count: journalLeast, Data: w.buf}); err != nil {
		t.Fatal(err)
	}
	log := &counted{Disk: disks[journalDisk]}
	disks[journalDisk] = log
	tg, err := start(t.Context(), &mappertest.Host{Disks: disks}, s.Len, s.Args)
	if err != nil {
		t.Fatal(err)
	}
	if n := log.read.Load(); n > 10*uint64(journalLeast) {
		t.Errorf("%d sectors of a journal of %d were read", n, uint64(journalLeast))
	}
	if err := stop(t.Context(), tg); err != nil {
		t.Fatal(err)
	}
}

// A counted disk counts the sectors that are read.
type counted struct {
	mapper.Disk
	read atomic.Uint64
}

func (c *counted) Submit(ctx context.Context, r mapper.Request) error {
	if r.Op == mapper.OpRead {
		c.read.Add(uint64(r.Count))
	}
	return c.Disk.Submit(ctx, r)
}
