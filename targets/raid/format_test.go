package raid

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// FuzzFormat: decoding never panics, and what is decoded is encoded to the same.
func FuzzFormat(f *testing.F) {
	s := superblock{members: 4, position: 1, events: 9, rebuilt: done, synced: 128, level: 6, layout: 10, chunk: 64, reshape: done, array: 1 << 20, dev: 1 << 19}
	s.setFailed(3, true)
	s.setFailed(200, true)
	b := make([]byte, 512)
	s.encode(b)
	f.Add(b)
	h := bitmapSuper{events: 7, cleared: 6, sectors: 1 << 20, regionBytes: 4 << 20, sleep: 5}
	h.encode(b)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := decodeSuper(b); err == nil {
			again := make([]byte, 512)
			s.encode(again)
			old := s.old
			s2, err := decodeSuper(again)
			if s2.old = old; err != nil || !old && !reflect.DeepEqual(s, s2) {
				t.Fatalf("%+v became %+v: %v", s, s2, err)
			}
		}
		if h, err := decodeBitmap(b); err == nil {
			again := make([]byte, bitmapHeader)
			h.encode(again)
			if h2, err := decodeBitmap(again); err != nil || h != h2 {
				t.Fatalf("%+v became %+v: %v", h, h2, err)
			}
		}
	})
}

// FuzzArgs: a line that is taken is rebuilt from its own table.
func FuzzArgs(f *testing.F) {
	for _, c := range []string{
		"raid1 1 0 2 - 7:1 - 7:3", "raid5_ls 5 64 stripe_cache 512 region_size 64 3 - 7:1 - 7:3 - 7:5",
		"raid10 5 64 raid10_copies 2 raid10_format far 4 7:0 7:1 7:2 7:3 7:4 7:5 7:6 7:7", "raid0 1 8 2 - 7:1 - 7:3",
		"raid6_zr 3 8 rebuild 1 4 - 7:1 - 7:3 - 7:5 - 7:7", "raid1 0 0 2 - 7:1 - 7:3", "raid1 4 0 sync daemon_sleep 1 2 - 7:1 - -",
	} {
		f.Add(uint64(3840), c)
	}
	f.Fuzz(func(t *testing.T, length uint64, line string) {
		if strings.Contains(line, "max_write_behind") {
			return // the kernel shows half of it, and so do we
		}
		build := func(args []string) (*target, error) {
			var disks []mapper.Disk
			for i := range 8 {
				disks = append(disks, mappertest.NewDisk(fmt.Sprintf("7:%d", i), 1<<20))
			}
			got, err := newTarget(context.Background(), mappertest.NewHost(disks...), mapper.Spec{Len: mapper.Sector(length), Args: args})
			switch tg := got.(type) {
			case *target:
				return tg, err
			case striped:
				return tg.target, err
			}
			return nil, err
		}
		if length == 0 {
			return
		}
		tg, err := build(strings.Fields(line))
		if err != nil {
			return
		}
		args := tg.Table(true)
		again, err := build(args)
		if err != nil || !reflect.DeepEqual(again.Table(true), args) {
			t.Fatalf("rebuilt from %q: %v", args, err)
		}
	})
}

// edit changes the superblock of a member.
func edit(t *testing.T, a *array, member int, f func(s *superblock)) {
	t.Helper()
	ctx, d, b := context.Background(), a.disks[fmt.Sprintf("7:%d", 2*member)], make([]byte, 512)
	if err := d.Submit(ctx, mapper.Request{Op: mapper.OpRead, Count: 1, Data: b}); err != nil {
		t.Fatal(err)
	}
	s, err := decodeSuper(b)
	if err != nil {
		t.Fatal(err)
	}
	f(&s)
	s.encode(b)
	if err := d.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Count: 1, Data: b}); err != nil {
		t.Fatal(err)
	}
}

