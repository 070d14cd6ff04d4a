package snapshot

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// A history knows what each sector of a device may hold after a power cut.
type history [][]uint64 // serials, the newest last

// write notes a write that has not returned.
func (h history) write(s, n mapper.Sector, serial uint64) {
	for i := s; i < s+n; i++ {
		h[i] = append(h[i], serial)
	}
}

// settle notes that what was written is durable.
func (h history) settle(s, n mapper.Sector) {
	for i := s; i < s+n; i++ {
		h[i] = h[i][len(h[i])-1:]
	}
}

func (h history) clone() history {
	c := slices.Clone(h)
	for i := range c {
		c[i] = slices.Clone(c[i])
	}
	return c
}

// check reads a device and compares.
func (h history) check(d mapper.Target, what string) error {
	r := mapper.Request{Op: mapper.OpRead, Count: mapper.Sector(len(h)), Data: make([]byte, mapper.Sector(len(h)).Bytes())}
	if err := d.Submit(context.Background(), r); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	for s := range h {
		p := r.Data[s*mapper.SectorSize : (s+1)*mapper.SectorSize]
		at, serial, ok := mappertest.ReadStamp(p)
		if !ok || at != mapper.Sector(s) || !slices.Contains(h[s], serial) {
			return fmt.Errorf("%s: sector %d holds %s, want one of writes %v", what, s, mappertest.Describe(p), h[s])
		}
	}
	return nil
}

const (
	crashSectors = 256
	crashStore   = 700 // sectors
)

// A stack is an origin with two snapshots, on disks of one power supply.
type stack struct {
	origin, first, second mapper.Target
}

// open makes the stack; merges has the first snapshot be merged.
func open(p *mappertest.Power, merges bool) (s stack, err error) {
	var disks []mapper.Disk
	for _, d := range p.Disks() {
		disks = append(disks, d)
	}
	h := mappertest.NewHost(disks...)
	types := make(map[string]*mapper.Type)
	for _, t := range NewTypes() {
		types[t.Name] = t
	}
	kind := "snapshot"
	if merges {
		kind = "snapshot-merge"
	}
	for _, c := range []struct {
		to   *mapper.Target
		typ  string
		args []string
	}{
		{&s.second, "snapshot", []string{"7:0", "7:2", "PO", "8"}}, // before the one that merges: it must look on
		{&s.first, kind, []string{"7:0", "7:1", "P", "4"}},
		{&s.origin, "snapshot-origin", []string{"7:0"}},
	} {
		t, err := types[c.typ].New(context.Background(), h, mapper.Spec{Len: crashSectors, Args: c.args})
		if err != nil {
			return s, err
		}
		*c.to = t
		if p, ok := t.(mapper.PreResumer); ok {
			if err := p.PreResume(context.Background()); err != nil {
				return s, err
			}
		}
		if r, ok := t.(mapper.Resumer); ok {
			r.Resume()
		}
	}
	return s, nil
}

// close removes the stack.
func (s stack) close() {
	for _, t := range []mapper.Target{s.origin, s.first, s.second} {
		if p, ok := t.(mapper.PostSuspender); ok {
			_ = p.PostSuspend(context.Background()) // it does not fail
		}
		_ = t.(interface{ Close() error }).Close() // nor does it
	}
}

// A state is disks as a power cut left them, and what may be on the devices.
type state struct {
	power                 *mappertest.Power
	origin, first, second history
}

// After a power cut at any request each snapshot shows what it must: where it was not written to, the origin as it was when it was
// made, whatever the origin itself lost; and what was flushed is there, on all three.
func TestPowerCuts(t *testing.T) {
	seed := mappertest.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for left := mappertest.Cuts(120); left > 0; {
		left -= crashRun(t, rnd, left, false)
	}
}

// Likewise while the first snapshot is merged, and again when a merge that was cut goes on and is cut once more.
func TestPowerCutsWhileMerging(t *testing.T) {
	seed := mappertest.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 2))
	for left := mappertest.Cuts(80); left > 0; {
		left -= crashRun(t, rnd, left, true)
	}
}

