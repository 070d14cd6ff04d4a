package raid

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// A change is a reshape: of an array of dev sectors of each member, made by a table, asked for by another and done by a third.
type change struct {
	name           string
	members        int // in the end
	room           mapper.Sector
	dev            mapper.Sector
	array, after   mapper.Sector
	make, ask, run []string
	askLen         mapper.Sector
	plain          []string // the table for what it becomes
	forward        bool     // the data is at data_offset before
}

func reshapes4() (list []change) {
	const dev = 768
	const opts = "region_size 64"
	add := func(name string, typ, to string, before, after int, chunk, newChunk int, forward bool) {
		parity := typeNamed(raidTypes, typ).parity()
		c := change{name: name, members: after, room: 64, dev: dev, array: dev * mapper.Sector(before-parity), after: dev * mapper.Sector(after-parity), forward: forward}
		list = append(list, c.tables(fmt.Sprint(typ, " ", chunk), opts, fmt.Sprint(to, " ", newChunk), opts, before, after))
	}
	add10 := func(name string, format, to string, copies, before, after int, chunk, newChunk int) {
		c := change{name: name, members: after, room: 128, dev: dev, array: dev * mapper.Sector(before) / mapper.Sector(copies), after: dev * mapper.Sector(after) / mapper.Sector(copies), forward: before != after}
		opts := fmt.Sprintf("%s raid10_copies %d raid10_format ", opts, copies)
		list = append(list, c.tables(fmt.Sprint("raid10 ", chunk), opts+format, fmt.Sprint("raid10 ", newChunk), opts+to, before, after))
	}
	add("grow5", "raid5_ls", "raid5_ls", 3, 4, 16, 16, true)
	add("grow5by2", "raid5_n", "raid5_n", 3, 5, 16, 16, true)
	add("grow2", "raid5_ls", "raid5_ls", 2, 3, 16, 16, true)
	add("chunk2", "raid5_ls", "raid5_ls", 2, 2, 16, 32, false)
	add("layout2", "raid5_la", "raid5_rs", 2, 2, 16, 16, false)
	add("shrinkto2", "raid5_n", "raid5_n", 3, 2, 16, 16, false)
	add("grow6chunk", "raid6_nc", "raid6_nc", 4, 5, 32, 16, true)
	add("shrink5", "raid5_ra", "raid5_ra", 4, 3, 16, 16, false)
	add("shrink6", "raid6_ls_6", "raid6_ls_6", 6, 4, 16, 32, false)
	add("chunk", "raid5_ls", "raid5_ls", 3, 3, 16, 32, false)
	add("chunkdown", "raid5_la", "raid5_la", 4, 4, 64, 8, false)
	add("layout", "raid5_ls", "raid5_rs", 4, 4, 16, 16, false)
	add("raid4", "raid4", "raid5_n", 3, 3, 16, 16, false)
	add("layout6", "raid6_zr", "raid6_n_6", 5, 5, 16, 16, false)
	add("layout6chunk", "raid6_rs_6", "raid6_nr", 4, 4, 16, 64, false)
	add10("chunk10", "near", "near", 2, 4, 4, 16, 64)
	add10("chunk10down", "near", "near", 2, 3, 3, 32, 8)
	add10("offset10", "near", "offset", 2, 4, 4, 16, 16)
	add10("near10", "offset", "near", 2, 5, 5, 16, 16)
	add10("near10chunk", "offset", "near", 2, 4, 4, 16, 64)
	add10("offset10of3", "near", "offset", 3, 5, 5, 16, 16)
	add10("grow10", "near", "near", 2, 2, 3, 16, 16)
	add10("grow10by2", "near", "near", 2, 4, 6, 16, 32)
	add10("grow10offset", "offset", "offset", 2, 3, 4, 32, 16)
	add10("grow10of3", "near", "near", 3, 3, 5, 16, 16)
	return list
}

// tables fills in the lines that make c of one type and chunk another, with options of each.
func (c change) tables(typ, opts, to, toOpts string, before, after int) change {
	legs := func(n int) []int {
		var l []int
		for i := range n {
			l = append(l, i)
		}
		return l
	}
	table, delta := max(before, after), ""
	if before != after {
		delta = fmt.Sprintf(" delta_disks %d", after-before)
	}
	c.askLen = max(c.array, c.after)
	c.make = line(typ, opts, legs(before)...)
	c.ask = line(to, fmt.Sprintf("%s%s data_offset %d", toOpts, delta, c.room), legs(table)...)
	c.run = line(to, toOpts, legs(table)...)
	c.plain = line(to, toOpts, legs(after)...)
	return c
}

