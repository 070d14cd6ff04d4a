package raid

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
	"dmfs/targets/raid/md"
)

// The power is cut at writes to the members. Then the array says that it was not closed; once it is resynced every sector holds what was flushed, or
// a write after, and the redundancy agrees.
func TestMDPowerCuts(t *testing.T) {
	each := max(1, mappertest.Cuts(150)/len(mdKinds))
	seed := mappertest.Seed(t)
	for i, k := range mdKinds {
		t.Run(k.String(), func(t *testing.T) { cutMD(t, k, seed+uint64(i), each) })
	}
}

func cutMD(t *testing.T, k mdKind, seed uint64, states int) {
	power, s := new(mappertest.Power), k.setup()
	disks := make(map[string]mapper.Disk)
	for _, d := range s.Disks {
		disks[d.Name] = power.Disk(d.Name, d.Sectors)
	}
	if err := s.Prepare(context.Background(), disks); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(seed, 2))
	cuts := newCutter(power, s.Len, rnd, seed, states)
	for serial := uint64(1); !cuts.done(); {
		x, err := startMD(disks, s.Len, false, s.Args...)
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			from := mapper.Sector(rnd.Uint64N(uint64(s.Len)))
			n := min(s.Len-from, 1+mapper.Sector(rnd.Uint64N(40)))
			cuts.writes(from, n, serial)
			if err := submit(x.now.Load().target, mapper.Request{Op: mapper.OpWrite, Start: from, Count: n, Data: mappertest.Stamped(from, n, serial)}); err != nil {
				t.Fatal(err)
			}
			serial++
		}
		if err := stopMD(x); err != nil { // which flushes
			t.Fatal(err)
		}
		cuts.durable()
	}
	for i, c := range cuts.found() {
		if err := survivedMD(s, c); err != nil {
			t.Fatalf("cut %d: %v", i, err)
		}
	}
}

// survivedMD opens what a cut left.
func survivedMD(s mappertest.Setup, c survivor) error {
	disks := disksOf(c.power)
	x, err := startMD(disks, s.Len, false, append([]string{"force"}, s.Args...)...)
	if err == nil {
		err = waitIdle(x.now.Load().target)
	}
	if err == nil {
		_, err = x.Message(context.Background(), []string{"check"})
	}
	if err == nil {
		err = waitIdle(x.now.Load().target)
	}
	if err != nil {
		return err
	}
	tg := x.now.Load()
	tg.mu.Lock()
	wrong := tg.sync.mismatches
	tg.mu.Unlock()
	if wrong != 0 {
		return fmt.Errorf("a check finds %d sectors", wrong)
	}
	whole := make([]byte, s.Len.Bytes())
	if err := submit(x.now.Load().target, mapper.Request{Op: mapper.OpRead, Count: s.Len, Data: whole}); err != nil {
		return err
	}
	for i, allowed := range c.now {
		if err := checkSector(whole[i*mapper.SectorSize:][:mapper.SectorSize], mapper.Sector(i), allowed); err != nil {
			return err
		}
	}
	return stopMD(x)
}

// A lander writes, and then fails writes of superblocks, as a disk does whose answer is lost.
type lander struct {
	mapper.Disk
	from, to mapper.Sector
	fails    bool
}

func (d *lander) Submit(ctx context.Context, r mapper.Request) error {
	err := d.Disk.Submit(ctx, r)
	if err == nil && d.fails && r.Op == mapper.OpWrite && r.Start >= d.from && r.Start < d.to {
		err = mapper.ErrIO
	}
	return err
}

