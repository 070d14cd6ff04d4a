package thin

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// A state is a pair of disks after a power cut, and what must be there.
type state struct {
	power *mappertest.Power
	// may says which serials a sector may hold: those that were flushed, and those written since. 0 is zero.
	may  map[DevID]map[mapper.Sector][]uint64
	gone map[DevID]bool // created or deleted since the last commit: may be there or not
	name string
}

// The power fails before every request that changes a disk, while a pool is used at random. Afterwards the pool opens, its metadata are sound, what
// was flushed is there, and no device shows what another wrote.
func TestPowerCuts(t *testing.T) {
	seed := mappertest.Seed(t)
	tools := 0
	for round, states, most := uint64(0), 0, mappertest.Cuts(250); states < most && !t.Failed(); round++ {
		var list []state
		runUntilCut(t, seed+round, 1+int(round%5), func(s state) { list = append(list, s) })
		for i, s := range list {
			if round%2 == 0 && i%4 == 3 && !t.Failed() {
				s = cutRecovery(t, s, seed+round*1000+uint64(i))
			}
			states++
			tool := i%50 == 49
			if tool {
				tools++
			}
			if verifyState(t, s, tool); t.Failed() {
				t.Fatalf("state %d of round %d (seed %d): %s", i, round, seed+round, s.name)
			}
		}
	}
}

// runUntilCut plays a workload and hands over the state before every so many requests.
func runUntilCut(t *testing.T, seed uint64, every int, f func(state)) {
	power := new(mappertest.Power)
	meta, data := power.Disk("7:0", 4096), power.Disk("7:1", 24*1024)
	rnd := rand.New(rand.NewPCG(seed, 1))
	b := newBench(t, meta, data)
	w := newWorkload(b, seed, "0 16384 thin-pool 7:0 7:1 128 0")
	w.track = newTracker()
	var mu sync.Mutex
	requests := 0
	power.Before = func(d *mappertest.Crash, r mapper.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Op == mapper.OpRead {
			return
		}
		if requests++; requests%every != 0 {
			return
		}
		f(state{power: power.Cut(mappertest.CutSeed(rnd)), may: w.track.snapshot(), gone: maps.Clone(w.track.gone), name: fmt.Sprintf("request %d, %s of %s at %d", requests, r.Op, d.DiskName(), r.Start)})
	}
	for i := range 60 {
		w.step()
		if i == 40 { // grow
			specs, err := mapper.ParseTable("0 24576 thin-pool 7:0 7:1 128 0")
			must(b, err)
			must(b, w.pool.Load(ctx, specs, false))
			must(b, w.pool.Resume(ctx, mapper.ResumeOptions{}))
		}
	}
	power.Before = nil
	w.finish()
}

// Likewise before every request of what comes after a power cut: the pool is opened, grows perhaps, and is used a little.
func TestPowerCutsOfRecovery(t *testing.T) {
	seed := mappertest.Seed(t)
	for round, states, most := uint64(0), 0, mappertest.Cuts(120); states < most; round++ {
		var list []state
		runUntilCut(t, seed+round, 25, func(s state) { list = append(list, s) })
		for i, s := range list {
			for n, again := range cutsOfRecovery(t, s, seed+round*1000+uint64(i)) {
				states++
				if verifyState(t, again, false); t.Failed() {
					t.Fatalf("cut %d after state %d of round %d (seed %d): %s", n, i, round, seed+round, again.name)
				}
			}
		}
	}
}

// cutRecovery has the power fail again at one of the requests of a recovery, drawn by seed. It returns what is left then.
func cutRecovery(t *testing.T, s state, seed uint64) state {
	t.Helper()
	all := cutsOfRecovery(t, s, seed)
	return all[rand.New(rand.NewPCG(seed, 3)).IntN(len(all))]
}

// cutsOfRecovery opens what a power cut left, uses it a little, and returns what another cut leaves, before each request of that which changes
// something, and when all is done.
func cutsOfRecovery(t *testing.T, s state, seed uint64) (all []state) {
	t.Helper()
	disks := s.power.Disks()
	var mu sync.Mutex
	rnd := rand.New(rand.NewPCG(seed, 2))
	cut := func(when string) {
		again := s
		again.power = s.power.Cut(mappertest.CutSeed(rnd))
		again.name = fmt.Sprintf("%s; then before %s", s.name, when)
		all = append(all, again)
	}
	s.power.SetBefore(func(d *mappertest.Crash, r mapper.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Op != mapper.OpRead {
			cut(fmt.Sprintf("request %d of the recovery, %s of %s at %d", len(all)+1, r.Op, d.DiskName(), r.Start))
		}
	})
	b := newBench(t, disks[0], disks[1])
	pool := b.create("pool", "0 24576 thin-pool 7:0 7:1 128 0") // which may have to grow
	const scratch = 16000000
	if _, err := pool.Message(ctx, 0, []string{"create_thin", fmt.Sprint(scratch)}); err == nil {
		d := b.create("scratch", fmt.Sprintf("0 1280 thin pool %d", scratch))
		b.write(d, 0, 1280, 1)
		b.submit(d, mapper.Request{Op: mapper.OpFlush})
	}
	b.close()
	s.power.SetBefore(nil)
	cut("the end")
	return all
}

// verifyState opens what a power cut left.
func verifyState(t *testing.T, s state, tool bool) {
	t.Helper()
	disks := s.power.Disks()
	var first [mapper.SectorSize]byte
	must2(t, disks[0].Submit(ctx, mapper.Request{Op: mapper.OpRead, Count: 1, Data: first[:]}))
	if first == [mapper.SectorSize]byte{} && len(s.may) == 0 {
		return // never formatted
	}
	checked(t, disks[0], tool)
	if t.Failed() {
		return
	}
	b := newBench(t, disks[0], disks[1])
	pool := b.create("pool", "0 24576 thin-pool 7:0 7:1 128 0")
	for id, sectors := range s.may {
		specs, err := mapper.ParseTable(fmt.Sprintf("0 %d thin pool %d", workloadBlocks*128, id))
		must2(t, err)
		d, err := b.mgr.Create(ctx, mapper.NewDevice{Name: fmt.Sprint("t", id), Minor: -1, Table: specs})
		if err != nil && s.gone[id] {
			continue
		}
		must2(t, err)
		for at := mapper.Sector(0); at < workloadBlocks*128; at += 64 {
			if err := holds(d, at, sectors[at], id); err != nil {
				t.Errorf("device %d: %v", id, err)
				return
			}
		}
	}
	_ = pool
	b.close()
	checked(t, disks[0], false)
}

func must2(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// holds says whether a sector holds one of the serials; none means zeroes.
func holds(d *mapper.Device, at mapper.Sector, serials []uint64, id DevID) error {
	var buf [mapper.SectorSize]byte
	if err := d.Submit(ctx, mapper.Request{Op: mapper.OpRead, Start: at, Count: 1, Data: buf[:]}); err != nil {
		return err
	}
	if len(serials) == 0 {
		serials = []uint64{0}
	}
	for _, n := range serials {
		if n == anything {
			return nil
		}
		if n == 0 && mappertest.CheckZero(buf[:], at) == nil || n != 0 && mappertest.CheckStamp(buf[:], at, n) == nil {
			return nil
		}
	}
	return fmt.Errorf("sector %d holds %s, want one of the writes %d", at, mappertest.Describe(buf[:]), serials)
}
