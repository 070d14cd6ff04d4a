package raid

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// otherJournal is the name of a second journal.
const otherJournal = "7:98"

// content returns what a disk holds.
func (a *array) content(name string) []byte {
	a.t.Helper()
	p := make([]byte, a.disks[name].Sectors().Bytes())
	if err := a.disks[name].Submit(a.t.Context(), mapper.Request{Op: mapper.OpRead, Count: a.disks[name].Sectors(), Data: p}); err != nil {
		a.t.Fatal(err)
	}
	return p
}

// put writes to a disk below the array.
func (a *array) put(name string, at mapper.Sector, p []byte) {
	a.t.Helper()
	if err := a.disks[name].Submit(a.t.Context(), mapper.Request{Op: mapper.OpWrite, Start: at, Count: mapper.SectorsOf(int64(len(p))), Data: p}); err != nil {
		a.t.Fatal(err)
	}
}

// crash leaves the array as a crash does that loses nothing.
func (a *array) crash() {
	a.t.Helper()
	a.tg.PreSuspend(true)
	if err := a.tg.Close(); err != nil {
		a.t.Fatal(err)
	}
}

// adoptAll takes what the array holds for what it is to hold.
func (a *array) adoptAll() {
	a.t.Helper()
	if err := submit(a.tg, mapper.Request{Op: mapper.OpRead, Count: a.setup.Len, Data: a.want}); err != nil {
		a.t.Fatal(err)
	}
}

// likeKernel makes superblocks as the kernel's next ones.
func (a *array) likeKernel() {
	for m := range a.tg.members {
		edit(a.t.(*testing.T), a, m, func(s *superblock) { s.log, s.events = 0, s.events+1 })
	}
}

// bitmapOf writes the header of a bitmap that the kernel wrote last, with that many events more than the superblocks.
func (a *array) bitmapOf(more int) {
	for m := range a.tg.members {
		edit(a.t.(*testing.T), a, m, func(s *superblock) {
			b := make([]byte, bitmapPageSize)
			(&bitmapSuper{events: s.events + uint64(more), cleared: s.events, sectors: s.dev, regionBytes: 64 * 512, sleep: 5}).encode(b)
			a.put(fmt.Sprintf("7:%d", 2*m), mapper.SectorsOf(superBlock), b)
		})
	}
}

// untag makes the log as the kernel writes it.
func (a *array) untag() {
	log := a.content(journalDisk)
	for at := 0; at < len(log); at += journalBlock {
		if b := log[at:][:journalBlock]; string(b[metaAt:][:len(tagMagic)]) == tagMagic {
			clear(b[metaAt:])
			seal(b)
		}
	}
	a.put(journalDisk, 0, log)
}

// kernelStarted makes the kernel's chain behind the log, which says nothing.
func (a *array) kernelStarted() {
	j := a.tg.journal
	var w metaWriter
	b := make([]byte, journalBlock)
	w.begin(b, j.seq+seqJump, j.head, 0)
	w.end()
	a.put(journalDisk, j.head, b)
}

