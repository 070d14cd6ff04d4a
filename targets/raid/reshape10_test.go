package raid

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"dmfs/mapper"
)

// What a step of a raid10 writes lies nowhere where a sector lies that the position before it does not cover, and with the least room that is
// accepted there always is a next step.
func TestRoomOfRaid10(t *testing.T) {
	layouts := func(copies int) []uint32 {
		return []uint32{layout10(formatNear, copies, false), layout10(formatOffset, copies, false)}
	}
	for copies := 2; copies <= 3; copies++ {
		for members := copies; members <= 6; members++ {
			for more := range 3 {
				for _, from := range layouts(copies) {
					for _, to := range layouts(copies) {
						for _, chunks := range [][2]mapper.Sector{{8, 8}, {8, 16}, {16, 8}, {8, 64}, {64, 8}, {16, 32}} {
							if more > 0 && from != to {
								continue // not both at once
							}
							dev := 64 * mapper.Sector(copies*members*(members+more))
							side := func(layout uint32, n int, chunk mapper.Sector) geometry {
								return newGeometry(10, layout, n, chunk, dev, dev*mapper.Sector(n)/mapper.Sector(copies))
							}
							checkRoom10(t, side(from, members, chunks[0]), side(to, members+more, chunks[1]), false)
							if more == 0 {
								checkRoom10(t, side(from, members, chunks[0]), side(to, members, chunks[1]), true)
							}
						}
					}
				}
			}
		}
	}
}

// checkRoom10 walks through a reshape that moves data by the least room.
func checkRoom10(t *testing.T, old, now geometry, backwards bool) {
	t.Helper()
	name := fmt.Sprintf("%#x of %d with %d to %#x of %d with %d, backwards %t", old.layout, old.members, old.chunk, now.layout, now.members, now.chunk, backwards)
	rs := &reshape{old: &plane{geo: old}, now: &plane{geo: now}, backwards: backwards, end: min(old.array, now.array)}
	room := rs.leastRoom()
	pos := mapper.Sector(0)
	if rs.old.offset = room; backwards {
		rs.old.offset, rs.now.offset, pos = 0, room, rs.end
	}
	for pos != rs.final() {
		next := rs.next(pos)
		if next == pos || (next < pos) != backwards {
			t.Fatalf("%s: from %d to %d", name, pos, next)
		}
		low, high := ^mapper.Sector(0), mapper.Sector(0) // of what is still needed
		first, last := pos, rs.end
		if backwards {
			first, last = 0, pos
		}
		// The places go up with the sectors, but for those within a turn and its neighbour.
		near := 4 * max(old.chunk, now.chunk) * mapper.Sector(old.members*now.members)
		for s := first; s < last; s += leastChunk {
			if !backwards && s > first+near || backwards && s+near < last {
				continue
			}
			for _, p := range old.copies(nil, s) {
				low, high = min(low, p.at+rs.old.offset), max(high, p.at+rs.old.offset+leastChunk)
			}
		}
		for s := min(pos, next); s < max(pos, next); s += leastChunk {
			for _, p := range now.copies(nil, s) {
				if at := p.at + rs.now.offset; at+leastChunk > low && !backwards || at < high && backwards {
					t.Fatalf("%s: sector %d is written at %d of the members while %d to %d are needed, on the way from %d to %d", name, s, at, low, high, pos, next)
				}
			}
		}
		pos = next
	}
}

// Arrays go from one geometry to another and back: data at the end of the room moves to its beginning, then the other way.
func TestReshapeThereAndBack(t *testing.T) {
	for _, c := range reshapes4() {
		if c.array != c.after || c.forward {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := c.prepare(t, 53)
			back := strings.Fields(strings.Replace(strings.Join(c.make, " "), " region_size", fmt.Sprintf(" data_offset %d region_size", c.room), 1))
			back[1] = c.ask[1]
			for _, turn := range [][]string{c.ask, c.run, back, c.make} {
				a.load(c.askLen, c.array, turn)
				a.scribble(5)
				a.wait()
				a.check()
				a.close()
			}
			a.load(c.askLen, c.array, c.make)
			if s := a.status(); !strings.HasSuffix(s, " idle 0 0 -") {
				t.Error(s)
			}
			a.agrees()
			a.check()
			a.close()
		})
	}
}

// A raid10 keeps what it holds while one of each pair of copies is missing.
func TestReshapeHalf(t *testing.T) {
	for _, c := range reshapes4() {
		if c.name != "chunk10" && c.name != "offset10" {
			continue
		}
		a := c.prepare(t, 59)
		a.load(c.askLen, c.array, c.ask)
		a.close()
		a.openAt(c.askLen, c.run)
		rs := a.tg.reshaping.Load()
		pos := mapper.Sector(rs.pos.Load())
		if err := rs.move(context.Background(), pos, rs.next(pos)); err != nil {
			t.Fatal(err)
		}
		for _, m := range []int{1, 3} { // each has copies of 0 and 2, near and with offset
			if !a.tg.failed(&a.tg.members[m]) {
				t.Fatalf("%s: cannot do without %d: %s", c.name, m, a.status())
			}
			a.scribble(5)
			a.check()
		}
		if a.tg.failed(&a.tg.members[2]) {
			t.Fatalf("%s: there is no copy left", c.name)
		}
		a.tg.Resume()
		a.wait()
		a.check()
		if s := a.status(); !strings.Contains(s, " ADAD ") {
			t.Errorf("%s: %s", c.name, s)
		}
		a.close()
		a.load(c.askLen, c.array, c.plain) // they come back
		a.wait()
		if s := a.status(); !strings.Contains(s, " AAAA 1536/1536 idle") {
			t.Errorf("%s: %s", c.name, s)
		}
		if n := a.scrub(); n != 0 {
			t.Errorf("%s: a check finds %d sectors", c.name, n)
		}
		a.check()
		a.close()
	}
}

