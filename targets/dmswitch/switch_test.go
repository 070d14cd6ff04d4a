package dmswitch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

var ctx = context.Background()

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		args  string
		disks int
		len   mapper.Sector
	}{
		{"1 64 0 7:0 0", 1, 320},
		{"2 8 0 7:0 0 7:1 3", 2, 320},
		{"3 7 0 7:0 5 7:1 0 7:2 1", 3, 300},
		{"2 100 0 7:0 0 7:0 400", 1, 330}, // one disk is both paths
	} {
		t.Run(c.args, func(t *testing.T) {
			var disks []mappertest.DiskSpec
			for i := range c.disks {
				disks = append(disks, mappertest.DiskSpec{Name: fmt.Sprintf("7:%d", i), Sectors: 800})
			}
			mappertest.TestTarget(t, &Type, mappertest.Setup{Disks: disks, Len: c.len, Args: strings.Fields(c.args)})
		})
	}
}

func build(length mapper.Sector, line string, disks ...mapper.Disk) (*target, error) {
	if disks == nil {
		disks = []mapper.Disk{mappertest.NewDisk("7:0", 4096), mappertest.NewDisk("7:1", 4096), mappertest.NewDisk("7:2", 4096)}
	}
	got, err := newTarget(ctx, mappertest.NewHost(disks...), mapper.Spec{Len: length, Args: strings.Fields(line)})
	if err != nil {
		return nil, err
	}
	return got.(*target), nil
}

func mustBuild(t testing.TB, length mapper.Sector, line string, disks ...mapper.Disk) *target {
	t.Helper()
	tg, err := build(length, line, disks...)
	if err != nil {
		t.Fatal(err)
	}
	return tg
}

// The reasons and the order of the checks are those of the kernel, see the scenario switch-arguments.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		len        mapper.Sector
		args, want string
		errno      unix.Errno
	}{
		{100, "", "Invalid number of paths", unix.EINVAL},
		{100, "262142 8 0", "Invalid number of paths", unix.EINVAL},
		{100, "2", "Invalid region size", unix.EINVAL},
		{100, "2 4294967296", "Invalid region size", unix.EINVAL},
		{100, "2 8", "Invalid number of optional args", unix.EINVAL},
		{100, "2 8 1 x", "Invalid number of optional args", unix.EINVAL},
		{100, "2 8 0", "Incorrect number of path arguments", unix.EINVAL},
		{100, "2 8 0 7:0 0 7:1", "Incorrect number of path arguments", unix.EINVAL},
		{100, "2 8 0 nosuch x 7:1 0", "Device lookup failed", unix.ENODEV},
		{100, "2 8 0 7:0 x 7:1 0", "Invalid device starting offset", unix.EINVAL},
		{1 << 40, "2 1 0 7:0 0 7:1 0", "Cannot allocate region table", unix.ENOMEM},
		{1 << 53, "2 1 0 7:0 0 7:1 0", "Cannot allocate region table", unix.ENOMEM},
	} {
		_, err := build(c.len, c.args)
		var arg *mapper.ArgError
		if !errors.As(err, &arg) || arg.Reason != c.want || mapper.Errno(err) != c.errno {
			t.Errorf("%d %q: got %v, want %q (%v)", c.len, c.args, err, c.want, c.errno)
		}
	}
	d := mappertest.NewDisk("7:0", 100)
	d.SetLimits(mapper.Limits{LogicalBlock: 4096})
	if _, err := build(96, "1 12 0 7:0 0", d); err == nil || !strings.Contains(err.Error(), "Invalid region size") {
		t.Errorf("regions amid blocks: got %v", err)
	}
}

// mapping returns the path of each region, as digits.
func mapping(t *target) string {
	var b strings.Builder
	for r := range t.table.regions {
		fmt.Fprint(&b, t.table.path(r))
	}
	return b.String()
}

