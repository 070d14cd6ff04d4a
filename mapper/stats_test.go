package mapper_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// stat sends a message to the core and returns its reply.
func stat(t testing.TB, d *mapper.Device, message string) string {
	t.Helper()
	reply, err := d.Message(ctx, 0, strings.Fields(message))
	if err != nil {
		t.Errorf("%s: %v", message, err)
	}
	return reply
}

// Requests count in the areas that they touch, with their sectors there, reads and writes apart; a discard is a write, a flush nothing.
func TestStatsCount(t *testing.T) {
	m := newManager(mappertest.NewDisk("a", 1024))
	defer closeManager(t, m)
	d := create(t, m, "s", "0 512 linear a 0;512 512 linear a 512")
	for i, c := range []string{"@stats_create - /1", "@stats_create 100+200 128 1 histogram:5,1000 prog aux", "@stats_create 5+17 /3"} {
		if got := stat(t, d, c); got != fmt.Sprint(i) {
			t.Errorf("%s: region %q, want %d", c, got, i)
		}
	}
	p := make([]byte, 1<<16)
	for _, r := range []mapper.Request{
		{Op: mapper.OpRead, Start: 0, Count: 8}, {Op: mapper.OpRead, Start: 96, Count: 8}, {Op: mapper.OpWrite, Start: 220, Count: 100},
		{Op: mapper.OpFlush}, {Op: mapper.OpDiscard, Start: 20, Count: 1}, {Op: mapper.OpWriteZeroes, Start: 500, Count: 20},
	} {
		if r.Op <= mapper.OpWrite {
			r.Data = p[:r.Count.Bytes()]
		}
		must(t, d.Submit(ctx, r))
	}
	// Milliseconds are left out: they are the machine's.
	counts := func(reply string) (lines []string) {
		for line := range strings.Lines(reply) {
			w := strings.Fields(line)
			lines = append(lines, strings.Join([]string{w[0], w[1], w[2], w[3], w[5], w[6], w[7], w[9]}, " "))
		}
		return lines
	}
	for _, c := range [][2]string{
		{"@stats_print 0", "0+1024 2 0 16 3 0 121 0"},
		{"@stats_print 1", "100+128 1 0 4 1 0 8 0,228+128 0 0 0 1 0 72 0"},
		{"@stats_print 1 1 9", "228+128 0 0 0 1 0 72 0"},
		{"@stats_print 1 7 1", ""},
		{"@stats_print 2", "5+6 1 0 3 0 0 0 0,11+6 0 0 0 0 0 0 0,17+6 0 0 0 1 0 1 0"},
		{"@stats_print_clear 1 0 1", "100+128 1 0 4 1 0 8 0"},
	} {
		if got := strings.Join(counts(stat(t, d, c[0])), ","); got != c[1] {
			t.Errorf("%s: got %s, want %s", c[0], got, c[1])
		}
	}
	if got := strings.Fields(stat(t, d, "@stats_print 1 0 1"))[14]; got != "0:0:0" {
		t.Errorf("the histogram after it was cleared: %s", got)
	}
}

// Times are told in milliseconds, or in nanoseconds, and sort requests into the histogram: a bound belongs to what is above it.
func TestStatsTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(mappertest.NewDisk("a", 64))
		defer closeManager(t, m)
		d := create(t, m, "s", "0 64 delay a 0 5")
		stat(t, d, "@stats_create - /1 1 histogram:5,6")
		stat(t, d, "@stats_create - /1 2 precise_timestamps histogram:5000000,5000001")
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := d.Submit(ctx, mapper.Request{Op: mapper.OpRead, Count: 1, Data: make([]byte, 512)}); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(2 * time.Millisecond)
		if got, want := stat(t, d, "@stats_print 0"), "0+64 0 0 0 0 0 0 0 0 3 2 6 2 0 0:0:0\n"; got != want {
			t.Errorf("under way: got %q, want %q", got, want)
		}
		wg.Wait()
		for message, want := range map[string]string{
			"@stats_print 0": "0+64 3 0 3 15 0 0 0 0 0 5 15 5 0 0:3:0\n",
			"@stats_print 1": "0+64 3 0 3 15000000 0 0 0 0 0 5000000 15000000 5000000 0 0:3:0\n",
		} {
			if got := stat(t, d, message); got != want {
				t.Errorf("%s: got %q, want %q", message, got, want)
			}
		}
	})
}

// Counters are bounded, and what they are asked for is looked at before they are made.
func TestStatsBounds(t *testing.T) {
	m := newManager(mappertest.NewDisk("a", 64))
	defer closeManager(t, m)
	d := create(t, m, "s", "0 64 linear a 0")
	for _, message := range []string{"@stats_create 0+18446744073709551615 1", "@stats_create 0+10000000 1", "@stats_create 0+18446744073709551615 /4294967295"} {
		if _, err := d.Message(ctx, 0, strings.Fields(message)); mapper.Errno(err) != unix.ENOMEM {
			t.Errorf("%s: %v, want ENOMEM", message, err)
		}
	}
	for range 100 {
		if got := stat(t, d, "@stats_create 0+100000 1"); got != "0" {
			t.Fatalf("region %s: what was deleted is not given back", got)
		}
		stat(t, d, "@stats_delete 0")
	}
}

// FuzzStats sends any messages, with I/O between them.
func FuzzStats(f *testing.F) {
	f.Add("@stats_create - /7\n@stats_print 0\n@stats_list\n@stats_delete 0")
	f.Add("@stats_create 3+9 2 2 precise_timestamps histogram:1,2,3 p a\n@stats_print_clear 0 1 18446744073709551615")
	f.Fuzz(func(t *testing.T, messages string) {
		m := newManager(mappertest.NewDisk("a", 64))
		defer closeManager(t, m)
		d := create(t, m, "s", "0 64 linear a 0")
		for line := range strings.Lines(messages) {
			if words := strings.Fields(line); len(words) > 0 && strings.HasPrefix(words[0], "@stats") {
				_, _ = d.Message(ctx, 0, words)
				must(t, d.Submit(ctx, mapper.Request{Op: mapper.OpRead, Count: 64, Data: make([]byte, 64*512)}))
			}
		}
	})
}
