package ebs

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

var ctx = context.Background()

func large(block int) mapper.Limits {
	l := mappertest.DefaultLimits
	l.LogicalBlock, l.PhysicalBlock, l.MinIO = block, block, block
	l.DiscardGranularity = mapper.SectorsOf(int64(block))
	return l
}

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		args  string
		block int // of the disk, in bytes
		len   mapper.Sector
	}{
		{"7:0 8 1", 4096, 320},
		{"7:0 16 2", 4096, 402}, // the last block is in part another's
		{"7:0 0 1 4", 512, 301},
		{"7:0 64 4 64", 4096, 400},
		{"7:0 8 8 8", 4096, 320},
		{"7:0 8 8 4", 512, 320},
		{"7:0 5 1 1", 512, 100},
	} {
		t.Run(c.args, func(t *testing.T) {
			mappertest.TestTarget(t, &Type, mappertest.Setup{
				Disks: []mappertest.DiskSpec{{Name: "7:0", Sectors: 1024, Limits: large(c.block)}}, Len: c.len, Args: strings.Fields(c.args),
				SmallerBlocks: true,
			})
		})
	}
}

// disk4k returns a disk of 1024 sectors in blocks of 4096 bytes, each sector of write 1.
func disk4k() *mappertest.Disk {
	d := mappertest.NewDisk("7:0", 1024)
	d.SetLimits(large(4096))
	d.Poke(0, mappertest.Stamped(0, 1024, 1))
	return d
}

func build(length mapper.Sector, line string, disks ...mapper.Disk) (*target, *mappertest.Host, error) {
	if disks == nil {
		disks = []mapper.Disk{disk4k()}
	}
	h := mappertest.NewHost(disks...)
	got, err := newTarget(ctx, h, mapper.Spec{Len: length, Args: strings.Fields(line)})
	if err != nil {
		return nil, h, err
	}
	return got.(*target), h, nil
}

func mustBuild(t testing.TB, length mapper.Sector, line string, disks ...mapper.Disk) *target {
	t.Helper()
	tg, _, err := build(length, line, disks...)
	if err != nil {
		t.Fatal(err)
	}
	return tg
}

// The reasons and the order of the checks are those of the kernel, tried in Linux 6.12.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		args, want string
		errno      unix.Errno
	}{
		{"7:0 0", "Invalid argument count", unix.EINVAL},
		{"7:0 0 1 8 9", "Invalid argument count", unix.EINVAL},
		{"nosuch x 0", "Invalid device offset sector", unix.EINVAL},
		{"nosuch 0 0", "Invalid emulated block size", unix.EINVAL},
		{"nosuch 0 3", "Invalid emulated block size", unix.EINVAL},
		{"nosuch 0 16", "Invalid emulated block size", unix.EINVAL},
		{"nosuch 0 65537", "Invalid emulated block size", unix.EINVAL},
		{"nosuch 0 +1", "Invalid emulated block size", unix.EINVAL},
		{"nosuch 0 1 0", "Invalid underlying block size", unix.EINVAL},
		{"nosuch 0 1 3", "Invalid underlying block size", unix.EINVAL},
		{"nosuch 0 1 65536", "Invalid underlying block size", unix.EINVAL},
		{"nosuch 0 1", "Device lookup failed", unix.ENODEV},
		{"7:0 0 1 4", "Invalid underlying block size", unix.EINVAL},
		{"7:0 4 1", "Device offset must be multiple of underlying block size", unix.EINVAL},
		{"7:0 8 2 16", "Device offset must be multiple of underlying block size", unix.EINVAL},
	} {
		_, _, err := build(100, c.args)
		var arg *mapper.ArgError
		if !errors.As(err, &arg) || arg.Reason != c.want || mapper.Errno(err) != c.errno {
			t.Errorf("%q: got %v, want %q (%v)", c.args, err, c.want, c.errno)
		}
	}
}

