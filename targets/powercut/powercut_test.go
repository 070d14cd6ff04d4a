package powercut

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

func TestConformance(t *testing.T) {
	t.Run("large cache", func(t *testing.T) {
		mappertest.TestTarget(t, NewType(), mappertest.Setup{
			Disks: []mappertest.DiskSpec{{Name: "7:0", Sectors: 1024}}, Len: 512, Args: []string{"7:0", "99"},
		})
	})
	t.Run("cache of 12 blocks", func(t *testing.T) {
		mappertest.TestTarget(t, NewType(), mappertest.Setup{
			Disks: []mappertest.DiskSpec{{Name: "7:0", Sectors: 1024}}, Len: 301, Args: []string{"7:0", "99", "4", "seed", "7", "cache_sectors", "12"},
		})
	})
	t.Run("4096-byte blocks on 512, no discard", func(t *testing.T) {
		mappertest.TestTarget(t, NewType(), mappertest.Setup{
			Disks: []mappertest.DiskSpec{{Name: "7:0", Sectors: 1024, Limits: mapper.Limits{LogicalBlock: 512, VolatileCache: true}}},
			Len:   512, Args: []string{"7:0", "8", "6", "cache_sectors", "200", "sector_size", "4096", "supply", "s"},
		})
	})
}

// A bench is a target on a disk in memory.
type bench struct {
	t    *testing.T
	disk *mappertest.Disk
	host *mappertest.Host
	*target
}

// newBench makes a target of 256 sectors.
func newBench(t *testing.T, typ *mapper.Type, features ...string) *bench {
	t.Helper()
	b := &bench{t: t, disk: mappertest.NewDisk("7:0", 256)}
	b.host = mappertest.NewHost(b.disk)
	args := []string{"7:0", "0"}
	if len(features) > 0 {
		args = append(append(args, fmt.Sprint(len(features))), features...)
	}
	made, err := typ.New(context.Background(), b.host, mapper.Spec{Len: 256, Type: "powercut", Args: args})
	if err != nil {
		t.Fatal(err)
	}
	b.target = made.(*target)
	b.Resume()
	t.Cleanup(func() {
		b.PostSuspend(context.Background())
		b.Close()
	})
	return b
}

func (b *bench) do(op mapper.Op, flags mapper.Flags, s, n mapper.Sector, serial uint64) error {
	r := mapper.Request{Op: op, Flags: flags, Start: s, Count: n}
	if op == mapper.OpWrite {
		r.Data = mappertest.Stamped(s, n, serial)
	}
	return b.Submit(context.Background(), r)
}

func (b *bench) write(s, n mapper.Sector, serial uint64) {
	b.must(b.do(mapper.OpWrite, 0, s, n, serial))
}
func (b *bench) flush() { b.must(b.do(mapper.OpFlush, 0, 0, 0, 0)) }

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) say(words string) string {
	b.t.Helper()
	reply, err := b.Message(context.Background(), strings.Fields(words))
	b.must(err)
	return reply
}

// holds returns what n sectors from s on hold, below the target.
func (b *bench) holds(s, n mapper.Sector) string { return describe(b.disk.Peek(s, n)) }

// reads returns what the device says they hold.
func (b *bench) reads(s, n mapper.Sector) string {
	b.t.Helper()
	buf := make([]byte, n.Bytes())
	b.must(b.Submit(context.Background(), mapper.Request{Op: mapper.OpRead, Start: s, Count: n, Data: buf}))
	return describe(buf)
}

// describe returns the serial of each sector, - for zeroes.
func describe(buf []byte) string {
	var words []string
	for ; len(buf) > 0; buf = buf[mapper.SectorSize:] {
		if _, serial, ok := mappertest.ReadStamp(buf[:mapper.SectorSize]); ok {
			words = append(words, fmt.Sprint(serial))
		} else {
			words = append(words, "-")
		}
	}
	return strings.Join(words, " ")
}

func (b *bench) want(what, got, want string) {
	b.t.Helper()
	if got != want {
		b.t.Errorf("%s:\ngot  %s\nwant %s", what, got, want)
	}
}

func TestWhatIsDurable(t *testing.T) {
	b := newBench(t, NewType())
	b.write(0, 4, 1)
	b.want("a write alone", b.holds(0, 4), "- - - -")
	b.want("a write alone, read", b.reads(0, 4), "1 1 1 1")
	b.must(b.do(mapper.OpWrite, mapper.FlagFUA, 1, 1, 2))
	b.want("FUA", b.holds(0, 4), "- 2 - -")
	b.write(3, 1, 3)
	b.want("after FUA, read", b.reads(0, 5), "1 2 1 3 -")
	b.flush()
	b.want("a flush", b.holds(0, 5), "1 2 1 3 -")
	b.must(b.do(mapper.OpWriteZeroes, 0, 0, 2, 0))
	b.must(b.do(mapper.OpDiscard, 0, 2, 1, 0))
	b.want("zeroes, read", b.reads(0, 4), "- - - 3")
	b.want("zeroes", b.holds(0, 4), "1 2 1 3")
	b.want("cut", b.say("cut seed=1 keep=none"), "cut seed=1 keep=none dirty=3 kept=0 older=0 lost=3 torn=0")
	b.say("restore")
	b.want("zeroes lost", b.reads(0, 4), "1 2 1 3")
}

