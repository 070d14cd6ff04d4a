package mirror

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

const (
	crashLength = 512
	crashTable  = "disk 2 7:9 32 2 7:0 0 7:1 16 1 handle_errors"
)

// A survivor is what a power cut left, and what may be in each sector: the serials since the last one that was flushed.
type survivor struct {
	power *mappertest.Power
	may   [crashLength][]uint64
}

// The power is cut before requests of the legs and of the log, while a mirror is written. After the resync the legs are alike, and
// what was flushed is there. A leg is never written while the log that would survive calls the region clean.
func TestPowerCuts(t *testing.T) {
	states := mappertest.Cuts(300)
	seed := mappertest.Seed(t)
	for round := uint64(0); states > 0; round++ {
		survivors := crashRound(t, seed+round)
		for i, s := range survivors {
			checkSurvivor(t, fmt.Sprintf("round %d, cut %d", round, i), s)
		}
		states -= len(survivors)
	}
}

// crashRound writes to a mirror and returns what cuts left.
func crashRound(t *testing.T, seed uint64) (survivors []survivor) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	power := new(mappertest.Power)
	a, b, log := power.Disk("7:0", crashLength), power.Disk("7:1", crashLength+16), power.Disk("7:9", 16)
	tg, _ := start(t, crashLength, crashTable, a, b, log)
	waitStatus(t, tg, "2 7:0 7:1 16/16 1 AA 3 disk 7:9 A")

	var mu sync.Mutex // guards may, survivors and requests
	var may [crashLength][]uint64
	for i := range may {
		may[i] = []uint64{0}
	}
	requests := 0
	power.SetBefore(func(d *mappertest.Crash, r mapper.Request) {
		if r.Op == mapper.OpRead {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if r.Op == mapper.OpWrite && d != log {
			checkMarked(t, power, d == b, r)
		}
		if requests++; requests%5 == 0 {
			s := survivor{power: power.Cut(seed + uint64(requests)/5%4*uint64(requests))}
			for i := range may {
				s.may[i] = slices.Clone(may[i])
			}
			survivors = append(survivors, s)
		}
	})
	for serial := uint64(1); serial <= 60; serial++ {
		if rnd.IntN(4) == 0 {
			mu.Lock()
			before := may
			mu.Unlock()
			if err := tg.Submit(context.Background(), mapper.Request{Op: mapper.OpFlush}); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			for i := range may {
				may[i] = may[i][len(before[i])-1:]
			}
			mu.Unlock()
			continue
		}
		s := mapper.Sector(rnd.IntN(crashLength))
		n := min(1+mapper.Sector(rnd.IntN(16)), 32-s%32)
		mu.Lock()
		for i := s; i < s+n; i++ {
			may[i] = append(may[i], serial)
		}
		mu.Unlock()
		if err := write(tg, s, n, serial); err != nil {
			t.Fatal(err)
		}
		if rnd.IntN(20) == 0 {
			tg.PreSuspend(false)
			if err := tg.PostSuspend(context.Background()); err != nil {
				t.Fatal(err)
			}
			resume(t, tg)
		}
	}
	power.SetBefore(nil)
	return survivors
}

// checkMarked fails the test if a log that loses its cache would call the region of r, to a leg, clean.
func checkMarked(t *testing.T, power *mappertest.Power, second bool, r mapper.Request) {
	log := power.Cut(mappertest.LoseAll).Disks()[2]
	if second {
		r.Start -= 16
	}
	if id := int(r.Start / 32); bitset(log.Peek(2, 1)).get(id) {
		t.Errorf("a leg is written at %d while region %d is clean", r.Start, id)
	}
}

func checkSurvivor(t *testing.T, when string, s survivor) {
	t.Helper()
	disks := s.power.Disks()
	tg, _ := start(t, crashLength, crashTable, disks[0], disks[1], disks[2])
	waitStatus(t, tg, "2 7:0 7:1 16/16 1 AA 3 disk 7:9 A")
	suspend(t, tg, false)
	first, second := disks[0].Peek(0, crashLength), disks[1].Peek(16, crashLength)
	for i := range s.may {
		from, to := mapper.Sector(i).Bytes(), mapper.Sector(i+1).Bytes()
		if !slices.Equal(first[from:to], second[from:to]) {
			t.Fatalf("%s: the legs differ at sector %d", when, i)
		}
		_, serial, _ := mappertest.ReadStamp(first[from:to])
		if !slices.Contains(s.may[i], serial) {
			t.Fatalf("%s: sector %d holds write %d, want one of %d", when, i, serial, s.may[i])
		}
	}
}
