package raid

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// line returns a table line over members of array disks, by number; -1 is a member that is not there.
func line(kind, options string, members ...int) []string {
	words, opts := strings.Fields(kind), strings.Fields(options)
	args := append([]string{words[0], fmt.Sprint(1 + len(opts)), words[1]}, opts...)
	args = append(args, fmt.Sprint(len(members)))
	for _, m := range members {
		if m < 0 {
			args = append(args, "-", "-")
		} else {
			args = append(args, fmt.Sprintf("7:%d", 2*m), fmt.Sprintf("7:%d", 2*m+1))
		}
	}
	return args
}

// disksFor returns a setup with that many members, for lines made by line.
func disksFor(members int, dev, array mapper.Sector, args []string) mappertest.Setup {
	s := setup(members, dev, array, "raid1 0", "", true)
	s.Args = args
	return s
}

// A step is a takeover that keeps the content, as Linux 6.1 does it.
var takeovers = []struct {
	array    mapper.Sector
	from, to []string
}{
	{512, line("raid1 0", "region_size 16", 0, 1), line("raid5_n 16", "region_size 16", 0, 1)},
	{512, line("raid1 0", "region_size 16", 0, 1), line("raid5_ls 16", "region_size 16", 0, 1)},
	{512, line("raid1 0", "region_size 16", 0, 1), line("raid4 16", "region_size 16", 0, 1)},
	{512, line("raid1 0", "region_size 16", 0, 1), line("raid10 16", "region_size 16", 0, 1)},
	{512, line("raid1 0", "region_size 16", 0, 1), line("raid10 16", "raid10_copies 3 rebuild 2 region_size 16", 0, 1, 2)},
	{512, line("raid1 0", "region_size 16", 0), line("raid0 16", "", 0)},
	{512, line("raid1 0", "region_size 16", 0, 1, 2), line("raid1 0", "region_size 16", 1, 2)},
	{512, line("raid1 0", "region_size 16", 0, 1), line("raid1 0", "rebuild 0 region_size 16", 2, 0, 1)},
	{512, line("raid10 16", "region_size 16", 0, 1), line("raid1 0", "region_size 16", 0, 1)},
	{512, line("raid10 16", "region_size 16", 0, 1), line("raid5_ls 16", "region_size 16", 0, 1)},
	{1024, line("raid10 16", "region_size 16", 0, 1, 2, 3), line("raid0 16", "", 0, 2)},
	{512, line("raid10 16", "raid10_format far region_size 16", 0, 1), line("raid0 16", "", 0, 1)},
	{1024, line("raid0 16", "", 0, 1), line("raid10 16", "rebuild 1 rebuild 3 region_size 16", 0, 2, 1, 3)},
	{1024, line("raid0 16", "", 0, 1), line("raid5_n 16", "rebuild 2 region_size 16", 0, 1, 2)},
	{1024, line("raid0 16", "", 0, 1), line("raid6_n_6 16", "rebuild 2 rebuild 3 region_size 16", 0, 1, 2, 3)},
	{512, line("raid0 16", "", 0), line("raid5_ls 16", "rebuild 1 region_size 16", 0, 1)},
	{512, line("raid0 16", "", 0), line("raid1 0", "rebuild 1 region_size 16", 0, 1)},
	{1024, line("raid5_n 16", "region_size 16", 0, 1, 2), line("raid0 16", "", 0, 1)},
	{1024, line("raid5_n 16", "region_size 16", 0, 1, 2), line("raid6_n_6 16", "rebuild 3 region_size 16", 0, 1, 2, 3)},
	{1024, line("raid5_n 16", "region_size 16", 0, 1, 2), line("raid6_n_6 16", "region_size 16", 0, 1, 2, -1)},
	{1024, line("raid5_ls 16", "region_size 16", 0, 1, 2), line("raid6_ls_6 16", "rebuild 3 region_size 16", 0, 1, 2, 3)},
	{1024, line("raid5_rs 16", "region_size 16", 0, 1, 2), line("raid6_rs_6 16", "rebuild 3 region_size 32", 0, 1, 2, 3)},
	{1024, line("raid5_la 16", "region_size 16", 0, 1, 2), line("raid6_la_6 16", "rebuild 3 region_size 16", 0, 1, 2, 3)},
	{1024, line("raid5_ra 16", "region_size 16", 0, 1, 2), line("raid6_ra_6 16", "rebuild 3 region_size 16", 0, 1, 2, 3)},
	{512, line("raid5_ls 16", "region_size 16", 0, 1), line("raid1 0", "region_size 16", 0, 1)},
	{1024, line("raid6_n_6 16", "region_size 16", 0, 1, 2, 3), line("raid5_n 16", "region_size 16", 0, 1, 2)},
	{1024, line("raid6_n_6 16", "region_size 16", 0, 1, 2, 3), line("raid0 16", "", 0, 1)},
	{1024, line("raid6_ls_6 16", "region_size 16", 0, 1, 2, 3), line("raid5_ls 16", "region_size 16", 0, 1, 2)},
	{1024, line("raid6_ra_6 16", "region_size 16", 0, 1, 2, 3), line("raid5_ra 16", "region_size 16", -1, 1, 2)},
}

