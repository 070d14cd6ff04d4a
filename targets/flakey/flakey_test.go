package flakey

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

var ctx = context.Background()

func TestConformance(t *testing.T) {
	for _, args := range []string{
		"7:0 99 1 0", // up
		"7:0 99 0 1 5 corrupt_bio_byte 1 w 0 4294967295", // down, and no request has all flags
		"7:0 99 0 1 5 corrupt_bio_byte 4294967295 r 0 0", // down, and no request is that long
	} {
		t.Run(args, func(t *testing.T) {
			mappertest.TestTarget(t, &Type, mappertest.Setup{
				Disks: []mappertest.DiskSpec{{Name: "7:0", Sectors: 1000}}, Len: 301, Args: strings.Fields(args),
			})
		})
	}
}

func build(line string, disks ...mapper.Disk) (*target, *mappertest.Host, error) {
	if disks == nil {
		disks = []mapper.Disk{mappertest.NewDisk("7:0", 1000)}
	}
	h := mappertest.NewHost(disks...)
	got, err := newTarget(ctx, h, mapper.Spec{Len: 100, Args: strings.Fields(line)})
	if err != nil {
		return nil, h, err
	}
	return got.(*target), h, nil
}

func mustBuild(t testing.TB, line string, disks ...mapper.Disk) *target {
	t.Helper()
	tg, _, err := build(line, disks...)
	if err != nil {
		t.Fatal(err)
	}
	return tg
}

// The reasons and the order of the checks are those of the kernel, see the scenario flakey-arguments, and of later ones.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		args, want string
		errno      unix.Errno
	}{
		{"7:0 0 1", "Invalid argument count", unix.EINVAL},
		{"nosuch x 1 1", "Invalid device sector", unix.EINVAL},
		{"nosuch 0 4294967296 1", "Invalid up interval", unix.EINVAL},
		{"nosuch 0 1 x", "Invalid up interval", unix.EINVAL},
		{"nosuch 0 0 0", "Total (up + down) interval is zero", unix.EINVAL},
		{"nosuch 0 4294967295 1", "Total (up + down) interval is zero", unix.EINVAL},
		{"nosuch 0 2 4294967295", "Interval overflow", unix.EINVAL},
		{"nosuch 0 1 1 2 drop_writes", "Invalid number of feature args", unix.EINVAL},
		{"nosuch 0 1 1 1 foo", "Unrecognised flakey feature requested", unix.EINVAL},
		{"nosuch 0 1 1", "Device lookup failed", unix.ENODEV},
		{"7:0 0 1 1 0 drop_writes", "Invalid argument count", unix.EINVAL},
		{"7:0 0 1 1 2 error_reads error_reads", "Feature error_reads duplicated", unix.EINVAL},
		{"7:0 0 1 1 2 drop_writes error_writes", "Feature error_writes conflicts with feature drop_writes", unix.EINVAL},
		{"7:0 0 1 1 6 corrupt_bio_byte 1 r 1 0 corrupt_bio_byte", "Feature corrupt_bio_byte requires parameters", unix.EINVAL},
		{"7:0 0 1 1 4 corrupt_bio_byte 1 r 1 0", "Insufficient feature arguments", unix.EINVAL},
		{"7:0 0 1 1 6 corrupt_bio_byte 1 w 1 0 error_writes", "error_writes is incompatible with corrupt_bio_byte with the WRITE flag set", unix.EINVAL},
		{"7:0 0 1 1 1 random_read_corrupt", "Feature random_read_corrupt requires a parameter", unix.EINVAL},
		{"7:0 0 1 1 2 random_write_corrupt 1000000001", "Invalid random corrupt argument", unix.EINVAL},
		{"7:0 0 1 1 2 random_seed x", "Invalid random seed", unix.EINVAL},
	} {
		_, _, err := build(c.args)
		var arg *mapper.ArgError
		if !errors.As(err, &arg) || arg.Reason != c.want || mapper.Errno(err) != c.errno {
			t.Errorf("%q: got %v, want %q (%v)", c.args, err, c.want, c.errno)
		}
	}
}

// The echo has its own order, the count, and a blank at the end.
func TestTable(t *testing.T) {
	for line, want := range map[string]string{
		"7:0 007 0010 00":         "7:0 7 10 0 0 ",
		"7:0 0 1 1 0":             "7:0 0 1 1 0 ",
		"7:0 0 1 1 1 DROP_writes": "7:0 0 1 1 1 drop_writes ",
		"7:0 0 1 1 6 Corrupt_bio_byte 09 R 010 32 Error_Writes":                              "7:0 0 1 1 6 error_writes corrupt_bio_byte 9 r 10 32 ",
		"7:0 0 1 1 7 random_write_corrupt 5 random_seed 9 random_read_corrupt 6 error_reads": "7:0 0 1 1 7 error_reads random_read_corrupt 6 random_write_corrupt 5 random_seed 9 ",
	} {
		if got := strings.Join(mustBuild(t, line).Table(false), " "); got != want {
			t.Errorf("%q: table %q, want %q", line, got, want)
		}
	}
}