// After a crash, and what happened since, a journal is replayed if it holds what the array lacks, and refused if it holds what is older than the members.
func TestStaleJournal(t *testing.T) {
	plain := func(a *array) []string { return withoutJournal(a.setup.Args) }
	for _, c := range []struct {
		name  string
		since func(a *array)
		want  string // of the error
		lost  bool   // what only the journal held
	}{
		{"nothing", func(*array) {}, "", false},
		{"a start that crashed", func(a *array) { a.open(a.setup.Args); a.scribble(4); a.crash() }, "", false},
		{"sync", func(a *array) {
			a.setup.Args = withOptions(a.setup.Args, "sync")
			a.open(a.setup.Args)
			a.scribble(4)
			a.crash()
		}, "", false},
		{"writes without the journal", func(a *array) { a.open(plain(a)); a.scribble(9); a.adoptAll(); a.close() }, "used without a journal since", true},
		{"a crash without the journal", func(a *array) { a.open(plain(a)); a.scribble(9); a.adoptAll(); a.crash() }, "used without a journal since", true},
		{"a read-only table", func(a *array) {
			tg, err := start(a.t.Context(), &mappertest.Host{Disks: a.disks, RO: true}, a.setup.Len, plain(a))
			if err != nil {
				a.t.Fatal(err)
			}
			_ = tg.Close()
		}, "", false},
		{"another journal", func(a *array) {
			args := slices.Clone(a.setup.Args)
			args[slices.Index(args, journalDisk)] = otherJournal
			a.open(args)
			a.scribble(9)
			a.adoptAll()
			a.close()
		}, "had another journal since", true},
		{"the kernel without the journal", func(a *array) { a.likeKernel() }, "used without it since", true},
		{"the kernel without the journal, and a crash", func(a *array) { a.bitmapOf(0) }, "used without a journal since", true},
		{"the kernel with the journal", func(a *array) { a.likeKernel(); a.kernelStarted() }, "", false},
		{"the kernel with the journal and then without", func(a *array) { a.likeKernel(); a.kernelStarted(); a.bitmapOf(1) }, "used without a journal since", true},
		{"the log is the kernel's", func(a *array) { a.untag(); a.likeKernel() }, "", false},
		{"the log is the kernel's, an old bitmap is there", func(a *array) { a.untag(); a.likeKernel(); a.bitmapOf(-1) }, "", false},
		{"the log is the kernel's, writes without it", func(a *array) {
			a.untag()
			a.likeKernel()
			a.open(plain(a))
			a.scribble(9)
			a.adoptAll()
			a.close()
		}, "used without a journal since", true},
		{"new metadata", func(a *array) {
			for m := range a.tg.members {
				a.put(fmt.Sprintf("7:%d", 2*m), 0, make([]byte, superBlock))
			}
		}, "the array is new", true},
	} {
		for _, mode := range []string{writethrough, writeback} {
			t.Run(c.name+" "+mode, func(t *testing.T) {
				s := withJournal(setup(4, 1024, 3072, "raid5_ls 16", "region_size 64", true), mode, journalLeast)
				s.Disks = append(s.Disks, mappertest.DiskSpec{Name: otherJournal, Sectors: journalLeast})
				a := newArray(t, s, 3, true)
				a.scribble(20)
				a.crash()
				c.since(a)
				before := a.content(journalDisk)
				tg, err := start(t.Context(), &mappertest.Host{Disks: a.disks}, s.Len, a.setup.Args)
				if c.want == "" && err == nil {
					a.tg = tg
					a.check()
					a.crash()
					a.open(a.setup.Args)
					a.check()
					a.agrees()
					a.close()
					return
				}
				if c.want == "" || err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("%v, want %q", err, c.want)
				}
				if string(before) != string(a.content(journalDisk)) {
					t.Error("the journal was written to")
				}
				a.put(journalDisk, 0, make([]byte, journalBlock)) // the cure
				a.open(a.setup.Args)
				if strings.Contains(c.name, "kernel without") || c.name == "new metadata" || strings.Contains(c.name, "and then") {
					a.adoptAll() // nobody wrote
				}
				a.check()
				a.scribble(9)
				a.wait()
				a.crash()
				a.open(a.setup.Args)
				a.check()
				a.agrees()
				a.close()
			})
		}
	}
}

