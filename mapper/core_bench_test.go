package mapper_test

import (
	"fmt"
	"strings"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// coreStacks are the devices that requests are measured through: on a disk that costs nothing.
func coreStacks(t testing.TB) map[string]*mapper.Device {
	m := newManager(mappertest.Null{Name: "a", Size: 1 << 20})
	t.Cleanup(func() { closeManager(t, m) })
	stacks := map[string]*mapper.Device{"1 segment": create(t, m, "s1", "0 65536 linear a 0")}
	below := "a"
	for i := range 5 {
		name := fmt.Sprint("deep", i)
		stacks["5 deep"] = create(t, m, name, "0 65536 linear "+below+" 0")
		below = name
	}
	var many strings.Builder
	for i := range 300 {
		fmt.Fprintf(&many, "%d 200 linear a %d\n", i*200, (300-i)*200)
	}
	stacks["300 segments"] = create(t, m, "many", many.String())
	return stacks
}

// A read or write of 4 KiB allocates nothing.
func TestNoAllocations(t *testing.T) {
	p := make([]byte, 4096)
	for name, d := range coreStacks(t) {
		off := int64(0)
		next := func() int64 {
			off = (off + 999*4096) % (50_000 * 512) / 4096 * 4096
			return off / (200 * 512) * (200 * 512)
		}
		if n := testing.AllocsPerRun(1000, func() { d.ReadAt(ctx, p, next()) }); n != 0 {
			t.Errorf("%s: a read allocates %v times", name, n)
		}
		if n := testing.AllocsPerRun(1000, func() { d.WriteAt(ctx, p, next(), false) }); n != 0 {
			t.Errorf("%s: a write allocates %v times", name, n)
		}
	}
}

func BenchmarkCore(b *testing.B) {
	p := make([]byte, 4096)
	for name, d := range coreStacks(b) {
		b.Run("read/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				d.ReadAt(ctx, p, int64(i*7919%300)*200*512)
			}
		})
		b.Run("write/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				d.WriteAt(ctx, p, int64(i*7919%300)*200*512, false)
			}
		})
	}
}