// Likewise before every request of what comes after a power cut: the stack is opened, and used a little or merged to the end.
func TestPowerCutsOfRecovery(t *testing.T) {
	seed := mappertest.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 4))
	const firstCuts = 4 // of each load
	merges := false
	for left := mappertest.Cuts(200); left > 0; merges = !merges {
		states, serial := crashStates(t, rnd, firstCuts, merges)
		for i, st := range states {
			for n, again := range cutsAgain(t, rnd, st, merges, &serial) {
				left--
				if err := verify(again, merges); err != nil {
					t.Fatalf("cut %d after state %d (merging: %v): %v", n, i, merges, err)
				}
			}
		}
	}
}

// crashRun plays a random workload, cuts the power up to most times, looks at what is left, and returns how often it did.
func crashRun(t *testing.T, rnd *rand.Rand, most int, merges bool) int {
	t.Helper()
	states, serial := crashStates(t, rnd, min(most, 40), merges)
	for i, st := range states {
		if i%3 == 2 {
			all := cutsAgain(t, rnd, st, merges, &serial)
			st = all[rnd.IntN(len(all))]
		}
		if err := verify(st, merges); err != nil {
			t.Fatalf("state %d of %d: %v", i, len(states), err)
		}
	}
	return max(1, len(states))
}

// crashStates plays a random workload, cuts the power up to most times, and once more at the end unless it merges. serial is that of the last write.
func crashStates(t *testing.T, rnd *rand.Rand, most int, merges bool) (states []state, serial uint64) {
	t.Helper()
	power := new(mappertest.Power)
	base := power.Disk("7:0", crashSectors)
	power.Disk("7:1", crashStore)
	power.Disk("7:2", crashStore)
	base.Poke(0, mappertest.Stamped(0, crashSectors, 1))
	h := make(history, crashSectors)
	h.write(0, crashSectors, 1)
	now := state{origin: h.clone(), first: h.clone(), second: h.clone()}

	s, err := open(power, false)
	if err != nil {
		t.Fatal(err)
	}
	serial = 1
	work(t, rnd, s, &now, &serial, 12)
	if merges {
		// Only what is durable can be told from then on: the first snapshot becomes the origin.
		flushAll(t, s, &now)
		s.close()
		now.origin = now.first
	}
	every := 1 + rnd.IntN(7)
	requests := 0
	var mu sync.Mutex // copies are made by several goroutines
	power.SetBefore(func(_ *mappertest.Crash, r mapper.Request) {
		mu.Lock()
		defer mu.Unlock()
		if requests++; len(states) < most && (r.Op == mapper.OpFlush || requests%every == 0) {
			states = append(states, state{power.Cut(rnd.Uint64()), now.origin.clone(), now.first.clone(), now.second.clone()})
		}
	})
	if merges {
		merge(t, power, &now)
	} else {
		work(t, rnd, s, &now, &serial, 10)
		power.SetBefore(nil)
		flushAll(t, s, &now)
		states = append(states, state{power.Cut(mappertest.LoseAll), now.origin, now.first, now.second})
		s.close()
	}
	power.SetBefore(nil)
	return states, serial
}

// cutsAgain opens what a cut left, goes on with the merge or writes a little, and returns what another cut leaves, before each request of that
// which changes something, and when all is done.
func cutsAgain(t *testing.T, rnd *rand.Rand, now state, merges bool, serial *uint64) (all []state) {
	t.Helper()
	var mu sync.Mutex
	seeds := rand.New(rand.NewPCG(rnd.Uint64(), 3)) // the goroutines of the merge take from it
	cut := func() {
		all = append(all, state{now.power.Cut(mappertest.CutSeed(seeds)), now.origin.clone(), now.first.clone(), now.second.clone()})
	}
	now.power.SetBefore(func(_ *mappertest.Crash, r mapper.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Op != mapper.OpRead {
			cut()
		}
	})
	s, err := open(now.power, merges)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if merges {
		merged(t, s)
	} else {
		// Of what the sectors may hold, what they do hold is durable.
		for d, h := range map[mapper.Target]history{s.origin: now.origin, s.first: now.first, s.second: now.second} {
			if err := h.found(d); err != nil {
				t.Fatal(err)
			}
		}
		work(t, rnd, s, &now, serial, 5)
	}
	now.power.SetBefore(nil)
	cut()
	return all
}