// The power is cut at every write while an array gets a journal, with a crash of a table without one before, and while the journal is left out again: what is
// there is never refused unless it is older, and never replayed if it is.
func TestJournalTakenAndLeft(t *testing.T) {
	s := withJournal(setup(4, 512, 1536, "raid5_ls 16", "region_size 64", true), writeback, journalLeast)
	plain := withoutJournal(s.Args)
	seed := mappertest.Seed(t)
	for round := range mappertest.Cuts(3) {
		power := new(mappertest.Power)
		disks := make(map[string]mapper.Disk)
		for _, d := range s.Disks {
			disks[d.Name] = power.Disk(d.Name, d.Sectors)
		}
		a := &array{t: t, setup: s, disks: disks}
		write := func(serial uint64) {
			r := mapper.Request{Op: mapper.OpWrite, Count: s.Len, Data: mappertest.Stamped(0, s.Len, serial)}
			if err := submit(a.tg, r); err != nil {
				t.Fatal(err)
			}
			if err := a.tg.Submit(t.Context(), mapper.Request{Op: mapper.OpFlush}); err != nil {
				t.Fatal(err)
			}
		}
		type state struct {
			power  *mappertest.Power
			args   []string // of a table that may follow
			serial uint64   // what is there
			next   uint64   // or this
		}
		var states []state
		follow := func(args []string, serial, next uint64) {
			var mu sync.Mutex
			n := uint64(0)
			power.SetBefore(func(_ *mappertest.Crash, r mapper.Request) {
				mu.Lock()
				defer mu.Unlock()
				if r.Op != mapper.OpRead {
					n++
					states = append(states, state{power.Cut(seed + n + uint64(round)<<20), args, serial, next})
				}
			})
		}
		a.open(plain)
		a.wait()
		write(1)
		a.crash()
		follow(s.Args, 1, 1) // gets a journal
		a.open(s.Args)
		a.wait()
		follow(s.Args, 1, 2)
		write(2)
		follow(s.Args, 2, 2)
		a.crash()
		a.open(s.Args)
		power.SetBefore(nil)
		if err := a.tg.journal.empty(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.crash()
		follow(plain, 2, 2) // and leaves it
		a.open(plain)
		follow(plain, 2, 3)
		write(3)
		power.SetBefore(nil)
		a.close()
		if len(states) < 50 {
			t.Fatalf("%d cuts", len(states))
		}
		for i, c := range states {
			if i%(len(states)/50) != round%3 {
				continue
			}
			b := &array{t: t, setup: s, disks: disksOf(c.power)}
			b.open(c.args)
			whole := make([]byte, s.Len.Bytes())
			if err := submit(b.tg, mapper.Request{Op: mapper.OpRead, Count: s.Len, Data: whole}); err != nil {
				t.Fatal(err)
			}
			for at := mapper.Sector(0); at < s.Len; at++ {
				if err := checkSector(whole[at.Bytes():][:mapper.SectorSize], at, []uint64{c.serial, c.next}); err != nil {
					t.Fatalf("cut %d of %d (seed %d): %v", i, len(states), seed, err)
				}
			}
			if n := b.scrub(); n != 0 {
				t.Fatalf("cut %d of %d (seed %d): a check finds %d sectors", i, len(states), seed, n)
			}
			b.close()
		}
	}
}

// A tag is the same in log and superblocks, and stays.
func TestJournalTag(t *testing.T) {
	a := journaledArray(t, writethrough)
	tag := a.tg.journal.tag
	if tag == 0 {
		t.Fatal("no tag")
	}
	a.close()
	for range 2 {
		a.open(a.setup.Args)
		events := a.tg.super.events
		if a.tg.journal.tag != tag || a.tg.super.log != tag {
			t.Errorf("tag %x of the log, %x of superblocks, want %x", a.tg.journal.tag, a.tg.super.log, tag)
		}
		if err := stop(context.Background(), a.tg); err != nil {
			t.Fatal(err)
		}
		if a.tg.super.events != events {
			t.Error("superblocks were written for nothing")
		}
	}
}

// What is to be resynced when an array gets a journal is resynced after a crash, too, which comes before.
func TestJournalTakenBeforeResync(t *testing.T) {
	plain := setup(4, 1024, 3072, "raid5_ls 16", "region_size 64", true)
	a := newArray(t, plain, 3, true)
	a.scribble(20)
	a.crash()
	a.put("7:7", 128, make([]byte, 64*512)) // parity of some rows, too
	a.setup = withJournal(plain, writethrough, journalLeast)
	a.disks[journalDisk] = mappertest.NewDisk(journalDisk, journalLeast)
	a.openQuietly(a.setup.Args)
	a.crash()
	a.open(a.setup.Args)
	a.wait()
	a.agrees()
	a.close()
}
