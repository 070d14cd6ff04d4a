package multipath

import (
	"strings"
	"testing"
	"time"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// Loads that differ decide.
func TestSelectorsByLoad(t *testing.T) {
	for _, tt := range []struct {
		table string
		load  [3][2]int64 // requests and bytes in flight
		want  string
	}{
		{"queue-length 0 3 0 a b c", [3][2]int64{{2, 1}, {1, 9}, {3, 0}}, "b"},
		{"service-time 0 3 0 a b c", [3][2]int64{{1, 8192}, {9, 4096}, {1, 12288}}, "b"},
		{"service-time 0 3 2 a 1 10 b 1 1 c 1 1", [3][2]int64{{1, 8192}, {0, 0}, {0, 0}}, "a"}, // 12288/10 < 4096
		{"service-time 0 3 2 a 1 2 b 1 1 c 1 1", [3][2]int64{{1, 8192}, {0, 0}, {0, 0}}, "b"},  // 12288/2 > 4096
		{"service-time 0 3 2 a 1 0 b 1 1 c 1 1", [3][2]int64{{0, 0}, {1, 1 << 30}, {1, 1 << 20}}, "c"},
		{"service-time 0 3 2 a 1 1 b 1 1 c 1 2", [3][2]int64{{0, 0}, {0, 0}, {0, 0}}, "c"},
		{"service-time 0 3 2 a 1 1 b 1 2 c 1 1", [3][2]int64{{0, 0}, {1, 4096}, {1, 1}}, "b"}, // equal: the faster one
		{"historical-service-time 0 3 0 a b c", [3][2]int64{{2, 0}, {1, 0}, {3, 0}}, "b"},
	} {
		b := newBed(t, "0 0 1 1 "+tt.table)
		g := b.groups[0]
		for i, p := range g.paths {
			p.load.Store(tt.load[i][0])
			p.bytes.Store(tt.load[i][1])
			p.history.staleAfter = 1 << 62
		}
		if got := g.selector.pick(g, 4096).name; got != tt.want {
			t.Errorf("%s with %v in flight: got %s, want %s", tt.table, tt.load, got, tt.want)
		}
	}
}

// The average follows what requests take; a path that has become slow is left, and probed again when its average is stale.
func TestHistoricalServiceTime(t *testing.T) {
	b := newBed(t, "0 0 1 1 historical-service-time 0 2 0 a b")
	g := b.groups[0]
	s := g.selector.(*historical)
	pa, pb := g.paths[0], g.paths[1]
	at := func(d time.Duration) time.Time { return s.started.Add(d) }
	s.finished(pa, at(0), at(time.Second))
	s.finished(pb, at(0), at(time.Millisecond))
	slow, stale := pa.history.get()
	if ns := slow >> fixedBits; ns < 9e8 || ns > 1e9 {
		t.Errorf("after one request of a second the average is %d ns", ns)
	}
	if want := time.Second.Nanoseconds() + 2*int64(slow>>fixedBits); stale != want {
		t.Errorf("stale after %d, want %d", stale, want)
	}
	pa.load.Store(1)
	pb.load.Store(1)
	if s.compare(pa, pb, 0) <= 0 {
		t.Error("the slow path is chosen while both are fresh")
	}
	pa.load.Store(0)
	if s.compare(pa, pb, stale+1) >= 0 {
		t.Error("an idle stale path is not probed")
	}
	s.finished(pa, at(-time.Second), at(-time.Second))
	if pa.history.lastDone != time.Second.Nanoseconds() {
		t.Error("the clock of a path went back")
	}
	s.finished(pa, at(0), at(1<<62))
	s.finished(pa, at(0), at(1<<62+1<<61))
	if v, _ := pa.history.get(); v > maxAverage {
		t.Errorf("the average overflows: %d", v)
	}
	if got := strings.Join(b.Table(false), " "); got != "0 0 1 1 historical-service-time 2 972 0 2 1 a 0 b 0 " {
		t.Errorf("table %q", got)
	}
}

// Weights are powers of the base, as the kernel rounds them; the last is 0.
func TestHistoricalWeights(t *testing.T) {
	s, err := newHistorical(nil)
	if err != nil {
		t.Fatal(err)
	}
	w := s.(*historical).weights
	if w[0] != 972 || w[1] != 923 || w[weightCount-1] != 0 {
		t.Errorf("weights %v", w)
	}
	for i := 1; i < weightCount; i++ {
		if w[i] > w[i-1] {
			t.Errorf("weight %d is %d, more than %d before it", i, w[i], w[i-1])
		}
	}
}

func TestAffinity(t *testing.T) {
	b := newBed(t, "0 0 1 1 io-affinity 0 1 1 a 1")
	s := b.groups[0].selector.(*affinity)
	pa := b.groups[0].paths[0]
	for i := range s.byCPU {
		s.byCPU[i] = nil
	}
	s.byCPU[0] = pa // the processor at hand, or else the lowest that has a path
	if got := s.pick(b.groups[0], 1); got != pa {
		t.Errorf("got %v", got)
	}
	clear(s.byCPU)
	if s.pick(b.groups[0], 1) != nil || s.misses == 0 {
		t.Errorf("without any path: %d misses", s.misses)
	}
	pb := &path{name: "b", active: true}
	for i := range s.byCPU {
		s.byCPU[i] = pa
	}
	s.byCPU[len(s.byCPU)-1] = pb
	pa.active = false
	if len(s.byCPU) > 1 && s.pick(b.groups[0], 1) != pb {
		t.Error("a failed path is chosen")
	}
}

func TestMasks(t *testing.T) {
	for _, tt := range []struct {
		text string
		n    int
		want string // "" if refused
	}{
		{"1", 2, "1"}, {"3", 2, "3"}, {"0x1", 2, ""}, {"4", 2, ""}, {"", 2, ""}, {"g", 2, ""}, {"f", 8, "0f"}, {"00000000f", 8, ""},
		{"1,00000000", 40, "01,00000000"}, {"100,00000000", 40, ""}, {"ff,1", 40, "ff,00000001"}, {"0,0,1", 40, "00,00000001"},
		{"1,0,0", 40, ""}, {"FF", 8, "ff"}, {"1,", 8, ""}, {"ffffffff,ffffffff", 64, "ffffffff,ffffffff"}, {"-1", 8, ""}, {"+1", 8, ""},
	} {
		mask, ok := parseMask(tt.text, tt.n)
		if ok != (tt.want != "") || ok && mask.text(tt.n) != tt.want {
			t.Errorf("%q of %d: %v %v, want %q", tt.text, tt.n, mask, ok, tt.want)
		}
	}
}

// newNull builds a target over two disks that do nothing and cost nothing.
func newNull(tb testing.TB, selector string) *target {
	tb.Helper()
	h := mappertest.NewHost(mappertest.Null{Name: "7:0", Size: 4096}, mappertest.Null{Name: "7:1", Size: 4096})
	got, err := newTarget(ctx, h, mapper.Spec{Len: 1024, Args: strings.Fields("0 0 1 1 " + selector)})
	if err != nil {
		tb.Fatal(err)
	}
	return got.(*target)
}

var allSelectors = map[string]string{
	"round-robin": "round-robin 0 2 0 7:0 7:1", "queue-length": "queue-length 0 2 0 7:0 7:1", "service-time": "service-time 0 2 0 7:0 7:1",
	"historical-service-time": "historical-service-time 0 2 0 7:0 7:1", "io-affinity": "io-affinity 0 1 1 7:0 1",
}

func TestSubmitDoesNotAllocate(t *testing.T) {
	r := mapper.Request{Op: mapper.OpWrite, Start: 16, Count: 8, Data: make([]byte, 4096)}
	for name, table := range allSelectors {
		d := newNull(t, table)
		if n := testing.AllocsPerRun(100, func() { _ = d.Submit(ctx, r) }); n != 0 {
			t.Errorf("%s: %v allocations for a request, want none", name, n)
		}
	}
}

func BenchmarkSubmit(b *testing.B) {
	r := mapper.Request{Op: mapper.OpWrite, Start: 16, Count: 8, Data: make([]byte, 4096)}
	for name, table := range allSelectors {
		b.Run(name, func(b *testing.B) {
			d := newNull(b, table)
			b.ReportAllocs()
			for b.Loop() {
				_ = d.Submit(ctx, r)
			}
		})
		b.Run(name+" parallel", func(b *testing.B) {
			d := newNull(b, table)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					_ = d.Submit(ctx, r)
				}
			})
		})
	}
}
