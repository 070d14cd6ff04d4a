package raid

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// failWrites makes writes to members fail in [from, to), as of disks that failed, or that have no space.
func (a *array) failWrites(err error, from, to mapper.Sector, disks ...string) {
	for _, d := range disks {
		a.disks[d].(*mappertest.Faulty).Inject(mappertest.Fault{Ops: []mapper.Op{mapper.OpWrite}, Start: from, End: to, Err: err})
	}
}

func (a *array) heal(disks ...string) {
	for _, d := range disks {
		a.disks[d].(*mappertest.Faulty).Heal()
	}
}

// attempt writes, and if that fails takes what is read then for what is there: it must stay.
func (a *array) attempt(from, n mapper.Sector) error {
	a.t.Helper()
	p := a.want[from.Bytes():][:n.Bytes()]
	for i := range p {
		p[i] = byte(a.rnd.Uint32())
	}
	err := submit(a.tg, mapper.Request{Op: mapper.OpWrite, Start: from, Count: n, Data: p})
	if err != nil {
		if err := submit(a.tg, mapper.Request{Op: mapper.OpRead, Start: from, Count: n, Data: p}); err != nil {
			a.t.Fatal(err)
		}
	}
	return err
}

// Two members of a raid5 cannot be written to in some rows: what was acknowledged is read, of the chunks beside what was written, too, and from then on no other row is held up; the log
// takes no more of them however often they are tried again. When it is full writes fail, flushes say the truth, and a suspend ends. All is there once
// members can be written to again, in the same table or the next.
func TestOwed(t *testing.T) {
	both := []string{"7:3", "7:5"}
	for _, mode := range []string{writethrough, writeback} {
		for _, cause := range []error{mapper.ErrIO, mapper.ErrNoSpace} {
			for _, next := range []string{"heals", "resume", "table", "crash"} {
				t.Run(strings.Join([]string{mode, cause.Error(), next}, " "), func(t *testing.T) {
					a := journaledArray(t, mode)
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // of a hang
					defer cancel()
					a.scribble(30)
					if err := a.tg.journal.empty(ctx); err != nil {
						t.Fatal(err)
					}
					a.failWrites(cause, 0, 64, both...)
					failed := 0
					for at := mapper.Sector(0); at < 192; at += 20 {
						if a.attempt(at, 7) != nil {
							failed++
						}
						a.check()
					}
					for range 50 { // much more than the log has room for
						err := a.tg.journal.destageAll(ctx)
						if err == nil {
							t.Fatal("nothing failed")
						}
						a.check()
						if mode == writeback && a.tg.journal.caching() {
							_ = a.attempt(100, 8)
						}
					}
					if mode == writethrough && failed == 0 {
						t.Error("no write failed")
					}
					for range 20 {
						at := 192 + mapper.Sector(a.rnd.Uint64N(2000))
						if err := a.attempt(at, 40); err != nil {
							t.Fatalf("a write to another row: %v", err)
						}
					}
					a.check()
					if err := a.tg.Submit(ctx, mapper.Request{Op: mapper.OpFlush}); err != nil {
						t.Errorf("flush of what the log has: %v", err)
					}
					if j := a.tg.journal; j.head > j.size || j.reserved < 0 || j.dead.Load() {
						t.Errorf("the log is at %d of %d with %d reserved, dead %v", j.head, j.size, j.reserved, j.dead.Load())
					}
					full := false
					for i := 0; i < 400 && !full; i++ {
						err := a.attempt(192+mapper.Sector(a.rnd.Uint64N(2000)), 60)
						full = err != nil
					}
					if !full {
						t.Error("the log is never full")
					}
					a.check()
					if next == "heals" {
						a.heal(both...)
						if err := a.tg.journal.destageAll(ctx); err != nil {
							t.Fatal(err)
						}
						if err := a.attempt(0, 60); err != nil {
							t.Fatal(err)
						}
						a.check()
					}
					a.tg.PreSuspend(false)
					if err := a.tg.PostSuspend(ctx); next != "heals" && (err == nil || errors.Is(err, context.DeadlineExceeded)) {
						t.Errorf("suspended with rows that cannot be written: %v", err)
					}
					a.heal(both...)
					switch next {
					case "resume":
						if err := a.tg.PreResume(ctx); err != nil {
							t.Fatal(err)
						}
						a.tg.Resume()
					default:
						_ = a.tg.Close()
						a.open(withMode(a.setup.Args, writethrough))
					}
					a.check()
					a.wait()
					a.scribble(20)
					a.check()
					a.agrees()
					a.close()
					a.open(a.setup.Args)
					for m := range a.tg.members { // each can be done without
						a.close()
						a.open(without(withMode(a.setup.Args, writethrough), 4, []int{m}))
						a.check()
						a.close()
						a.open(withMode(a.setup.Args, writethrough))
						a.wait()
					}
					if n := a.tg.journal.reserved; n != 0 {
						t.Errorf("%d blocks are reserved for nobody", n)
					}
					a.close()
				})
			}
		}
	}
}

// Writers beside a row that cannot be written are not failed because there are more of them than the cache takes at a time: they wait for each other.
func TestOwedBeside(t *testing.T) {
	for _, mode := range []string{writethrough, writeback} {
		s := withJournal(setup(4, 1024, 3072, "raid5_ls 16", "region_size 64 stripe_cache 8", true), mode, journalLeast)
		a := newArray(t, s, 3, true)
		a.close()
		a.disks[journalDisk] = slow{a.disks[journalDisk]} // so that all are there at a time
		a.open(s.Args)
		a.failWrites(mapper.ErrIO, 0, 16, "7:3", "7:5")
		for at := mapper.Sector(0); at < 48; at += 16 {
			_ = a.attempt(at, 16)
		}
		if err := a.tg.journal.destageAll(t.Context()); err == nil {
			t.Fatal("nothing failed")
		}
		if err := mapper.FanOut(24, 24, func(w int) error {
			for round := range 2 {
				at := mapper.Sector(48 + w*96 + round*48)
				if err := submit(a.tg, mapper.Request{Op: mapper.OpWrite, Start: at, Count: 48, Data: a.want[at.Bytes():][:48*512]}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
		a.check()
		a.heal("7:3", "7:5")
		a.close()
	}
}

// A slow disk takes a while to write.
type slow struct{ mapper.Disk }

func (d slow) Submit(ctx context.Context, r mapper.Request) error {
	if r.Op == mapper.OpWrite {
		time.Sleep(3 * time.Millisecond)
	}
	return d.Disk.Submit(ctx, r)
}