// prepare makes an array that can be reshaped, fills it, and moves the data of each member to where the reshape wants it.
func (c change) prepare(t testing.TB, seed uint64) *array {
	t.Helper()
	s := disksFor(6, c.dev+c.room-16, c.array, c.make) // setup adds 16
	a := newArray(t, s, seed, true)
	a.scribble(60)
	a.close()
	if c.forward {
		for i := range 6 {
			d, buf := a.disks[fmt.Sprintf("7:%d", 2*i+1)], make([]byte, c.dev.Bytes())
			for _, r := range []mapper.Request{{Op: mapper.OpRead, Count: c.dev, Data: buf}, {Op: mapper.OpWrite, Start: c.room, Count: c.dev, Data: buf}} {
				if err := d.Submit(context.Background(), r); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return a
}

// load makes the table, of that many sectors, the one that a uses; what is compared is only what it holds.
func (a *array) load(length, holds mapper.Sector, args []string) {
	a.t.Helper()
	tg, err := start(context.Background(), &mappertest.Host{Disks: a.disks}, length, args)
	if err != nil {
		a.t.Fatalf("%q: %v", args, err)
	}
	a.tg, a.setup.Len, a.setup.Args = tg, holds, args
	if n := int(holds.Bytes()); n <= len(a.want) {
		a.want = a.want[:n]
	} else {
		a.want = append(a.want, make([]byte, n-len(a.want))...)
	}
}

func (a *array) status() string {
	text, _ := a.tg.Status(context.Background(), true)
	return text
}

// A reshape keeps what the array holds, wherever it is stopped, while it is written to, and with members lost; redundancy agrees when it is done.
func TestReshape(t *testing.T) {
	for _, c := range reshapes4() {
		for lost := -1; lost < min(3, c.members); lost++ { // of those that are members in the end
			t.Run(fmt.Sprintf("%s without %d", c.name, lost), func(t *testing.T) {
				t.Parallel()
				a := c.prepare(t, 41)
				rnd := rand.New(rand.NewPCG(7, uint64(lost+1)))
				holds := min(c.array, c.after)
				a.load(c.askLen, holds, c.ask)
				if s := a.status(); !strings.Contains(s, " reshape 0 ") {
					t.Fatalf("after the table that asks: %s", s)
				}
				a.check()
				a.scribble(5)
				a.close()
				if _, err := newTarget(context.Background(), &mappertest.Host{Disks: a.disks}, mapper.Spec{Len: c.askLen, Args: c.ask}); err == nil && c.array != c.after {
					t.Fatal("the reshape can be asked for twice")
				}
				for stops := 0; ; stops++ {
					tg, err := newTarget(context.Background(), &mappertest.Host{Disks: a.disks}, mapper.Spec{Len: c.askLen, Args: c.run})
					if err != nil {
						t.Fatal(err)
					}
					a.tg = tg.(*target)
					if err := a.tg.PreResume(context.Background()); err != nil {
						t.Fatal(err)
					}
					rs := a.tg.reshaping.Load()
					if rs == nil || stops > 40 {
						break
					}
					if lost >= 0 && stops == 1 && !a.tg.failed(&a.tg.members[lost]) {
						t.Fatal("the array cannot do without a member")
					}
					for range 1 + rnd.IntN(3) { // the syncer does not run: step by hand
						pos := mapper.Sector(rs.pos.Load())
						if pos == rs.final() {
							if err := rs.finish(); err != nil {
								t.Fatal(err)
							}
							break
						}
						if err := rs.move(context.Background(), pos, stepOf(rs, pos, rnd)); err != nil {
							t.Fatal(err)
						}
						a.scribble(3)
						a.check()
					}
					a.close()
				}
				a.close()
				a.load(c.askLen, holds, c.run)
				a.wait()
				a.check()
				a.scribble(10)
				a.close()
				a.load(c.after, c.after, c.plain)
				a.wait()
				if c.after > c.array { // what is new
					if err := submit(a.tg, mapper.Request{Op: mapper.OpWrite, Start: c.array, Count: c.after - c.array, Data: a.want[c.array.Bytes():]}); err != nil {
						t.Fatal(err)
					}
				}
				a.check()
				if n := a.scrub(); n != 0 {
					t.Fatalf("a check finds %d sectors: %s", n, a.status())
				}
				a.check()
				a.close()
			})
		}
	}
}

// stepOf returns the farthest position that can follow pos, or a near one, so that there are many.
func stepOf(rs *reshape, pos mapper.Sector, rnd *rand.Rand) mapper.Sector {
	next := rs.next(pos)
	switch {
	case rnd.IntN(2) == 0:
		return next
	case rs.backwards:
		return max(next, pos-min(pos, rs.unit()))
	}
	return min(next, pos+rs.unit())
}

// A reshape that the syncer does while the array is used.
func TestReshapeUnderLoad(t *testing.T) {
	for _, c := range reshapes4() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := c.prepare(t, 43)
			holds := min(c.array, c.after)
			a.load(c.askLen, holds, c.ask)
			a.close()
			a.load(c.askLen, holds, c.run)
			for end := time.Now().Add(30 * time.Second); a.tg.reshaping.Load() != nil && time.Now().Before(end); {
				a.scribble(3)
				a.check()
			}
			a.wait()
			a.scribble(3)
			a.check()
			a.close()
			a.load(c.after, holds, c.plain)
			if n := a.scrub(); n != 0 {
				t.Fatalf("a check finds %d sectors", n)
			}
			a.check()
			a.close()
		})
	}
}