// The words of tables and status lines on the way are those of Linux 6.1: the table says the format that the array had, the status the one that it gets.
func TestReshapeWords(t *testing.T) {
	opts := "region_size 64 raid10_copies 2 raid10_format "
	a := newArray(t, disksFor(4, 768+48, 1536, line("raid10 16", opts+"near", 0, 1, 2, 3)), 5, true)
	a.close()
	for _, c := range []struct{ line, status, table string }{
		{"data_offset 64 " + opts + "offset", "raid10_offset 4 aaaa 0/1536 reshape 0 0 -", "raid10 9 32 region_size 64 raid10_copies 2 raid10_format near data_offset 64 4"},
		{opts + "offset", "raid10_offset 4 AAAA 1536/1536 idle 0 64 -", "raid10 7 32 region_size 64 raid10_copies 2 raid10_format offset 4"},
	} {
		a.load(1536, 1536, line("raid10 32", c.line, 0, 1, 2, 3))
		a.wait()
		if got := a.status(); got != c.status {
			t.Errorf("got %q, want %q", got, c.status)
		}
		if got := strings.Join(a.tg.Table(false), " "); !strings.HasPrefix(got, c.table+" ") {
			t.Errorf("got %q, want %q", got, c.table)
		}
		a.close()
	}
}

// A reshape that Linux 6.1 was asked for, or ended, has the array's old size in the superblocks and in the bitmap: it goes on, and what was added is
// resynced, for there it is not.
func TestReshapeOfLinux(t *testing.T) {
	for _, c := range reshapes4() {
		if c.name != "grow10" && c.name != "grow10by2" {
			continue
		}
		for _, when := range []string{"asked", "ended", "ended, not settled"} {
			t.Run(c.name+" "+when, func(t *testing.T) {
				a := c.prepare(t, 61)
				a.load(c.askLen, c.array, c.ask)
				if when != "asked" {
					a.close()
					a.openAt(c.askLen, c.run)
					rs := a.tg.reshaping.Load()
					for pos := mapper.Sector(0); pos < c.array; pos = mapper.Sector(rs.pos.Load()) {
						if err := rs.move(context.Background(), pos, min(rs.next(pos), c.array)); err != nil {
							t.Fatal(err)
						}
					}
					if err := rs.finish(); err != nil {
						t.Fatal(err)
					}
				}
				a.close()
				for m := range c.members {
					edit(t, a, m, func(s *superblock) {
						s.array = c.array
						if when == "ended, not settled" {
							s.dev += 2 * c.room
						}
					})
					editBitmap(t, a, m, func(s *bitmapSuper) { s.sectors = c.array })
					if when != "asked" { // what is new there Linux leaves as it is
						junk := make([]byte, 16*512)
						for i := range junk {
							junk[i] = byte(i + m)
						}
						d := a.disks[fmt.Sprintf("7:%d", 2*m+1)]
						if err := d.Submit(context.Background(), mapper.Request{Op: mapper.OpWrite, Start: c.dev - 16, Count: 16, Data: junk}); err != nil {
							t.Fatal(err)
						}
					}
				}
				if when == "asked" {
					a.openAt(c.askLen, c.run)
					if n := a.tg.bitmap.needs; n != 0 && n == len(a.tg.bitmap.state) {
						t.Error("the bitmap counts for nothing")
					}
					a.close()
					a.load(c.askLen, c.array, c.run)
					a.wait()
					a.close()
				}
				a.load(c.after, c.array, c.plain)
				if n := a.scrub(); n != 0 {
					t.Errorf("a check finds %d sectors: %s", n, a.status())
				}
				a.check()
				a.close()
			})
		}
	}
}

// editBitmap changes the header of the bitmap of a member.
func editBitmap(t *testing.T, a *array, member int, f func(s *bitmapSuper)) {
	t.Helper()
	ctx, d, b := context.Background(), a.disks[fmt.Sprintf("7:%d", 2*member)], make([]byte, 512)
	r := mapper.Request{Op: mapper.OpRead, Start: mapper.SectorsOf(superBlock), Count: 1, Data: b}
	if err := d.Submit(ctx, r); err != nil {
		t.Fatal(err)
	}
	s, err := decodeBitmap(b)
	if err != nil {
		t.Fatal(err)
	}
	f(&s)
	s.encode(b)
	r.Op = mapper.OpWrite
	if err := d.Submit(ctx, r); err != nil {
		t.Fatal(err)
	}
}
