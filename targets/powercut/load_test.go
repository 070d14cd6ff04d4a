package powercut

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

// A flush does not make durable what is written after it was submitted.
func TestFlushCoversWhatWasBefore(t *testing.T) {
	disk := mappertest.NewDisk("7:0", 256)
	stall := mappertest.NewStall(disk)
	made, err := NewType().New(context.Background(), mappertest.NewHost(stall), mapper.Spec{Len: 256, Args: []string{"7:0", "0"}})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, disk: disk, target: made.(*target)}
	b.write(0, 1, 1)
	stall.Hold()
	done := make(chan error)
	go func() { done <- b.Submit(context.Background(), mapper.Request{Op: mapper.OpFlush}) }()
	b.must(stall.WaitHeld(context.Background(), 1))
	b.write(1, 1, 2)
	b.write(0, 1, 3)
	stall.Release()
	b.must(<-done)
	b.want("disk", b.holds(0, 2), "1 -")
	b.want("device", b.reads(0, 2), "3 2")
	b.say("cut keep=none")
	b.want("after the cut", b.holds(0, 2), "1 -")
}

// Under concurrent writers, readers and flushes a cut loses nothing that a flush or FUA has promised, and brings back nothing
// older. Each writer has sectors of its own and remembers what was durable when.
func TestCutUnderLoad(t *testing.T) {
	seed := mappertest.Seed(t)
	for round := range uint64(40) {
		b := newBench(t, NewType(), "cache_sectors", "40")
		const workers = 4
		var durable, written [workers]uint64
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(seed+round, uint64(w)))
				for serial := uint64(1); ; serial++ {
					var flags mapper.Flags
					if rnd.IntN(5) == 0 {
						flags = mapper.FlagFUA
					}
					written[w] = serial // what fails may have had its effect
					if b.do(mapper.OpWrite, flags, mapper.Sector(w*8), 8, serial) != nil {
						return
					}
					if flags == 0 && rnd.IntN(5) == 0 {
						if b.do(mapper.OpFlush, 0, 0, 0, 0) != nil {
							return
						}
						flags = mapper.FlagFUA
					}
					if flags != 0 {
						durable[w] = serial
					}
				}
			})
		}
		if round%2 == 0 {
			b.say(fmt.Sprintf("cut after=%d seed=%d", 20+7*round, round))
		} else {
			for range 20 {
				b.reads(0, 32)
			}
			b.say(fmt.Sprintf("cut seed=%d", round))
		}
		wg.Wait()
		b.say("restore")
		for s := range mapper.Sector(workers * 8) {
			w := s / 8
			_, serial, ok := mappertest.ReadStamp(b.disk.Peek(s, 1))
			if !ok && durable[w] > 0 || serial < durable[w] || serial > written[w] {
				t.Fatalf("round %d: sector %d holds %s, want write %d to %d of worker %d", round, s,
					mappertest.Describe(b.disk.Peek(s, 1)), durable[w], written[w], w)
			}
		}
	}
}

// A flush makes durable what it covers also if that is overwritten before its turn comes.
func TestFlushOfWhatIsOverwritten(t *testing.T) {
	b := newBench(t, NewType())
	b.write(0, 2, 1)
	b.write(0, 1, 2)
	b.must(b.hold(t.Context()))
	done := make(chan error)
	go func() { done <- b.do(mapper.OpFlush, 0, 0, 0, 0) }()
	for flushes := uint64(0); flushes == 0; {
		b.supply.mu.Lock()
		flushes = b.count.flushes
		b.supply.mu.Unlock()
	}
	b.write(0, 2, 3)
	b.release()
	b.must(<-done)
	b.want("disk", b.holds(0, 2), "2 1")
	b.want("device", b.reads(0, 2), "3 3")
}

// A disk that is a target, for stacks.
type targetDisk struct {
	*target
	*mappertest.Disk
}

func (d targetDisk) Submit(ctx context.Context, r mapper.Request) error {
	return d.target.Submit(ctx, r)
}

