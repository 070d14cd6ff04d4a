package delay

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

func TestConformance(t *testing.T) {
	for _, args := range []string{"7:0 99 0", "7:0 99 100us 7:0 99 0", "7:0 99 0 7:0 99 200us 7:0 99 1"} {
		t.Run(args, func(t *testing.T) {
			mappertest.TestTarget(t, &Type, mappertest.Setup{
				Disks: []mappertest.DiskSpec{{Name: "7:0", Sectors: 1000}}, Len: 301, Args: strings.Fields(args),
			})
		})
	}
}

func build(line string, disks ...mapper.Disk) (*target, error) {
	if disks == nil {
		disks = []mapper.Disk{mappertest.NewDisk("7:0", 1000), mappertest.NewDisk("7:1", 1000), mappertest.NewDisk("7:2", 1000)}
	}
	got, err := newTarget(context.Background(), mappertest.NewHost(disks...), mapper.Spec{Len: 100, Args: strings.Fields(line)})
	if err != nil {
		return nil, err
	}
	return got.(*target), nil
}

// The reasons and the order of the checks are those of the kernel, see the scenario delay-arguments.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		args, want string
		errno      unix.Errno
	}{
		{"", "Requires exactly 3, 6 or 9 arguments", unix.EINVAL},
		{"7:0 0 1 7:0", "Requires exactly 3, 6 or 9 arguments", unix.EINVAL},
		{"nosuch x 1", "Invalid device sector", unix.EINVAL},
		{"nosuch 0 x", "Invalid delay", unix.EINVAL},
		{"nosuch 0 1", "Device lookup failed", unix.ENODEV},
		{"7:0 0 1 7:0 0 1 7:0 0 -1", "Invalid delay", unix.EINVAL},
		{"7:0 0 4294967296", "Invalid delay", unix.EINVAL},
		{"7:0 0 4294967296ms", "Invalid delay", unix.EINVAL},
		{"7:0 0 4294968s", "Invalid delay", unix.EINVAL},
		{"7:0 0 1194h", "Invalid delay", unix.EINVAL},
		{"7:0 0 18446744073709551615h", "Invalid delay", unix.EINVAL},
		{"7:0 0 us", "Invalid delay", unix.EINVAL},
		{"7:0 0 1.5s", "Invalid delay", unix.EINVAL},
		{"7:0 0 5ns", "Invalid delay", unix.EINVAL},
		{"7:0 0 5S", "Invalid delay", unix.EINVAL},
	} {
		_, err := build(c.args)
		var arg *mapper.ArgError
		if !errors.As(err, &arg) || arg.Reason != c.want || mapper.Errno(err) != c.errno {
			t.Errorf("%q: got %v, want %q (%v)", c.args, err, c.want, c.errno)
		}
	}
}

func TestDelays(t *testing.T) {
	for word, want := range map[string]time.Duration{
		"0": 0, "7": 7 * time.Millisecond, "4294967295": longest, "250us": 250 * time.Microsecond, "20ms": 20 * time.Millisecond,
		"3s": 3 * time.Second, "5m": 5 * time.Minute, "2h": 2 * time.Hour, "1193h": 1193 * time.Hour,
	} {
		if d, got, ok := parseDelay(word); !ok || d != want || got != word {
			t.Errorf("%s: %v, printed as %q, %v; want %v", word, d, got, ok, want)
		}
	}
}

func TestTable(t *testing.T) {
	for line, want := range map[string]string{
		"7:0 007 0020":              "7:0 7 20",
		"7:0 0 250us 7:1 8 1":       "7:0 0 250us 7:1 8 1",
		"7:0 0 0 7:1 8 2h 7:2 9 3m": "7:0 0 0 7:1 8 2h 7:2 9 3m",
	} {
		tg, err := build(line)
		if err != nil {
			t.Fatal(err)
		}
		if got := tg.Table(false); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%q: table %q, want %q", line, got, want)
		}
	}
}

// Each class waits as long as it is told, and the counters say what waits.
func TestClasses(t *testing.T) {
	for _, c := range []struct {
		op   mapper.Op
		want time.Duration
		says string
	}{
		{mapper.OpRead, time.Second, "1 0 0"},
		{mapper.OpWrite, time.Minute, "0 1 0"},
		{mapper.OpDiscard, time.Minute, "0 1 0"},
		{mapper.OpWriteZeroes, time.Minute, "0 1 0"},
		{mapper.OpFlush, time.Hour, "0 0 1"},
	} {
		synctest.Test(t, func(t *testing.T) {
			tg, err := build("7:0 0 1s 7:1 0 1m 7:2 0 1h")
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			done := make(chan error)
			go func() { done <- tg.Submit(context.Background(), request(c.op)) }()
			synctest.Wait()
			if got, err := tg.Status(context.Background(), false); got != c.says || err != nil {
				t.Errorf("a %s waits: status %q, want %q", c.op, got, c.says)
			}
			if err := <-done; err != nil || time.Since(began) != c.want {
				t.Errorf("a %s took %v (%v), want %v", c.op, time.Since(began), err, c.want)
			}
			if got, _ := tg.Status(context.Background(), false); got != "0 0 0" {
				t.Errorf("nothing waits: status %q", got)
			}
		})
	}
}