// The power is cut during a reshape under load: every sector holds what was flushed or a write after it, and redundancy agrees in the end.
func TestReshapePowerCuts(t *testing.T) {
	list := reshapes4()
	each := max(2, mappertest.Cuts(100)/len(list))
	seed := mappertest.Seed(t)
	for i, c := range list {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for round, left := uint64(0), each; left > 0; round++ {
				left -= cutReshape(t, c, seed+uint64(i)+100*round, min(left, 12))
			}
		})
	}
}

// cutReshape checks at most that many cuts, and returns how many.
func cutReshape(t *testing.T, c change, seed uint64, states int) int {
	ctx := context.Background()
	rnd := rand.New(rand.NewPCG(seed, 3))
	holds := min(c.array, c.after)
	a := c.prepare(t, seed)
	power := new(mappertest.Power)
	for _, d := range a.setup.Disks {
		now := power.Disk(d.Name, a.disks[d.Name].Sectors())
		buf := make([]byte, now.Sectors().Bytes())
		if err := errors.Join(a.disks[d.Name].Submit(ctx, mapper.Request{Op: mapper.OpRead, Count: now.Sectors(), Data: buf}),
			now.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Count: now.Sectors(), Data: buf}), now.Submit(ctx, mapper.Request{Op: mapper.OpFlush})); err != nil {
			t.Fatal(err)
		}
	}
	base := a.want[:holds.Bytes()]
	may := make([][]uint64, holds) // 0: what base holds
	for i := range may {
		may[i] = []uint64{0}
	}
	var mu sync.Mutex
	var cuts []survivor
	var requests, serial uint64
	gaps := rand.New(rand.NewPCG(seed, 4))
	every := 1 + gaps.Uint64N(40)
	power.SetBefore(func(_ *mappertest.Crash, r mapper.Request) {
		mu.Lock()
		defer mu.Unlock()
		if requests++; r.Op == mapper.OpRead || requests < every || len(cuts) >= states {
			return
		}
		every = requests + 1 + gaps.Uint64N(60)
		now := make([][]uint64, len(may))
		for i := range may {
			now[i] = append([]uint64(nil), may[i]...)
		}
		cuts = append(cuts, survivor{power.Cut(seed + requests), now})
	})
	open := func(args []string) *target {
		got, err := newTarget(ctx, &mappertest.Host{Disks: disksOf(power)}, mapper.Spec{Len: c.askLen, Args: args})
		if err != nil {
			t.Fatal(err)
		}
		if err := got.(*target).PreResume(ctx); err != nil {
			t.Fatal(err)
		}
		return got.(*target)
	}
	write := func(tg *target) {
		serial++
		from := mapper.Sector(rnd.Uint64N(uint64(holds)))
		n := min(holds-from, 1+mapper.Sector(rnd.Uint64N(60)))
		for i := from; i < from+n; i++ {
			may[i] = append(may[i], serial)
		}
		if err := submit(tg, mapper.Request{Op: mapper.OpWrite, Start: from, Count: n, Data: mappertest.Stamped(from, n, serial)}); err != nil {
			t.Fatal(err)
		}
		if serial%3 == 0 {
			if err := tg.Submit(ctx, mapper.Request{Op: mapper.OpFlush}); err != nil {
				t.Fatal(err)
			}
			for i := range may {
				may[i] = may[i][len(may[i])-1:]
			}
		}
	}
	tg := open(c.ask)
	write(tg)
	if err := tg.PostSuspend(ctx); err != nil {
		t.Fatal(err)
	}
	tg = open(c.run)
	for rs := tg.reshaping.Load(); ; {
		pos := mapper.Sector(rs.pos.Load())
		write(tg)
		if pos == rs.final() {
			break
		}
		next := stepOf(rs, pos, rnd)
		if next == pos {
			t.Fatalf("stuck at %d", pos)
		}
		if err := rs.move(ctx, pos, next); err != nil {
			t.Fatal(err)
		}
	}
	if err := tg.reshaping.Load().finish(); err != nil {
		t.Fatal(err)
	}
	power.SetBefore(nil)
	for i, cut := range cuts {
		checkReshaped(t, c, disksOf(cut.power), cut.now, base, fmt.Sprintf("cut %d of %d", i, len(cuts)))
	}
	return len(cuts)
}

