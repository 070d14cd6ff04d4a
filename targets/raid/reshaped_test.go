package raid

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// Superblocks of a reshape that cannot be are refused, the member is named where one is at fault, and nothing is written.
func TestBadReshapes(t *testing.T) {
	for _, c := range []struct {
		name   string
		only   int // member to change, -1 for all
		change func(s *superblock)
		detail string
	}{
		{"position", -1, func(s *superblock) { s.reshape = 17 }, "cannot be at sector 17"},
		{"far position", -1, func(s *superblock) { s.reshape = 1 << 62 }, "cannot be at sector"},
		{"array", -1, func(s *superblock) { s.array = 96 }, "cannot be at sector"},
		{"backwards", -1, func(s *superblock) { s.flags |= flagBackwards }, "moves the other way"},
		{"offsets", -1, func(s *superblock) { s.offset, s.newOffset = s.newOffset, s.offset }, "moves the other way"},
		{"no room", -1, func(s *superblock) { s.newOffset = s.offset }, "needs room"},
		{"little room", -1, func(s *superblock) { s.newOffset = s.offset - 8; s.dev -= 56 }, "8 sectors of room are too few"},
		{"offset", -1, func(s *superblock) { s.offset = 1 << 62; s.newOffset = 1<<62 - 64 }, "member 0, 7:1"},
		{"delta", -1, func(s *superblock) { s.delta = -1 << 31 }, "no such array"},
		{"fewer", -1, func(s *superblock) { s.delta = 5 }, "no such array"},
		{"more", -1, func(s *superblock) { s.delta = 2 }, "cannot be at sector 0 of 1536"},
		{"members", -1, func(s *superblock) { s.members = 1 << 30 }, "no such array"},
		{"size", -1, func(s *superblock) { s.dev = 1 << 60 }, "no such array"},
		{"chunk", -1, func(s *superblock) { s.chunk = 24 }, "chunks of 24 sectors"},
		{"new chunk", -1, func(s *superblock) { s.newChunk = 0 }, "chunks of 0"},
		{"new level", -1, func(s *superblock) { s.newLevel = 6 }, "being reshaped to"},
		{"layout", -1, func(s *superblock) { s.layout = 77 }, "layout 0x4d"},
		{"other", 2, func(s *superblock) { s.newChunk = 32 }, "member 2, 7:4, is of another array"},
		{"other position", 2, func(s *superblock) { s.position = 1 }, "7:4, given as member 2, is member 1"},
		{"stale", 2, func(s *superblock) { s.events -= 2 }, "member 2, 7:4, has event"},
		{"not reshaped", 2, func(s *superblock) { s.reshape, s.flags, s.events = done, 0, s.events-2 }, "member 2, 7:4, is of another array"},
	} {
		t.Run(c.name, func(t *testing.T) {
			testBadReshape(t, reshapes4()[0], c.only, c.change, c.detail)
		})
	}
}

// The same of raid10.
func TestBadReshapes10(t *testing.T) {
	const offset2 = offsetBit | useFarSets | 2<<farShift | 1
	for _, c := range []struct {
		name   string
		change func(s *superblock)
		detail string
	}{
		{"position", func(s *superblock) { s.reshape = 17 }, "cannot be at sector 17"},
		{"far position", func(s *superblock) { s.reshape = 1 << 62 }, "cannot be at sector"},
		{"array", func(s *superblock) { s.array = 96 }, "cannot be at sector"},
		{"backwards", func(s *superblock) { s.flags |= flagBackwards }, "moves the other way"},
		{"no room", func(s *superblock) { s.newOffset = s.offset }, "needs room"},
		{"little room", func(s *superblock) { s.newOffset = s.offset - 8; s.dev -= 120 }, "8 sectors of room are too few: want 32"},
		{"far", func(s *superblock) { s.layout = useFarSets | 2<<farShift | 1 }, "far copies"},
		{"new far", func(s *superblock) { s.newLayout = 2<<farShift | 1 }, "being reshaped to"},
		{"copies", func(s *superblock) { s.layout = 1<<farShift | 3 }, "from 3 copies to 2"},
		{"no copies", func(s *superblock) { s.layout = 0 }, "does not go with"},
		{"no near copies", func(s *superblock) { s.layout = 2 << farShift }, "does not go with"},
		{"more copies than members", func(s *superblock) { s.layout = 255<<farShift | 255 | offsetBit }, "no such array"},
		{"bits", func(s *superblock) { s.layout |= 1 << 20 }, "no such array"},
		{"other level", func(s *superblock) { s.newLevel = 5 }, "being reshaped to"},
		{"delta", func(s *superblock) { s.delta = -1 << 31 }, "no such array"},
		{"fewer", func(s *superblock) { s.delta = 5 }, "does not go with 1 members"},
		{"size", func(s *superblock) { s.dev = 1 << 60 }, "no such array"},
		{"chunk", func(s *superblock) { s.chunk = 1 << 31 }, "chunks of 2147483648"},
		{"offset format", func(s *superblock) { s.layout = offset2; s.array = 8 }, "cannot be at sector"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, grow := range reshapes4() {
				if grow.name == "grow10by2" {
					testBadReshape(t, grow, -1, c.change, c.detail)
				}
			}
		})
	}
}