// Members that do not belong together are refused, the member is named, and nothing is written.
func TestBadMembers(t *testing.T) {
	all := func(f func(s *superblock)) func(t *testing.T, a *array) {
		return func(t *testing.T, a *array) {
			for m := range 4 {
				edit(t, a, m, f)
			}
		}
	}
	one := func(f func(s *superblock)) func(t *testing.T, a *array) {
		return func(t *testing.T, a *array) { edit(t, a, 2, f) }
	}
	for _, c := range []struct {
		name   string
		change func(t *testing.T, a *array)
		reason string
		detail string
		errno  unix.Errno
	}{
		{"stale", one(func(s *superblock) { s.events -= 2 }), invalid, "member 2, 7:4, has event", unix.EINVAL},
		{"other array", one(func(s *superblock) { s.chunk = 16 }), invalid, "member 2, 7:4, is of another array", unix.EINVAL},
		{"other size", one(func(s *superblock) { s.dev++ }), invalid, "member 2, 7:4, is of another array", unix.EINVAL},
		{"mixed up", one(func(s *superblock) { s.position = 1 }), "Cannot change device positions in raid set", "7:4, given as member 2, is member 1", unix.EINVAL},
		{"level", all(func(s *superblock) { s.level, s.newLevel = 6, 6 }), "takeover not possible", "level 6", unix.EINVAL},
		{"layout", all(func(s *superblock) { s.layout, s.newLayout = 77, 77 }), checkFailed, "layout 0x4d", unix.EINVAL},
		{"chunk", all(func(s *superblock) { s.chunk, s.newChunk = 512, 512 }), checkFailed, "chunks of 512 sectors", unix.EINVAL},
		{"members", all(func(s *superblock) { s.members = 1 << 31 }), "Reshape not supported", "2147483648 members", unix.EPERM},
		{"size", all(func(s *superblock) { s.dev = 1 << 60 }), "Reshape not supported", "1152921504606846976 of each member", unix.EPERM},
		{"offset", all(func(s *superblock) { s.offset = 1 << 62 }), "Component device(s) too small", "member 0, 7:1", unix.EINVAL},
		{"reshape", all(func(s *superblock) { s.flags = flagReshape }), "Reshape not supported", "is being reshaped", unix.EPERM},
		{"begun", all(func(s *superblock) { s.newLayout = 3 }), "Reshape not supported", "begun", unix.EPERM},
		{"failed", all(func(s *superblock) { s.failed[0] = 3 }), "Insufficient redundancy to activate array", " 0 1", unix.EINVAL},
		{"unrecovered", one(func(s *superblock) { s.rebuilt = 0; s.setFailed(1, true); s.events++ }), "Insufficient redundancy to activate array", " 1 2", unix.EINVAL},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := setup(4, 256, 768, "raid5_ls 8", "region_size 16", true)
			a := newArray(t, s, 3, true)
			a.close()
			c.change(t, a)
			writes := 0
			for _, d := range a.disks {
				writes -= d.(*mappertest.Faulty).Disk.(*mappertest.Disk).Counts().Writes
			}
			_, err := newTarget(context.Background(), &mappertest.Host{Disks: a.disks}, mapper.Spec{Len: s.Len, Args: s.Args})
			var arg *mapper.ArgError
			if !errors.As(err, &arg) || arg.Reason != c.reason || !strings.Contains(arg.Detail, c.detail) || mapper.Errno(err) != c.errno {
				t.Errorf("got %v, want %q with %q and %v", err, c.reason, c.detail, c.errno)
			}
			for _, d := range a.disks {
				writes += d.(*mappertest.Faulty).Disk.(*mappertest.Disk).Counts().Writes
			}
			if writes != 0 {
				t.Errorf("%d writes", writes)
			}
		})
	}
}

// Linux 6.1 refuses an array whose bitmap says that the daemon sleeps no second; it makes such arrays itself.
func TestDaemonSleeps(t *testing.T) {
	for ms, want := range map[string]uint32{"1": 1, "999": 1, "2500": 2, "60000": 60} {
		a := newArray(t, disksFor(2, 512, 512, line("raid1 0", "region_size 16 daemon_sleep "+ms, 0, 1)), 5, true)
		a.close()
		b := make([]byte, 512)
		r := mapper.Request{Op: mapper.OpRead, Start: mapper.SectorsOf(superBlock), Count: 1, Data: b}
		if err := a.disks["7:0"].Submit(context.Background(), r); err != nil {
			t.Fatal(err)
		}
		if s, err := decodeBitmap(b); err != nil || s.sleep != want {
			t.Errorf("daemon_sleep %s: %d seconds, want %d (%v)", ms, s.sleep, want, err)
		}
	}
}

