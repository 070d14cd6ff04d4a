package raid

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// A survivor is what a power cut left, and what it may hold.
type survivor struct {
	power *mappertest.Power
	now   [][]uint64 // by sector: serials that may be there
}

// A cutter cuts the power at every so many writes, and knows what each sector may hold then.
type cutter struct {
	power    *mappertest.Power
	seed     uint64
	every    int
	mu       sync.Mutex
	may      [][]uint64
	requests int
	left     int // states to be taken
	cuts     []survivor
}

func newCutter(power *mappertest.Power, length mapper.Sector, rnd *rand.Rand, seed uint64, states int) *cutter {
	c := &cutter{power: power, seed: seed, every: 1 + rnd.IntN(3), left: states, may: make([][]uint64, length)}
	for i := range c.may {
		c.may[i] = []uint64{0}
	}
	power.SetBefore(c.before)
	return c
}

func (c *cutter) before(_ *mappertest.Crash, r mapper.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Op == mapper.OpRead {
		return
	}
	if c.requests++; c.requests%c.every != 0 || c.left == 0 {
		return
	}
	now := make([][]uint64, len(c.may))
	for i := range c.may {
		now[i] = append([]uint64(nil), c.may[i]...)
	}
	c.cuts = append(c.cuts, survivor{c.power.Cut(c.seed + uint64(c.left)), now})
	c.left--
}

// writes notes that sectors are about to be written.
func (c *cutter) writes(from, n mapper.Sector, serial uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := from; i < from+n; i++ {
		c.may[i] = append(c.may[i], serial)
	}
}

// durable notes that all was flushed.
func (c *cutter) durable() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.may {
		c.may[i] = c.may[i][len(c.may[i])-1:]
	}
}

// done reports whether all states were taken.
func (c *cutter) done() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.left == 0
}

// found returns the states that were taken since it was last called.
func (c *cutter) found() []survivor {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := c.cuts
	c.cuts = nil
	return found
}

// The power is cut after writes to the members. After the resync every sector holds what was flushed, or a write after, and the
// redundancy agrees, as a check and a rebuild of each member show.
func TestPowerCuts(t *testing.T) {
	setups := kinds(4)
	each := max(1, mappertest.Cuts(300)/len(setups))
	seed := mappertest.Seed(t)
	for i, s := range setups {
		t.Run(strings.Join(s.Args[:7], " "), func(t *testing.T) {
			cutPower(t, s, seed+uint64(i), each, func(tg *target, serial uint64, _ *rand.Rand) {
				if serial%4 > 0 {
					return
				}
				if err := tg.bitmap.clean(context.Background(), true); err != nil {
					t.Fatal(err)
				}
			}, func(c survivor, serial int, _ *rand.Rand) { checkSurvivor(t, s, c, serial) })
		})
	}
}

// cutPower cuts the power of an array that is written to. between is called before the first write, as number 0, and after each, and check for each state
// that a cut left.
func cutPower(t *testing.T, s mappertest.Setup, seed uint64, states int, between func(tg *target, serial uint64, rnd *rand.Rand), check func(c survivor, serial int, rnd *rand.Rand)) {
	t.Helper()
	power := new(mappertest.Power)
	for _, d := range s.Disks {
		power.Disk(d.Name, d.Sectors)
	}
	tg := crashStart(t, s, power)
	if err := waitIdle(tg); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(seed, 2))
	between(tg, 0, rnd)
	cuts := newCutter(power, s.Len, rnd, seed, states)
	for serial := uint64(1); !cuts.done(); serial++ {
		from := mapper.Sector(rnd.Uint64N(uint64(s.Len)))
		n := min(s.Len-from, 1+mapper.Sector(rnd.Uint64N(40)))
		cuts.writes(from, n, serial)
		if err := submit(tg, mapper.Request{Op: mapper.OpWrite, Start: from, Count: n, Data: mappertest.Stamped(from, n, serial)}); err != nil {
			t.Fatal(err)
		}
		if serial%3 == 0 {
			if err := tg.Submit(context.Background(), mapper.Request{Op: mapper.OpFlush}); err != nil {
				t.Fatal(err)
			}
			cuts.durable()
		}
		between(tg, serial, rnd)
		for _, c := range cuts.found() {
			check(c, int(serial), rnd)
		}
	}
	power.SetBefore(nil)
	if err := stop(context.Background(), tg); err != nil {
		t.Fatal(err)
	}
}

func crashStart(t *testing.T, s mappertest.Setup, power *mappertest.Power) *target {
	t.Helper()
	disks := disksOf(power)
	tg, err := start(context.Background(), &mappertest.Host{Disks: disks}, s.Len, s.Args)
	if err != nil {
		t.Fatal(err)
	}
	return tg
}

// checkSurvivor resyncs what a cut left and looks at it whole, and with one member rebuilt from the others.
func checkSurvivor(t *testing.T, s mappertest.Setup, c survivor, serial int) {
	t.Helper()
	a := &array{t: t, setup: s, tg: crashStart(t, s, c.power)}
	if n := a.scrub(); n != 0 {
		t.Fatalf("after the cut in write %d a check finds %d sectors", serial, n)
	}
	whole := make([]byte, s.Len.Bytes())
	if err := submit(a.tg, mapper.Request{Op: mapper.OpRead, Count: s.Len, Data: whole}); err != nil {
		t.Fatal(err)
	}
	for i, allowed := range c.now {
		if err := checkSector(whole[i*mapper.SectorSize:][:mapper.SectorSize], mapper.Sector(i), allowed); err != nil {
			t.Fatalf("after the cut in write %d: %v", serial, err)
		}
	}
	lost := &a.tg.members[serial%len(a.tg.members)]
	if !a.tg.failed(lost) {
		t.Fatal("the array cannot do without a member")
	}
	again := make([]byte, s.Len.Bytes())
	if err := submit(a.tg, mapper.Request{Op: mapper.OpRead, Count: s.Len, Data: again}); err != nil {
		t.Fatal(err)
	}
	if i := firstDifference(whole, again); i >= 0 {
		t.Fatalf("after the cut in write %d sector %d reads otherwise without member %d", serial, i, lost.index)
	}
	a.close()
}

func checkSector(p []byte, s mapper.Sector, allowed []uint64) error {
	for _, serial := range allowed {
		if serial == 0 && mappertest.CheckZero(p, s) == nil || serial != 0 && mappertest.CheckStamp(p, s, serial) == nil {
			return nil
		}
	}
	return fmt.Errorf("sector %d holds %s, want one of %v", s, mappertest.Describe(p), allowed)
}