func TestKeep(t *testing.T) {
	run := func(mode string) *bench {
		b := newBench(t, NewType())
		b.write(0, 6, 1)
		b.flush()
		b.write(0, 2, 2)
		b.write(1, 4, 3)
		b.write(5, 1, 4)
		b.say("cut seed=5 keep=" + mode)
		return b
	}
	b := run("none")
	b.want("none", b.holds(0, 7), "1 1 1 1 1 1 -")
	b = run("all")
	b.want("all", b.holds(0, 7), "2 3 3 3 3 4 -")
	b = run("torn")
	got := strings.Fields(b.holds(0, 7))
	if got[0] != "2" || got[5] != "4" {
		t.Errorf("torn: %v: what is not of the last request of several blocks was lost", got)
	}
	torn := slices.Compact(slices.Sorted(slices.Values(got[1:5])))
	if len(torn) < 2 || !slices.Contains(torn, "3") {
		t.Errorf("torn: %v: the last request of several blocks is whole, or lost", got)
	}
	b.want("torn counts", b.say("counters"), "reads=0 writes=4 discards=0 flushes=1 fua=0 failed=0 cuts=1 "+
		strings.Join(strings.Fields(b.resultText())[3:], " "))
}

// resultText returns the result of the last cut as its reply has it, behind dirty.
func (b *bench) resultText() string { return b.supply.last.text(b.result) }

// Over many seeds a cut yields every legal outcome of a few writes and no other.
func TestRandomCutsAreLegalAndComplete(t *testing.T) {
	got := make(map[string]bool)
	for seed := range 400 {
		b := newBench(t, NewType())
		b.write(0, 1, 1)
		b.flush()
		b.write(0, 1, 2)
		b.write(0, 2, 3)
		b.must(b.do(mapper.OpWrite, mapper.FlagFUA, 2, 1, 9))
		b.say(fmt.Sprintf("cut seed=%d", seed))
		got[b.holds(0, 3)] = true
	}
	want := []string{"1 - 9", "1 3 9", "2 - 9", "2 3 9", "3 - 9", "3 3 9"}
	if all := slices.Sorted(maps.Keys(got)); !slices.Equal(all, want) {
		t.Errorf("got %q, want %q", all, want)
	}
}

