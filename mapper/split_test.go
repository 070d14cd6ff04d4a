package mapper_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// A countingDisk carries out nothing and counts.
type countingDisk struct {
	limits  mapper.Limits
	sectors mapper.Sector
	calls   atomic.Int64
	each    func(n int64)
}

func (*countingDisk) DiskName() string         { return "a" }
func (d *countingDisk) Sectors() mapper.Sector { return d.sectors }
func (d *countingDisk) Limits() mapper.Limits  { return d.limits }
func (d *countingDisk) Submit(_ context.Context, r mapper.Request) error {
	n := d.calls.Add(1)
	if d.each != nil {
		d.each(n)
	}
	return nil
}

// Zeroing a huge device takes no memory for its pieces, and ends when its caller does.
func TestZeroOfHugeDevice(t *testing.T) {
	for name, most := range map[string]mapper.Sector{"write-zeroes": 8, "buffers of zeroes": 0} {
		t.Run(name, func(t *testing.T) {
			disk := &countingDisk{limits: mapper.Limits{MaxWriteZeroes: most}, sectors: 1 << 40}
			m := newManager(disk)
			d := create(t, m, "d", "0 1099511627776 linear a 0")
			killed, cancel := context.WithCancel(ctx)
			const enough = 1 << 16
			disk.each = func(n int64) {
				if n == enough {
					cancel()
				}
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := d.Zero(killed, 0, d.Size(), false)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Zero: %v", err)
			}
			if n := disk.calls.Load(); n > enough+1000 {
				t.Errorf("%d requests after the caller had gone", n-enough)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
				t.Errorf("%d bytes were allocated", grown)
			}
			disk.each = nil
			closeManager(t, m)
		})
	}
}

// A pieceTarget remembers the requests that reach it, moved to where they are in the device.
type pieceTarget struct {
	start, length, split mapper.Sector
	seen                 *pieces
}

type pieces struct {
	mu   sync.Mutex
	have map[mapper.Sector]mapper.Sector // sectors by start
	bad  string
}

func (t *pieceTarget) Hints(l *mapper.Limits) { l.Split, l.MaxWriteZeroes = t.split, 0 }

func (t *pieceTarget) Submit(_ context.Context, r mapper.Request) error {
	t.seen.mu.Lock()
	defer t.seen.mu.Unlock()
	switch {
	case r.Op == mapper.OpFlush:
		return nil
	case r.Count == 0, r.Start+r.Count > t.length, t.split != 0 && r.Start/t.split != (r.End()-1)/t.split:
		t.seen.bad = fmt.Sprintf("%s of %d at %d of a segment of %d split by %d", r.Op, r.Count, r.Start, t.length, t.split)
	case !bytes.Equal(r.Data, mappertest.Stamped(t.start+r.Start, r.Count, 1)):
		t.seen.bad = fmt.Sprintf("%s of %d at %d has the data of others", r.Op, r.Count, r.Start)
	}
	t.seen.have[t.start+r.Start] = r.Count
	return nil
}

func pieceType(seen *pieces) *mapper.Type {
	return &mapper.Type{Name: "piece", New: func(_ context.Context, _ mapper.Host, s mapper.Spec) (mapper.Target, error) {
		split, err := mapper.ParseSector(s.Args[0])
		return &pieceTarget{start: s.Start, length: s.Len, split: split, seen: seen}, err
	}}
}

// Requests are cut where segments end and where limits ask, nowhere else, and every sector is reached once: as a
// naive search says, for random tables.
func TestSplitAgainstModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(mappertest.Seed(t), 0))
	for range 60 {
		seen := &pieces{have: make(map[mapper.Sector]mapper.Sector)}
		registry := new(mapper.Registry)
		registry.Register(pieceType(seen))
		m := mapper.NewManager(registry, mapper.Options{})
		var table strings.Builder
		var cut []bool // whether a piece begins at the sector
		for range 1 + rng.IntN(40) {
			start, n, split := len(cut), 1+rng.IntN(30), rng.IntN(9)
			fmt.Fprintf(&table, "%d %d piece %d\n", start, n, split)
			for i := range n {
				cut = append(cut, i == 0 || split != 0 && i%split == 0)
			}
		}
		d := create(t, m, "d", table.String())
		for range 50 {
			s := rng.IntN(len(cut))
			n := 1 + rng.IntN(len(cut)-s)
			clear(seen.have)
			r := mapper.Request{Op: mapper.OpWrite, Start: mapper.Sector(s), Count: mapper.Sector(n)}
			r.Data = mappertest.Stamped(r.Start, r.Count, 1)
			must(t, d.Submit(ctx, r))
			want := make(map[mapper.Sector]mapper.Sector)
			begin := mapper.Sector(s)
			for i := s; i < s+n; i++ {
				if cut[i] {
					begin = mapper.Sector(i)
				}
				want[begin]++
			}
			if seen.bad != "" || fmt.Sprint(seen.have) != fmt.Sprint(want) {
				t.Fatalf("%s\n%d+%d is cut to %v, want %v; %s", table.String(), s, n, seen.have, want, seen.bad)
			}
		}
		for _, r := range []mapper.Request{
			{Op: mapper.OpDiscard, Start: mapper.Sector(len(cut)), Count: 1},
			{Op: mapper.OpDiscard, Start: 1, Count: mapper.Sector(len(cut))},
			{Op: mapper.OpDiscard, Start: 1, Count: 1<<64 - 1},
			{Op: mapper.OpDiscard, Start: 1<<64 - 1, Count: 2},
		} {
			if err := d.Submit(ctx, r); !errors.Is(err, mapper.ErrIO) {
				t.Errorf("%d+%d of %d sectors: %v", r.Start, r.Count, len(cut), err)
			}
		}
		closeManager(t, m)
	}
}

// A flush reaches each disk once, also through devices below whose table was swapped after.
func TestFlushReachesEachDiskOnce(t *testing.T) {
	a, b, c := mappertest.NewDisk("a", 64), mappertest.NewDisk("b", 64), mappertest.NewDisk("c", 64)
	m := newManager(a, b, c)
	low := create(t, m, "low", "0 64 zero")
	top := create(t, m, "top", "0 8 linear a 0; 8 8 linear a 8; 16 16 striped 2 8 a 16 b 0; 32 8 linear low 0; 40 8 linear low 8; 48 8 zero; 56 8 error")
	counts := func() [3]int { return [3]int{a.Counts().Flushes, b.Counts().Flushes, c.Counts().Flushes} }
	check := func(want [3]int) {
		t.Helper()
		before := counts()
		must(t, top.Flush(ctx))
		after := counts()
		for i := range want {
			if got := after[i] - before[i]; got != want[i] {
				t.Errorf("disk %d was flushed %d times, want %d", i, got, want[i])
			}
		}
	}
	check([3]int{1, 1, 0})
	must(t, low.Replace(ctx, parse(t, "0 32 linear c 0; 32 32 linear c 32"), false))
	check([3]int{1, 1, 1})
	must(t, low.Replace(ctx, parse(t, "0 64 zero"), false))
	check([3]int{1, 1, 0})
	closeManager(t, m)
}
