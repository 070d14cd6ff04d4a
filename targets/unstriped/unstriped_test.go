package unstriped

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		args string
		len  mapper.Sector
	}{
		{"2 8 0 7:0 0", 320},
		{"3 7 2 7:0 5", 210},
		{"1 16 0 7:0 100", 320},
		{"4 64 3 7:0 0", 128},
	} {
		t.Run(c.args, func(t *testing.T) {
			mappertest.TestTarget(t, &Type, mappertest.Setup{
				Disks: []mappertest.DiskSpec{{Name: "7:0", Sectors: 1000}}, Len: c.len, Args: strings.Fields(c.args), NoDisk: unix.EINVAL,
			})
		})
	}
	t.Run("4096-byte blocks", func(t *testing.T) {
		mappertest.TestTarget(t, &Type, mappertest.Setup{
			Disks: []mappertest.DiskSpec{{Name: "7:0", Sectors: 1024, Limits: mapper.Limits{LogicalBlock: 4096, VolatileCache: true}}},
			Len:   240, Args: strings.Fields("2 24 1 7:0 8"), NoDisk: unix.EINVAL,
		})
	})
}

func build(length mapper.Sector, line string, disk mapper.Disk) (*target, error) {
	got, err := newTarget(context.Background(), mappertest.NewHost(disk), mapper.Spec{Len: length, Args: strings.Fields(line)})
	if err != nil {
		return nil, err
	}
	return got.(*target), nil
}

// The reasons and the order of the checks are those of the kernel, see the scenario unstriped-arguments; what it lets through is
// refused where data would be damaged.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		len  mapper.Sector
		args string
		want string
	}{
		{96, "2 8 0 7:0", "Invalid number of arguments"},
		{96, "0 8 0 7:0 0", "Invalid stripe count"},
		{96, "4294967296 8 0 7:0 0", "Invalid stripe count"},
		{96, "2 0 0 7:0 0", "Invalid chunk_size"},
		{96, "2 8 x 7:0 0", "Invalid stripe number"},
		{96, "2 8 2 7:0 0", "Please provide stripe between [0, # of stripes]"},
		{96, "1 8 1 7:0 0", "Please provide stripe between [0, # of stripes]"},
		{96, "2 8 3 nosuch x", "Please provide stripe between [0, # of stripes]"},
		{97, "2 8 0 nosuch x", "Couldn't get striped device"},
		{97, "2 8 0 7:0 x", "Invalid striped device offset"},
		{96, "2 8 0 7:0 18446744073709551616", "Invalid striped device offset"},
		{97, "2 8 0 7:0 0", "Target length not divisible by chunk size"},
		{1 << 54, "4294967295 8 0 7:0 0", "Invalid stripe count"},
		{1 << 54, "4 8 0 7:0 0", "Invalid stripe count"},
		{96, "2 4 0 4k 0", "Invalid chunk_size"},
	} {
		disk := mappertest.NewDisk("7:0", 1000)
		if strings.Contains(c.args, "4k") {
			disk = mappertest.NewDisk("4k", 1000)
			disk.SetLimits(mapper.Limits{LogicalBlock: 4096})
		}
		_, err := build(c.len, c.args, disk)
		var arg *mapper.ArgError
		if !errors.As(err, &arg) || arg.Reason != c.want || mapper.Errno(err) != unix.EINVAL {
			t.Errorf("%d %q: got %v (%v), want %q", c.len, c.args, err, mapper.Errno(err), c.want)
		}
	}
}

// TestLayout compares the map with the one in words of the manual.
func TestLayout(t *testing.T) {
	for _, chunk := range []mapper.Sector{1, 7, 8} {
		tg, err := build(6*chunk, fmt.Sprintf("3 %d 2 7:0 10", chunk), mappertest.NewDisk("7:0", 1000))
		if err != nil {
			t.Fatal(err)
		}
		for s := range 6 * chunk {
			_, at, run := tg.Remap(s)
			if want := 10 + (s/chunk*3+2)*chunk + s%chunk; at != want || run != chunk-s%chunk {
				t.Errorf("chunk %d: sector %d is %d with %d to follow, want %d", chunk, s, at, run, want)
			}
		}
	}
}

// I/O past the end of the disk, which the table does not rule out, fails.
func TestPastTheEnd(t *testing.T) {
	tg, err := build(96, "2 8 1 7:0 0", mappertest.NewDisk("7:0", 100))
	if err != nil {
		t.Fatal(err)
	}
	read := func(s mapper.Sector) error {
		return tg.Submit(context.Background(), mapper.Request{Start: s, Count: 8, Data: make([]byte, 4096)})
	}
	if err := read(40); err != nil {
		t.Errorf("the last chunk of the disk: %v", err)
	}
	if err := read(48); err == nil {
		t.Error("the chunk after the last of the disk was read")
	}
}

// FuzzArgs: a line that is taken is rebuilt from its own table, and its map stays in its stripe and is ascending.
func FuzzArgs(f *testing.F) {
	f.Add(uint64(96), "2 8 1 7:0 0")
	f.Add(uint64(98), "3 7 0 7:0 18446744073709551615")
	f.Add(uint64(1)<<62, "4294967295 4294967295 7 7:0 0")
	f.Fuzz(func(t *testing.T, length uint64, line string) {
		disk := mappertest.NewDisk("7:0", 1000)
		tg, err := build(mapper.Sector(length), line, disk)
		if err != nil {
			return
		}
		table := tg.Table(true)
		again, err := build(mapper.Sector(length), strings.Join(table, " "), disk)
		if err != nil || !slices.Equal(again.Table(true), table) {
			t.Fatalf("rebuilt from %q: %v", table, err)
		}
		if length == 0 {
			return
		}
		for _, s := range []mapper.Sector{0, mapper.Sector(length) / 2, mapper.Sector(length) - 1} {
			at, run := tg.place(s)
			if rel := at - tg.start; rel > mapper.MaxSectors || rel/tg.chunk%tg.stripes != tg.index || run < 1 || run > tg.chunk {
				t.Fatalf("%q: sector %d is %d of the stripes, with %d to follow", table, s, rel, run)
			}
		}
	})
}

func TestSubmitDoesNotAllocate(t *testing.T) {
	tg, err := build(700, "3 7 1 7:0 0", mappertest.Null{Name: "7:0", Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	r := mapper.Request{Op: mapper.OpWrite, Start: 14, Count: 4, Data: make([]byte, 2048)}
	if n := testing.AllocsPerRun(100, func() { _ = tg.Submit(context.Background(), r) }); n != 0 {
		t.Errorf("%v allocations for a request, want none", n)
	}
}
