package inject

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

func TestConformance(t *testing.T) {
	for name, args := range map[string]string{
		"no rules":             "7:0 99",
		"rules for later":      "7:0 99 seed=1 error op=write+flush nth=1000000 stall nth=1000000 torn p=0.0000001 count=1",
		"rules for elsewhere":  "7:0 99 corrupt sectors=100000+5 misdirect by=-8 sectors=9999+1 lost sectors=301+5 error op=any sectors=301+1",
		"stalls without bound": "7:0 99 stall time=1ms p=0.2",
	} {
		t.Run(name, func(t *testing.T) {
			mappertest.TestTarget(t, &Type, mappertest.Setup{
				Disks: []mappertest.DiskSpec{{Name: "7:0", Sectors: 1024}}, Len: 301, Args: strings.Fields(args),
			})
		})
	}
}

// A bench is a target of 256 sectors on a disk in memory that holds write 1 everywhere.
type bench struct {
	*target
	t    testing.TB
	disk *mappertest.Disk
}

func newBench(t testing.TB, rules string) *bench {
	t.Helper()
	d := mappertest.NewDisk("7:0", 256)
	d.Poke(0, mappertest.Stamped(0, 256, 1))
	made, err := newTarget(context.Background(), mappertest.NewHost(d), mapper.Spec{Len: 256, Args: append([]string{"7:0", "0"}, strings.Fields(rules)...)})
	if err != nil {
		t.Fatal(err)
	}
	return &bench{made.(*target), t, d}
}

func (b *bench) do(op mapper.Op, s, n mapper.Sector, serial uint64) error {
	r := mapper.Request{Op: op, Start: s, Count: n}
	if op <= mapper.OpWrite {
		r.Data = mappertest.Stamped(s, n, serial)
	}
	return b.Submit(context.Background(), r)
}

func (b *bench) read(s, n mapper.Sector) []byte {
	b.t.Helper()
	buf := make([]byte, n.Bytes())
	if err := b.Submit(context.Background(), mapper.Request{Op: mapper.OpRead, Start: s, Count: n, Data: buf}); err != nil {
		b.t.Fatal(err)
	}
	return buf
}

func (b *bench) say(words string) string {
	b.t.Helper()
	reply, err := b.Message(context.Background(), strings.Fields(words))
	if err != nil {
		b.t.Fatal(err)
	}
	return reply
}

func (b *bench) want(what, got, want string) {
	b.t.Helper()
	if got != want {
		b.t.Errorf("%s:\ngot  %s\nwant %s", what, got, want)
	}
}

// outcomes submits n writes of one sector and returns which failed, as 1.
func (b *bench) outcomes(n int) string {
	var s strings.Builder
	for range n {
		if b.do(mapper.OpWrite, 0, 1, 2) == nil {
			s.WriteByte('0')
		} else {
			s.WriteByte('1')
		}
	}
	return s.String()
}

func TestWhichRequests(t *testing.T) {
	for _, c := range []struct{ rule, want string }{
		{"error", "11111111"},
		{"error op=read", "00000000"},
		{"error op=read+write count=2", "11000000"},
		{"error nth=3", "00100000"},
		{"error every=3", "00100100"},
		{"error every=2 count=2", "01010000"},
		{"error sectors=0+1", "11111111"},
		{"error sectors=1+9", "00000000"},
		{"error p=1", "11111111"},
		{"seed=5 error nth=2 error nth=2", "01100000"}, // the second does not see what the first has
		{"lost nth=1 error nth=1", "01000000"},
	} {
		b := newBench(t, c.rule)
		b.want(c.rule, b.outcomes(8), c.want)
	}
	some := newBench(t, "seed=5 error p=0.5").outcomes(64)
	if n := strings.Count(some, "1"); n < 16 || n > 48 {
		t.Errorf("with probability 0.5: %s", some)
	}
	if again := newBench(t, "seed=5 error p=0.5").outcomes(64); again != some {
		t.Errorf("the same seed: %s, then %s", some, again)
	}
	if other := newBench(t, "seed=6 error p=0.5").outcomes(64); other == some {
		t.Errorf("another seed: %s", other)
	}
}

func TestErrors(t *testing.T) {
	for name, want := range errnos {
		b := newBench(t, "error op=any errno="+name)
		for _, op := range []mapper.Op{mapper.OpRead, mapper.OpWrite, mapper.OpFlush, mapper.OpDiscard, mapper.OpWriteZeroes} {
			n := mapper.Sector(4)
			if op == mapper.OpFlush {
				n = 0
			}
			if err := b.do(op, 0, n, 2); !errors.Is(err, want) {
				t.Errorf("%s of %s: %v", name, op, err)
			}
		}
		if c := b.disk.Counts(); c != (mappertest.Counts{}) {
			t.Errorf("a request that failed had an effect: %+v", c)
		}
	}
}