func TestMessages(t *testing.T) {
	for _, c := range []struct{ message, mapping, err string }{
		{"set_region_mappings", "0120120120120120", ""},
		{"SET_region_mappings 1:0", "0020120120120120", ""},
		{"set_region_mappings 0:2 :2 :2 A:0 :0", "2220120120000120", ""},
		{"set_region_mappings 0:1 :2 R2,e", "1212121212121212", ""},
		{"set_region_mappings 4:2 r5,3 f:0", "0120201220120120", ""}, // LAST reaches back to what was there
		{"set_region_mappings :2", "0220120120120120", ""},
		{"set_region_mappings R1,f", "0000000000000000", ""},
		{"set_region_mappings R1,0", "0120120120120120", ""},
		{"set_region_mappings 0:2 bad 1:2", "2120120120120120", "invalid set_region_mappings argument: 'bad'"},
		{"set_region_mappings 0:2 1:3", "2120120120120120", "invalid set_region_mappings device: 3 >= 3"},
		{"set_region_mappings f:1 :1", "0120120120120121", "invalid set_region_mappings region number: 16 >= 16"},
		{"set_region_mappings 0:2 R1,10", "2120120120120120", "invalid set_region_mappings region number: 0 + 16 >= 16"},
		{"set_region_mappings R0,1", "0120120120120120", "invalid set_region_mappings cycle length: 18446744073709551615 > 0"},
		{"set_region_mappings 1:1 R3,1", "0120120120120120", "invalid set_region_mappings cycle length: 2 > 1"},
		{"set_region_mappings 10000000000000001:2", "0120120120120120", "invalid set_region_mappings argument: '10000000000000001:2'"},
		{"set_region_mappings 0:1:2", "0120120120120120", "invalid set_region_mappings argument: '0:1:2'"},
		{"set_region_mappings R1,1,1", "0120120120120120", "invalid set_region_mappings argument: 'R1,1,1'"},
		{"hello 0:2", "0120120120120120", "Unrecognised message received."},
	} {
		tg := mustBuild(t, 128, "3 8 0 7:0 0 7:1 0 7:2 0")
		reply, err := tg.Message(ctx, strings.Fields(c.message))
		reason := ""
		var arg *mapper.ArgError
		if errors.As(err, &arg) {
			reason = arg.Reason
		}
		if reason != c.err || (err == nil) != (c.err == "") || reply != "" || mapping(tg) != c.mapping {
			t.Errorf("%q: %q, %v, %s; want %q, %s", c.message, reply, err, mapping(tg), c.err, c.mapping)
		}
	}
}

// Data goes where the table says, at the same place of each disk plus its offset.
func TestRouting(t *testing.T) {
	disks := []*mappertest.Disk{mappertest.NewDisk("7:0", 1000), mappertest.NewDisk("7:1", 1000)}
	tg := mustBuild(t, 100, "2 7 0 7:0 3 7:1 10", disks[0], disks[1])
	if _, err := tg.Message(ctx, strings.Fields("set_region_mappings 0:1 1:1 2:0")); err != nil {
		t.Fatal(err)
	}
	for s, want := range map[mapper.Sector]struct {
		disk int
		at   mapper.Sector
	}{0: {1, 10}, 13: {1, 23}, 14: {0, 17}, 21: {1, 31}, 99: {0, 102}} {
		data := mappertest.Stamped(s, 1, 77)
		if err := tg.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: s, Count: 1, Data: data}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(disks[want.disk].Peek(want.at, 1), data) {
			t.Errorf("sector %d is not sector %d of disk %d", s, want.at, want.disk)
		}
	}
}

// The table of regions agrees with a plain one, whatever the width of an entry.
func TestRegionTable(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, paths := range []uint64{1, 2, 3, 4, 5, 8, 9, 100, 1000, 262141} {
		const regions = 1000
		tab, ok := newRegionTable(regions, paths)
		if !ok {
			t.Fatal("refused")
		}
		plain := make([]uint64, regions)
		for r := range plain {
			plain[r] = uint64(r) % paths
		}
		for range 500 {
			r, p := rnd.Uint64N(regions), rnd.Uint64N(paths)
			tab.set(r, p)
			plain[r] = p
		}
		for r, want := range plain {
			if got := tab.path(uint64(r)); got != want {
				t.Fatalf("%d paths: region %d goes to %d, want %d", paths, r, got, want)
			}
		}
	}
}