// checkReshaped goes on with a reshape after a cut, or starts it anew, and looks at what the array holds.
func checkReshaped(t *testing.T, c change, disks map[string]mapper.Disk, may [][]uint64, base []byte, when string) {
	t.Helper()
	a := &array{t: t, disks: disks}
	tg, err := start(context.Background(), &mappertest.Host{Disks: disks}, c.askLen, c.ask)
	if err == nil { // it had not begun
		if err := stop(context.Background(), tg); err != nil {
			t.Fatal(err)
		}
	}
	a.load(c.askLen, mapper.Sector(len(may)), c.run)
	a.wait()
	if n := a.scrub(); n != 0 {
		t.Fatalf("%s: a check finds %d sectors", when, n)
	}
	got := make([]byte, len(base))
	if err := submit(a.tg, mapper.Request{Op: mapper.OpRead, Count: mapper.Sector(len(may)), Data: got}); err != nil {
		t.Fatal(err)
	}
	for i, allowed := range may {
		p := got[i*mapper.SectorSize:][:mapper.SectorSize]
		err := checkSector(p, mapper.Sector(i), allowed)
		if allowed[0] == 0 && string(p) == string(base[i*mapper.SectorSize:][:mapper.SectorSize]) {
			err = nil
		}
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}
	a.close()
}

// A table that was loaded while another moved data goes on where that one got to, not where it was at the load.
func TestReshapeReload(t *testing.T) {
	for _, c := range reshapes4() {
		t.Run(c.name, func(t *testing.T) {
			a := c.prepare(t, 47)
			holds := min(c.array, c.after)
			a.load(c.askLen, holds, c.ask)
			a.close()
			a.openAt(c.askLen, c.run)
			for turn := range 3 {
				next, err := newTarget(context.Background(), &mappertest.Host{Disks: a.disks}, mapper.Spec{Len: c.askLen, Args: c.run})
				if err != nil {
					t.Fatal(err)
				}
				rs := a.tg.reshaping.Load()
				pos := mapper.Sector(rs.pos.Load())
				if turn == 2 {
					a.tg.Resume() // to the end
					a.wait()
				} else if err := rs.move(context.Background(), pos, rs.next(pos)); err != nil {
					t.Fatal(err)
				}
				a.scribble(4)
				a.close()
				a.tg = next.(*target)
				if err := a.tg.PreResume(context.Background()); err != nil {
					t.Fatal(err)
				}
				a.check()
				a.scribble(4)
			}
			a.tg.Resume()
			a.agrees()
			a.check()
			a.close()
		})
	}
}

// openAt makes a target of that many sectors whose syncer does not run.
func (a *array) openAt(length mapper.Sector, args []string) {
	a.t.Helper()
	a.setup.Len, length = length, a.setup.Len
	a.openQuietly(args)
	a.setup.Len = length
}