// found replaces what may be on a device by what is.
func (h history) found(d mapper.Target) error {
	if err := h.check(d, "after the first cut"); err != nil {
		return err
	}
	r := mapper.Request{Op: mapper.OpRead, Count: mapper.Sector(len(h)), Data: make([]byte, mapper.Sector(len(h)).Bytes())}
	if err := d.Submit(context.Background(), r); err != nil {
		return err
	}
	for s := range h {
		_, serial, _ := mappertest.ReadStamp(r.Data[s*mapper.SectorSize : (s+1)*mapper.SectorSize])
		h[s] = []uint64{serial}
	}
	return nil
}

// work writes here and there.
func work(t *testing.T, rnd *rand.Rand, s stack, now *state, serial *uint64, operations int) {
	t.Helper()
	for range operations {
		d, h := s.origin, now.origin
		switch rnd.IntN(4) {
		case 0:
			d, h = s.first, now.first
		case 1:
			d, h = s.second, now.second
		}
		if rnd.IntN(5) == 0 {
			if err := d.Submit(context.Background(), mapper.Request{Op: mapper.OpFlush}); err != nil {
				t.Fatal(err)
			}
			h.settle(0, crashSectors)
			continue
		}
		n := mapper.Sector(1 + rnd.IntN(24))
		at := mapper.Sector(rnd.IntN(crashSectors - int(n)))
		*serial++
		h.write(at, n, *serial)
		r := mapper.Request{Op: mapper.OpWrite, Start: at, Count: n, Data: mappertest.Stamped(at, n, *serial)}
		if rnd.IntN(4) == 0 {
			r.Flags = mapper.FlagFUA
		}
		if err := d.Submit(context.Background(), r); err != nil {
			t.Fatal(err)
		}
		if r.Flags != 0 {
			h.settle(at, n)
		}
	}
}

func flushAll(t *testing.T, s stack, now *state) {
	t.Helper()
	for d, h := range map[mapper.Target]history{s.origin: now.origin, s.first: now.first, s.second: now.second} {
		if err := d.Submit(context.Background(), mapper.Request{Op: mapper.OpFlush}); err != nil {
			t.Fatal(err)
		}
		h.settle(0, crashSectors)
	}
}

// merge merges all of the first snapshot, while the second looks on.
func merge(t *testing.T, power *mappertest.Power, now *state) {
	t.Helper()
	s, err := open(power, true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := now.first.check(s.first, "while it merges"); err != nil {
		t.Error(err)
	}
	merged(t, s)
	if err := now.first.check(s.origin, "the origin, once all is merged"); err != nil {
		t.Error(err)
	}
}

// merged waits until nothing is left to merge.
func merged(t testing.TB, s stack) {
	t.Helper()
	c := s.first.(*snapshot).content
	for c.kept.size() > 0 {
		if c.failed.Load() {
			t.Fatal("the merge failed")
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// verify opens what a cut left, as it was and, if it merged, as it is to become.
func verify(st state, merges bool) error {
	s, err := open(st.power, merges)
	if err != nil {
		return err
	}
	defer s.close()
	if err := st.second.check(s.second, "the second snapshot"); err != nil {
		return err
	}
	if err := st.first.check(s.first, "the first snapshot"); err != nil {
		return err
	}
	if merges {
		return nil
	}
	return st.origin.check(s.origin, "the origin")
}
