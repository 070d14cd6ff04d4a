package mappertest

import (
	"cmp"
	"context"
	"errors"
	"io"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// A Kind says what a target does with data.
type Kind uint8

const (
	// Stores: what was written is read back.
	Stores Kind = iota
	// ReadsZero: every read gives zeroes, whatever was written.
	ReadsZero
	// Fails: every I/O but a flush fails.
	Fails
	// ReadsOnly: the table is read-only, and every read gives Setup.Content.
	ReadsOnly
)

// writable reports whether writing to such a target can succeed.
func (k Kind) writable() bool { return k == Stores || k == ReadsZero }

// A Setup is a target as TestTarget shall build it: the disks, which are fresh for each test, and the table line.
type Setup struct {
	Disks []DiskSpec    // those that Args name
	Len   mapper.Sector // of the segment: a few thousand sectors at most, since all of them are compared
	Args  []string
	Kind  Kind

	// Content is what a target of Kind ReadsOnly reads as, Len sectors.
	Content []byte

	// Prepare, if not nil, formats the disks, by name, before the first table.
	Prepare func(ctx context.Context, disks map[string]mapper.Disk) error

	// NoDisk is the errno when a disk is not there; 0 means ENODEV. The kernel's targets do not all keep it.
	NoDisk unix.Errno

	// SmallerBlocks says that the target's logical block may be smaller than those of its disks.
	SmallerBlocks bool

	// WaitsForMending says that a request whose I/O fails waits until somebody mends the device, so that faults are left out.
	WaitsForMending bool

	// FlushesMore says that a flush may reach a disk more than once (a commit of metadata, say).
	FlushesMore bool

	// Forgets says that what was written is there only as long as the table: nothing is promised after a power cut or a reload.
	Forgets bool
	// NoReload says that a live table is not replaced by its like.
	NoReload bool
}

// A DiskSpec is a disk of a Setup.
type DiskSpec struct {
	Name    string        // as in Args; best MAJOR:MINOR
	Sectors mapper.Sector // size
	Limits  mapper.Limits // zero: DefaultLimits
	NoFlush bool          // the target promises nothing durable on it: a flush need not reach it
	NoDisk  unix.Errno    // as that of the Setup, for this disk alone
}

// TestTarget tests what every target must do (see the contract of mapper.Target) for one target in one setup:
//
//   - it stores, at the borders of the segment and of Limits.Split, and leaves neighbours alone;
//   - discards and write-zeroes change what they name and nothing else;
//   - a flush reaches every disk once; flushed and FUA writes survive a power cut at any request;
//   - it may be called concurrently; buffers are lent;
//   - when the n-th I/O of a disk fails, for every n, what reports success has happened, and the rest is undamaged;
//   - when a context ends, nothing else is damaged, and no goroutine stays;
//   - it is suspended, resumed and reloaded under load, and a suspend is given up, by the real core;
//   - New writes nothing, refuses bad arguments without a panic, and keeps the kernel's errno;
//   - Table makes an equal target; Remap, Areas, Extent, Limits and Submit agree.
func TestTarget(t *testing.T, typ *mapper.Type, setup Setup) {
	t.Helper()
	for _, c := range []struct {
		name  string
		run   func(g *rig)
		kinds []Kind // none: those that can be written to
	}{
		{name: "borders", run: testBorders},
		{name: "zeroes and discards", run: testZeroesAndDiscards},
		{name: "flush", run: testFlush},
		{name: "power cut", run: testPowerCut},
		{name: "concurrency", run: testConcurrency},
		{name: "cancel", run: testCancel},
		{name: "suspend under load", run: testSuspend},
		{name: "suspend interrupted", run: testSuspendInterrupted},
		{name: "remap", run: testRemap},
		{name: "extent", run: testExtent},
		{name: "table", run: testTable, kinds: []Kind{Stores, ReadsZero, Fails, ReadsOnly}},
		{name: "limits and areas", run: testLimits, kinds: []Kind{Stores, ReadsZero, Fails, ReadsOnly}},
		{name: "fails", run: testFails, kinds: []Kind{Fails}},
		{name: "reads only", run: testReadsOnly, kinds: []Kind{ReadsOnly}},
	} {
		if c.name == "power cut" && setup.Forgets {
			continue
		}
		if c.kinds == nil && !setup.Kind.writable() || c.kinds != nil && !slices.Contains(c.kinds, setup.Kind) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			goroutines := runtime.NumGoroutine()
			g := newRig(t, typ, &setup)
			c.run(g)
			g.finish()
			checkGoroutines(t, goroutines)
		})
	}
	t.Run("arguments", func(t *testing.T) { testArgs(t, typ, &setup) })
	if setup.Kind.writable() && !setup.WaitsForMending {
		t.Run("faults", func(t *testing.T) { testFaults(t, typ, &setup) })
	}
}