// The time begins when the table is loaded; up comes first, and then down, again and again.
func TestIntervals(t *testing.T) {
	for line, want := range map[string]string{"7:0 0 2 1": "UUDUUDUU", "7:0 0 1 2": "UDDUDDUD", "7:0 0 0 3": "DDDDDDDD", "7:0 0 3 0": "UUUUUUUU"} {
		synctest.Test(t, func(t *testing.T) {
			tg := mustBuild(t, line)
			time.Sleep(time.Millisecond)
			got := ""
			for range 8 {
				state := "U"
				if err := tg.Submit(ctx, request(mapper.OpRead)); err != nil {
					state = "D"
				}
				got += state
				time.Sleep(time.Second)
			}
			if got != want {
				t.Errorf("%s: %s, want %s", line, got, want)
			}
		})
	}
}

func request(op mapper.Op) mapper.Request {
	r := mapper.Request{Op: op, Start: 8, Count: 2}
	switch op {
	case mapper.OpRead:
		r.Data = make([]byte, r.Count.Bytes())
	case mapper.OpWrite:
		r.Data = bytes.Repeat([]byte{7}, int(r.Count.Bytes()))
	case mapper.OpFlush:
		r.Start, r.Count = 0, 0
	}
	return r
}

// What happens to each operation while the device is down: P passed, D dropped, E failed.
func TestDown(t *testing.T) {
	ops := []mapper.Op{mapper.OpRead, mapper.OpWrite, mapper.OpFlush, mapper.OpDiscard, mapper.OpWriteZeroes}
	for features, want := range map[string]string{
		"":                                    "EEEEE",
		"2 random_seed 1":                     "EEEEE",
		"1 error_reads":                       "EPPPP",
		"1 drop_writes":                       "PDDDD",
		"1 error_writes":                      "PEEEE",
		"2 error_reads error_writes":          "EEEEE",
		"2 error_reads drop_writes":           "EDDDD",
		"5 corrupt_bio_byte 1 r 1 0":          "PPPPP",
		"5 corrupt_bio_byte 1 w 1 0":          "PPPPP",
		"2 random_read_corrupt 1":             "PPPPP",
		"3 drop_writes random_read_corrupt 1": "PDDDD",
	} {
		disk := mappertest.NewDisk("7:0", 1000)
		tg := mustBuild(t, "7:0 16 0 1 "+features, disk)
		got := ""
		for _, op := range ops {
			before := disk.Counts()
			err := tg.Submit(ctx, request(op))
			switch passed := disk.Counts() != before; {
			case passed && err == nil:
				got += "P"
			case !passed && err == nil:
				got += "D"
			case !passed && errors.Is(err, mapper.ErrIO):
				got += "E"
			default:
				t.Errorf("%q: %s: %v, reached the disk: %v", features, op, err, passed)
			}
		}
		if got != want {
			t.Errorf("%q: %s, want %s", features, got, want)
		}
	}
}

// One byte of a request becomes the value, if the request is long enough and has the flags. The buffer of a write stays as it is.
func TestCorruptByte(t *testing.T) {
	for _, c := range []struct {
		feature string
		op      mapper.Op
		flags   mapper.Flags
		at      int // of the byte that changes, -1 if none does
	}{
		{"3 w 65 0", mapper.OpWrite, 0, 2},
		{"3 w 65 0", mapper.OpRead, 0, -1},
		{"3 r 65 0", mapper.OpRead, 0, 2},
		{"3 r 65 0", mapper.OpWrite, 0, -1},
		{"1024 w 65 0", mapper.OpWrite, 0, 1023},
		{"1025 w 65 0", mapper.OpWrite, 0, -1},
		{"1024 r 65 0", mapper.OpRead, 0, 1023},
		{"1025 r 65 0", mapper.OpRead, 0, -1},
		{"1 w 65 1", mapper.OpWrite, 0, 0},
		{"1 w 65 131072", mapper.OpWrite, 0, -1},
		{"1 w 65 131073", mapper.OpWrite, mapper.FlagFUA, 0},
		{"1 w 65 4096", mapper.OpWrite, mapper.FlagFUA, -1},
		{"1 r 65 1", mapper.OpRead, 0, -1},
	} {
		disk := mappertest.NewDisk("7:0", 1000)
		disk.Poke(8, bytes.Repeat([]byte{7}, 1024))
		tg := mustBuild(t, "7:0 0 0 1 5 corrupt_bio_byte "+c.feature, disk)
		r := request(c.op)
		r.Flags = c.flags
		if err := tg.Submit(ctx, r); err != nil {
			t.Fatal(err)
		}
		got := disk.Peek(8, 2)
		if c.op == mapper.OpRead {
			if i := bytes.IndexByte(got, 65); i >= 0 {
				t.Errorf("%s: a read changed the disk", c.feature)
			}
			got = r.Data
		} else if bytes.IndexByte(r.Data, 65) >= 0 {
			t.Errorf("%s: the caller's data changed", c.feature)
		}
		if at := bytes.IndexByte(got, 65); at != c.at || bytes.Count(got, []byte{7}) < 1023 {
			t.Errorf("%s of a %s with flags %d: byte %d changed, want %d", c.feature, c.op, c.flags, at, c.at)
		}
	}
}