func TestLost(t *testing.T) {
	b := newBench(t, "lost op=write+flush+discard")
	for _, op := range []mapper.Op{mapper.OpWrite, mapper.OpDiscard, mapper.OpWriteZeroes} {
		if err := b.do(op, 0, 4, 2); err != nil {
			t.Error(err)
		}
	}
	if err := b.do(mapper.OpFlush, 0, 0, 0); err != nil || b.disk.Counts() != (mappertest.Counts{}) {
		t.Errorf("%v, %+v", err, b.disk.Counts())
	}
	b.want("counters", b.say("counters"), "requests=4 injected=4 error=0 stall=0 lost=4 misdirect=0 corrupt=0 torn=0")
}

func TestMisdirect(t *testing.T) {
	b := newBench(t, "misdirect by=+8 nth=1 misdirect by=-8 op=read")
	if err := b.do(mapper.OpWrite, 0, 2, 2); err != nil {
		t.Fatal(err)
	}
	b.want("where it should be", mappertest.Describe(b.disk.Peek(0, 1)), "0 of write 1")
	b.want("where it is", mappertest.Describe(b.disk.Peek(9, 1)), "1 of write 2")
	b.want("a read", mappertest.Describe(b.read(28, 1)), "20 of write 1")
	b.want("a read that would leave the segment", mappertest.Describe(b.read(7, 1)), "7 of write 1")
}

func TestCorrupt(t *testing.T) {
	different := func(a, b []byte) (n int) {
		for i := range a {
			n += bits.OnesCount8(a[i] ^ b[i])
		}
		return n
	}
	b := newBench(t, "corrupt op=read bits=3 nth=1 corrupt op=write nth=1")
	want := mappertest.Stamped(0, 8, 1)
	if n := different(b.read(0, 8), want); n != 3 {
		t.Errorf("%d bits of a read are wrong, want 3", n)
	}
	if n := different(b.read(0, 8), want); n != 0 {
		t.Errorf("%d bits of the next read are wrong", n)
	}
	data := mappertest.Stamped(0, 8, 2)
	kept := bytes.Clone(data)
	if err := b.Submit(context.Background(), mapper.Request{Op: mapper.OpWrite, Count: 8, Data: data}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, kept) {
		t.Error("the caller's data has changed")
	}
	if n := different(b.disk.Peek(0, 8), kept); n != 1 {
		t.Errorf("%d bits of what was written are wrong, want 1", n)
	}
}

func TestTorn(t *testing.T) {
	for _, c := range []struct {
		rule  string
		unit  int
		fails bool
	}{{"torn", 512, false}, {"torn errno=EIO", 512, true}, {"torn unit=2048", 2048, false}, {"torn unit=64", 64, false}} {
		seen := make(map[string]bool)
		for seed := range 20 {
			b := newBench(t, fmt.Sprintf("seed=%d %s", seed, c.rule))
			if err := b.do(mapper.OpWrite, 0, 10, 2); (err != nil) != c.fails {
				t.Fatalf("%s: %v", c.rule, err)
			}
			got, old, whole := b.disk.Peek(0, 10), mappertest.Stamped(0, 10, 1), mappertest.Stamped(0, 10, 2)
			pattern := ""
			for at := 0; at < len(got); at += c.unit {
				end := min(at+c.unit, len(got))
				switch part := got[at:end]; {
				case bytes.Equal(part, old[at:end]):
					pattern += "0"
				case bytes.Equal(part, whole[at:end]):
					pattern += "1"
				default:
					t.Fatalf("%s: bytes %d to %d are neither old nor new", c.rule, at, end)
				}
			}
			if !strings.Contains(pattern, "0") || !strings.Contains(pattern, "1") {
				t.Errorf("%s, seed %d: %s", c.rule, seed, pattern)
			}
			seen[pattern] = true
			if mappertest.Describe(b.disk.Peek(10, 1)) != "10 of write 1" {
				t.Errorf("%s: the sector behind has changed", c.rule)
			}
		}
		if len(seen) < 5 {
			t.Errorf("%s: 20 seeds gave only %v", c.rule, seen)
		}
	}
	b := newBench(t, "torn")
	if err := b.do(mapper.OpWrite, 0, 1, 2); err != nil {
		t.Fatal(err)
	}
	b.want("a single unit", b.say("list"), "rule=1 torn matched=0 injected=0 state=armed")
}

// Write-zeroes can be torn and corrupted like the writes they stand for.
func TestWriteZeroesBecomeWrites(t *testing.T) {
	b := newBench(t, "torn nth=1")
	if err := b.do(mapper.OpWriteZeroes, 0, 8, 0); !errors.Is(err, mapper.ErrNotSupported) {
		t.Errorf("got %v, want ErrNotSupported, on which the core writes zeroes", err)
	}
	if err := b.do(mapper.OpWrite, 0, 8, 2); err != nil {
		t.Error(err)
	}
	if err := b.do(mapper.OpWriteZeroes, 0, 8, 0); err != nil {
		t.Errorf("when the rule is spent: %v", err)
	}
}

