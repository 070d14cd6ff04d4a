package raid

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// journaledArray makes an array with a small journal.
func journaledArray(t *testing.T, mode string) *array {
	t.Helper()
	return newArray(t, withJournal(setup(4, 1024, 3072, "raid5_ls 16", "region_size 64", true), mode, journalLeast), 3, true)
}

func (a *array) statusField(n int) string {
	a.t.Helper()
	text, err := a.tg.Status(context.Background(), true)
	if err != nil {
		a.t.Fatal(err)
	}
	return strings.Fields(text)[n]
}

// withoutJournal returns a line without the options of a journal.
func withoutJournal(args []string) []string {
	i := slices.Index(args, "journal_dev")
	args = slices.Delete(slices.Clone(args), i, i+4)
	var n int
	fmt.Sscan(args[1], &n)
	args[1] = fmt.Sprint(n - 4)
	return args
}

// When the journal fails, writes do, too, and nothing that was written is lost: neither what only the journal and the cache held, nor in the next table, with the journal or without.
func TestJournalFails(t *testing.T) {
	for _, mode := range []string{writethrough, writeback} {
		a := journaledArray(t, mode)
		a.tg.PreSuspend(true) // what empties the cache by and by
		a.scribble(30)
		log := a.disks[journalDisk].(*mappertest.Faulty)
		log.Inject(mappertest.Fault{Ops: []mapper.Op{mapper.OpWrite}})
		same := mapper.Request{Op: mapper.OpWrite, Start: 100, Count: 9, Data: a.want[100*512 : 109*512]}
		for range 2 {
			if err := submit(a.tg, same); !errors.Is(err, mapper.ErrIO) {
				t.Errorf("%s: a write without a journal: %v", mode, err)
			}
		}
		if s := a.statusField(7); s != "D" {
			t.Errorf("%s: the journal is %s, want D", mode, s)
		}
		a.check()
		if err := a.tg.Submit(context.Background(), mapper.Request{Op: mapper.OpFlush}); err != nil {
			t.Errorf("%s: flush: %v", mode, err)
		}
		if !a.tg.journal.cache.isEmpty() {
			t.Errorf("%s: after a flush the members lack what is cached", mode)
		}
		a.close()
		log.Heal()
		for _, args := range [][]string{a.setup.Args, withoutJournal(a.setup.Args)} {
			a.open(args)
			if n := a.scrub(); n != 0 {
				t.Errorf("%s: a check finds %d sectors", mode, n)
			}
			a.check()
			a.scribble(5)
			a.close()
		}
	}
}

// A member that fails takes nothing along that was in the cache, and writes go on, and past the cache.
func TestMemberFailsWithJournal(t *testing.T) {
	for _, mode := range []string{writethrough, writeback} {
		a := journaledArray(t, mode)
		a.scribble(30)
		a.disks["7:3"].(*mappertest.Faulty).Inject(mappertest.Fault{})
		a.scribble(30)
		if !a.tg.failed(&a.tg.members[1]) {
			t.Fatal("the array cannot do without a member")
		}
		a.scribble(30)
		a.check()
		a.close()
		a.open(without(withMode(a.setup.Args, writethrough), 4, []int{1}))
		a.check()
		a.close()
		_, err := newTarget(context.Background(), &mappertest.Host{Disks: a.disks}, mapper.Spec{Len: a.setup.Len, Args: without(withMode(a.setup.Args, writeback), 4, []int{1})})
		var arg *mapper.ArgError
		if !errors.As(err, &arg) || arg.Reason != "Failed to set raid4/5/6 journal mode" {
			t.Errorf("writeback without a member: %v", err)
		}
		a.disks["7:3"].(*mappertest.Faulty).Heal()
		a.open(withMode(a.setup.Args, writethrough))
		if n := a.scrub(); n != 0 {
			t.Errorf("%s: a check finds %d sectors", mode, n)
		}
		a.check()
		a.close()
	}
}

// What a crash left different before the array had a journal is made to agree when it has one, once.
func TestJournalAfterCrash(t *testing.T) {
	plain := setup(4, 1024, 3072, "raid5_ls 16", "region_size 64", true)
	a := newArray(t, withJournal(plain, writethrough, journalLeast), 3, false)
	a.close()
	a.open(plain.Args)
	a.wait()
	a.scribble(20)
	a.tg.PreSuspend(true) // and no more, as in a crash
	junk := mapper.Request{Op: mapper.OpWrite, Count: 64, Data: bytes.Repeat([]byte{1}, 64*512)}
	if err := a.disks["7:7"].Submit(context.Background(), junk); err != nil { // parity of the first rows, too
		t.Fatal(err)
	}
	for i := range 2 {
		a.open(a.setup.Args)
		a.tg.bitmap.mu.Lock()
		needs := a.tg.bitmap.needs
		a.tg.bitmap.mu.Unlock()
		if i == 1 && needs != 0 {
			t.Errorf("%d regions are resynced again", needs)
		}
		a.agrees()
		a.close()
	}
}