// testBadReshape goes on with a reshape after superblocks were changed, of one member or of all.
func testBadReshape(t *testing.T, grow change, only int, change func(s *superblock), detail string) {
	t.Helper()
	a := grow.prepare(t, 3)
	a.load(grow.askLen, grow.array, grow.ask)
	a.close()
	for m := range grow.members {
		if only < 0 || only == m {
			edit(t, a, m, change)
		}
	}
	writes := a.writes()
	_, err := newTarget(context.Background(), &mappertest.Host{Disks: a.disks}, mapper.Spec{Len: grow.askLen, Args: grow.run})
	var arg *mapper.ArgError
	if !errors.As(err, &arg) || !strings.Contains(arg.Detail, detail) {
		t.Errorf("got %v, want %q", err, detail)
	}
	if n := a.writes() - writes; n != 0 {
		t.Errorf("%d writes", n)
	}
}

// Reshapes that cannot be asked for, in the kernel's words where it has some.
func TestReshapeRefused(t *testing.T) {
	five := line("raid5_ls 16", "region_size 64", 0, 1, 2)
	for _, c := range []struct {
		name   string
		from   []string
		length mapper.Sector
		to     []string
		errno  unix.Errno
		reason string
	}{
		{"no room", five, 2304, line("raid5_ls 16", "region_size 64 delta_disks 1 data_offset 0", 0, 1, 2, 3), unix.EPERM, "Reshape not supported"},
		{"little room", five, 1536, line("raid5_ls 64", "region_size 64 data_offset 32", 0, 1, 2), unix.ENOSPC, "No space for backward reshape"},
		{"disks too small", five, 1536, line("raid5_ls 32", "region_size 64 data_offset 512", 0, 1, 2), unix.ENOSPC, "No space for backward reshape"},
		{"data at the wrong place", five, 2304, line("raid5_ls 16", "region_size 64 delta_disks 1", 0, 1, 2, 3), unix.EPERM, "Reshape not supported"},
		{"too few", five, 2304, line("raid5_ls 16", "region_size 64 delta_disks 2 data_offset 64", 0, 1, 2, 3), unix.EINVAL, invalid},
		{"missing", five, 1536, line("raid5_rs 16", "region_size 64 data_offset 64", 0, -1, 2), unix.EPERM, "Can't reshape degraded raid set"},
		{"below two", five, 1536, line("raid5_ls 16", "region_size 64 delta_disks -2 data_offset 64", 0, 1, 2), unix.EINVAL, "Reshape check failed"},
		{"raid10 with other copies and no room", line("raid10 16", "region_size 64", 0, 1, 2), 768, line("raid10 16", "region_size 64 raid10_copies 3", 0, 1, 2), unix.EINVAL, checkFailed},
		{"raid10 little room", line("raid10 16", "region_size 64", 0, 1), 768, line("raid10 32", "region_size 64 raid10_format offset data_offset 32", 0, 1), unix.ENOSPC, "No space for backward reshape"},
		{"raid10 to far", line("raid10 16", "region_size 64", 0, 1), 768, line("raid10 16", "region_size 64 raid10_format far data_offset 64", 0, 1), unix.EINVAL, checkFailed},
		{"raid10 from far", line("raid10 16", "region_size 64 raid10_format far", 0, 1), 768, line("raid10 16", "region_size 64 raid10_format near data_offset 64", 0, 1), unix.EINVAL, checkFailed},
		{"raid10 with more copies", line("raid10 16", "region_size 64", 0, 1), 768, line("raid10 16", "region_size 64 raid10_copies 3 delta_disks 1 data_offset 64", 0, 1, 2), unix.EINVAL, checkFailed},
		{"raid10 with fewer members", line("raid10 16", "region_size 64", 0, 1), 768, line("raid10 16", "region_size 64 delta_disks -1 data_offset 64", 0, 1), unix.EINVAL, "Bogus raid10 data copies or delta disks"},
		{"raid10 missing", line("raid10 16", "region_size 64", 0, 1), 768, line("raid10 32", "region_size 64 data_offset 64", 0, -1), unix.EPERM, "Can't reshape degraded raid set"},
		{"raid10 data at the wrong place", line("raid10 16", "region_size 64", 0, 1), 1152, line("raid10 16", "region_size 64 delta_disks 1", 0, 1, 2), unix.EPERM, "Reshape not supported"},
		{"raid10 of another size", line("raid10 16", "region_size 64", 0, 1), 512, line("raid10 32", "region_size 64 data_offset 64", 0, 1), unix.EPERM, "Reshape not supported"},
		{"raid1", line("raid1 0", "region_size 64", 0, 1), 768, line("raid1 0", "region_size 64 delta_disks 2", 0, 1, 2), unix.EINVAL, invalid},
		{"raid1 with none", line("raid1 0", "region_size 64", 0, 1), 768, line("raid1 0", "region_size 64 delta_disks 1", 0, 1), unix.EPERM, "Reshape not supported"},
		{"size", five, 768, line("raid5_rs 16", "region_size 64 data_offset 64", 0, 1, 2), unix.EPERM, "Reshape not supported"},
	} {
		t.Run(c.name, func(t *testing.T) {
			array := mapper.Sector(768)
			if c.from[0] == "raid5_ls" && len(c.from) == len(five) {
				array = 1536
			}
			a := newArray(t, disksFor(4, 768+48, array, c.from), 5, true)
			a.close()
			writes := a.writes()
			_, err := newTarget(context.Background(), &mappertest.Host{Disks: a.disks}, mapper.Spec{Len: c.length, Args: c.to})
			var arg *mapper.ArgError
			if !errors.As(err, &arg) || arg.Reason != c.reason || mapper.Errno(err) != c.errno {
				t.Errorf("got %v (%v), want %q and %v", err, mapper.Errno(err), c.reason, c.errno)
			}
			if n := a.writes() - writes; n != 0 {
				t.Errorf("%d writes", n)
			}
		})
	}
}