// Offset and far copies fill rows of as many chunks; a member with a part of one is refused, with the cure. Linux cuts the device.
func TestUnevenChunks10(t *testing.T) {
	for _, format := range []string{"offset", "far"} {
		s := disksFor(5, 2640, 6600, line("raid10 16", "raid10_format "+format, 0, 1, 2, 3, 4))
		disks := make(map[string]mapper.Disk)
		for _, d := range s.Disks {
			disks[d.Name] = mappertest.NewDisk(d.Name, d.Sectors)
		}
		_, err := newTarget(context.Background(), &mappertest.Host{Disks: disks}, mapper.Spec{Len: 6600, Args: s.Args})
		if err == nil || !strings.Contains(err.Error(), "each member gets 165 chunks: want a multiple of the 2 copies") {
			t.Errorf("%s: %v", format, err)
		}
	}
}

// The layouts of raid10: copies of a sector are on different members, and holds is the inverse of copies.
func TestLayout10(t *testing.T) {
	for n := 2; n <= 9; n++ {
		for copies := 2; copies <= n; copies++ {
			for _, format := range []int{formatNear, formatFar, formatOffset} {
				dev := mapper.Sector(8 * copies * n)
				g := newGeometry(10, layout10(format, copies, false), n, 8, dev, dev*mapper.Sector(n)/mapper.Sector(copies))
				if !g.check10() {
					t.Errorf("format %d, %d copies, %d members: refused", format, copies, n)
					continue
				}
				checkLayout10(t, &g, fmt.Sprintf("format %d, %d copies, %d members", format, copies, n))
			}
			for rows := range mapper.Sector(2 * copies) { // the last one may have room for less than a chunk's copies
				array := (rows + 1) * mapper.Sector(n) / mapper.Sector(copies) * 8
				g := newGeometry(10, layout10(formatNear, copies, false), n, 8, (rows+1)*8, array)
				if !g.check10() || g.fillsRows() != ((rows+1)*mapper.Sector(n)%mapper.Sector(copies) == 0) {
					t.Errorf("%d copies, %d members, %d rows: refused, or its last row is taken for what it is not", copies, n, rows+1)
					continue
				}
				checkLayout10(t, &g, fmt.Sprintf("%d copies, %d members, %d rows", copies, n, rows+1))
			}
		}
	}
}

func checkLayout10(t *testing.T, g *geometry, name string) {
	t.Helper()
	used := make(map[place]bool)
	for s := mapper.Sector(0); s < g.array; s += g.chunk {
		members := make(map[int]bool)
		for _, p := range g.copies(nil, s) {
			if used[p] || p.at+g.chunk > g.dev || p.member >= g.members {
				t.Fatalf("%s: %v is used twice, or does not exist", name, p)
			}
			used[p], members[p.member] = true, true
			if back, ok := g.holds(p.member, p.at); !ok || back != s {
				t.Fatalf("%s: %v holds %d %v, want %d", name, p, back, ok, s)
			}
		}
		if len(members) != g.near*g.far {
			t.Fatalf("%s: sector %d is on %d members", name, s, len(members))
		}
	}
	for m := range g.members {
		for at := mapper.Sector(0); at < g.dev; at += g.chunk {
			if s, ok := g.holds(m, at); ok != used[place{m, at}] {
				t.Fatalf("%s: sector %d of member %d holds %d %v", name, at, m, s, ok)
			}
		}
	}
}

// A read of a mirror, or of raid0, allocates nothing.
func TestReadDoesNotAllocate(t *testing.T) {
	for _, args := range []string{"raid0 1 8 2 - 7:0 - 7:1", "raid1 1 0 2 - 7:0 - 7:1"} {
		h := mappertest.NewHost(mappertest.Null{Name: "7:0", Size: 1 << 20}, mappertest.Null{Name: "7:1", Size: 1 << 20})
		tg, err := newTarget(context.Background(), h, mapper.Spec{Len: 1 << 12, Args: strings.Fields(args)})
		if err != nil {
			t.Fatal(err)
		}
		r := mapper.Request{Op: mapper.OpRead, Start: 16, Count: 4, Data: make([]byte, 2048)}
		if n := testing.AllocsPerRun(100, func() { _ = tg.Submit(context.Background(), r) }); n != 0 {
			t.Errorf("%s: %v allocations, want none", args, n)
		}
	}
}