// The limits and what is logged are those of the kernel, tried in Linux 6.12.
func TestLimits(t *testing.T) {
	for _, c := range []struct {
		args, log                      string
		logical, physical, granularity int
	}{
		{"7:0 8 1", "", 512, 4096, 8},
		{"7:0 8 8", "Emulation superfluous: emulated equal to underlying block size", 4096, 4096, 8},
		{"7:0 8 8 8", "", 4096, 4096, 8},
		{"7:0 16 2 16", "", 1024, 8192, 16},
		{"512 8 8 4", "", 4096, 4096, 4},
	} {
		tg, h, err := build(96, c.args, disk4k(), mappertest.NewDisk("512", 1024))
		if err != nil {
			t.Fatal(err)
		}
		l := tg.disk.Limits()
		tg.Hints(&l)
		if l.LogicalBlock != c.logical || l.PhysicalBlock != c.physical || l.MinIO != c.physical || int(l.DiscardGranularity) != c.granularity {
			t.Errorf("%s: %+v, want %+v", c.args, l, c)
		}
		if got := strings.Join(h.Log(), "\n"); got != c.log {
			t.Errorf("%s: log %q, want %q", c.args, got, c.log)
		}
	}
}

// A write of parts of blocks is one write of whole blocks, reads only what it must, and keeps FUA; whole blocks pass.
func TestRequestsBelow(t *testing.T) {
	for _, c := range []struct {
		r             mapper.Request
		reads, writes int
		read, written mapper.Sector
	}{
		{mapper.Request{Op: mapper.OpWrite, Start: 8, Count: 16}, 0, 1, 0, 16},
		{mapper.Request{Op: mapper.OpWrite, Start: 3, Count: 1}, 1, 1, 8, 8},
		{mapper.Request{Op: mapper.OpWrite, Start: 3, Count: 5}, 1, 1, 8, 8},
		{mapper.Request{Op: mapper.OpWrite, Start: 0, Count: 5}, 1, 1, 8, 8},
		{mapper.Request{Op: mapper.OpWrite, Start: 7, Count: 2}, 2, 1, 16, 16},
		{mapper.Request{Op: mapper.OpWrite, Start: 8, Count: 25}, 1, 1, 8, 32},
		{mapper.Request{Op: mapper.OpWrite, Start: 5, Count: 19}, 1, 1, 8, 24},
		{mapper.Request{Op: mapper.OpRead, Start: 8, Count: 16}, 1, 0, 16, 0},
		{mapper.Request{Op: mapper.OpRead, Start: 7, Count: 10}, 1, 0, 24, 0},
	} {
		disk := disk4k()
		tg := mustBuild(t, 320, "7:0 16 1", disk)
		c.r.Flags = mapper.FlagFUA
		if c.r.Op == mapper.OpRead {
			c.r.Flags = 0
		}
		c.r.Data = mappertest.Stamped(c.r.Start, c.r.Count, 5)
		before := disk.Counts()
		if err := tg.Submit(ctx, c.r); err != nil {
			t.Fatal(err)
		}
		n := disk.Counts()
		if n.Reads-before.Reads != c.reads || n.Writes != c.writes || n.Read-before.Read != c.read || n.Written != c.written || n.FUA != c.writes {
			t.Errorf("%s of %d at %d: %+v, want %+v", c.r.Op, c.r.Count, c.r.Start, n, c)
		}
		want := mappertest.Stamped(0, 1024, 1)
		if c.r.Op == mapper.OpWrite {
			copy(want[(16+c.r.Start).Bytes():], c.r.Data)
		} else if !bytes.Equal(c.r.Data, want[(16 + c.r.Start).Bytes():][:len(c.r.Data)]) {
			t.Errorf("a read of %d at %d is not what is there", c.r.Count, c.r.Start)
		}
		if !bytes.Equal(disk.Peek(0, 1024), want) {
			t.Errorf("%s of %d at %d changed something else", c.r.Op, c.r.Count, c.r.Start)
		}
	}
}

// Discards reach whole blocks only; zeroing reaches all.
func TestDiscardAndZero(t *testing.T) {
	for _, c := range []struct{ start, count, from, to mapper.Sector }{
		{2, 20, 8, 16}, {0, 8, 0, 8}, {1, 6, 0, 0}, {1, 14, 0, 0}, {7, 9, 8, 16}, {8, 17, 8, 24},
	} {
		disk := disk4k()
		tg := mustBuild(t, 320, "7:0 0 1", disk)
		if err := tg.Submit(ctx, mapper.Request{Op: mapper.OpDiscard, Start: c.start, Count: c.count}); err != nil {
			t.Fatal(err)
		}
		want := mappertest.Stamped(0, 1024, 1)
		for i := range want[c.from.Bytes():c.to.Bytes()] {
			want[int(c.from.Bytes())+i] = mappertest.Discarded
		}
		if !bytes.Equal(disk.Peek(0, 1024), want) {
			t.Errorf("discard of %d at %d: want %d to %d", c.count, c.start, c.from, c.to)
		}
		if err := tg.Submit(ctx, mapper.Request{Op: mapper.OpWriteZeroes, Start: c.start, Count: c.count}); err != nil {
			t.Fatal(err)
		}
		clear(want[c.start.Bytes():(c.start + c.count).Bytes()])
		if !bytes.Equal(disk.Peek(0, 1024), want) {
			t.Errorf("zeroing of %d at %d", c.count, c.start)
		}
	}
}

