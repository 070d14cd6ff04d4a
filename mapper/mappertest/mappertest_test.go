package mappertest

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"dmfs/mapper"
)

var ctx = context.Background()

func write(s, n mapper.Sector, serial uint64, flags mapper.Flags) mapper.Request {
	return mapper.Request{Op: mapper.OpWrite, Flags: flags, Start: s, Count: n, Data: Stamped(s, n, serial)}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCheckStampSaysWhatIsWhere(t *testing.T) {
	buf := Stamped(810, 4, 50)
	must(t, CheckStamp(buf, 810, 50))
	copy(buf[2*mapper.SectorSize:], Stamped(300, 1, 41))
	err := CheckStamp(buf, 810, 50)
	if want := "sector 812 holds 300 of write 41, want 812 of write 50"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}
	for _, c := range []struct {
		change func(sector []byte)
		want   string
	}{
		{func(b []byte) { clear(b) }, "sector 0 holds zeroes, want 0 of write 7"},
		{func(b []byte) { fill(b, Discarded) }, "sector 0 holds nothing but 0xdd, want 0 of write 7"},
		{func(b []byte) { copy(b, b[16:]) }, "sector 0 holds 01 00 00 00 00 00 00 00 6a 61 74 53 73 66 6d 64... (no whole stamp), want 0 of write 7"},
	} {
		buf := Stamped(0, 1, 7)
		c.change(buf)
		if err := CheckStamp(buf, 0, 7); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

// FuzzDisk compares the disk with a slice of bytes.
func FuzzDisk(f *testing.F) {
	f.Add([]byte{1, 0, 200, 4, 100, 50, 3, 130, 100, 1, 127, 2})
	f.Fuzz(func(t *testing.T, ops []byte) {
		const size = 400
		d, model := NewDisk("", size), make([]byte, size*mapper.SectorSize)
		for serial := uint64(1); len(ops) >= 3; ops, serial = ops[3:], serial+1 {
			op, s, n := mapper.Op(ops[0]%5), mapper.Sector(ops[1]), mapper.Sector(ops[2]%128)+1
			r, want := mapper.Request{Op: op, Start: s, Count: n}, model[s.Bytes():][:n.Bytes()]
			switch op {
			case mapper.OpRead:
				r.Data = make([]byte, n.Bytes())
			case mapper.OpWrite:
				r.Data = Stamped(s, n, serial)
				copy(want, r.Data)
			case mapper.OpFlush:
				r = mapper.Request{Op: op}
			case mapper.OpDiscard:
				fill(want, Discarded)
			case mapper.OpWriteZeroes:
				clear(want)
			}
			must(t, d.Submit(ctx, r))
		}
		if !bytes.Equal(d.Peek(0, size), model) || !bytes.Equal(d.Clone().Peek(0, size), model) {
			t.Error("the disk differs from its model")
		}
	})
}

func TestDiskRefusesUnlawfulRequests(t *testing.T) {
	sector := make([]byte, mapper.SectorSize)
	for _, r := range []mapper.Request{
		{Op: mapper.OpRead, Start: 8, Count: 1, Data: sector},
		{Op: mapper.OpRead, Start: ^mapper.Sector(0), Count: 1, Data: sector},
		{Op: mapper.OpRead, Count: 2, Data: sector},
		{Op: mapper.OpRead},
		{Op: mapper.OpFlush, Count: 1},
		{Op: mapper.OpDiscard, Count: 1, Data: sector},
		{Op: 99, Count: 1},
	} {
		d := NewDisk("", 8)
		if err := d.Submit(ctx, r); !errors.Is(err, ErrContract) || !errors.Is(d.Broken(), ErrContract) {
			t.Errorf("%+v: got %v, and remembered %v", r, err, d.Broken())
		}
	}
	d := NewDisk("", 8)
	d.SetLimits(mapper.Limits{LogicalBlock: 4096})
	if err := d.Submit(ctx, mapper.Request{Op: mapper.OpDiscard, Count: 8}); !errors.Is(err, mapper.ErrNotSupported) || d.Broken() != nil {
		t.Errorf("discard without support: %v", err)
	}
	if err := d.Submit(ctx, write(0, 1, 1, 0)); !errors.Is(err, ErrContract) {
		t.Errorf("part of a block: %v", err)
	}
}

func TestDiskIsSparse(t *testing.T) {
	d := NewDisk("", 1<<40)
	must(t, d.Submit(ctx, write(1<<39, 1, 1, 0)))
	if got := d.Allocated(); got != pageSectors {
		t.Errorf("%d sectors allocated", got)
	}
	must(t, d.Submit(ctx, mapper.Request{Op: mapper.OpWriteZeroes, Start: 1<<39 - 1000, Count: 2000}))
	if got := d.Allocated(); got != 0 {
		t.Errorf("%d sectors allocated after zeroing", got)
	}
}

func TestFaulty(t *testing.T) {
	d := NewFaulty(NewDisk("7:0", 64))
	if mapper.DiskName(d) != "7:0" {
		t.Error("the name is not passed on")
	}
	d.FailNth(2)
	d.Inject(Fault{Ops: []mapper.Op{mapper.OpWrite}, Start: 40, End: 48, Err: mapper.ErrMedium})
	for i, c := range []struct {
		r    mapper.Request
		want error
	}{
		{write(0, 8, 1, 0), nil},
		{write(0, 8, 2, 0), mapper.ErrIO},
		{write(32, 8, 3, 0), nil},
		{write(36, 8, 4, 0), mapper.ErrMedium},
		{mapper.Request{Op: mapper.OpRead, Start: 40, Count: 1, Data: make([]byte, 512)}, nil},
		{mapper.Request{Op: mapper.OpFlush}, nil},
		{write(48, 8, 5, 0), nil},
	} {
		if err := d.Submit(ctx, c.r); !errors.Is(err, c.want) {
			t.Errorf("request %d: got %v, want %v", i, err, c.want)
		}
	}
	if d.IOs() != 7 || d.Failed() != 2 {
		t.Errorf("%d requests, %d failed", d.IOs(), d.Failed())
	}
	below := d.Disk.(*Disk)
	if CheckStamp(below.Peek(0, 4), 0, 2) != nil || CheckStamp(below.Peek(4, 4), 4, 1) != nil {
		t.Error("a failed write should be half done")
	}
	d.Heal()
	must(t, d.Submit(ctx, write(40, 8, 6, 0)))
}

func TestStall(t *testing.T) {
	d := NewStall(NewDisk("", 8))
	d.Hold()
	done := make(chan error)
	go func() { done <- d.Submit(ctx, write(0, 1, 1, 0)) }()
	limit, cancel := context.WithTimeout(ctx, 5*time.Second)
	must(t, d.WaitHeld(limit, 1))
	ended, end := context.WithCancel(ctx)
	end()
	if err := d.Submit(ended, write(1, 1, 2, 0)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	cancel()
	d.Release()
	must(t, <-done)
	must(t, CheckZero(d.Disk.(*Disk).Peek(1, 1), 1))
}

// TestCrashFaultModel shows each sentence of the fault model that is about what may be found.
func TestCrashFaultModel(t *testing.T) {
	d := NewCrash("7:0", 64)
	must(t, d.Submit(ctx, write(0, 8, 1, 0)))
	must(t, d.Submit(ctx, mapper.Request{Op: mapper.OpFlush}))
	must(t, d.Submit(ctx, write(0, 4, 2, 0)))
	must(t, d.Submit(ctx, write(0, 2, 3, 0)))
	must(t, d.Submit(ctx, write(2, 1, 4, mapper.FlagFUA)))
	if got := d.Dirty(); got != 3 {
		t.Errorf("%d sectors in danger, want 0, 1 and 3", got)
	}
	found := make([]map[uint64]bool, 8)
	for i := range found {
		found[i] = make(map[uint64]bool)
	}
	for seed := range uint64(64) {
		c := d.CrashClone(seed)
		if c.Dirty() != 0 || c.DiskName() != "7:0" {
			t.Fatal("the clone is not a fresh disk of that name")
		}
		for i := range mapper.Sector(8) {
			s, serial, ok := ReadStamp(c.Peek(i, 1))
			if !ok || s != i {
				t.Fatalf("sector %d holds %s", i, Describe(c.Peek(i, 1)))
			}
			found[i][serial] = true
		}
	}
	for i, want := range [][]uint64{{1, 2, 3}, {1, 2, 3}, {4}, {1, 2}, {1}, {1}, {1}, {1}} {
		if len(found[i]) != len(want) {
			t.Errorf("sector %d: found writes %v after cuts, want %v", i, found[i], want)
		}
		for _, serial := range want {
			if !found[i][serial] {
				t.Errorf("sector %d: write %d was never found", i, serial)
			}
		}
	}
	must(t, CheckStamp(d.CrashClone(LoseAll).Peek(0, 2), 0, 1))
	must(t, CheckStamp(d.CrashClone(KeepAll).Peek(0, 2), 0, 3))
	must(t, CheckStamp(d.Peek(0, 2), 0, 3)) // the disk itself goes on
}

// Disks of one supply lose their caches at the same moment, and one's flush does not help another.
func TestPowerCutsAllDisks(t *testing.T) {
	var p Power
	a, b := p.Disk("a", 8), p.Disk("b", 8)
	cuts := 0
	p.Before = func(_ *Crash, r mapper.Request) {
		if r.Op == mapper.OpFlush {
			cuts++
			p.Cut(LoseAll)
		}
	}
	must(t, a.Submit(ctx, write(0, 1, 1, 0)))
	must(t, b.Submit(ctx, write(0, 1, 1, 0)))
	must(t, a.Submit(ctx, mapper.Request{Op: mapper.OpFlush}))
	after := p.Cut(LoseAll).Disks()
	must(t, CheckStamp(after[0].Peek(0, 1), 0, 1))
	must(t, CheckZero(after[1].Peek(0, 1), 0))
	if cuts != 1 {
		t.Errorf("%d cuts at flushes, want 1", cuts)
	}
}
