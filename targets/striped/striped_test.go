package striped

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

func TestConformance(t *testing.T) {
	disks := func(sectors mapper.Sector, names ...string) (specs []mappertest.DiskSpec) {
		for _, n := range names {
			specs = append(specs, mappertest.DiskSpec{Name: n, Sectors: sectors})
		}
		return specs
	}
	for _, c := range []struct {
		args  string
		disks []mappertest.DiskSpec
		len   mapper.Sector
	}{
		{"2 8 7:0 0 7:1 3", disks(200, "7:0", "7:1"), 384},
		{"3 7 7:0 5 7:1 0 7:2 1", disks(100, "7:0", "7:1", "7:2"), 3 * 7 * 11},
		{"1 8 7:0 2", disks(100, "7:0"), 96},
		{"4 1 7:0 0 7:1 0 7:2 0 7:3 0", disks(20, "7:0", "7:1", "7:2", "7:3"), 80},
		{"2 16 7:0 0 7:0 96", disks(200, "7:0"), 192}, // one disk serves both
		{"3 64 7:0 0 7:1 0 7:2 0", disks(64, "7:0", "7:1", "7:2"), 192},
	} {
		t.Run(c.args, func(t *testing.T) {
			mappertest.TestTarget(t, &Type, mappertest.Setup{Disks: c.disks, Len: c.len, Args: strings.Fields(c.args)})
		})
	}
	t.Run("4096-byte blocks", func(t *testing.T) {
		d := disks(200, "7:0", "7:1")
		d[1].Limits = mapper.Limits{LogicalBlock: 4096, VolatileCache: true}
		mappertest.TestTarget(t, &Type, mappertest.Setup{Disks: d, Len: 384, Args: strings.Fields("2 24 7:0 0 7:1 8")})
	})
}

// build makes a target over two disks, 7:0 and 7:1, unless others are given.
func build(t testing.TB, length mapper.Sector, args string, disks ...mapper.Disk) (*target, *mappertest.Host, error) {
	t.Helper()
	if disks == nil {
		disks = []mapper.Disk{mappertest.NewDisk("7:0", 1000), mappertest.NewDisk("7:1", 1000)}
	}
	h := mappertest.NewHost(disks...)
	got, err := newTarget(context.Background(), h, mapper.Spec{Len: length, Args: strings.Fields(args)})
	if err != nil {
		return nil, h, err
	}
	return got.(*target), h, nil
}

// The reasons and the order of the checks are those of the kernel, tried in Linux 6.1.
func TestRefusals(t *testing.T) {
	const pair = " 7:0 0 7:1 0"
	for _, c := range []struct {
		len   mapper.Sector
		args  string
		want  string
		errno unix.Errno
	}{
		{96, "", "Not enough arguments", unix.EINVAL},
		{96, "2", "Not enough arguments", unix.EINVAL},
		{96, "0 8", "Invalid stripe count", unix.EINVAL},
		{96, "x 8" + pair, "Invalid stripe count", unix.EINVAL},
		{96, "0x2 8" + pair, "Invalid stripe count", unix.EINVAL},
		{96, "4294967296 8" + pair, "Invalid stripe count", unix.EINVAL},
		{96, "2 0" + pair, "Invalid chunk_size", unix.EINVAL},
		{96, "2 -8" + pair, "Invalid chunk_size", unix.EINVAL},
		{97, "2 8" + pair, "Target length not divisible by number of stripes", unix.EINVAL},
		{96, "1000000000 8" + pair, "Target length not divisible by number of stripes", unix.EINVAL},
		{8000000000, "1000000000 8" + pair, "Not enough destinations specified", unix.EINVAL},
		{2147483649, "2147483649 1 7:0 0", "Not enough destinations specified", unix.EINVAL}, // 2+2n is 4 in 32 bits
		{90, "2 8" + pair, "Target length not divisible by chunk size", unix.EINVAL},
		{96, "2 8", "Not enough destinations specified", unix.EINVAL},
		{96, "2 8 7:0 0", "Not enough destinations specified", unix.EINVAL},
		{96, "2 8 7:0 0 7:1 0 9", "Not enough destinations specified", unix.EINVAL},
		{96, "2 8 7:0 x 7:1 0", "Couldn't parse stripe destination", unix.EINVAL},
		{96, "2 8 7:0 0 7:1 +1", "Couldn't parse stripe destination", unix.EINVAL},
		{96, "2 8 /dev/nosuch x 7:1 0", "Couldn't parse stripe destination", unix.EINVAL},
		{96, "2 8 /dev/nosuch 0 7:1 0", "Couldn't parse stripe destination", unix.ENODEV},
	} {
		_, _, err := build(t, c.len, c.args)
		var arg *mapper.ArgError
		if !errors.As(err, &arg) || arg.Reason != c.want || mapper.Errno(err) != c.errno {
			t.Errorf("%d %q: got %v (%v), want %q (%v)", c.len, c.args, err, mapper.Errno(err), c.want, c.errno)
		}
	}
}