func TestPowerOff(t *testing.T) {
	b := newBench(t, NewType())
	b.write(0, 1, 1)
	b.say("cut seed=0 keep=all")
	for _, op := range []mapper.Op{mapper.OpRead, mapper.OpWrite, mapper.OpFlush, mapper.OpDiscard, mapper.OpWriteZeroes} {
		r := mapper.Request{Op: op}
		if op != mapper.OpFlush {
			r.Count = 1
		}
		if op <= mapper.OpWrite {
			r.Data = make([]byte, mapper.SectorSize)
		}
		if err := b.Submit(context.Background(), r); !errors.Is(err, mapper.ErrIO) {
			t.Errorf("%s without power: %v", op, err)
		}
	}
	if _, err := b.Message(context.Background(), []string{"cut"}); err == nil {
		t.Error("cut twice")
	}
	status, _ := b.Status(context.Background(), false)
	b.want("status", status, "off dirty=0 cache=131072 after=0 seed=0 reads=0 writes=1 discards=0 flushes=0 fua=0 failed=5 cuts=1 kept=1 older=0 lost=0 torn=0")
	b.want("restore", b.say("restore"), "on")
	b.want("kept", b.reads(0, 1), "1")
	if n := b.host.Events(); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func TestArmed(t *testing.T) {
	b := newBench(t, NewType(), "seed", "100")
	b.want("armed", b.say("cut after=2 op=flush keep=none"), "armed seed=100 keep=none after=2 op=flush")
	b.write(0, 1, 1)
	b.flush()
	b.write(1, 1, 2)
	status, _ := b.Status(context.Background(), false)
	b.want("status", strings.Join(strings.Fields(status)[:4], " "), "armed dirty=1 cache=131072 after=1")
	if err := b.do(mapper.OpFlush, 0, 0, 0, 0); !errors.Is(err, mapper.ErrIO) {
		t.Errorf("the flush at which the power fails: %v", err)
	}
	b.want("disk", b.holds(0, 2), "1 -")
	b.say("restore")
	b.want("the next seed", b.say("cut after=1 op=write keep=all"), "armed seed=101 keep=all after=1 op=write")
	if err := b.do(mapper.OpWrite, mapper.FlagFUA, 0, 3, 7); !errors.Is(err, mapper.ErrIO) {
		t.Errorf("the write at which the power fails: %v", err)
	}
	b.want("disk", b.holds(0, 3), "7 7 7")
	b.say("restore")
	b.say("cut after=1")
	b.want("disarm", b.say("disarm"), "disarmed")
	b.write(0, 1, 8)
}

// The same requests end the same way from the same seed, and otherwise from another.
func TestSeed(t *testing.T) {
	run := func(seed int) string {
		b := newBench(t, NewType(), "cache_sectors", "64")
		rnd := rand.New(rand.NewPCG(1, 1))
		for serial := range uint64(60) {
			s := mapper.Sector(rnd.IntN(100))
			b.write(s, mapper.Sector(1+rnd.IntN(8)), serial)
		}
		reply := b.say(fmt.Sprintf("cut seed=%d", seed))
		return reply + "\n" + b.holds(0, 110)
	}
	if a, b := run(1), run(1); a != b {
		t.Errorf("the same seed:\n%s\n%s", a, b)
	}
	if a, b := run(1), run(2); a == b {
		t.Errorf("two seeds: %s", a)
	}
}

func TestSupply(t *testing.T) {
	typ := NewType()
	a, b, c := newBench(t, typ, "supply", "s"), newBench(t, typ, "supply", "s"), newBench(t, typ)
	a.write(0, 1, 1)
	b.write(0, 2, 2)
	c.write(0, 1, 3)
	a.want("reply", a.say("cut seed=3 keep=none"), "cut seed=3 keep=none dirty=3 kept=0 older=0 lost=3 torn=0")
	if err := b.do(mapper.OpFlush, 0, 0, 0, 0); err == nil {
		t.Error("the other target of the supply has power")
	}
	c.flush()
	b.say("restore")
	a.want("restored by the other", a.reads(0, 1), "-")
}

// The cache does not grow over its bound, and what it destages is the oldest.
func TestFullCache(t *testing.T) {
	b := newBench(t, NewType(), "cache_sectors", "8")
	for s := range mapper.Sector(12) {
		b.write(s, 1, uint64(s+1))
		if n := b.cache.tail - b.cache.head; n > 8 {
			t.Fatalf("%d versions in a cache of 8", n)
		}
	}
	b.want("destaged", b.holds(0, 12), "1 2 3 4 - - - - - - - -")
	b.write(20, 9, 20) // larger than the cache
	b.want("large", b.holds(20, 9), "20 20 20 20 20 20 20 20 20")
	b.must(b.do(mapper.OpDiscard, 0, 0, 256, 0))
	b.want("cut", b.say("cut seed=0 keep=all"), "cut seed=0 keep=all dirty=0 kept=0 older=0 lost=0 torn=0")
}

// What cannot be written at the cut is lost, and said to be.
func TestSurvivorsThatCannotBeWritten(t *testing.T) {
	disk := mappertest.NewDisk("7:0", 256)
	faulty := mappertest.NewFaulty(disk)
	host := mappertest.NewHost(faulty)
	made, err := NewType().New(context.Background(), host, mapper.Spec{Len: 256, Args: []string{"7:0", "0"}})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, disk: disk, host: host, target: made.(*target)}
	b.Resume()
	b.write(0, 1, 1)
	b.write(5, 1, 2)
	faulty.FailNth(1)
	b.want("cut", b.say("cut seed=1 keep=all"), "cut seed=1 keep=all dirty=2 kept=1 older=0 lost=1 torn=0")
	b.want("disk", b.holds(0, 6), "- - - - - 2")
	if log := host.Log(); len(log) != 2 || !strings.Contains(log[0], "could not be written") {
		t.Errorf("log: %q", log)
	}
}

func TestSubmitDoesNotAllocate(t *testing.T) {
	b := newBench(t, NewType())
	ctx := context.Background()
	w := mapper.Request{Op: mapper.OpWrite, Start: 16, Count: 8, Data: make([]byte, 4096)}
	r := w
	r.Op = mapper.OpRead
	n := testing.AllocsPerRun(1000, func() {
		_ = b.Submit(ctx, w)
		_ = b.Submit(ctx, r)
	})
	if n != 0 {
		t.Errorf("%v allocations for a write and a read, want none", n)
	}
}

func BenchmarkSubmit(b *testing.B) {
	made, err := NewType().New(context.Background(), mappertest.NewHost(mappertest.Null{Name: "7:0", Size: 4096}), mapper.Spec{Len: 4096, Args: []string{"7:0", "0"}})
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	for name, r := range map[string]mapper.Request{
		"write": {Op: mapper.OpWrite, Start: 16, Count: 8, Data: make([]byte, 4096)},
		"read":  {Op: mapper.OpRead, Start: 1024, Count: 8, Data: make([]byte, 4096)},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = made.Submit(ctx, r)
			}
		})
	}
}