// Readers see each write once it has returned, while the cache is emptied under them, and never an older one after.
func TestReadsDuringDestage(t *testing.T) {
	a := journaledArray(t, writeback)
	const sectors = 3072
	if err := mapper.FanOut(6, 6, func(i int) error {
		rnd := rand.New(rand.NewPCG(uint64(i), 4))
		first, n := mapper.Sector(i)*sectors/6, mapper.Sector(sectors/6)
		for serial := uint64(1); serial < 60; serial++ {
			at := first + mapper.Sector(rnd.Uint64N(uint64(n-20)))
			data := mappertest.Stamped(at, 20, serial)
			if err := submit(a.tg, mapper.Request{Op: mapper.OpWrite, Start: at, Count: 20, Data: data}); err != nil {
				return err
			}
			if serial%4 == 0 {
				if err := a.tg.journal.destageAll(context.Background()); err != nil {
					return err
				}
			}
			got := make([]byte, len(data))
			if err := submit(a.tg, mapper.Request{Op: mapper.OpRead, Start: at, Count: 20, Data: got}); err != nil {
				return err
			}
			if !bytes.Equal(got, data) {
				return errors.New("a read does not see what was written")
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	a.close()
}

// A journal of another array, or one that may hold something under a read-only table, is refused, and nothing is written.
func TestJournalRefused(t *testing.T) {
	small := setup(4, 256, 768, "raid5_ls 16", "region_size 64", true)
	a := newArray(t, withJournal(small, writethrough, journalLeast), 3, true)
	log := a.disks[journalDisk]
	b := journaledArray(t, writethrough)
	b.scribble(20)
	left := make([]byte, journalLeast*512) // as a crash would leave it
	if err := b.disks[journalDisk].Submit(context.Background(), mapper.Request{Op: mapper.OpRead, Count: journalLeast, Data: left}); err != nil {
		t.Fatal(err)
	}
	b.close()
	a.close()
	if err := log.Submit(context.Background(), mapper.Request{Op: mapper.OpWrite, Count: journalLeast, Data: left}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		a    *array
		host *mappertest.Host
		want string
	}{
		{a, &mappertest.Host{Disks: a.disks}, "give the journal of this array"},
		{b, &mappertest.Host{Disks: b.disks, RO: true}, "load the table for writing once"},
	} {
		if err := c.a.disks[journalDisk].Submit(context.Background(), mapper.Request{Op: mapper.OpWrite, Count: journalLeast, Data: left}); err != nil {
			t.Fatal(err)
		}
		if _, err := start(context.Background(), c.host, c.a.setup.Len, c.a.setup.Args); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	a.open(withoutJournal(a.setup.Args)) // nothing happened to it
	a.check()
	a.close()
}

// The kernel's log goes around, and it discards what it is done with. Its chain is found whether the first block is data, a meta block in its midst, or discarded;
// one that was replayed already is not taken for it, nor is what is left of a journal whose first block somebody wrote zeroes to.
func TestJournalRing(t *testing.T) {
	g := setup(3, 1024, 2048, "raid5_ls 16", "nosync", false)
	page := func(serial uint64) []byte { return mappertest.Stamped(0, blockSectors, serial) }
	zero := make([]byte, journalBlock)
	write := func(serial uint64) *logEntry { // of the first page of the array, and of parity
		return &logEntry{rows: 1, data: []logData{{0, page(serial)}}, parity: [][]byte{page(serial)}}
	}
	const size = journalLeast
	for _, c := range []struct {
		name string
		log  func(put func(at mapper.Sector, seq uint64, e ...*logEntry))
		want uint64                   // 0 if nothing is replayed
		fill map[mapper.Sector][]byte // blocks written over the log
	}{
		{"from the first block", func(put func(mapper.Sector, uint64, ...*logEntry)) {
			put(0, 7)
			put(8, 8, write(1))
			put(32, 9, write(2))
		}, 2, nil},
		{"replayed before", func(put func(mapper.Sector, uint64, ...*logEntry)) {
			put(0, 7)
			put(8, 8, write(1))
			put(32, 9+seqJump)
			put(40, 10+seqJump, write(2))
		}, 2, nil},
		{"replayed before, and not written to", func(put func(mapper.Sector, uint64, ...*logEntry)) {
			put(0, 7)
			put(8, 8, write(1))
			put(32, 9+seqJump)
		}, 1, nil},
		{"data in the first block", func(put func(mapper.Sector, uint64, ...*logEntry)) {
			put(size-56, 19, write(3))
			put(size-32, 20, write(1))
			put(size-8, 21, write(2))
			put(64, 11, write(5)) // from before, as far as it is left
		}, 2, nil},
		{"a meta block in the first block", func(put func(mapper.Sector, uint64, ...*logEntry)) {
			put(size-24, 20, write(1))
			put(0, 21, &logEntry{rows: 1, at: 8, data: []logData{{8, page(9)}}, parity: [][]byte{zero}})
		}, 1, nil},
		{"the kernel discarded what it was done with", func(put func(mapper.Sector, uint64, ...*logEntry)) {
			put(64, 20, write(1))
			put(88, 21, write(2))
		}, 2, nil},
		{"zeroes in the first block, as data", func(put func(mapper.Sector, uint64, ...*logEntry)) {
			put(size-16, 20, &logEntry{rows: 1, data: []logData{{0, page(1)}}, parity: [][]byte{zero}})
			put(8, 21, write(2))
		}, 2, nil},
		{"zeroes written to the first block", func(put func(mapper.Sector, uint64, ...*logEntry)) {
			put(0, 7)
			put(8, 8, write(1))
		}, 0, map[mapper.Sector][]byte{0: zero}},
		{"zeroes written over data of a ring", func(put func(mapper.Sector, uint64, ...*logEntry)) {
			put(size-16, 20, write(1))
			put(8, 21, write(2))
		}, 0, map[mapper.Sector][]byte{0: zero}},
		{"zeroes before the rest of an older log", func(put func(mapper.Sector, uint64, ...*logEntry)) {
			put(64, 20, write(1))
		}, 0, map[mapper.Sector][]byte{56: page(9)}},
	} {
		s := withJournal(g, writethrough, size)
		disks := make(map[string]mapper.Disk)
		for _, d := range s.Disks {
			disks[d.Name] = mappertest.NewDisk(d.Name, d.Sectors)
		}
		c.log(func(at mapper.Sector, seq uint64, entries ...*logEntry) {
			w := logWriter{head: at, seq: seq, buf: make([]byte, 64*journalBlock)}
			for _, e := range entries {
				w.entry(e)
			}
			if len(entries) == 0 {
				w.meta.begin(w.next(), seq, at, 0)
			}
			w.seal()
			for i := 0; i < w.used; i += journalBlock {
				where := (at + mapper.SectorsOf(int64(i))) % size
				if err := disks[journalDisk].Submit(context.Background(), mapper.Request{Op: mapper.OpWrite, Start: where, Count: blockSectors, Data: w.buf[i : i+journalBlock]}); err != nil {
					t.Fatal(err)
				}
			}
		})
		for at, b := range c.fill {
			if err := disks[journalDisk].Submit(context.Background(), mapper.Request{Op: mapper.OpWrite, Start: at, Count: blockSectors, Data: b}); err != nil {
				t.Fatal(err)
			}
		}
		tg, err := start(context.Background(), &mappertest.Host{Disks: disks}, s.Len, s.Args)
		if err != nil {
			t.Fatal(err)
		}
		want := zero
		if c.want > 0 {
			want = page(c.want)
		}
		got := make([]byte, journalBlock)
		if err := submit(tg, mapper.Request{Op: mapper.OpRead, Count: blockSectors, Data: got}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %s, want write %d", c.name, mappertest.Describe(got[:512]), c.want)
		}
		if err := stop(context.Background(), tg); err != nil {
			t.Fatal(err)
		}
	}
}

// Who wants to do without a journal whose first block is zeroes already is told to write them to all of it.
func TestJournalDiscardedRefused(t *testing.T) {
	s := withJournal(setup(3, 1024, 2048, "raid5_ls 16", "nosync", false), writethrough, journalLeast)
	disks := make(map[string]mapper.Disk)
	for _, d := range s.Disks {
		disks[d.Name] = mappertest.NewDisk(d.Name, d.Sectors)
	}
	w := logWriter{head: 64, seq: 20, buf: make([]byte, 4*journalBlock)}
	w.entry(&logEntry{rows: 1, data: []logData{{1 << 30, make([]byte, journalBlock)}}, parity: [][]byte{make([]byte, journalBlock)}})
	w.seal()
	if err := disks[journalDisk].Submit(context.Background(), mapper.Request{Op: mapper.OpWrite, Start: 64, Count: mapper.SectorsOf(int64(w.used)), Data: w.buf[:w.used]}); err != nil {
		t.Fatal(err)
	}
	if _, err := start(context.Background(), &mappertest.Host{Disks: disks}, s.Len, s.Args); err == nil || !strings.Contains(err.Error(), "write zeroes to all of it") {
		t.Errorf("%v: want to be told to write zeroes to all of it", err)
	}
}