// A member that failed, or was not there, is so many events behind that Linux md does not take it for one that did not: two, for a crash leaves one.
// Nor is one whose superblock was written although that failed.
func TestMDEventsOfFailed(t *testing.T) {
	for _, k := range mdKinds {
		for _, how := range []string{"failed", "absent", "superblock"} {
			t.Run(k.String()+" "+how, func(t *testing.T) {
				s := k.setup()
				at, _, _, _ := k.places()
				disks := make(map[string]mapper.Disk)
				for _, d := range s.Disks {
					disks[d.Name] = mappertest.NewDisk(d.Name, d.Sectors)
				}
				if err := s.Prepare(context.Background(), disks); err != nil {
					t.Fatal(err)
				}
				lost := &lander{Disk: disks["7:0"], from: at, to: at + 1}
				disks["7:0"] = lost
				args := s.Args
				if how == "absent" {
					args = append([]string{"force", fmt.Sprint(k.members - 1)}, args[2:]...)
				}
				x, err := startMD(disks, s.Len, false, args...)
				if err != nil {
					t.Fatal(err)
				}
				tg := x.now.Load()
				switch how {
				case "failed":
					if !tg.failed(&tg.members[0]) {
						t.Fatal("the array cannot do without its first member")
					}
				case "superblock":
					lost.fails = true
				}
				if err := submit(tg.target, mapper.Request{Op: mapper.OpWrite, Count: 8, Data: mappertest.Stamped(0, 8, 1)}); err != nil {
					t.Fatal(err)
				}
				old := superOf(t, lost).Events
				for name, d := range disks {
					if now := superOf(t, d).Events; name != "7:0" && now < old+2 {
						t.Errorf("%s has %d events, and the member that lacks the write %d", name, now, old)
					}
				}
				if err := stopMD(x); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// A member that failed stays out when a table is resumed: superblocks of 0.90 cannot say how far it is rebuilt, and none that it has not failed.
func TestMDFailedStaysOut(t *testing.T) {
	for _, k := range mdKinds {
		t.Run(k.String(), func(t *testing.T) {
			s, disks, x := newMDArray(t, k)
			writeMD(t, x, 1)
			if !x.now.Load().failed(&x.now.Load().members[0]) {
				t.Fatal("the array cannot do without its first member")
			}
			writeMD(t, x, 2)
			x.PreSuspend(false)
			if err := x.PostSuspend(context.Background()); err != nil {
				t.Fatal(err)
			}
			if err := x.PreResume(context.Background()); err != nil { // and nothing that is rebuilt
				t.Fatal(err)
			}
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
			y, err := startMD(disks, s.Len, false, append([]string{"force"}, s.Args...)...)
			if err != nil {
				t.Fatal(err)
			}
			endMD(t, y, 2)
		})
	}
}

// A bitmap of an array that was not closed, which is older than its superblock, is written as a whole before it counts again: bits on other pages than
// the one that is written first are set, too.
func TestMDOldBitmap(t *testing.T) {
	ctx, disk := context.Background(), mappertest.NewDisk("7:0", 80000)
	const sectors, bitmapAt = 70000, 16 // a sector a region: three pages
	k := mdKind{"1.2", 1, 0, 0, 2, 1, true, 64, 0}
	if err := k.format(ctx, disk, 0, 5); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	(&bitmapSuper{events: 4, cleared: 4, sectors: sectors, regionBytes: 512, sleep: 5}).encode(b)
	if err := disk.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: bitmapAt, Count: 8, Data: b}); err != nil {
		t.Fatal(err)
	}
	geo := newGeometry(1, 0, 2, 0, sectors, sectors)
	shown := (&target{geo: geo}).newSuper()
	shown.events = 5
	s := superOf(t, disk)
	m, err := newMDMetadata(ctx, disk, s, &md.Array{Super: s, Dirty: true}, shown, &geo, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: 8, Count: 8, Data: m.bitmap[:4096]}); err != nil {
		t.Fatal(err)
	}
	again, err := newMDMetadata(ctx, disk, s, &md.Array{Super: s, Dirty: true}, shown, &geo, 1)
	if err != nil {
		t.Fatal(err)
	}
	if again.other {
		t.Error("the bitmap is still of no use")
	}
	for r := range again.regions {
		if again.bitmap[bitmapHeader+r/8]>>(r%8)&1 == 0 {
			t.Fatalf("region %d may differ, and its bit is not set", r)
		}
	}
}