// Requests read the table while messages write it, and always find a path that was set.
func TestMessagesUnderLoad(t *testing.T) {
	tg := mustBuild(t, 4096, "3 1 0 7:0 0 7:1 0 7:2 0")
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range 200 {
				if _, err := tg.Message(ctx, []string{"set_region_mappings", fmt.Sprintf("0:%d", i%2), "R1,fff"}); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			buf := make([]byte, mapper.SectorSize)
			for s := range mapper.Sector(4096) {
				if err := tg.Submit(ctx, mapper.Request{Start: s, Count: 1, Data: buf}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if m := mapping(tg); strings.Contains(m, "2") {
		t.Error("a region was not mapped anew")
	}
}

func TestFlushReachesEveryDiskOnce(t *testing.T) {
	a, b := mappertest.NewDisk("7:0", 1000), mappertest.NewDisk("7:1", 1000)
	tg := mustBuild(t, 100, "3 8 0 7:0 0 7:1 0 7:0 200", a, b)
	if err := tg.Submit(ctx, mapper.Request{Op: mapper.OpFlush}); err != nil || a.Counts().Flushes != 1 || b.Counts().Flushes != 1 {
		t.Errorf("%v, %d and %d flushes, want one each", err, a.Counts().Flushes, b.Counts().Flushes)
	}
}

// FuzzArgs: a line that is taken is rebuilt from its own table, and every region has a path.
func FuzzArgs(f *testing.F) {
	f.Add(uint64(1000), "2 63 0 7:0 0 7:1 0")
	f.Add(uint64(1)<<54, "1 4294967295 0 7:0 18446744073709551615")
	f.Fuzz(func(t *testing.T, length uint64, line string) {
		if length == 0 || length > uint64(mapper.MaxSectors) {
			return // the core refuses it before New
		}
		tg, err := build(mapper.Sector(length), line)
		if err != nil {
			return
		}
		table := tg.Table(true)
		again, err := build(mapper.Sector(length), strings.Join(table, " "))
		if err != nil || !slices.Equal(again.Table(true), table) {
			t.Fatalf("rebuilt from %q: %v", table, err)
		}
		for _, s := range []mapper.Sector{0, mapper.Sector(length) - 1} {
			if p := tg.table.path(tg.regionOf(s)); p >= uint64(len(tg.paths)) {
				t.Fatalf("%q: sector %d goes to path %d", table, s, p)
			}
		}
	})
}

// FuzzMessage: whatever a message says, every region has a path afterwards.
func FuzzMessage(f *testing.F) {
	f.Add("0:1 :2 R2,e")
	f.Add("f:1 R10,ffffffffffffffff r1,0")
	f.Add("R0,0 :: R, ,")
	f.Fuzz(func(t *testing.T, words string) {
		tg := mustBuild(t, 124, "3 8 0 7:0 0 7:1 0 7:2 0")
		_, err := tg.Message(ctx, append([]string{"set_region_mappings"}, strings.Fields(words)...))
		var arg *mapper.ArgError
		if err != nil && !errors.As(err, &arg) {
			t.Errorf("%q: %v", words, err)
		}
		for r := range tg.table.regions {
			if p := tg.table.path(r); p > 2 {
				t.Errorf("%q: region %d goes to path %d", words, r, p)
			}
		}
	})
}

func TestSubmitDoesNotAllocate(t *testing.T) {
	tg := mustBuild(t, 8000, "3 7 0 7:0 0 7:1 0 7:2 0", mappertest.Null{Name: "7:0", Size: 8000}, mappertest.Null{Name: "7:1", Size: 8000}, mappertest.Null{Name: "7:2", Size: 8000})
	r := mapper.Request{Op: mapper.OpWrite, Start: 14, Count: 4, Data: make([]byte, 2048)}
	if n := testing.AllocsPerRun(100, func() { _ = tg.Submit(ctx, r) }); n != 0 {
		t.Errorf("%v allocations for a request, want none", n)
	}
}

// 4096 mappings, written one by one and as a repetition.
func BenchmarkMessage(b *testing.B) {
	tg := mustBuild(b, 4096, "3 1 0 7:0 0 7:1 0 7:2 0")
	words := []string{"set_region_mappings", "0:1"}
	for i := range 4095 {
		words = append(words, fmt.Sprintf(":%d", i%3))
	}
	for name, message := range map[string][]string{"words": words, "repeat": {"set_region_mappings", "0:1", ":2", "R2,ffe"}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := tg.Message(ctx, message); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