// A lateReader calls after between a read and its return, when what was read may be out of date.
type lateReader struct {
	mapper.Disk
	after func()
}

func (d lateReader) DiskName() string { return mapper.DiskName(d.Disk) }

func (d lateReader) Submit(ctx context.Context, r mapper.Request) error {
	err := d.Disk.Submit(ctx, r)
	if r.Op == mapper.OpRead {
		d.after()
	}
	return err
}

// Writers of single sectors, all over the same few blocks, never lose each other.
func TestParallelWrites(t *testing.T) {
	const blocks, rounds = 3, 400
	disk := disk4k()
	tg := mustBuild(t, blocks*8, "7:0 8 1", lateReader{disk, runtime.Gosched})
	var wg sync.WaitGroup
	seed := mappertest.Seed(t)
	for w := range mapper.Sector(6) { // each has every sixth sector
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(w)))
			for range rounds {
				s := mapper.Sector(rnd.IntN(blocks*8/6))*6 + w
				serial := 2 + rnd.Uint64N(1<<30)
				data := mappertest.Stamped(s, 1, serial)
				buf := make([]byte, mapper.SectorSize)
				if err := tg.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: s, Count: 1, Data: data}); err != nil {
					t.Error(err)
				}
				if err := tg.Submit(ctx, mapper.Request{Op: mapper.OpRead, Start: s, Count: 1, Data: buf}); err != nil || !bytes.Equal(buf, data) {
					t.Errorf("sector %d: %v, %s", s, err, mappertest.Describe(buf))
					return
				}
			}
		})
	}
	wg.Wait()
	if !bytes.Equal(disk.Peek(0, 8), mappertest.Stamped(0, 8, 1)) || !bytes.Equal(disk.Peek(32, 8), mappertest.Stamped(32, 8, 1)) {
		t.Error("blocks beside the segment changed")
	}
	if len(tg.claims.list) != 0 {
		t.Errorf("%d claims are left", len(tg.claims.list))
	}
}

// While part of a block is changed, whatever else changes the block waits, and is not undone.
func TestOthersWaitForPart(t *testing.T) {
	for _, other := range []mapper.Request{
		{Op: mapper.OpWrite, Start: 0, Count: 8, Data: mappertest.Stamped(0, 8, 3)},
		{Op: mapper.OpWrite, Start: 4, Count: 8, Data: mappertest.Stamped(4, 8, 3)},
		{Op: mapper.OpWriteZeroes, Start: 0, Count: 16},
		{Op: mapper.OpDiscard, Start: 0, Count: 16},
	} {
		synctest.Test(t, func(t *testing.T) {
			disk, read := disk4k(), make(chan struct{})
			tg := mustBuild(t, 320, "7:0 0 1", lateReader{disk, func() { <-read }})
			done := make(chan error, 2)
			go func() {
				done <- tg.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: 3, Count: 1, Data: mappertest.Stamped(3, 1, 2)})
			}()
			synctest.Wait()
			go func() { done <- tg.Submit(ctx, other) }()
			synctest.Wait()
			if n := disk.Counts(); n.Writes+n.WriteZeroes+n.Discards != 0 {
				t.Errorf("a %s went past a change: %+v", other.Op, n)
			}
			close(read)
			for range 2 {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			alone := disk4k()
			again := mustBuild(t, 320, "7:0 0 1", alone)
			for _, r := range []mapper.Request{{Op: mapper.OpWrite, Start: 3, Count: 1, Data: mappertest.Stamped(3, 1, 2)}, other} {
				if err := again.Submit(ctx, r); err != nil {
					t.Error(err)
				}
			}
			if !bytes.Equal(disk.Peek(0, 1024), alone.Peek(0, 1024)) {
				t.Errorf("a %s at the same time is not as one after the other", other.Op)
			}
		})
	}
}

