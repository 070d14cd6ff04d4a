package raid

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// journalDisk is the name of the journal of a setup.
const journalDisk = "7:99"

// withJournal adds a journal to a setup.
func withJournal(s mappertest.Setup, mode string, sectors mapper.Sector) mappertest.Setup {
	s.Disks = append(slices.Clone(s.Disks), mappertest.DiskSpec{Name: journalDisk, Sectors: sectors, NoFlush: true})
	s.Args = withOptions(s.Args, "journal_dev", journalDisk, "journal_mode", mode)
	for i := range s.Disks {
		s.Disks[i].NoFlush = true
	}
	return s
}

// withOptions adds options to a line.
func withOptions(args []string, options ...string) []string {
	var n int
	fmt.Sscan(args[1], &n)
	args = slices.Insert(slices.Clone(args), 2+n, options...)
	args[1] = fmt.Sprint(n + len(options))
	return args
}

// journalKinds are arrays with parity and both modes of a journal, as small as it may be.
func journalKinds(members int) (list []mappertest.Setup) {
	for _, s := range kinds(members) {
		if typ := typeNamed(raidTypes, s.Args[0]); typ == nil || typ.parity() == 0 || specOf(s.Len, s.Args).Type == mdInner {
			continue
		}
		for _, mode := range []string{writethrough, writeback} {
			list = append(list, withJournal(s, mode, journalLeast))
		}
	}
	return list
}

func TestJournalConformance(t *testing.T) {
	for _, mode := range []string{writethrough, writeback} {
		for _, c := range []struct {
			members  int
			dev, arr mapper.Sector
			kind     string
			metadata bool
		}{{3, 256, 512, "raid5_ls 16", true}, {4, 256, 512, "raid6_zr 32", true}, {3, 256, 512, "raid4 16", false}} {
			t.Run(mode+" "+c.kind, func(t *testing.T) {
				s := setup(c.members, c.dev, c.arr, c.kind, "region_size 64", c.metadata)
				if c.metadata {
					prepare(&s)
				} else {
					s.Forgets = true
				}
				mappertest.TestTarget(t, &Type, withJournal(s, mode, journalLeast))
			})
		}
	}
}

// With a journal the power is cut after any request, also while the log is replayed, and then a member is lost. What was flushed, and what was not written
// to, is there: there is no write hole.
func TestJournalPowerCuts(t *testing.T) {
	setups := journalKinds(4)
	each := max(1, mappertest.Cuts(200)/len(setups))
	seed := mappertest.Seed(t)
	for i, s := range setups {
		t.Run(strings.Join(s.Args[:1], " ")+" "+s.Args[8], func(t *testing.T) {
			cutPower(t, s, seed+uint64(i), each, func(tg *target, _ uint64, rnd *rand.Rand) {
				if rnd.IntN(3) > 0 {
					return
				}
				if err := tg.journal.empty(context.Background()); err != nil { // the log begins anew
					t.Fatal(err)
				}
			}, func(c survivor, serial int, rnd *rand.Rand) { checkJournaled(t, s, c, serial, rnd) })
		})
	}
}

// checkJournaled starts an array that a cut left, cuts the power again amid that, and looks at the array without a member, and at its parity.
func checkJournaled(t *testing.T, s mappertest.Setup, c survivor, serial int, rnd *rand.Rand) {
	t.Helper()
	again, at := rnd.IntN(3), rnd.IntN(12)
	for range again {
		var mu sync.Mutex
		var cut *mappertest.Power
		n, seed := 0, rnd.Uint64()
		c.power.SetBefore(func(_ *mappertest.Crash, r mapper.Request) {
			mu.Lock()
			defer mu.Unlock()
			if r.Op != mapper.OpRead {
				if n++; n == 1+at {
					cut = c.power.Cut(seed)
				}
			}
		})
		tg := crashStart(t, s, c.power)
		c.power.SetBefore(nil)
		if err := stop(context.Background(), tg); err != nil {
			t.Fatal(err)
		}
		if cut != nil {
			c.power = cut
		}
	}
	lost := serial % 4
	degraded := s
	degraded.Args = without(withMode(s.Args, writethrough), 4, []int{lost})
	tg := crashStart(t, degraded, c.power)
	whole := make([]byte, s.Len.Bytes())
	if err := submit(tg, mapper.Request{Op: mapper.OpRead, Count: s.Len, Data: whole}); err != nil {
		t.Fatal(err)
	}
	for i, allowed := range c.now {
		if err := checkSector(whole[i*mapper.SectorSize:][:mapper.SectorSize], mapper.Sector(i), allowed); err != nil {
			t.Fatalf("after the cut in write %d, without member %d: %v", serial, lost, err)
		}
	}
	if n := tg.journal.reserved; n != 0 {
		t.Fatalf("%d blocks are reserved for nobody", n)
	}
	if err := stop(context.Background(), tg); err != nil {
		t.Fatal(err)
	}
	a := &array{t: t, setup: s}
	a.setup.Args = withMode(s.Args, writethrough)
	a.tg = crashStart(t, a.setup, c.power)
	if n := a.scrub(); n != 0 {
		t.Fatalf("after the cut in write %d a check finds %d sectors", serial, n)
	}
	a.close()
}

// withMode returns a line with another mode of the journal.
func withMode(args []string, mode string) []string {
	args = slices.Clone(args)
	args[slices.Index(args, "journal_mode")+1] = mode
	return args
}

// A full log begins anew, and loses nothing, whatever is written at the same time.
func TestJournalFull(t *testing.T) {
	for _, mode := range []string{writethrough, writeback} {
		for _, kind := range []string{"raid5_ls 64", "raid6_nc 256"} {
			s := setup(5, 4096, 4096*4, kind, "region_size 256", true)
			if strings.HasPrefix(kind, "raid6") {
				s = setup(5, 4096, 4096*3, kind, "region_size 256", true)
			}
			a := newArray(t, withJournal(s, mode, journalLeast), 5, true)
			for range 5 {
				a.scribble(60)
				a.fillRows()
				a.check()
			}
			a.close()
			if n := a.tg.journal.reserved; n != 0 {
				t.Errorf("%s %s: %d blocks are reserved for nobody", kind, mode, n)
			}
			a.open(s.Args)
			a.check()
			if n := a.scrub(); n != 0 {
				t.Errorf("%s %s: a check finds %d sectors", kind, mode, n)
			}
			a.close()
		}
	}
}

// fillRows writes several rows at once, side by side.
func (a *array) fillRows() {
	a.t.Helper()
	const parts = 8
	each := a.setup.Len / parts / 3
	if err := mapper.FanOut(parts, parts, func(i int) error {
		s := mapper.Sector(i) * a.setup.Len / parts
		p := a.want[s.Bytes():][:each.Bytes()]
		rnd := rand.New(rand.NewPCG(uint64(i), uint64(p[0])))
		for i := range p {
			p[i] = byte(rnd.Uint32())
		}
		return submit(a.tg, mapper.Request{Op: mapper.OpWrite, Start: s, Count: each, Data: p})
	}); err != nil {
		a.t.Fatal(err)
	}
}
