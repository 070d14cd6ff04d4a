package targets_test

import (
	"context"
	"strconv"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
	"dmfs/targets"
)

// passThrough are the tables of targets that pass 4 KiB on, over disks that cost nothing. What differs from linear is what the target costs.
var passThrough = []struct {
	name, table string
	allocates   int // by a write
}{
	{"linear", "linear a 0", 0},
	{"striped", "striped 2 128 a 0 b 0", 0},
	{"unstriped", "unstriped 2 128 0 a 0", 0},
	{"ebs whole blocks", "ebs a 0 1 8", 0},
	{"ebs parts of blocks", "ebs a 0 1 64", 0},
	{"delay 0", "delay a 0 0 b 0 0 a 0 10", 0},
	{"flakey up", "flakey a 0 3600 1", 0},
	{"flakey corrupting", "flakey a 0 0 1 5 corrupt_bio_byte 1 w 7 0", 0},
	{"dust bypass", "dust a 0 4096", 0},
	{"dust 1000 bad blocks", "dust a 0 4096", 0},
	{"switch", "switch 2 128 0 a 0 b 0", 0},
	{"switch 3 paths", "switch 3 1024 0 a 0 b 0 a 0", 0},
	{"multipath round-robin", "multipath 0 0 1 1 round-robin 0 2 1 a 1 b 1", 0},
	{"multipath service-time", "multipath 0 0 1 1 service-time 0 2 0 a b", 0},
	{"mirror", "mirror core 2 128 nosync 2 a 0 b 0", 9}, // a goroutine for the other leg, and what it is told
	{"inject without rules", "inject a 0", 0},
	{"inject 3 rules", "inject a 0 error op=discard error sectors=65000+8 nth=1000000000 lost op=discard", 0},
	{"powercut", "powercut a 0", 0},
	{"log-writes", "log-writes a log", 1}, // keeps a copy until the next flush
}

// device makes a device of one of them, 65536 sectors long.
func device(t testing.TB, name, table string) *mapper.Device {
	t.Helper()
	ctx := context.Background()
	registry := new(mapper.Registry)
	targets.Register(registry)
	disks := []mapper.Disk{mappertest.Null{Name: "a", Size: 1 << 20}, mappertest.Null{Name: "b", Size: 1 << 20}, mappertest.Null{Name: "log", Size: 1 << 40}}
	m := mapper.NewManager(registry, mapper.Options{Files: mappertest.NewFiles(disks...)})
	t.Cleanup(func() {
		if err := m.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	specs, err := mapper.ParseTable("0 65536 " + table)
	if err != nil {
		t.Fatal(err)
	}
	d, err := m.Create(ctx, mapper.NewDevice{Name: "x", Minor: -1, Table: specs})
	if err != nil {
		t.Fatal(err)
	}
	if name == "dust 1000 bad blocks" {
		messages := [][]string{{"quiet"}, {"enable"}}
		for i := range 1000 {
			messages = append(messages, []string{"addbadblock", strconv.Itoa(20000 + i)})
		}
		for _, words := range messages {
			if _, err := d.Message(ctx, 0, words); err != nil {
				t.Fatal(err)
			}
		}
	}
	return d
}

// ops are what is measured: 4 KiB at changing places.
var ops = []struct {
	name string
	do   func(d *mapper.Device, p []byte, off int64) error
}{
	{"read", func(d *mapper.Device, p []byte, off int64) error {
		_, err := d.ReadAt(context.Background(), p, off)
		return err
	}},
	{"write", func(d *mapper.Device, p []byte, off int64) error {
		_, err := d.WriteAt(context.Background(), p, off, false)
		return err
	}},
}

// offset returns the place of the i-th request.
func offset(i int) int64 { return int64(i*7919%8192) * 4096 }

func TestPassThroughAllocations(t *testing.T) {
	for _, c := range passThrough {
		d, p := device(t, c.name, c.table), make([]byte, 4096)
		for _, op := range ops {
			i := 0
			n := testing.AllocsPerRun(1000, func() {
				i++
				if err := op.do(d, p, offset(i)); err != nil {
					t.Fatalf("%s: %s: %v", c.name, op.name, err)
				}
			})
			want := 0
			if op.name == "write" {
				want = c.allocates
			}
			if int(n) != want {
				t.Errorf("%s: a %s of 4 KiB allocates %v times, want %d", c.name, op.name, n, want)
			}
		}
	}
}

func BenchmarkPassThrough(b *testing.B) {
	for _, op := range ops {
		for _, c := range passThrough {
			b.Run(op.name+"/"+c.name, func(b *testing.B) {
				d, p := device(b, c.name, c.table), make([]byte, 4096)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if err := op.do(d, p, offset(i)); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