// A killed process does not wait for a claim, and those behind it go on.
func TestCancelledClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c claims
		first, err := c.take(ctx, 0, 8, true)
		if err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := c.take(short, 4, 12, true); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the end of the context", err)
		}
		if id, err := c.take(ctx, 8, 12, true); err != nil {
			t.Error(err)
		} else {
			c.release(id)
		}
		c.release(first)
		a, err1 := c.take(ctx, 0, 8, false)
		b, err2 := c.take(ctx, 0, 8, false) // together
		if err1 != nil || err2 != nil {
			t.Error(err1, err2)
		}
		c.release(a)
		c.release(b)
		if len(c.list) != 0 {
			t.Errorf("%d claims are left", len(c.list))
		}
	})
}

// A block that cannot be read is not written.
func TestUnreadableBlock(t *testing.T) {
	disk := disk4k()
	bad := mappertest.NewFaulty(disk)
	tg := mustBuild(t, 320, "7:0 0 1", bad)
	bad.Inject(mappertest.Fault{Ops: []mapper.Op{mapper.OpRead}, Start: 8, End: 16})
	err := tg.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: 4, Count: 5, Data: make([]byte, 2560)})
	if !errors.Is(err, mapper.ErrIO) || disk.Counts().Writes != 0 {
		t.Errorf("got %v and %d writes, want an error and none", err, disk.Counts().Writes)
	}
}

// FuzzArgs: a line that is taken is rebuilt from its own table.
func FuzzArgs(f *testing.F) {
	f.Add(uint64(100), "7:0 8 1")
	f.Add(uint64(1)<<40, "7:0 32768 8 32768")
	f.Add(uint64(7), "7:0 18446744073709551608 2 8")
	f.Fuzz(func(t *testing.T, length uint64, line string) {
		tg, _, err := build(mapper.Sector(length), line)
		if err != nil {
			return
		}
		table := tg.Table(true)
		again, _, err := build(mapper.Sector(length), strings.Join(table, " "))
		if err != nil || !slices.Equal(again.Table(true), table) || again.block != tg.block {
			t.Errorf("rebuilt from %q: %v", table, err)
		}
	})
}

// FuzzOps: any two requests do what they do to a plain disk.
func FuzzOps(f *testing.F) {
	f.Add(uint8(0), uint16(3), uint16(9), uint8(2), uint16(8), uint16(8))
	f.Add(uint8(3), uint16(0), uint16(64), uint8(1), uint16(7), uint16(1))
	f.Fuzz(func(t *testing.T, op1 uint8, s1, n1 uint16, op2 uint8, s2, n2 uint16) {
		const length = 72
		disk := disk4k()
		tg := mustBuild(t, length, "7:0 8 1", disk)
		want := mappertest.Stamped(0, 1024, 1)[8*mapper.SectorSize:][:length*mapper.SectorSize]
		for i, q := range []struct {
			op   uint8
			s, n uint16
		}{{op1, s1, n1}, {op2, s2, n2}} {
			r := mapper.Request{Op: mapper.OpWrite, Start: mapper.Sector(q.s % length)}
			r.Count = 1 + mapper.Sector(q.n)%(length-r.Start)
			at := want[r.Start.Bytes():r.End().Bytes()]
			switch q.op % 3 {
			case 0:
				r.Data = mappertest.Stamped(r.Start, r.Count, uint64(i+2))
				copy(at, r.Data)
			case 1:
				r.Op = mapper.OpWriteZeroes
				clear(at)
			case 2:
				r.Op, r.Data = mapper.OpRead, make([]byte, len(at))
			}
			if err := tg.Submit(ctx, r); err != nil {
				t.Fatal(err)
			}
			if r.Op == mapper.OpRead && !bytes.Equal(r.Data, at) {
				t.Errorf("read of %d at %d", r.Count, r.Start)
			}
		}
		if !bytes.Equal(disk.Peek(8, length), want) {
			t.Error("the disk holds something else")
		}
	})
}

func TestSubmitDoesNotAllocate(t *testing.T) {
	tg := mustBuild(t, 800, "7:0 0 1 8", mappertest.Null{Name: "7:0", Size: 1000})
	for _, op := range []mapper.Op{mapper.OpRead, mapper.OpWrite} {
		for _, start := range []mapper.Sector{16, 13} { // whole blocks and parts
			r := mapper.Request{Op: op, Start: start, Count: 8, Data: make([]byte, 4096)}
			if n := testing.AllocsPerRun(100, func() { _ = tg.Submit(ctx, r) }); n != 0 {
				t.Errorf("%v allocations for a %s at %d, want none", n, op, start)
			}
		}
	}
}