// After a takeover the array reads as before, is written to, opens again with the same table, and its redundancy agrees.
func TestTakeover(t *testing.T) {
	for _, c := range takeovers {
		t.Run(strings.Join(c.from, " ")+" to "+strings.Join(c.to, " "), func(t *testing.T) {
			a := newArray(t, disksFor(4, 1024, c.array, c.from), 31, true)
			a.scribble(20)
			a.close()
			plain := make([]string, 0, len(c.to))
			for i := 0; i < len(c.to); i++ { // without rebuild
				if c.to[i] == "rebuild" {
					i++
					continue
				}
				plain = append(plain, c.to[i])
			}
			plain[1] = fmt.Sprint(1 + len(plain) - len(line(c.to[0]+" "+c.to[2], "", make([]int, a.membersOf(c.to))...)))
			a.open(c.to)
			a.check()
			a.wait()
			a.scribble(10)
			a.close()
			a.open(plain)
			a.check()
			if a.tg.geo.level != 0 {
				a.agrees()
			}
			a.close()
		})
	}
}

// membersOf returns the number of members that a line names.
func (a *array) membersOf(args []string) int {
	c, err := parse(mapper.Spec{Len: a.setup.Len, Args: args}, noJournal)
	if err != nil {
		a.t.Fatal(err)
	}
	return c.members
}

// What the kernel refuses is refused in its words; so is what it lets pass though the content is something else then. Nothing is written.
func TestTakeoverRefused(t *testing.T) {
	for _, c := range []struct {
		array, length mapper.Sector
		from, to      []string
		reason        string
	}{
		{1024, 512, line("raid5_n 16", "region_size 16", 0, 1, 2), line("raid1 0", "region_size 16", 0, 1, 2), notPossible},
		{1024, 1024, line("raid5_ls 16", "region_size 16", 0, 1, 2), line("raid6_n_6 16", "rebuild 3 region_size 16", 0, 1, 2, 3), notPossible},
		{1024, 1024, line("raid5_ls 16", "region_size 16", 0, 1, 2), line("raid6_zr 16", "rebuild 3 region_size 16", 0, 1, 2, 3), notPossible},
		{1024, 1024, line("raid6_n_6 16", "region_size 16", 0, 1, 2, 3), line("raid4 16", "region_size 16", 0, 1, 2), notPossible},
		{512, 1024, line("raid1 0", "region_size 16", 0, 1, 2), line("raid5_n 16", "region_size 16", 0, 1, 2), notPossible},
		{512, 512, line("raid10 16", "raid10_format offset region_size 16", 0, 1), line("raid1 0", "region_size 16", 0, 1), notPossible},
		// The kernel takes these, and the content is lost.
		{512, 512, line("raid10 16", "raid10_format far region_size 16", 0, 1), line("raid1 0", "region_size 16", 0, 1), notPossible},
		{1024, 1024, line("raid6_zr 16", "region_size 16", 0, 1, 2, 3), line("raid5_ls 16", "region_size 16", 0, 1, 2), notPossible},
		{1024, 1024, line("raid6_n_6 16", "region_size 16", 0, 1, 2, 3), line("raid5_ls 16", "region_size 16", 0, 1, 2), notPossible},
		{1024, 1536, line("raid6_n_6 16", "region_size 16", 0, 1, 2, 3), line("raid5_n 16", "region_size 16", 0, 1, 2, 3), notPossible},
		{1024, 1024, line("raid5_n 16", "region_size 16", 0, 1, 2), line("raid6_ls_6 16", "rebuild 3 region_size 16", 0, 1, 2, 3), notPossible},
		{1024, 1536, line("raid5_n 16", "region_size 16", 0, 1, 2), line("raid0 16", "", 0, 1, 2), notPossible},
		{512, 1024, line("raid1 0", "region_size 16", 0, 1), line("raid0 16", "", 0, 1), notPossible},
	} {
		t.Run(strings.Join(c.from, " ")+" to "+strings.Join(c.to, " "), func(t *testing.T) {
			a := newArray(t, disksFor(4, 1024, c.array, c.from), 31, true)
			a.scribble(20)
			a.close()
			writes := a.writes()
			_, err := newTarget(context.Background(), &mappertest.Host{Disks: a.disks}, mapper.Spec{Len: c.length, Args: c.to})
			var arg *mapper.ArgError
			if !errors.As(err, &arg) || arg.Reason != c.reason {
				t.Errorf("got %v, want %q", err, c.reason)
			}
			if n := a.writes() - writes; n != 0 {
				t.Errorf("%d writes", n)
			}
			a.open(c.from)
			a.check()
			a.close()
		})
	}
}

// writes returns how many writes all disks saw.
func (a *array) writes() (n int) {
	for _, d := range a.disks {
		n += d.(*mappertest.Faulty).Disk.(*mappertest.Disk).Counts().Writes
	}
	return n
}