func TestChunkMustHoldWholeBlocks(t *testing.T) {
	d := mappertest.NewDisk("7:0", 100)
	d.SetLimits(mapper.Limits{LogicalBlock: 4096})
	if _, _, err := build(t, 96, "1 4 7:0 0", d); err == nil || !strings.Contains(err.Error(), "Invalid chunk_size") {
		t.Errorf("got %v, want Invalid chunk_size", err)
	}
}

// TestLayout compares the map with the one in words of the manual, for chunks with and without the fast path.
func TestLayout(t *testing.T) {
	for _, chunk := range []mapper.Sector{1, 7, 8} {
		tg, _, err := build(t, 6*chunk, fmt.Sprintf("2 %d 7:0 10 7:1 20", chunk))
		if err != nil {
			t.Fatal(err)
		}
		for s := range 6 * chunk {
			d, at, run := tg.Remap(s)
			c := s / chunk
			want := 10 + c/2*chunk + s%chunk
			if c%2 == 1 {
				want += 10
			}
			if d != tg.stripes[c%2].disk || at != want || run != chunk-s%chunk {
				t.Errorf("chunk %d: sector %d is %d of %s with %d to follow, want %d of stripe %d",
					chunk, s, at, mapper.DiskName(d), run, want, c%2)
			}
		}
	}
}

// A discard over many chunks reaches each disk in one piece.
func TestDiscardIsNotCut(t *testing.T) {
	a, b := mappertest.NewDisk("7:0", 1000), mappertest.NewDisk("7:1", 1000)
	tg, _, err := build(t, 1600, "2 8 7:0 0 7:1 0", a, b)
	if err != nil {
		t.Fatal(err)
	}
	if err := tg.Submit(context.Background(), mapper.Request{Op: mapper.OpDiscard, Start: 3, Count: 1500}); err != nil {
		t.Fatal(err)
	}
	if a.Counts().Discards != 1 || b.Counts().Discards != 1 {
		t.Errorf("%d and %d requests, want one for each disk", a.Counts().Discards, b.Counts().Discards)
	}
}

// TestFailures shows which errors make a stripe D and how many raise an event, as seen in Linux 6.1.
func TestFailures(t *testing.T) {
	bad := mappertest.NewFaulty(mappertest.NewDisk("254:0", 1000))
	good := mappertest.NewDisk("98:0", 1000)
	tg, h, err := build(t, 96, "2 8 254:0 0 98:0 0", bad, good)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	read := func(s mapper.Sector) {
		_ = tg.Submit(ctx, mapper.Request{Start: s, Count: 8, Data: make([]byte, 4096)})
	}
	expect := func(when, health string, events int) {
		t.Helper()
		status, err := tg.Status(ctx, false)
		if want := "2 254:0 98:0 1 " + health; status != want || err != nil || h.Events() != events {
			t.Errorf("%s: %q with %d events, want %q with %d", when, status, h.Events(), want, events)
		}
	}
	expect("untouched", "AA", 0)
	bad.Inject(mappertest.Fault{Err: mapper.ErrNotSupported, Times: 1})
	read(0)
	expect("after a request that is not supported", "AA", 0)
	bad.Inject(mappertest.Fault{Err: fmt.Errorf("wrapped: %w", context.Canceled), Times: 1})
	read(0)
	expect("after a killed request", "AA", 0)
	bad.Inject(mappertest.Fault{})
	read(8)
	expect("after a read of the good disk", "AA", 0)
	read(0)
	expect("after an error", "DA", 1)
	for range 30 {
		read(0)
	}
	expect("after many errors", "DA", 14)
}

// All stripes of a disk that failed show D, for one event.
func TestFailureOfADiskWithTwoStripes(t *testing.T) {
	bad := mappertest.NewFaulty(mappertest.NewDisk("254:2", 1000))
	tg, h, err := build(t, 96, "2 8 254:2 0 254:2 48", bad)
	if err != nil {
		t.Fatal(err)
	}
	bad.FailNth(1)
	err = tg.Submit(context.Background(), mapper.Request{Op: mapper.OpFlush})
	status, _ := tg.Status(context.Background(), false)
	if !errors.Is(err, mapper.ErrIO) || status != "2 254:2 254:2 1 DD" || h.Events() != 1 {
		t.Errorf("%v, %q, %d events; want an I/O error, DD and one event", err, status, h.Events())
	}
}

