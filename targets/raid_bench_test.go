package targets_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dmfs/mapper"
	"dmfs/mapper/disk"
	"dmfs/targets"
)

// raidTables are arrays of 192 MiB on files named @0@, @1@ and so on, and what they are compared with. Chunks are of 64 KiB.
var raidTables = []struct{ name, table string }{
	{"linear", "0 393216 linear @0@ 0"},
	{"striped", "0 393216 striped 3 128 @0@ 0 @1@ 0 @2@ 0"},
	{"raid0", "0 393216 raid raid0 1 128 3 - @0@ - @1@ - @2@"},
	{"raid1", "0 393216 raid raid1 1 0 2 - @0@ - @1@"},
	{"raid5", "0 393216 raid raid5_ls 1 128 4 - @0@ - @1@ - @2@ - @3@"},
	{"raid6", "0 393216 raid raid6_zr 1 128 5 - @0@ - @1@ - @2@ - @3@ - @4@"},
	{"raid6 lacks 1", "0 393216 raid raid6_zr 1 128 5 - @0@ - - - @2@ - @3@ - @4@"},
	{"raid6 lacks 2", "0 393216 raid raid6_zr 1 128 5 - @0@ - - - @2@ - - - @4@"},
}

// fileDevice makes a device on files in a directory of memory.
func fileDevice(t testing.TB, table string) *mapper.Device {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "raid")
	if err != nil {
		t.Skip("needs /dev/shm: ", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for i := range 5 {
		path, name := filepath.Join(dir, fmt.Sprint(i)), fmt.Sprintf("@%d@", i)
		if strings.Contains(table, name) {
			if err := os.WriteFile(path, make([]byte, 192<<20), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		table = strings.ReplaceAll(table, name, path)
	}
	registry := new(mapper.Registry)
	targets.Register(registry)
	m := mapper.NewManager(registry, mapper.Options{Files: disk.Opener{}})
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	specs, err := mapper.ParseTable(table)
	if err != nil {
		t.Fatal(err)
	}
	d, err := m.Create(context.Background(), mapper.NewDevice{Name: "x", Minor: -1, Table: specs})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// BenchmarkRaid: 4 KiB at 32 at a time, and 1 MiB one after the other.
func BenchmarkRaid(b *testing.B) {
	for _, c := range raidTables {
		d := fileDevice(b, c.table)
		const size = 192 << 20
		for _, op := range ops {
			b.Run(c.name+"/4k "+op.name+" QD32", func(b *testing.B) {
				b.SetBytes(4096)
				var next atomic.Int64
				var wg sync.WaitGroup
				for range 32 {
					wg.Go(func() {
						p := make([]byte, 4096)
						for {
							i := next.Add(1)
							if i > int64(b.N) {
								return
							}
							if err := op.do(d, p, i*7919%(size/4096)*4096); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
			})
			b.Run(c.name+"/1M "+op.name, func(b *testing.B) {
				b.SetBytes(1 << 20)
				p := make([]byte, 1<<20)
				for i := range b.N {
					if err := op.do(d, p, int64(i)<<20%size); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkRaidSync: a check of all, and a rebuild of one member, in bytes of all members that are read and written.
func BenchmarkRaidSync(b *testing.B) {
	for _, c := range raidTables {
		if !strings.Contains(c.table, " raid raid") || strings.Contains(c.name, "lacks") || c.name == "raid0" {
			continue
		}
		size := int64(strings.Count(c.table, "@") / 2 * 64 << 20)
		if c.name == "raid1" {
			size = 2 * 192 << 20
		}
		b.Run(c.name+"/check", func(b *testing.B) {
			d := fileDevice(b, c.table)
			b.SetBytes(size)
			b.ResetTimer()
			for range b.N {
				if _, err := d.Message(context.Background(), 0, []string{"check"}); err != nil {
					b.Fatal(err)
				}
				awaitIdle(b, d)
			}
		})
		b.Run(c.name+"/rebuild", func(b *testing.B) {
			d := fileDevice(b, c.table)
			specs, err := mapper.ParseTable(rebuilding(d.Table(mapper.LiveSlot, true, true)[0].Params))
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(size)
			b.ResetTimer()
			for range b.N {
				if err := d.Replace(context.Background(), specs, false); err != nil {
					b.Fatal(err)
				}
				awaitIdle(b, d)
			}
		})
	}
}

// rebuilding returns a table for the arguments of an array, which have no options, that fills the second member.
func rebuilding(args string) string {
	words := strings.Fields(args)
	return fmt.Sprint("0 393216 raid ", words[0], " 3 ", words[2], " rebuild 1 ", strings.Join(words[3:], " "))
}

// awaitIdle waits until nothing is done, and all members are in sync.
func awaitIdle(b *testing.B, d *mapper.Device) {
	b.Helper()
	for ; ; time.Sleep(time.Millisecond) {
		lines, err := d.Status(context.Background(), mapper.LiveSlot, true)
		if err != nil {
			b.Fatal(err)
		}
		if words := strings.Fields(lines[0].Params); slices.Contains(words, "idle") && !strings.Contains(words[2], "a") {
			return
		}
	}
}

// Latencies of 4 KiB writes with and without a resync.
func BenchmarkRaidLatency(b *testing.B) {
	for _, syncing := range []bool{false, true} {
		b.Run(fmt.Sprintf("raid5/resync=%v", syncing), func(b *testing.B) {
			d := fileDevice(b, raidTables[4].table)
			p := make([]byte, 4096)
			var took []time.Duration
			for i := range b.N {
				if syncing && i%500 == 0 {
					_, _ = d.Message(context.Background(), 0, []string{"repair"}) // busy if it still runs
				}
				began := time.Now()
				if _, err := d.WriteAt(context.Background(), p, int64(i)*7919%49152*4096, false); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "ns/p99")
			b.ReportMetric(float64(took[len(took)-1].Nanoseconds()), "ns/max")
		})
	}
}