// A table with another geometry that does not tell where data could be moved leaves the array as it is, as in the kernel, and is shown with what the array has.
func TestReshapeWithoutRoom(t *testing.T) {
	for _, c := range []struct {
		array        mapper.Sector
		from, to     []string
		status, line string
	}{
		{1536, line("raid5_ls 16", "region_size 64", 0, 1, 2), line("raid5_rs 32", "region_size 64", 0, 1, 2),
			"raid5_ls 3 AAA 768/768 idle 0 0 -", "raid5_rs 3 16 region_size 64 3"},
		{1536, line("raid10 16", "region_size 64", 0, 1, 2, 3), line("raid10_offset 32", "region_size 64 raid10_format offset", 0, 1, 2, 3),
			"raid10 4 AAAA 1536/1536 idle 0 0 -", "raid10_offset 5 16 region_size 64 raid10_format near 4"},
		{1536, line("raid10 16", "region_size 64", 0, 1, 2, 3), line("raid10 16", "region_size 64 raid10_format far", 0, 1, 2, 3),
			"raid10 4 AAAA 1536/1536 idle 0 0 -", "raid10 5 16 region_size 64 raid10_format near 4"},
	} {
		a := newArray(t, disksFor(4, 768+48, c.array, c.from), 5, true)
		a.scribble(20)
		a.close()
		a.open(c.to)
		a.wait()
		if got := a.status(); got != c.status {
			t.Errorf("got %q, want %q", got, c.status)
		}
		if got := strings.Join(a.tg.Table(false), " "); !strings.HasPrefix(got, c.line+" ") {
			t.Errorf("got %q, want %q", got, c.line)
		}
		a.check()
		a.scribble(20)
		a.close()
		a.open(c.from)
		a.check()
		a.agrees()
		a.close()
	}
}

// The end of a reshape that could not be written is written once, when it can be: sizes are set right by as much as data moved, not by twice that.
func TestFinishTwice(t *testing.T) {
	for _, c := range reshapes4() {
		a := c.prepare(t, 5)
		a.load(c.askLen, min(c.array, c.after), c.ask)
		rs := a.tg.reshaping.Load()
		a.tg.PreSuspend(false)
		sizes := func() [3]mapper.Sector { return [3]mapper.Sector{a.tg.super.dev, a.tg.super.offset, a.tg.super.array} }
		for i := range 6 {
			a.disks[fmt.Sprintf("7:%d", 2*i)].(*mappertest.Faulty).Inject(mappertest.Fault{Ops: []mapper.Op{mapper.OpWrite}})
		}
		if err := rs.finish(); err == nil {
			t.Fatalf("%s: it ended on members that cannot be written to", c.name)
		}
		want := sizes()
		for i := range 6 {
			a.disks[fmt.Sprintf("7:%d", 2*i)].(*mappertest.Faulty).Heal()
		}
		if err := rs.finish(); err != nil {
			t.Fatal(err)
		}
		if got := sizes(); got != want {
			t.Errorf("%s: sizes %d after the second time, %d after the first", c.name, got, want)
		}
	}
}
