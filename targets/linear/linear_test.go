package linear

import (
	"context"
	"errors"
	"slices"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

func TestConformance(t *testing.T) {
	t.Run("whole disk", func(t *testing.T) {
		mappertest.TestTarget(t, &Type, mappertest.Setup{
			Disks: []mappertest.DiskSpec{{Name: "7:0", Sectors: 512}}, Len: 512, Args: []string{"7:0", "0"},
		})
	})
	t.Run("odd range", func(t *testing.T) {
		mappertest.TestTarget(t, &Type, mappertest.Setup{
			Disks: []mappertest.DiskSpec{{Name: "7:0", Sectors: 1000}}, Len: 301, Args: []string{"7:0", "99"},
		})
	})
	t.Run("4096-byte blocks, no discard", func(t *testing.T) {
		mappertest.TestTarget(t, &Type, mappertest.Setup{
			Disks: []mappertest.DiskSpec{{Name: "7:0", Sectors: 1024, Limits: mapper.Limits{LogicalBlock: 4096, VolatileCache: true}}},
			Len:   512, Args: []string{"7:0", "8"},
		})
	})
}

// The reasons are those of the kernel.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "Invalid argument count"},
		{[]string{"7:0"}, "Invalid argument count"},
		{[]string{"7:0", "0", "1"}, "Invalid argument count"},
		{[]string{"7:0", "x"}, "Invalid device sector"},
		{[]string{"7:0", "-1"}, "Invalid device sector"},
		{[]string{"7:0", "+5"}, "Invalid device sector"},
		{[]string{"7:0", "18446744073709551616"}, "Invalid device sector"},
		{[]string{"/dev/nosuch", "x"}, "Invalid device sector"},
		{[]string{"/dev/nosuch", "0"}, "Device lookup failed"},
	} {
		_, err := newTarget(context.Background(), mappertest.NewHost(mappertest.NewDisk("7:0", 8)), mapper.Spec{Len: 8, Args: c.args})
		var arg *mapper.ArgError
		if !errors.As(err, &arg) || arg.Reason != c.want {
			t.Errorf("%q: got %v, want %q", c.args, err, c.want)
		}
	}
}

func TestTablePrintsDecimal(t *testing.T) {
	got := newTest(t, "7:0", "007").Table(false)
	if want := []string{"7:0", "7"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzArgs(f *testing.F) {
	f.Add(uint64(8), "7:0", "0")
	f.Add(uint64(1)<<63, "7:0", "18446744073709551615")
	f.Fuzz(func(t *testing.T, length uint64, disk, offset string) {
		h := mappertest.NewHost(mappertest.NewDisk("7:0", 8))
		got, err := newTarget(context.Background(), h, mapper.Spec{Len: mapper.Sector(length), Args: []string{disk, offset}})
		if err != nil {
			return
		}
		again, err := newTarget(context.Background(), h, mapper.Spec{Len: mapper.Sector(length), Args: got.(*target).Table(true)})
		if err != nil || *again.(*target) != *got.(*target) {
			t.Errorf("rebuilt from %q: %v, %v", got.(*target).Table(true), again, err)
		}
	})
}

// newTest builds a target of 1024 sectors over a disk that does nothing and costs nothing.
func newTest(t testing.TB, args ...string) *target {
	t.Helper()
	h := mappertest.NewHost(mappertest.Null{Name: "7:0", Size: 4096})
	got, err := newTarget(context.Background(), h, mapper.Spec{Len: 1024, Args: args})
	if err != nil {
		t.Fatal(err)
	}
	return got.(*target)
}

func TestSubmitDoesNotAllocate(t *testing.T) {
	d, ctx := newTest(t, "7:0", "8"), context.Background()
	r := mapper.Request{Op: mapper.OpWrite, Start: 16, Count: 8, Data: make([]byte, 4096)}
	if n := testing.AllocsPerRun(100, func() { _ = d.Submit(ctx, r) }); n != 0 {
		t.Errorf("%v allocations for a request, want none", n)
	}
}

func BenchmarkSubmit(b *testing.B) {
	d, ctx := newTest(b, "7:0", "8"), context.Background()
	r := mapper.Request{Op: mapper.OpWrite, Start: 16, Count: 8, Data: make([]byte, 4096)}
	b.ReportAllocs()
	for b.Loop() {
		_ = d.Submit(ctx, r)
	}
}
