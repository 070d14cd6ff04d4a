package mappertest

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"dmfs/mapper"
)

// mostFaults bounds the requests of a disk that are failed one after the other.
const mostFaults = 100

// testFaults runs the same requests again and again; the n-th time, the n-th I/O of a disk fails. What reported success
// must have happened, and an error must not damage more than its own sectors.
func testFaults(t *testing.T, typ *mapper.Type, setup *Setup) {
	for disk, spec := range setup.Disks {
		for n := 1; n <= mostFaults; n++ {
			g := newRig(t, typ, setup)
			failed := runFault(g, disk, n)
			g.fault[disk].Heal()
			g.finish()
			if t.Failed() {
				t.Fatalf("this was with the I/O number %d of disk %s failing", n, spec.Name)
			}
			if !failed {
				break
			}
		}
	}
}

// runFault reports whether the n-th I/O of a disk was reached, and so failed.
func runFault(g *rig, disk, n int) bool {
	g.must(g.write(0, g.setup.Len, 0))
	g.must(g.flush())
	fault := g.fault[disk]
	fault.FailNth(n)

	u := g.block()
	half := g.setup.Len / 2 / u * u
	// Errors need not be looked at: the model knows which requests succeeded, and what their sectors must hold.
	_ = g.write(half, min(4*u, g.setup.Len-half), 0)
	wrong(g, g.read(0, g.setup.Len, false))
	_ = g.write(0, u, mapper.FlagFUA)
	_ = g.flush()
	_ = g.zero(u, min(half, 3*u))
	if g.limits.MaxDiscard != 0 {
		_ = g.discard(half, u)
	}
	wrong(g, g.read(0, g.setup.Len, false))
	_ = g.flush()
	failed := fault.Failed() > 0
	fault.Heal()

	if err := g.readKnown(false); err != nil {
		// A target that protects itself may refuse I/O after an error, until it is loaded again.
		wrong(g, err)
		if g.setup.Forgets {
			return failed
		}
		g.stop()
		g.start(g.setup.Args)
		if err := g.readKnown(false); err != nil {
			g.t.Errorf("after an error and a reload: %v", err)
		}
	}
	if !g.setup.Forgets {
		checkSurvivor(cut(g, LoseAll))
	}
	return failed
}

// wrong fails the test if err says that a read gave wrong data; that it failed is lawful here.
func wrong(g *rig, err error) {
	var reported *readError
	if err != nil && !errors.As(err, &reported) {
		g.t.Errorf("a read that reported success: %v", err)
	}
}

// testPowerCut writes, flushes and reads at random and cuts the power at each flush and at every few
// requests of the disks. What a flush or FUA promised must be there, whatever else the disks lost.
func testPowerCut(g *rig) {
	const operations, cuts = 40, 60
	seed := Seed(g.t)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var mu sync.Mutex // for what Before does: a target may send requests from several goroutines, and from one of its own
	var survivors []*rig
	requests, done := 0, 0
	g.power.SetBefore(func(_ *Crash, r mapper.Request) {
		mu.Lock()
		defer mu.Unlock()
		requests++
		if done < cuts && (r.Op == mapper.OpFlush || requests%7 == 0) {
			done++
			survivors = append(survivors, cut(g, seed+uint64(done)))
		}
	})
	check := func() {
		g.t.Helper()
		mu.Lock()
		list := survivors
		survivors = nil
		mu.Unlock()
		for _, after := range list {
			checkSurvivor(after)
		}
	}
	u := g.block()
	for range operations {
		s := mapper.Sector(rnd.Uint64N(uint64(g.setup.Len/u))) * u
		n := min(g.setup.Len-s, mapper.Sector(1+rnd.Uint64N(24))*u)
		switch k := rnd.IntN(10); {
		case k < 5:
			g.must(g.write(s, n, 0))
		case k < 7:
			g.must(g.write(s, n, mapper.FlagFUA))
		case k < 8:
			g.must(g.zero(s, n))
		default:
			g.must(g.flush())
		}
		check()
	}
	g.must(g.flush())
	g.power.SetBefore(nil)
	check()
	checkSurvivor(cut(g, LoseAll))
	g.must(g.readKnown(false))
}

// cut returns the disks as a power cut at this moment leaves them, and what they may hold, without a target.
func cut(g *rig, seed uint64) *rig {
	switch seed % 4 { // the extremes find most
	case 0:
		seed = LoseAll
	case 1:
		seed = KeepAll
	}
	after := newRigOn(g.t, g.typ, g.setup, g.power.Cut(seed))
	after.model = g.model.afterCut()
	return after
}

// checkSurvivor starts the target on the disks that a power cut left, and compares.
func checkSurvivor(after *rig) {
	after.t.Helper()
	after.start(after.setup.Args)
	if err := after.readKnown(true); err != nil {
		after.t.Fatalf("after a power cut: %v", err)
	}
	after.finish()
}