// A fault that could not be made, since the disk below failed, is not counted, and its rule is not spent.
func TestFailureBelow(t *testing.T) {
	disk := mappertest.NewFaulty(mappertest.NewDisk("7:0", 256))
	made, err := newTarget(context.Background(), mappertest.NewHost(disk), mapper.Spec{Len: 256, Args: []string{"7:0", "0", "corrupt", "count=1"}})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{target: made.(*target), t: t}
	disk.FailNth(1)
	if err := b.do(mapper.OpRead, 0, 8, 0); err == nil {
		t.Error("a read that failed below")
	}
	b.want("after a failure", b.say("list"), "rule=1 corrupt count=1 matched=1 injected=0 state=armed")
	b.read(0, 8)
	b.want("after a success", b.say("list"), "rule=1 corrupt count=1 matched=2 injected=1 state=spent")
}

// Faults counted are faults injected, whatever runs at the same time.
func TestCountsAreExact(t *testing.T) {
	b := newBench(t, "seed=3 error op=write p=0.3 error op=read every=7 lost op=flush nth=50")
	var failed, done atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 1000 {
				op := []mapper.Op{mapper.OpWrite, mapper.OpRead, mapper.OpFlush}[i%3]
				n := mapper.Sector(1)
				if op == mapper.OpFlush {
					n = 0
				}
				if b.do(op, mapper.Sector(i%200), n, 9) != nil {
					failed.Add(1)
				}
				done.Add(1)
			}
		})
	}
	for range 20 { // rules come and go meanwhile, and hit exactly what they may
		var id int
		fmt.Sscanf(b.say("arm error op=write count=5"), "armed %d", &id)
		for !strings.Contains(b.say("list"), fmt.Sprintf("rule=%d error op=write count=5 matched=5 injected=5 state=spent", id)) && done.Load() < 8000 {
		}
		b.say(fmt.Sprint("disarm ", id))
	}
	wg.Wait()
	var requests, injected, errs, stalls, lost int64
	fmt.Sscanf(b.say("counters"), "requests=%d injected=%d error=%d stall=%d lost=%d", &requests, &injected, &errs, &stalls, &lost)
	if requests != 8000 || errs != failed.Load() || lost != 1 || injected != errs+1 {
		t.Errorf("%s, but %d of %d requests failed", b.say("counters"), failed.Load(), done.Load())
	}
	if passed := b.disk.Counts(); int64(passed.Reads+passed.Writes+passed.Flushes) != 8000-injected {
		t.Errorf("the disk saw %+v", passed)
	}
}

// When arm has replied, the next request that matches is hit, on whatever goroutine.
func TestArmedIsArmed(t *testing.T) {
	b := newBench(t, "")
	for i := range 200 {
		b.want("arm", b.say("arm error nth=1"), fmt.Sprint("armed ", i+1))
		failed := make(chan error)
		go func() { failed <- b.do(mapper.OpWrite, 0, 1, 2) }()
		if <-failed == nil {
			t.Fatal("the request after the reply was not hit")
		}
	}
	b.want("disarm", b.say("disarm all"), "disarmed 200")
}

func TestSubmitDoesNotAllocate(t *testing.T) {
	for _, rules := range []string{"", "error sectors=200+1 corrupt p=0.000001 op=read"} {
		b, ctx := newBench(t, rules), context.Background()
		r := mapper.Request{Op: mapper.OpWrite, Start: 16, Count: 8, Data: make([]byte, 4096)}
		if n := testing.AllocsPerRun(100, func() { _ = b.Submit(ctx, r) }); n != 0 {
			t.Errorf("%q: %v allocations for a request, want none", rules, n)
		}
	}
}

func BenchmarkSubmit(b *testing.B) {
	for name, rules := range map[string]string{"none": "", "three": "error nth=1000000000 stall sectors=1000+1 corrupt op=read p=0.0001"} {
		b.Run(name, func(b *testing.B) {
			made, err := newTarget(context.Background(), mappertest.NewHost(mappertest.Null{Name: "7:0", Size: 4096}),
				mapper.Spec{Len: 1024, Args: append([]string{"7:0", "0"}, strings.Fields(rules)...)})
			if err != nil {
				b.Fatal(err)
			}
			ctx := context.Background()
			r := mapper.Request{Op: mapper.OpWrite, Start: 16, Count: 8, Data: make([]byte, 4096)}
			b.ReportAllocs()
			for b.Loop() {
				_ = made.Submit(ctx, r)
			}
		})
	}
}