// Chance decides as often as it is told, at places all over the request, and the same way from the same seed.
func TestRandom(t *testing.T) {
	const requests = 4000
	run := func(line string, op mapper.Op) (changed int, trace string) {
		disk := mappertest.NewDisk("7:0", 1000)
		tg := mustBuild(t, line, disk)
		places := make(map[int]bool)
		for range requests {
			disk.Poke(8, bytes.Repeat([]byte{7}, 1024))
			r := request(op)
			if err := tg.Submit(ctx, r); err != nil {
				t.Fatal(err)
			}
			got := disk.Peek(8, 2)
			if op == mapper.OpRead {
				got = r.Data
			}
			if i := slices.IndexFunc(got, func(b byte) bool { return b != 7 }); i >= 0 {
				changed++
				places[i] = true
				trace += fmt.Sprintf("%d:%d ", i, got[i])
			}
		}
		if changed > 500 && len(places) < 300 {
			t.Errorf("%s: %d changes at %d places", line, changed, len(places))
		}
		return changed, trace
	}
	for _, c := range []struct {
		line     string
		op       mapper.Op
		from, to int
	}{
		{"7:0 0 0 1 4 random_write_corrupt 1000000000 random_seed 5", mapper.OpWrite, requests * 98 / 100, requests}, // a random byte may be what was there
		{"7:0 0 0 1 4 random_read_corrupt 1000000000 random_seed 5", mapper.OpRead, requests * 98 / 100, requests},
		{"7:0 0 0 1 4 random_read_corrupt 250000000 random_seed 5", mapper.OpRead, requests * 20 / 100, requests * 30 / 100},
		{"7:0 0 0 1 4 random_read_corrupt 1000000000 random_seed 5", mapper.OpWrite, 0, 0},
		{"7:0 0 0 1 4 random_write_corrupt 1000000000 random_seed 5", mapper.OpRead, 0, 0},
	} {
		n, first := run(c.line, c.op)
		if n < c.from || n > c.to {
			t.Errorf("%s: %d of %d %ss changed", c.line, n, requests, c.op)
		}
		if _, second := run(c.line, c.op); second != first {
			t.Errorf("%s: not the same twice", c.line)
		}
		if _, other := run(strings.Replace(c.line, "seed 5", "seed 6", 1), c.op); n > 0 && other == first {
			t.Errorf("%s: the same from another seed", c.line)
		}
	}
}

// A seed that was not given is told, and only if it matters.
func TestSeedIsTold(t *testing.T) {
	_, h, err := build("7:0 0 0 1 2 random_read_corrupt 5")
	if log := h.Log(); err != nil || len(log) != 1 || !strings.HasPrefix(log[0], "random_seed ") {
		t.Errorf("%v, log %q", err, log)
	}
	for _, line := range []string{"7:0 0 0 1", "7:0 0 0 1 4 random_read_corrupt 5 random_seed 7"} {
		if _, h, err := build(line); err != nil || len(h.Log()) != 0 {
			t.Errorf("%s: %v, log %q", line, err, h.Log())
		}
	}
}

// FuzzArgs: a line that is taken is rebuilt from its own table.
func FuzzArgs(f *testing.F) {
	f.Add("7:0 0 1 2")
	f.Add("7:0 9 0 1 6 corrupt_bio_byte 9 r 10 32 drop_writes")
	f.Add("7:0 9 0 1 7 error_reads random_write_corrupt 7 random_seed 18446744073709551615 drop_writes random_read_corrupt 0")
	f.Fuzz(func(t *testing.T, line string) {
		tg, _, err := build(line)
		if err != nil {
			return
		}
		table := strings.Join(tg.Table(true), " ")
		again, _, err := build(table)
		if err != nil || strings.Join(again.Table(true), " ") != table {
			t.Fatalf("rebuilt from %q: %v", table, err)
		}
		a, b := tg.features, again.features
		a.seed, b.seed = 0, 0
		if a != b {
			t.Errorf("%q: rebuilt %+v, want %+v", line, b, a)
		}
	})
}

func TestSubmitDoesNotAllocate(t *testing.T) {
	for _, line := range []string{"7:0 0 1 0", "7:0 0 3600 1", "7:0 0 0 1 5 corrupt_bio_byte 1 w 1 0", "7:0 0 0 1 6 random_read_corrupt 9 random_write_corrupt 9 random_seed 1"} {
		tg := mustBuild(t, line, mappertest.Null{Name: "7:0", Size: 1000})
		for _, op := range []mapper.Op{mapper.OpRead, mapper.OpWrite} {
			r := request(op)
			if n := testing.AllocsPerRun(100, func() { _ = tg.Submit(ctx, r) }); n != 0 {
				t.Errorf("%s: %v allocations for a %s, want none", line, n, op)
			}
		}
	}
}
