package raid

import (
	"slices"
	"sync"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// journaledResizings are arrays with a journal that can have two lengths, every other one with writeback.
func journaledResizings() (list []resizing) {
	mode, next := writethrough, writeback
	for _, r := range resizings(4) {
		if typ := typeNamed(raidTypes, r.setup.Args[0]); typ == nil || typ.parity() == 0 {
			continue
		}
		list = append(list, resizing{r.name + " " + mode, withJournal(r.setup, mode, journalLeast), r.from, r.less})
		mode, next = next, mode
	}
	return list
}

// grown looks at an array that has grown, and uses it.
func (a *array) grown(args []string) {
	a.t.Helper()
	a.adopt()
	a.scribble(20)
	a.check()
	if a.tg.geo.array != a.setup.Len {
		a.t.Fatalf("%q has %d sectors, want %d", args, a.tg.geo.array, a.setup.Len)
	}
}

// An array with a journal grows and shrinks: while it is used, with rows in log and cache, and after a crash that left some in the log, of the part that goes, too. What was acknowledged is
// there, redundancy agrees, and each member can be done without.
func TestResizeJournaled(t *testing.T) {
	for _, r := range journaledResizings() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			a := r.begin(t, nil)
			a.scribble(20)
			a.resizeTo(r.setup.Len, r.setup.Args) // in use
			a.grown(r.setup.Args)
			a.crash()
			a.openTo(r.setup.Len, r.setup.Args)
			a.check()
			a.resizeTo(r.less, r.setup.Args)
			a.scribble(10)
			a.check()
			a.crash()
			a.openTo(r.setup.Len, r.setup.Args) // after a crash
			a.check()
			a.grown(r.setup.Args)
			a.crash()
			a.openTo(r.less, r.setup.Args) // which left rows that are no longer there
			a.check()
			a.adopt()
			a.scribble(10)
			a.crash()
			a.openTo(r.setup.Len, r.setup.Args)
			a.adopt()
			a.close()
			for m := range a.tg.members {
				a.open(without(withMode(r.setup.Args, writethrough), 4, []int{m}))
				a.check()
				a.close()
				a.open(withMode(r.setup.Args, writethrough))
				a.wait()
				a.close()
			}
		})
	}
}

// The power is cut at every write while an array grows and shrinks whose log holds rows, and while the new part is synced and written to. The next table, of either length, reads
// what was acknowledged, and redundancy agrees.
func TestResizeJournaledPowerCuts(t *testing.T) {
	seed := mappertest.Seed(t)
	for i, r := range journaledResizings() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			power := new(mappertest.Power)
			disks := make(map[string]mapper.Disk)
			for _, d := range r.setup.Disks {
				disks[d.Name] = power.Disk(d.Name, d.Sectors)
			}
			a := r.begin(t, disks)
			type state struct {
				power *mappertest.Power
				want  []byte
			}
			var states []state
			n := uint64(0)
			follow := func(every uint64) {
				var mu sync.Mutex
				want := slices.Clone(a.want)
				power.SetBefore(func(_ *mappertest.Crash, q mapper.Request) {
					mu.Lock()
					defer mu.Unlock()
					if q.Op != mapper.OpRead {
						if n++; n%every == 0 {
							states = append(states, state{power.Cut(seed + uint64(i)<<32 + n), want})
						}
					}
				})
			}
			a.scribble(12)
			a.crash()
			follow(1 + uint64(i)%3)
			a.openTo(r.setup.Len, r.setup.Args)
			follow(5)
			for s := r.less; s+8 <= r.setup.Len; s += 24 { // nobody reads it
				if err := submit(a.tg, mapper.Request{Op: mapper.OpWrite, Start: s, Count: 8, Data: mappertest.Stamped(s, 8, uint64(i))}); err != nil {
					t.Fatal(err)
				}
			}
			a.wait()
			a.crash()
			follow(1 + uint64(i)%3)
			a.openTo(r.less, r.setup.Args)
			power.SetBefore(nil)
			a.check()
			a.close()
			if len(states) < 12 {
				t.Fatalf("%d cuts", len(states))
			}
			step := max(1, len(states)/mappertest.Cuts(12))
			for k := i % step; k < len(states); k += step {
				for _, length := range []mapper.Sector{r.less, r.setup.Len} {
					b := &array{t: t, setup: r.setup, disks: disksOf(states[k].power), want: slices.Clone(states[k].want)}
					b.setup.Len = r.less
					b.openTo(length, r.setup.Args)
					b.adopt()
					if t.Failed() {
						t.Fatalf("cut %d", k)
					}
					b.close()
				}
			}
		})
	}
}