// A cut ends too when one target of a supply stands on another, while requests are on their way through both.
func TestSupplyOfAStack(t *testing.T) {
	for round := range uint64(50) {
		typ := NewType()
		below := newBench(t, typ, "supply", "s")
		host := mappertest.NewHost(targetDisk{below.target, below.disk})
		made, err := typ.New(context.Background(), host, mapper.Spec{Len: 256, Args: []string{"7:0", "0", "4", "supply", "s", "cache_sectors", "16"}})
		if err != nil {
			t.Fatal(err)
		}
		top := &bench{t: t, disk: below.disk, host: host, target: made.(*target)}
		var wg sync.WaitGroup
		for w := range 3 {
			wg.Go(func() {
				for serial := uint64(1); ; serial++ {
					if top.do(mapper.OpWrite, mapper.Flags(serial%3/2), mapper.Sector(w*8), 8, serial) != nil || top.do(mapper.OpFlush, 0, 0, 0, 0) != nil {
						return
					}
				}
			})
		}
		if round%2 == 0 {
			below.say(fmt.Sprint("cut after=", 5+round)) // finds a request that the target above waits for
		} else {
			top.say("cut")
		}
		wg.Wait()
		top.say("restore")
		top.reads(0, 24)
		top.Close()
	}
}

// Against a model that knows of each sector which versions a cut may leave: any sequence of requests, cuts of every kind between them,
// and after each cut the next requests go on from what has survived.
func TestAgainstModel(t *testing.T) {
	seed := mappertest.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 0))
	const sectors, anything = 64, ^uint64(0)
	for round := range 60 {
		b := newBench(t, NewType(), "cache_sectors", fmt.Sprint(8+rnd.IntN(200)), "sector_size", []string{"512", "1024"}[round%2])
		unit := int(b.block)
		var may [sectors][]uint64 // what a cut may leave, the newest last; 0 is zeroes
		for s := range may {
			may[s] = []uint64{0}
		}
		check := func(what string, s int, data []byte, allowed []uint64) uint64 {
			_, serial, ok := mappertest.ReadStamp(data)
			if !ok {
				serial = 0
			}
			if !slices.Contains(allowed, serial) && !slices.Contains(allowed, anything) {
				t.Fatalf("round %d, %s: sector %d holds %s, want one of %v", round, what, s, mappertest.Describe(data), allowed)
			}
			return serial
		}
		for serial := uint64(1); serial < 120; serial++ {
			first := rnd.IntN(sectors/unit) * unit
			n := (1 + rnd.IntN(min(16, (sectors-first)/unit))) * unit
			change := func(version uint64, durable bool) {
				for s := first; s < first+n; s++ {
					if may[s] = append(may[s], version); durable {
						may[s] = []uint64{version}
					}
				}
			}
			at, count := mapper.Sector(first), mapper.Sector(n)
			switch rnd.IntN(12) {
			case 0, 1, 2, 3:
				b.write(at, count, serial)
				change(serial, false)
			case 4, 5:
				b.must(b.do(mapper.OpWrite, mapper.FlagFUA, at, count, serial))
				change(serial, true)
			case 6:
				b.must(b.do(mapper.OpWriteZeroes, 0, at, count, 0))
				change(0, false)
			case 7:
				b.must(b.do(mapper.OpDiscard, 0, at, count, 0))
				change(anything, false)
			case 8:
				b.flush()
				for s := range may {
					may[s] = may[s][len(may[s])-1:]
				}
			case 9, 10:
				buf := make([]byte, count.Bytes())
				b.must(b.Submit(t.Context(), mapper.Request{Op: mapper.OpRead, Start: at, Count: count, Data: buf}))
				for s := first; s < first+n; s++ {
					newest := may[s][len(may[s])-1:]
					check("a read", s, buf[(s-first)*mapper.SectorSize:][:mapper.SectorSize], newest)
				}
			case 11:
				mode := []string{"none", "all", "random", "torn"}[rnd.IntN(4)]
				b.say(fmt.Sprintf("cut seed=%d keep=%s", serial, mode))
				for s := range may {
					allowed := may[s]
					if mode == "all" {
						allowed = allowed[len(allowed)-1:]
					}
					found := check("keep="+mode, s, b.disk.Peek(mapper.Sector(s), 1), allowed)
					if may[s] = []uint64{found}; slices.Contains(allowed, anything) {
						may[s] = []uint64{anything}
					}
				}
				b.say("restore")
			}
		}
	}
}
