package thin

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// restoredPool makes the metadata of a pool with one device, all of whose blocks are mapped, as thin_restore writes it.
func restoredPool(b *testing.B, blocks int) *mappertest.Disk {
	b.Helper()
	const size = 512 << 20
	xml, file := filepath.Join(b.TempDir(), "xml"), filepath.Join(b.TempDir(), "meta")
	text := fmt.Sprintf(`<superblock uuid="" time="0" transaction="1" data_block_size="128" nr_data_blocks="%d">
<device dev_id="0" mapped_blocks="%d" transaction="0" creation_time="0" snap_time="0">
<range_mapping origin_begin="0" data_begin="0" length="%d" time="0"/>
</device></superblock>`, blocks, blocks, blocks)
	must2(b, os.WriteFile(xml, []byte(text), 0o600))
	must2(b, os.WriteFile(file, nil, 0o600))
	must2(b, os.Truncate(file, size))
	if out, err := exec.Command("thin_restore", "-i", xml, "-o", file).CombinedOutput(); err != nil {
		b.Skipf("thin_restore: %v: %s", err, out)
	}
	f, err := os.Open(file)
	must2(b, err)
	defer f.Close()
	d := mappertest.NewDisk("7:0", mapper.SectorsOf(size))
	const chunk = 64 << 10
	p, zeroes := make([]byte, chunk), make([]byte, chunk)
	for at := int64(0); at < size; at += chunk {
		if _, err := f.ReadAt(p, at); err != nil {
			b.Fatal(err)
		}
		if string(p) != string(zeroes) {
			d.Poke(mapper.SectorsOf(at), p)
		}
	}
	return d
}

// BenchmarkReadMany: random reads on a small pool and on one with ten million mappings, all of which are in memory. What counts is
// cpu-ns, the processor's time, which others on the machine disturb less.
func BenchmarkReadMany(b *testing.B) {
	for _, blocks := range []int{4096, 10 << 20} {
		w := newBench(b, restoredPool(b, blocks), mappertest.Null{Name: "7:1", Size: mapper.Sector(blocks) * 128})
		w.create("pool", fmt.Sprintf("0 %d thin-pool 7:0 7:1 128 0 1 skip_block_zeroing", blocks*128))
		d := w.create("t", fmt.Sprintf("0 %d thin pool 0", blocks*128))
		read := func(p []byte, block int) {
			w.submit(d, mapper.Request{Op: mapper.OpRead, Start: mapper.Sector(block) * 128, Count: 8, Data: p})
		}
		p := make([]byte, 4096)
		for i := 0; i < blocks; i += 64 {
			read(p, i)
		}
		b.Run(fmt.Sprint(blocks), func(b *testing.B) {
			before := processorTime(b)
			b.RunParallel(func(pb *testing.PB) {
				p := make([]byte, 4096)
				rng := rand.New(rand.NewPCG(1, rand.Uint64()))
				for pb.Next() {
					read(p, rng.IntN(blocks))
				}
			})
			b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// processorTime returns what the process has used, in ns.
func processorTime(b *testing.B) int64 {
	var u syscall.Rusage
	must2(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return u.Utime.Nano() + u.Stime.Nano()
}