// A member that was left out of a raid0 does not come back as if it were in sync.
func TestTakeoverBack(t *testing.T) {
	from := line("raid5_n 16", "region_size 16", 0, 1, 2)
	a := newArray(t, disksFor(3, 1024, 1024, from), 33, true)
	a.scribble(20)
	a.close()
	a.open(line("raid0 16", "", 0, 1))
	a.scribble(20)
	a.close()
	if _, err := newTarget(context.Background(), &mappertest.Host{Disks: a.disks}, mapper.Spec{Len: 1024, Args: from}); err == nil {
		t.Error("parity that is out of date is taken for good")
	}
	a.open(line("raid5_n 16", "rebuild 2 region_size 16", 0, 1, 2))
	a.wait()
	a.agrees()
	a.check()
	a.close()
}

// The power is cut at each write of a takeover: both tables open what is left, the content is the same, and redundancy agrees.
func TestTakeoverPowerCuts(t *testing.T) {
	for _, c := range takeovers {
		s := disksFor(4, 1024, c.array, c.from)
		power := new(mappertest.Power)
		for _, d := range s.Disks {
			power.Disk(d.Name, d.Sectors)
		}
		a := &array{t: t, setup: s, disks: disksOf(power), want: mappertest.Stamped(0, c.array, 1)}
		a.open(c.from)
		a.wait()
		if err := submit(a.tg, mapper.Request{Op: mapper.OpWrite, Count: c.array, Data: a.want}); err != nil {
			t.Fatal(err)
		}
		if err := a.tg.Submit(context.Background(), mapper.Request{Op: mapper.OpFlush}); err != nil {
			t.Fatal(err)
		}
		a.close()
		var cuts []*mappertest.Power
		power.Before = func(_ *mappertest.Crash, r mapper.Request) {
			if r.Op != mapper.OpRead {
				cuts = append(cuts, power.Cut(uint64(len(cuts))))
			}
		}
		tg, err := newTarget(context.Background(), &mappertest.Host{Disks: a.disks}, mapper.Spec{Len: c.array, Args: c.to})
		if err != nil {
			t.Fatal(err)
		}
		if err := tg.(mapper.PreResumer).PreResume(context.Background()); err != nil {
			t.Fatal(err)
		}
		power.Before = nil
		for i, cut := range cuts {
			again := &array{t: t, setup: s, disks: disksOf(cut), want: a.want}
			tg, err := start(context.Background(), &mappertest.Host{Disks: again.disks}, c.array, c.to)
			if err != nil {
				t.Fatalf("%q, cut %d of %d: %v", c.to, i, len(cuts), err)
			}
			again.tg = tg
			again.wait()
			got := make([]byte, len(a.want))
			if err := submit(tg, mapper.Request{Op: mapper.OpRead, Count: c.array, Data: got}); err != nil {
				t.Fatal(err)
			}
			if s := firstDifference(got, a.want); s >= 0 {
				t.Fatalf("%q, cut %d: sector %d is not what was written", c.to, i, s)
			}
			if tg.geo.level != 0 {
				if n := again.scrub(); n != 0 {
					t.Fatalf("%q, cut %d: a check finds %d sectors", c.to, i, n)
				}
			}
			again.close()
		}
	}
}

// An array that was reshaped becomes one of another level at once, though its superblocks have sizes of the reshape.
func TestTakeoverAfterReshape(t *testing.T) {
	to := map[string][]string{
		"grow5":     line("raid6_ls_6 16", "rebuild 4 region_size 64", 0, 1, 2, 3, 4),
		"grow5by2":  line("raid6_n_6 16", "rebuild 5 region_size 64", 0, 1, 2, 3, 4, 5),
		"grow2":     line("raid6_ls_6 16", "rebuild 3 region_size 64", 0, 1, 2, 3),
		"layout2":   line("raid1 0", "region_size 64", 0, 1),
		"shrink5":   line("raid6_ra_6 16", "rebuild 3 region_size 64", 0, 1, 2, 3),
		"raid4":     line("raid0 16", "", 0, 1),
		"layout6":   line("raid5_n 16", "region_size 64", 0, 1, 2, 3),
		"grow10by2": line("raid0 32", "", 0, 2, 4),
		"chunk10":   line("raid0 64", "", 0, 2),
	}
	for _, c := range reshapes4() {
		args := to[c.name]
		if args == nil {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			a := c.prepare(t, 43)
			holds := min(c.array, c.after)
			a.load(c.askLen, holds, c.ask)
			a.close()
			a.load(c.askLen, holds, c.run)
			a.wait()
			a.scribble(10)
			a.close()
			a.load(c.after, holds, args)
			a.check()
			a.wait()
			a.setup.Len = c.after
			a.want = append(a.want, make([]byte, (c.after-holds).Bytes())...)
			if err := submit(a.tg, mapper.Request{Op: mapper.OpRead, Count: c.after, Data: a.want}); err != nil {
				t.Fatal(err)
			}
			a.scribble(10)
			a.check()
			if a.tg.geo.level != 0 {
				a.agrees()
			}
			a.close()
		})
	}
}