func request(op mapper.Op) mapper.Request {
	r := mapper.Request{Op: op, Start: 8, Count: 8}
	switch op {
	case mapper.OpRead, mapper.OpWrite:
		r.Data = make([]byte, r.Count.Bytes())
	case mapper.OpFlush:
		r.Start, r.Count = 0, 0
	}
	return r
}

// A suspend lets everything through that waits, and nothing waits until the resume.
func TestSuspend(t *testing.T) {
	for name, again := range map[string]func(*target){"resume": (*target).Resume, "undo": (*target).PreSuspendUndo} {
		synctest.Test(t, func(t *testing.T) {
			disk := mappertest.NewDisk("7:0", 1000)
			tg, err := build("7:0 0 1h", disk)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			done := make(chan error)
			for range 3 {
				go func() { done <- tg.Submit(context.Background(), request(mapper.OpWrite)) }()
			}
			synctest.Wait()
			tg.PreSuspend(true)
			for range 3 {
				if err := <-done; err != nil {
					t.Errorf("%s: a write that a suspend let through: %v", name, err)
				}
			}
			if err := tg.Submit(context.Background(), request(mapper.OpRead)); err != nil || time.Since(began) != 0 || disk.Counts().Writes != 3 {
				t.Errorf("%s: while suspended: %v after %v, %d writes", name, err, time.Since(began), disk.Counts().Writes)
			}
			tg.PreSuspend(false) // a second one changes nothing
			again(tg)
			if err := tg.Submit(context.Background(), request(mapper.OpRead)); err != nil || time.Since(began) != time.Hour {
				t.Errorf("%s: afterwards a read took %v (%v), want an hour", name, time.Since(began), err)
			}
		})
	}
}

// A killed process does not wait, and its request has had no effect.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := mappertest.NewDisk("7:0", 1000)
		tg, err := build("7:0 0 1h", disk)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err = tg.Submit(ctx, request(mapper.OpWrite))
		if !errors.Is(err, context.DeadlineExceeded) || disk.Counts() != (mappertest.Counts{}) {
			t.Errorf("got %v and %+v, want the end of the context and no I/O", err, disk.Counts())
		}
		if got, _ := tg.Status(context.Background(), false); got != "0 0 0" {
			t.Errorf("nothing waits: status %q", got)
		}
	})
}

// A flush covers what was written, though it has a disk of its own.
func TestFlushReachesTheWrites(t *testing.T) {
	disks := []*mappertest.Disk{mappertest.NewDisk("7:0", 1000), mappertest.NewDisk("7:1", 1000), mappertest.NewDisk("7:2", 1000)}
	for line, want := range map[string][3]int{
		"7:0 0 0":                 {1, 0, 0},
		"7:0 0 0 7:1 0 0":         {0, 1, 0},
		"7:0 0 0 7:1 0 0 7:2 0 0": {0, 1, 1},
		"7:0 0 0 7:1 0 0 7:0 0 0": {1, 1, 0},
	} {
		tg, err := build(line, disks[0], disks[1], disks[2])
		if err != nil {
			t.Fatal(err)
		}
		var before, got [3]int
		for i, d := range disks {
			before[i] = d.Counts().Flushes
		}
		if err := tg.Submit(context.Background(), mapper.Request{Op: mapper.OpFlush}); err != nil {
			t.Fatal(err)
		}
		for i, d := range disks {
			got[i] = d.Counts().Flushes - before[i]
		}
		if got != want {
			t.Errorf("%s: flushes %v, want %v", line, got, want)
		}
	}
	bad := mappertest.NewFaulty(mappertest.NewDisk("7:1", 1000))
	bad.Inject(mappertest.Fault{})
	tg, err := build("7:0 0 0 7:1 0 0 7:0 0 0", disks[0], bad)
	if err != nil {
		t.Fatal(err)
	}
	if err := tg.Submit(context.Background(), mapper.Request{Op: mapper.OpFlush}); !errors.Is(err, mapper.ErrIO) {
		t.Errorf("the disk of the writes failed to flush: got %v", err)
	}
}

// A delay of 0 costs nothing, not even where another class waits.
func TestSubmitDoesNotAllocate(t *testing.T) {
	tg, err := build("7:0 0 0 7:0 0 0 7:0 0 1h", mappertest.Null{Name: "7:0", Size: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range []mapper.Op{mapper.OpRead, mapper.OpWrite, mapper.OpDiscard} {
		r := request(op)
		if n := testing.AllocsPerRun(100, func() { _ = tg.Submit(context.Background(), r) }); n != 0 {
			t.Errorf("%v allocations for a %s, want none", n, op)
		}
	}
}

// FuzzArgs: a line that is taken is rebuilt from its own table, and no delay is too long or negative.
func FuzzArgs(f *testing.F) {
	f.Add("7:0 0 1")
	f.Add("7:0 0 1ms 7:1 18446744073709551615 4294967295")
	f.Add("7:0 0 1h 7:1 2 3us 7:2 0 77m")
	f.Fuzz(func(t *testing.T, line string) {
		tg, err := build(line)
		if err != nil {
			return
		}
		for _, c := range tg.class {
			if c.delay < 0 || c.delay > longest {
				t.Errorf("%q: a delay of %v", line, c.delay)
			}
		}
		table := tg.Table(true)
		again, err := build(strings.Join(table, " "))
		if err != nil || !reflect.DeepEqual(again.Table(true), table) {
			t.Errorf("rebuilt from %q: %v", table, err)
		}
	})
}
