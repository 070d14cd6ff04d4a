package thin

import (
	"fmt"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// nullBench is a pool on a data disk that costs nothing, with one device.
func nullBench(b *testing.B, blocks mapper.Sector) (*bench, *mapper.Device) {
	w := newBench(b, mappertest.NewDisk("7:0", 1<<19), mappertest.Null{Name: "7:1", Size: blocks * 128})
	pool := w.create("pool", fmt.Sprintf("0 %d thin-pool 7:0 7:1 128 0 1 skip_block_zeroing", blocks*128))
	w.message(pool, "create_thin 0")
	return w, w.create("t", fmt.Sprintf("0 %d thin pool 0", blocks*128))
}

func BenchmarkFirstWrite(b *testing.B) {
	w, d := nullBench(b, 1<<20)
	data := make([]byte, 128*mapper.SectorSize)
	i := mapper.Sector(0)
	for b.Loop() {
		w.submit(d, mapper.Request{Op: mapper.OpWrite, Start: i % (1 << 20) * 128, Count: 128, Data: data})
		i++
	}
}

func BenchmarkRead(b *testing.B) {
	const blocks = 1 << 16
	w, d := nullBench(b, blocks)
	data := make([]byte, 128*mapper.SectorSize)
	for i := range mapper.Sector(blocks) {
		w.submit(d, mapper.Request{Op: mapper.OpWrite, Start: i * 128, Count: 128, Data: data})
	}
	b.ReportAllocs()
	i := mapper.Sector(0)
	for b.Loop() {
		w.submit(d, mapper.Request{Op: mapper.OpRead, Start: i * 7919 % blocks * 128, Count: 8, Data: data[:4096]})
		i++
	}
}