// checkGoroutines fails the test if there are more goroutines than before, and stays so.
func checkGoroutines(t *testing.T, before int) {
	t.Helper()
	for end := time.Now().Add(2 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before the target was made:\n%s",
				runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}

// borders returns sectors where something may go wrong: the ends of the segment and the first, the
// second and the last multiple of Split (of 64 sectors, where there is none), in ascending order.
func (g *rig) borders() []mapper.Sector {
	unit := g.limits.Split
	if unit == 0 {
		unit = max(64, g.block())
	}
	all := []mapper.Sector{0, unit, 2 * unit, (g.setup.Len - 1) / unit * unit, g.setup.Len}
	all = slices.DeleteFunc(all, func(s mapper.Sector) bool { return s > g.setup.Len || s%g.block() != 0 })
	slices.Sort(all)
	return slices.Compact(all)
}

// around calls f for ranges that begin, end at, or lie across the border b.
func (g *rig) around(b mapper.Sector, f func(s, n mapper.Sector)) {
	u := g.block()
	for _, r := range [][2]mapper.Sector{{b - u, b}, {b, b + u}, {b - u, b + u}, {b - 3*u, b + 2*u}} {
		if r[0] < r[1] && r[1] <= g.setup.Len { // an underflow is huge
			f(r[0], r[1]-r[0])
		}
	}
}

func testBorders(g *rig) {
	g.must(g.write(0, g.setup.Len, 0))
	g.must(g.readKnown(false))
	for _, b := range g.borders() {
		g.around(b, func(s, n mapper.Sector) {
			g.must(g.write(s, n, 0))
			g.must(g.read(s, n, false))
		})
	}
	g.must(g.readKnown(false))
	g.must(g.read(0, g.setup.Len, false))
}

func testZeroesAndDiscards(g *rig) {
	u := g.block()
	g.must(g.write(0, g.setup.Len, 0))
	for _, b := range g.borders() {
		g.around(b, func(s, n mapper.Sector) { g.must(g.zero(s, n)) })
		g.must(g.readKnown(false))
	}
	for _, r := range [][2]mapper.Sector{{u, g.setup.Len - u}, {0, g.setup.Len}, {g.setup.Len / 3 / u * u, g.setup.Len / 2 / u * u}} {
		if r[0] >= r[1] {
			continue
		}
		g.must(g.write(0, g.setup.Len, 0))
		g.must(g.zero(r[0], r[1]-r[0]))
		g.must(g.readKnown(false))
		if g.limits.MaxDiscard != 0 {
			g.must(g.write(0, g.setup.Len, 0))
			g.must(g.discard(r[0], r[1]-r[0]))
			g.must(g.readKnown(false))
		}
	}
}

func testFlush(g *rig) {
	const patience = 10 * time.Second
	g.must(g.write(0, g.setup.Len, 0))
	before := make([]Counts, len(g.crash))
	for i, d := range g.crash {
		before[i] = d.Counts()
	}
	g.must(g.flush())
	opened := g.host.Opened()
	for i, d := range g.crash {
		n := d.Counts().Flushes - before[i].Flushes
		if !slices.Contains(opened, mapper.Disk(g.fault[i])) || g.setup.Disks[i].NoFlush {
			continue
		}
		if n < 1 || n > 1 && !g.setup.FlushesMore {
			g.t.Errorf("a flush reached disk %s %d times, want once", d.DiskName(), n)
		}
		// What a target writes by itself may come behind the flush.
		for end := time.Now().Add(patience); g.setup.FlushesMore && d.Dirty() != 0 && time.Now().Before(end); {
			g.must(g.flush())
		}
		if d.Dirty() != 0 {
			g.t.Errorf("after a flush %d sectors of disk %s are not durable", d.Dirty(), d.DiskName())
		}
	}
}

// testConcurrency has workers that write and read back ranges of their own, next to each other's, while others flush.
func testConcurrency(g *rig) {
	const workers, rounds = 4, 12
	u := g.block()
	share := g.setup.Len / workers / u * u
	if share == 0 {
		return
	}
	ctx := context.Background()
	var wg sync.WaitGroup
	for w := range mapper.Sector(workers) {
		wg.Go(func() {
			first := w * share
			for round := range mapper.Sector(rounds) {
				serial := uint64(w*rounds + round + 1)
				n := share - round*u%share
				err := g.submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: first, Count: n, Data: Stamped(first, n, serial)})
				if err == nil && round%4 == 3 {
					err = g.submit(ctx, mapper.Request{Op: mapper.OpFlush})
				}
				buf := make([]byte, n.Bytes())
				if err == nil {
					err = g.submit(ctx, mapper.Request{Op: mapper.OpRead, Start: first, Count: n, Data: buf})
				}
				if err == nil && g.setup.Kind == ReadsZero {
					err = CheckZero(buf, first)
				} else if err == nil {
					err = CheckStamp(buf, first, serial)
				}
				if err != nil {
					g.t.Errorf("worker %d, round %d: %v", w, round, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// testCancel ends the context of requests that a disk holds up.
func testCancel(g *rig) {
	u := g.block()
	n := min(g.setup.Len, 4*u)
	g.must(g.write(0, g.setup.Len, 0))
	for _, op := range []mapper.Op{mapper.OpRead, mapper.OpWrite, mapper.OpFlush} {
		r := mapper.Request{Op: op}
		if op != mapper.OpFlush {
			r.Count, r.Data = n, Stamped(0, n, 1<<40)
		}
		for _, d := range g.stall {
			d.Hold()
		}
		ctx, cancel := context.WithCancel(context.Background())
		result := make(chan error, 1)
		go func() { result <- g.submit(ctx, r) }()
		time.Sleep(2 * time.Millisecond) // to reach a disk, most likely; either way must hold
		cancel()
		time.Sleep(2 * time.Millisecond)
		g.releaseAll()
		err := <-result
		if op == mapper.OpWrite {
			g.model.failed(0, n)
		} else if err == nil && op == mapper.OpRead {
			g.must(g.model.check(r.Data, 0, false))
		}
		if err := g.readKnown(false); err != nil {
			g.t.Fatalf("after a cancelled %s: %v", op, err)
		}
	}
	g.must(g.write(0, g.setup.Len, mapper.FlagFUA))
	g.must(g.readKnown(false))
}

// testRemap compares Remap with where Submit puts data, in both directions.
func testRemap(g *rig) {
	m, ok := g.target.(mapper.Remapper)
	if !ok {
		return
	}
	g.must(g.write(0, g.setup.Len, 0))
	ctx := context.Background()
	for s := mapper.Sector(0); s < g.setup.Len; s++ {
		d, at, run := m.Remap(s)
		if run < 1 {
			g.t.Fatalf("Remap(%d): a run of %d sectors", s, run)
		}
		n := min(run, g.setup.Len-s)
		if s%g.block() != 0 || n%g.block() != 0 {
			continue
		}
		buf := make([]byte, n.Bytes())
		g.must(d.Submit(ctx, mapper.Request{Op: mapper.OpRead, Start: at, Count: n, Data: buf}))
		if err := g.model.check(buf, s, false); err != nil {
			g.t.Fatalf("Remap(%d) names sector %d of disk %s with %d more to follow: %v", s, at, mapper.DiskName(d), run, err)
		}
		if n > 4*g.block() && s%(16*g.block()) != 0 {
			s += n / 4 // long runs: not from every sector
		}
	}
	d, at, _ := m.Remap(0)
	n := g.block()
	g.must(d.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: at, Count: n, Data: Stamped(0, n, 1<<40)}))
	g.model.done(0, n, 1<<40, false)
	g.must(g.readKnown(false))
}

// testExtent walks over the extents: they are within bounds, and holes read as zeroes.
func testExtent(g *rig) {
	e, ok := g.target.(mapper.Extenter)
	if !ok {
		return
	}
	u := g.block()
	g.must(g.write(g.setup.Len/2/u*u, u, 0))
	g.must(g.flush())
	for s := mapper.Sector(0); s < g.setup.Len; {
		limit := g.setup.Len - s
		run, data, err := e.Extent(context.Background(), s, limit)
		g.must(err)
		if run < 1 || run > limit {
			g.t.Fatalf("Extent(%d, %d): a run of %d sectors", s, limit, run)
		}
		if !data {
			buf := make([]byte, run.Bytes())
			g.must(g.submit(context.Background(), mapper.Request{Op: mapper.OpRead, Start: s, Count: run, Data: buf}))
			g.must(CheckZero(buf, s))
		}
		if short, kind, err := e.Extent(context.Background(), s, 1); err != nil || short != 1 || kind != data {
			g.t.Fatalf("Extent(%d, 1) = %d, %v, %v; with more room it said %v", s, short, kind, err, data)
		}
		s += run
	}
}

// testTable rebuilds the target from what it says of itself.
func testTable(g *rig) {
	table := func() []string {
		if t, ok := g.target.(mapper.Tabler); ok {
			return t.Table(true)
		}
		return nil
	}
	before := table()
	if before == nil && len(g.setup.Args) > 0 && g.typ.Features&mapper.Wildcard == 0 {
		g.t.Fatalf("no Table, but the arguments %q", g.setup.Args)
	}
	stores := g.setup.Kind.writable()
	if stores {
		g.must(g.write(0, g.setup.Len, 0))
	}
	if s, ok := g.target.(mapper.Statuser); ok {
		if _, err := s.Status(context.Background(), false); err != nil {
			g.t.Errorf("Status: %v", err)
		}
	}
	g.suspend()
	if c, ok := g.target.(io.Closer); ok {
		g.must(c.Close())
	}
	// A table is a text: words that a blank sets off, or an empty last one that stands for a blank at the end, do not return.
	words, err := mapper.SplitArgs(strings.Join(before, " "))
	g.must(err)
	g.start(words)
	if after := table(); !reflect.DeepEqual(after, before) {
		g.t.Errorf("rebuilt from its own table: %q, want %q", after, before)
	}
	if stores && !g.setup.Forgets {
		g.must(g.readKnown(false))
	}
}

// testLimits checks that limits and areas are sane.
func testLimits(g *rig) {
	l := g.limits
	for name, n := range map[string]int{"LogicalBlock": l.LogicalBlock, "PhysicalBlock": l.PhysicalBlock} {
		if n < mapper.SectorSize || n&(n-1) != 0 {
			g.t.Errorf("%s = %d: want a power of two from %d on", name, n, mapper.SectorSize)
		}
	}
	if l.PhysicalBlock < l.LogicalBlock || l.MinIO < l.PhysicalBlock {
		g.t.Errorf("want LogicalBlock <= PhysicalBlock <= MinIO, got %d, %d, %d", l.LogicalBlock, l.PhysicalBlock, l.MinIO)
	}
	if l.Split%l.LogicalSectors() != 0 {
		g.t.Errorf("Split = %d sectors: want whole logical blocks of %d", l.Split, l.LogicalSectors())
	}
	for _, d := range g.host.Opened() {
		if l.LogicalBlock < d.Limits().LogicalBlock && !g.setup.SmallerBlocks {
			g.t.Errorf("LogicalBlock = %d, less than that of disk %s", l.LogicalBlock, mapper.DiskName(d))
		}
	}
	a, ok := g.target.(mapper.Areaser)
	if !ok {
		return
	}
	for _, area := range a.Areas() {
		if !slices.Contains(g.host.Opened(), area.Disk) {
			g.t.Error("an area of a disk that was not opened")
		} else if area.Len > area.Disk.Sectors() || area.Start > area.Disk.Sectors()-area.Len {
			g.t.Errorf("area %d+%d is outside disk %s", area.Start, area.Len, mapper.DiskName(area.Disk))
		}
	}
}

// testFails checks a target that fails all I/O.
func testFails(g *rig) {
	for _, err := range []error{g.write(0, g.block(), 0), g.write(0, g.setup.Len, mapper.FlagFUA), g.read(0, g.block(), false), g.zero(0, g.block())} {
		if mapper.Errno(err) != unix.EIO {
			g.t.Errorf("got %v, want an error with errno EIO", err)
		}
	}
	g.must(g.flush())
}

// testArgs gives New arguments that are nearly right: it must neither panic nor write, and must say why it refuses.
func testArgs(t *testing.T, typ *mapper.Type, setup *Setup) {
	try := func(args []string) error {
		g := newRigOn(t, typ, setup, newPower(t, setup))
		before := g.changes()
		target, err := typ.New(context.Background(), g.host, g.spec(args))
		if err != nil {
			var arg *mapper.ArgError
			if !errors.As(err, &arg) || arg.Reason == "" {
				t.Errorf("New(%q): %v: want a mapper.ArgError with the kernel's reason", args, err)
			}
		} else if c, ok := target.(io.Closer); ok {
			_ = c.Close()
		}
		if g.changes() != before {
			t.Errorf("New(%q) wrote to the disks", args)
		}
		return err
	}
	for n := range setup.Args {
		_ = try(setup.Args[:n])
		for _, bad := range []string{"", "-1", "x", "0", "18446744073709551615", "99999999999999999999999", "4294967295"} {
			args := slices.Clone(setup.Args)
			args[n] = bad
			_ = try(args)
		}
		isDisk := func(d DiskSpec) bool { return d.Name == setup.Args[n] }
		if i := slices.IndexFunc(setup.Disks, isDisk); i >= 0 {
			args := slices.Clone(setup.Args)
			args[n] = "/dev/nosuch"
			want := cmp.Or(setup.Disks[i].NoDisk, setup.NoDisk, unix.ENODEV)
			if err := try(args); mapper.Errno(err) != want {
				t.Errorf("New(%q): %v: want an error with errno %v", args, err, want)
			}
		}
	}
	_ = try(append(slices.Clone(setup.Args), "one more"))
}
