package dmerror

import (
	"context"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

func TestConformance(t *testing.T) {
	mappertest.TestTarget(t, &Type, mappertest.Setup{Len: 64, Kind: mappertest.Fails})
	mappertest.TestTarget(t, &Type, mappertest.Setup{Len: 64, Kind: mappertest.Fails, Args: []string{"any", "three", "things"}})
	mappertest.TestTarget(t, &Type, mappertest.Setup{
		Len: 64, Kind: mappertest.Fails, Disks: []mappertest.DiskSpec{{Name: "7:0", Sectors: 100}}, Args: []string{"7:0", "8"},
	})
}

// The reasons are those of Linux 6.12.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		args, want string
		errno      unix.Errno
	}{
		{"nosuch x", "Invalid device sector", unix.EINVAL},
		{"7:0 18446744073709551616", "Invalid device sector", unix.EINVAL},
		{"nosuch 0", "Device lookup failed", unix.ENODEV},
	} {
		h := mappertest.NewHost(mappertest.NewDisk("7:0", 100))
		_, err := newTarget(context.Background(), h, mapper.Spec{Len: 8, Args: strings.Fields(c.args)})
		var arg *mapper.ArgError
		if !errors.As(err, &arg) || arg.Reason != c.want || mapper.Errno(err) != c.errno {
			t.Errorf("%q: got %v, want %q (%v)", c.args, err, c.want, c.errno)
		}
	}
}

// A disk that is named lends its blocks, and nothing reaches it.
func TestLimitsOfADisk(t *testing.T) {
	disk := mappertest.NewDisk("d", 100)
	disk.SetLimits(mapper.Limits{LogicalBlock: 4096, MaxDiscard: 8})
	registry := new(mapper.Registry)
	registry.Register(&Type)
	m := mapper.NewManager(registry, mapper.Options{Files: mappertest.NewFiles(disk)})
	ctx := context.Background()
	table := func(args string) []mapper.Spec {
		return []mapper.Spec{{Len: 96, Type: "error", Args: strings.Fields(args)}}
	}
	d, err := m.Create(ctx, mapper.NewDevice{Name: "x", Minor: -1, Table: table("d 0")})
	if err != nil {
		t.Fatal(err)
	}
	if l := d.Limits(); l.LogicalBlock != 4096 || l.MaxDiscard != 0 {
		t.Errorf("limits %+v", l)
	}
	if _, err := d.WriteAt(ctx, make([]byte, 4096), 0, true); mapper.Errno(err) != unix.EIO || disk.Counts() != (mappertest.Counts{}) {
		t.Errorf("a write: %v, %+v", err, disk.Counts())
	}
	for _, bad := range []string{"d 4", "d 8"} { // amid a block, past the end
		if err := d.Load(ctx, table(bad), false); mapper.Errno(err) != unix.EINVAL {
			t.Errorf("%s: %v, want EINVAL", bad, err)
		}
	}
	if err := m.Close(ctx); err != nil {
		t.Error(err)
	}
}

func FuzzArgs(f *testing.F) {
	f.Add("any", "0")
	f.Add("7:0", "18446744073709551615")
	f.Fuzz(func(t *testing.T, a, b string) {
		h := mappertest.NewHost(mappertest.NewDisk("7:0", 100))
		for _, words := range [][]string{nil, {a}, {a, b, a}} {
			if _, err := newTarget(context.Background(), h, mapper.Spec{Len: 8, Args: words}); err != nil {
				t.Errorf("refused %q: %v", words, err)
			}
		}
		_, err := newTarget(context.Background(), h, mapper.Spec{Len: 8, Args: []string{a, b}})
		var arg *mapper.ArgError
		if err != nil && !errors.As(err, &arg) {
			t.Errorf("%q %q: %v", a, b, err)
		}
	})
}
