package raid

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// A resizing is an array that can have two lengths.
type resizing struct {
	name       string
	setup      mappertest.Setup // of the larger one
	from, less mapper.Sector    // what the smaller one has to sync, and holds
}

func resizings(members int) (list []resizing) {
	for _, s := range append(kinds(members), setup(members, 384, 384*mapper.Sector(members), "raid0 16", "", true)) {
		if slices.Contains(s.Args, "far") || specOf(s.Len, s.Args).Type == mdInner {
			continue
		}
		less := s.Len / 3 // rows of chunks divide by three: see kinds
		if s.Args[0] == "raid1" {
			less = 70
		}
		from := less
		if n := mapper.Sector(members - typeNamed(raidTypes, s.Args[0]).parity()); s.Args[0] != "raid1" && s.Args[0] != "raid10" {
			from /= n
		}
		list = append(list, resizing{strings.Join(s.Args[:min(9, len(s.Args))], " "), s, from, less})
	}
	return list
}

// holdsData reports whether a disk of a setup is neither metadata nor a journal.
func holdsData(name string) bool {
	var n int
	_, _ = fmt.Sscanf(name, "7:%d", &n)
	return n%2 != 0 && name != journalDisk
}

// junk fills what members hold with what agrees with nothing.
func junk(t testing.TB, s mappertest.Setup, disks map[string]mapper.Disk) {
	t.Helper()
	for i, d := range s.Disks {
		if !holdsData(d.Name) {
			continue
		}
		p := bytes.Repeat([]byte{byte(17 + 31*i), byte(i)}, int(d.Sectors.Bytes()/2))
		for _, r := range []mapper.Request{{Op: mapper.OpWrite, Count: d.Sectors, Data: p}, {Op: mapper.OpFlush}} {
			if err := disks[d.Name].Submit(context.Background(), r); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// begin makes the smaller array, of members with junk, and fills it.
func (r resizing) begin(t testing.TB, disks map[string]mapper.Disk) *array {
	t.Helper()
	s := r.setup
	s.Len = r.less
	a := newArray(t, s, 51, false)
	a.close()
	if disks != nil {
		a.disks = disks
	}
	for _, d := range s.Disks { // what newArray wrote
		if !holdsData(d.Name) {
			p := make([]byte, d.Sectors.Bytes())
			if err := a.disks[d.Name].Submit(context.Background(), mapper.Request{Op: mapper.OpWrite, Count: d.Sectors, Data: p}); err != nil {
				t.Fatal(err)
			}
		}
	}
	junk(t, s, a.disks)
	a.open(s.Args)
	a.wait()
	for i := range a.want {
		a.want[i] = byte(a.rnd.Uint32())
	}
	for _, q := range []mapper.Request{{Op: mapper.OpWrite, Count: s.Len, Data: a.want}, {Op: mapper.OpFlush}} {
		if err := submitAll(a.tg, q); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// submitAll is submit for all requests.
func submitAll(tg *target, r mapper.Request) error {
	if r.Op == mapper.OpFlush {
		return tg.Submit(context.Background(), r)
	}
	return submit(tg, r)
}

// resizeTo puts a table of another length in the place of the one that runs, which is suspended only when the other was loaded.
func (a *array) resizeTo(length mapper.Sector, args []string) {
	a.t.Helper()
	got, err := newTarget(context.Background(), &mappertest.Host{Disks: a.disks}, mapper.Spec{Len: length, Args: args})
	if err != nil {
		a.t.Fatalf("%q: %v", args, err)
	}
	tg, ok := got.(*target)
	if !ok {
		tg = got.(striped).target
	}
	a.close()
	if err := tg.PreResume(context.Background()); err != nil {
		a.t.Fatal(err)
	}
	tg.Resume()
	a.tg, a.setup.Len = tg, min(a.setup.Len, length) // what nobody wrote is adopted later
	a.want = a.want[:a.setup.Len.Bytes()]
}

// openTo makes a target of that many sectors, of which the first are known.
func (a *array) openTo(length mapper.Sector, args []string) {
	a.t.Helper()
	tg, err := start(context.Background(), &mappertest.Host{Disks: a.disks}, length, args)
	if err != nil {
		a.t.Fatalf("%q: %v", args, err)
	}
	a.tg, a.setup.Len = tg, min(a.setup.Len, length)
	a.want = a.want[:a.setup.Len.Bytes()]
}

// adopt looks at what the array grew by, whose content nobody wrote: once it is in sync, it reads the same whatever member is lost.
func (a *array) adopt() {
	a.t.Helper()
	a.wait()
	a.setup.Len = a.tg.geo.array
	got := make([]byte, a.setup.Len.Bytes())
	if err := submit(a.tg, mapper.Request{Op: mapper.OpRead, Count: a.setup.Len, Data: got}); err != nil {
		a.t.Fatal(err)
	}
	if i := firstDifference(a.want[:min(len(a.want), len(got))], got); i >= 0 {
		a.t.Fatalf("sector %d is not what was written", i)
	}
	a.want = got
	if a.tg.geo.level == 0 {
		return
	}
	if n := a.scrub(); n != 0 {
		a.t.Fatalf("a check finds %d sectors: %s", n, a.status())
	}
}

// An array that is made larger keeps what it holds, and is in sync in the end; so does one that is made smaller again.
func TestResize(t *testing.T) {
	for members := 3; members <= 5; members++ {
		for _, r := range resizings(members) {
			t.Run(fmt.Sprint(members, " ", r.name), func(t *testing.T) {
				t.Parallel()
				a := r.begin(t, nil)
				a.resizeTo(r.setup.Len, r.setup.Args)
				if a.tg.geo.level != 0 && a.tg.super.synced < r.from {
					t.Errorf("what was in sync is synced again: from %d, want %d", a.tg.super.synced, r.from)
				}
				a.adopt()
				a.scribble(30)
				a.close()
				a.open(r.setup.Args)
				a.check()
				if status := a.status(); !strings.Contains(status, fmt.Sprintf("%d/%d idle", a.tg.geo.syncSectors(), a.tg.geo.syncSectors())) {
					t.Errorf("in the end: %s", status)
				}
				if a.tg.geo.level != 0 {
					if !a.tg.failed(&a.tg.members[1]) {
						t.Fatal("the array cannot do without a member")
					}
					a.check()
					a.close()
					a.open(r.setup.Args)
					a.wait()
				}
				a.resizeTo(r.less, r.setup.Args)
				a.scribble(10)
				a.adopt()
				a.check()
				a.resizeTo(r.setup.Len, r.setup.Args)
				a.adopt()
				a.close()
			})
		}
	}
}

// The resync of what an array grew by goes on where it was, and is what the kernel calls it. With nosync there is none.
func TestResizeInterrupted(t *testing.T) {
	for _, typ := range []string{"raid1 0", "raid5_ls 8", "raid6_zr 8", "raid10 8"} {
		slow := "region_size 16 max_recovery_rate 1"
		data := mapper.Sector(map[string]int{"raid1 0": 1, "raid5_ls 8": 3, "raid6_zr 8": 2, "raid10 8": 2}[typ])
		s := setup(4, 4096, 4096*data, typ, "region_size 16", true)
		r := resizing{typ, s, 512, 512 * data}
		if typ == "raid10 8" {
			r.from *= data
		}
		a := r.begin(t, nil)
		a.resizeTo(s.Len, setup(4, 4096, s.Len, typ, slow, true).Args)
		for a.tg.syncedUpTo() == r.from {
		}
		if status := a.status(); !strings.Contains(status, " AAAA ") || !strings.Contains(status, " repair ") {
			t.Errorf("%s: while it grows: %s", typ, status)
		}
		a.scribble(5)
		a.close()
		at := a.tg.syncedUpTo()
		if at == done || at <= r.from {
			t.Fatalf("%s: stopped at %d", typ, at)
		}
		a.openTo(s.Len, s.Args)
		if a.tg.super.synced < at {
			t.Errorf("%s: it begins again at %d, was at %d", typ, a.tg.super.synced, at)
		}
		a.adopt()
		a.close()
		if typ == "raid6_zr 8" {
			continue // has no nosync
		}
		b := r.begin(t, nil)
		b.resizeTo(s.Len, setup(4, 4096, s.Len, typ, slow+" nosync", true).Args)
		if b.tg.syncedUpTo() != done {
			t.Errorf("%s: with nosync it is at %d", typ, b.tg.syncedUpTo())
		}
		b.close()
	}
}

// The power is cut at every write while an array grows and shrinks: the next table, of either length, reads what was there, and redundancy agrees.
func TestResizePowerCuts(t *testing.T) {
	for _, r := range resizings(4) {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			power := new(mappertest.Power)
			for _, d := range r.setup.Disks {
				power.Disk(d.Name, d.Sectors)
			}
			a := r.begin(t, disksOf(power))
			base := slices.Clone(a.want)
			var cuts []*mappertest.Power
			cut := func(_ *mappertest.Crash, q mapper.Request) {
				if q.Op != mapper.OpRead {
					cuts = append(cuts, power.Cut(uint64(len(cuts))))
				}
			}
			for _, to := range []mapper.Sector{r.setup.Len, r.less} {
				a.close()
				power.SetBefore(cut)
				got, err := newTarget(context.Background(), &mappertest.Host{Disks: a.disks}, mapper.Spec{Len: to, Args: r.setup.Args})
				if err != nil {
					t.Fatal(err)
				}
				if err := got.(mapper.PreResumer).PreResume(context.Background()); err != nil {
					t.Fatal(err)
				}
				power.SetBefore(nil)
				a.openTo(to, r.setup.Args)
				a.wait()
			}
			a.close()
			if len(cuts) < 8 {
				t.Fatalf("%d cuts", len(cuts))
			}
			for i, cut := range cuts {
				for _, length := range []mapper.Sector{r.less, r.setup.Len} {
					b := &array{t: t, setup: r.setup, disks: disksOf(cut), want: base}
					b.setup.Len = r.less
					b.openTo(length, r.setup.Args)
					b.adopt()
					if t.Failed() {
						t.Fatalf("cut %d", i)
					}
					b.close()
				}
			}
		})
	}
}

// The power is cut while the new part is synced and written to.
func TestResizePowerCutsUnderLoad(t *testing.T) {
	seed := mappertest.Seed(t)
	for i, r := range resizings(4) {
		if r.setup.Args[0] == "raid0" {
			continue
		}
		power := new(mappertest.Power)
		for _, d := range r.setup.Disks {
			power.Disk(d.Name, d.Sectors)
		}
		a := r.begin(t, disksOf(power))
		a.resizeTo(r.setup.Len, r.setup.Args)
		old := slices.Clone(a.want)
		var cuts []*mappertest.Power
		requests := 0
		power.SetBefore(func(_ *mappertest.Crash, q mapper.Request) {
			if requests++; q.Op != mapper.OpRead && requests%5 == 0 && len(cuts) < 12 {
				cuts = append(cuts, power.Cut(seed+uint64(requests)))
			}
		})
		for s := r.less; s < r.setup.Len && len(cuts) < 12; s += 8 {
			if err := submit(a.tg, mapper.Request{Op: mapper.OpWrite, Start: s, Count: 8, Data: mappertest.Stamped(s, 8, uint64(i))}); err != nil {
				t.Fatal(err)
			}
		}
		power.SetBefore(nil)
		a.wait()
		a.close()
		for _, cut := range cuts {
			b := &array{t: t, setup: r.setup, disks: make(map[string]mapper.Disk), want: old}
			b.setup.Len = r.less
			for _, d := range cut.Disks() {
				b.disks[d.DiskName()] = d
			}
			b.openTo(r.setup.Len, r.setup.Args)
			b.adopt()
			b.close()
		}
	}
}

// A member that was away while the array grew is filled when it comes back. A raid1 grows down to one copy; parity is not made without a member.
func TestResizeDegraded(t *testing.T) {
	for _, c := range []struct {
		members int
		kind    string
		refused bool
	}{{2, "raid1 0", false}, {3, "raid1 0", false}, {4, "raid10 8", false}, {3, "raid5_ls 8", true}, {4, "raid6_zr 8", false}} {
		data := mapper.Sector(map[string]int{"raid1 0": 1, "raid5_ls 8": 2, "raid6_zr 8": 2, "raid10 8": 2}[c.kind])
		s := setup(c.members, 768, 768*data, c.kind, "region_size 16", true)
		a := resizing{c.kind, s, 0, 256 * data}.begin(t, nil)
		args := without(s.Args, c.members, []int{1})
		if _, err := newTarget(context.Background(), &mappertest.Host{Disks: a.disks}, mapper.Spec{Len: s.Len, Args: args}); (err != nil) != c.refused {
			t.Errorf("%s without a member: %v", c.kind, err)
		}
		if c.refused {
			a.close()
			continue
		}
		a.resizeTo(s.Len, args)
		a.wait()
		if status := a.status(); !strings.Contains(status, fmt.Sprintf(" %d/%d idle ", a.tg.geo.syncSectors(), a.tg.geo.syncSectors())) {
			t.Errorf("%s without a member: %s", c.kind, status)
		}
		a.close()
		a.openTo(s.Len, s.Args)
		a.scribble(2)
		a.adopt()
		a.close()
	}
}

// What is not a resize, or would lose something, is refused.
func TestResizeRefused(t *testing.T) {
	for _, c := range []struct{ make, table mappertest.Setup }{
		{setup(4, 256, 512, "raid10 8", "raid10_format far region_size 16", true), setup(4, 512, 1024, "raid10 8", "raid10_format far region_size 16", true)},
		{setup(3, 256, 512, "raid5_ls 8", "region_size 16", true), setup(3, 512, 1024, "raid5_rs 8", "region_size 16", true)},
		{setup(2, 256, 256, "raid1 0", "region_size 16", true), setup(2, 600, 600, "raid1 0", "region_size 16", true)},
	} {
		made := c.make
		made.Disks = setup(len(made.Disks)/2, 512, 512, "raid1 0", "", true).Disks
		a := newArray(t, made, 3, true)
		a.close()
		if _, err := newTarget(context.Background(), &mappertest.Host{Disks: a.disks}, mapper.Spec{Len: c.table.Len, Args: c.table.Args}); err == nil {
			t.Errorf("%q of %d sectors over %d is not refused", c.table.Args, c.table.Len, made.Len)
		}
	}
}

// A member is rebuilt by the table that makes the array larger or smaller. What the array holds stays, redundancy agrees in the end, and so it does if that is stopped, or crashes, on the way.
func TestResizeRebuild(t *testing.T) {
	for members := 3; members <= 5; members++ {
		for i, r := range resizings(members) {
			if r.setup.Args[0] == "raid0" {
				continue
			}
			t.Run(fmt.Sprint(members, " ", r.name), func(t *testing.T) {
				t.Parallel()
				a := r.begin(t, nil)
				for k, to := range []mapper.Sector{r.setup.Len, r.less} {
					m := (i + k) % members
					a.close()
					a.put(fmt.Sprintf("7:%d", 2*m+1), 0, bytes.Repeat([]byte{77}, 64*512))
					args := withRebuild(r.setup.Args, m)
					if i%2 == 0 {
						args = withOptions(args, "max_recovery_rate", "40")
					}
					a.openTo(to, args)
					a.scribble(10)
					a.check()
					switch i % 4 {
					case 0:
						a.close()
						a.openTo(to, r.setup.Args)
					case 2:
						a.crash()
						a.openTo(to, r.setup.Args)
					}
					a.adopt()
					a.scribble(10)
					for lost := range members {
						a.wait()
						if !a.tg.failed(&a.tg.members[lost]) {
							t.Fatal("the array cannot do without a member")
						}
						a.check()
						a.close()
						a.openTo(to, r.setup.Args)
					}
					a.wait()
				}
				a.close()
			})
		}
	}
}

// A new raid1 of which all but one are to be rebuilt is in sync when they are filled, without a resync. While one is being filled no status says that all are.
func TestNewAndRebuilt(t *testing.T) {
	for rebuild, synced := range map[string]bool{"rebuild 1 rebuild 2 ": true, "rebuild 1 ": false, "": false} {
		s := disksFor(3, 256, 256, line("raid1 0", rebuild+"region_size 64", 0, 1, 2))
		host := &mappertest.Host{Disks: make(map[string]mapper.Disk)}
		for _, d := range s.Disks {
			host.Disks[d.Name] = mappertest.NewDisk(d.Name, d.Sectors)
		}
		built, err := newTarget(context.Background(), host, specOf(s.Len, s.Args))
		if err != nil {
			t.Fatal(err)
		}
		tg := built.(*target)
		if got := tg.syncedUpTo() == done; got != synced {
			t.Errorf("%q: in sync %t, want %t", rebuild, got, synced)
		}
		if err := tg.PreResume(context.Background()); err != nil {
			t.Fatal(err)
		}
		tg.Resume()
		if err := waitIdle(tg); err != nil {
			t.Fatal(err)
		}
		if got := tg.letters(recover, &tg.members[1], false); got != "AaA" {
			t.Errorf("%q: %s while member 1 is being filled", rebuild, got)
		}
		if got, err := tg.Status(context.Background(), false); err != nil || got != "raid1 3 AAA 256/256 idle 0 0 -" {
			t.Errorf("%q: %s, %v", rebuild, got, err)
		}
		if err := stop(context.Background(), tg); err != nil {
			t.Fatal(err)
		}
	}
}