func TestHints(t *testing.T) {
	for _, c := range []struct {
		args         string
		minIO, optIO int
		split        mapper.Sector
	}{
		{"2 7 7:0 0 7:1 0", 3584, 7168, 7},
		{"1 8 7:0 0", 4096, 4096, 0},
		{"2 1 7:0 0 7:1 0", 512, 1024, 1},
		{"1 8388608 7:0 0", 4 << 30, 4 << 30, 0},
	} {
		tg, _, err := build(t, 7*8388608, c.args)
		if err != nil {
			t.Fatal(err)
		}
		l := mappertest.DefaultLimits
		tg.Hints(&l)
		if l.MinIO != c.minIO || l.OptIO != c.optIO || l.Split != c.split || l.SplitDiscard {
			t.Errorf("%s: %+v, want %+v", c.args, l, c)
		}
	}
}

func TestTable(t *testing.T) {
	tg, _, err := build(t, 96, "+2 08 7:0 00 7:1 16")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tg.Table(false), strings.Fields("2 8 7:0 0 7:1 16"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// FuzzArgs: a line that is taken is rebuilt from its own table, and its map is one to one with its areas.
func FuzzArgs(f *testing.F) {
	f.Add(uint64(96), "2 8 7:0 0 7:1 0")
	f.Add(uint64(98), "2 7 7:0 0 7:1 18446744073709551615")
	f.Add(uint64(1)<<62, "1 4294967295 7:0 0")
	f.Add(uint64(1000000000), "1000000000 1 7:0 0")
	f.Fuzz(func(t *testing.T, length uint64, line string) {
		tg, _, err := build(t, mapper.Sector(length), line)
		if err != nil {
			return
		}
		args := tg.Table(true)
		again, _, err := build(t, mapper.Sector(length), strings.Join(args, " "))
		if err != nil || !reflect.DeepEqual(again.Table(true), args) {
			t.Fatalf("rebuilt from %q: %v", args, err)
		}
		if length == 0 {
			return
		}
		for _, s := range []mapper.Sector{0, mapper.Sector(length) / 2, mapper.Sector(length) - 1} {
			i, at := tg.place(s)
			if from, to := tg.before(i, s), tg.before(i, s+1); tg.stripes[i].start+from != at || to != from+1 {
				t.Fatalf("sector %d is %d of stripe %d, but %d sectors of the stripe come before and %d with it", s, at, i, from, to)
			}
		}
	})
}

func null(t testing.TB, args string) *target {
	tg, _, err := build(t, 8400, args, mappertest.Null{Name: "7:0", Size: 1 << 20}, mappertest.Null{Name: "7:1", Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return tg
}

// A request within a chunk, a flush of one disk included, costs no allocation.
func TestSubmitDoesNotAllocate(t *testing.T) {
	ctx := context.Background()
	for _, args := range []string{"2 8 7:0 0 7:1 0", "2 7 7:0 0 7:1 0", "1 8 7:0 0"} {
		tg := null(t, args)
		for _, r := range []mapper.Request{
			{Op: mapper.OpWrite, Start: 16, Count: 4, Data: make([]byte, 2048)},
			{Op: mapper.OpDiscard, Start: 16, Count: 4},
		} {
			if n := testing.AllocsPerRun(100, func() { _ = tg.Submit(ctx, r) }); n != 0 {
				t.Errorf("%s: %v allocations for a %s, want none", args, n, r.Op)
			}
		}
	}
}

func BenchmarkSubmit(b *testing.B) {
	ctx := context.Background()
	for _, c := range []struct {
		name, args string
		r          mapper.Request
	}{
		{"shift", "2 8 7:0 0 7:1 0", mapper.Request{Op: mapper.OpWrite, Start: 16, Count: 4, Data: make([]byte, 2048)}},
		{"divide", "2 7 7:0 0 7:1 0", mapper.Request{Op: mapper.OpWrite, Start: 16, Count: 4, Data: make([]byte, 2048)}},
		{"discard", "2 8 7:0 0 7:1 0", mapper.Request{Op: mapper.OpDiscard, Start: 16, Count: 4096}},
		{"flush", "2 8 7:0 0 7:1 0", mapper.Request{Op: mapper.OpFlush}},
	} {
		b.Run(c.name, func(b *testing.B) {
			tg := null(b, c.args)
			b.ReportAllocs()
			for b.Loop() {
				_ = tg.Submit(ctx, c.r)
			}
		})
	}
}
