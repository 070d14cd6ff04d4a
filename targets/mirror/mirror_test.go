package mirror

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

func TestConformance(t *testing.T) {
	const length = 1000
	legs := []mappertest.DiskSpec{{Name: "7:0", Sectors: 1200}, {Name: "7:1", Sectors: 1200}, {Name: "7:2", Sectors: 1200}}
	large := mapper.Limits{LogicalBlock: 4096, DiscardGranularity: 8, MaxDiscard: mapper.MaxSectors, MaxWriteZeroes: mapper.MaxSectors, VolatileCache: true}
	noZeroes := mappertest.DefaultLimits
	noZeroes.MaxWriteZeroes = 0
	log := mappertest.DiskSpec{Name: "7:9", Sectors: 16, NoFlush: true, NoDisk: unix.EINVAL}
	for _, c := range []struct {
		name, args string
		disks      []mappertest.DiskSpec
	}{
		{"core", "core 1 64 2 7:0 0 7:1 100", legs[:2]},
		{"core, three legs, small regions", "core 1 8 3 7:0 0 7:1 100 7:2 8", legs},
		{"nosync", "core 2 128 nosync 2 7:0 0 7:1 100", legs[:2]},
		{"disk", "disk 2 7:9 64 2 7:0 0 7:1 100", []mappertest.DiskSpec{legs[0], legs[1], log}},
		{"disk, one region", "disk 3 7:9 512 sync 2 7:0 0 7:1 100", []mappertest.DiskSpec{legs[0], legs[1], log}},
		{"blocks of 4096", "disk 2 7:9 8 2 7:0 0 7:1 104", []mappertest.DiskSpec{
			{Name: "7:0", Sectors: 1200, Limits: large}, {Name: "7:1", Sectors: 1200}, log,
		}},
		{"reads are balanced", "disk 2 7:9 64 3 7:0 0 7:1 100 7:2 8 1 handle_errors", append(slices.Clone(legs), log)},
		{"no write-zeroes", "core 1 64 2 7:0 0 7:1 100", []mappertest.DiskSpec{legs[0], {Name: "7:1", Sectors: 1200, Limits: noZeroes}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			mappertest.TestTarget(t, &Type, mappertest.Setup{
				Disks: c.disks, Len: length, Args: strings.Fields(c.args), FlushesMore: true,
				WaitsForMending: strings.Contains(c.args, "handle_errors"),
			})
		})
	}
}

// build makes a target of a table line on disks, and does not start it; the segment has length sectors.
func build(t testing.TB, length mapper.Sector, line string, disks ...mapper.Disk) (*target, *mappertest.Host, error) {
	t.Helper()
	h := mappertest.NewHost(disks...)
	tg, err := newTarget(context.Background(), h, mapper.Spec{Len: length, Type: "mirror", Args: strings.Fields(line)})
	if err != nil {
		return nil, h, err
	}
	return tg.(*target), h, nil
}

// start makes a target and starts it; it is stopped when the test ends.
func start(t testing.TB, length mapper.Sector, line string, disks ...mapper.Disk) (*target, *mappertest.Host) {
	t.Helper()
	tg, h, err := build(t, length, line, disks...)
	if err != nil {
		t.Fatal(err)
	}
	resume(t, tg)
	t.Cleanup(func() { suspend(t, tg, true) })
	return tg, h
}

func resume(t testing.TB, tg *target) {
	t.Helper()
	if err := tg.PreResume(context.Background()); err != nil {
		t.Fatal(err)
	}
	tg.Resume()
}

func suspend(t testing.TB, tg *target, noFlush bool) {
	t.Helper()
	if tg.isSuspending() {
		return
	}
	tg.PreSuspend(noFlush)
	if err := tg.PostSuspend(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func (t *target) isSuspending() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.suspending
}

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// waitStatus waits until the status is want.
func waitStatus(t testing.TB, tg *target, want string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		got, err := tg.Status(context.Background(), false)
		if err != nil {
			t.Fatal(err)
		}
		if got == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the status is %q, want %q", got, want)
		}
	}
}

func write(tg *target, s, n mapper.Sector, serial uint64) error {
	return tg.Submit(context.Background(), mapper.Request{Op: mapper.OpWrite, Start: s, Count: n, Data: mappertest.Stamped(s, n, serial)})
}

func read(tg *target, s, n mapper.Sector) ([]byte, error) {
	buf := make([]byte, n.Bytes())
	err := tg.Submit(context.Background(), mapper.Request{Op: mapper.OpRead, Start: s, Count: n, Data: buf})
	return buf, err
}

// pair returns two disks, stamped with 1 and 2, and what stands before them.
func pair(length mapper.Sector) (disks [2]*mappertest.Disk, faults [2]*mappertest.Faulty, stalls [2]*mappertest.Stall) {
	for i, name := range []string{"7:0", "7:1"} {
		disks[i] = mappertest.NewDisk(name, length)
		disks[i].Poke(0, mappertest.Stamped(0, length, uint64(i+1)))
		stalls[i] = mappertest.NewStall(disks[i])
		faults[i] = mappertest.NewFaulty(stalls[i])
	}
	return disks, faults, stalls
}

// Regions are copied one after the other, each within the bounds of a chunk, and the last may be short.
func TestResync(t *testing.T) {
	const length = 5000
	disks, faults, _ := pair(length)
	tg, h := start(t, length, "core 1 2048 2 7:0 0 7:1 0", faults[0], faults[1])
	waitStatus(t, tg, "2 7:0 7:1 3/3 1 AA 1 core")
	if err := mappertest.CheckStamp(disks[1].Peek(0, length), 0, 1); err != nil {
		t.Error(err)
	}
	if n, want := disks[0].Counts().Reads, 5; n != want {
		t.Errorf("%d reads, want %d", n, want)
	}
	if h.Events() != 1 {
		t.Errorf("%d events, want 1", h.Events())
	}
}

// While a region is copied writes to it wait and others do not; a suspend ends the copying, whatever the disks do.
func TestWritesDuringResync(t *testing.T) {
	const length = 1024
	disks, faults, stalls := pair(length)
	stalls[1].Hold()
	tg, _ := start(t, length, "core 1 256 2 7:0 0 7:1 0", faults[0], faults[1])
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := stalls[1].WaitHeld(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if err := write(tg, 256, 8, 3); err != nil {
		t.Fatal(err)
	}
	inRegion := make(chan error, 1)
	go func() { inRegion <- write(tg, 8, 8, 4) }()
	killed, kill := context.WithCancel(context.Background())
	kill()
	err := tg.Submit(killed, mapper.Request{Op: mapper.OpWrite, Start: 0, Count: 8, Data: mappertest.Stamped(0, 8, 5)})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a write that was killed while it waited: %v", err)
	}
	select {
	case err := <-inRegion:
		t.Fatalf("the write to the region that is copied did not wait: %v", err)
	default:
	}
	suspend(t, tg, false)
	if err := <-inRegion; err != nil {
		t.Fatal(err)
	}
	stalls[1].Release()
	resume(t, tg)
	waitStatus(t, tg, "2 7:0 7:1 4/4 1 AA 1 core")
	suspend(t, tg, false)
	if !slices.Equal(disks[0].Peek(0, length), disks[1].Peek(0, length)) {
		t.Error("the legs differ")
	}
	if err := mappertest.CheckStamp(disks[1].Peek(8, 8), 8, 4); err != nil {
		t.Error(err)
	}
}

// What a killed write left on one leg is copied to the other at once.
func TestKilledWrite(t *testing.T) {
	const length = 512
	disks, faults, stalls := pair(length)
	tg, h := start(t, length, "core 1 64 2 7:0 0 7:1 0 1 handle_errors", faults[0], faults[1])
	waitStatus(t, tg, "2 7:0 7:1 8/8 1 AA 1 core")
	stalls[1].Hold()
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() {
		result <- tg.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: 100, Count: 8, Data: mappertest.Stamped(100, 8, 3)})
	}()
	if err := stalls[1].WaitHeld(context.Background(), 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	stalls[1].Release()
	waitStatus(t, tg, "2 7:0 7:1 8/8 1 AA 1 core")
	if !slices.Equal(disks[0].Peek(0, length), disks[1].Peek(0, length)) {
		t.Error("the legs differ")
	}
	if h.Events() != 1 {
		t.Errorf("%d events: a killed write is no failure", h.Events())
	}
}

// A held write ends with its context, with an error at a suspend, and goes to the next table at one with noflush.
func TestHeldWrites(t *testing.T) {
	for _, noFlush := range []bool{false, true} {
		_, faults, _ := pair(512)
		tg, _ := start(t, 512, "core 1 64 2 7:0 0 7:1 0 1 handle_errors", faults[0], faults[1])
		waitStatus(t, tg, "2 7:0 7:1 8/8 1 AA 1 core")
		faults[0].Inject(mappertest.Fault{Ops: []mapper.Op{mapper.OpWrite}})
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
		err := tg.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Count: 8, Data: make([]byte, 4096)})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want the end of the context", err)
		}
		result := make(chan error, 1)
		go func() { result <- write(tg, 100, 8, 3) }()
		for tg.syncedRegions() != 6 {
			time.Sleep(time.Millisecond)
		}
		suspend(t, tg, noFlush)
		want := mapper.ErrIO
		if noFlush {
			want = mapper.ErrRequeue
		}
		if err := <-result; !errors.Is(err, want) {
			t.Errorf("noflush %v: got %v, want %v", noFlush, err, want)
		}
		if got := tg.primary.Load(); got != 1 {
			t.Errorf("the primary leg is %d, want the other one", got)
		}
	}
}

func (t *target) syncedRegions() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.log.synced
}

// A leg that cannot be read keeps the others from being overwritten, and is not called copied, whatever becomes of errors.
func TestUnreadableSource(t *testing.T) {
	for _, features := range []string{"", " 1 handle_errors"} {
		disks, faults, _ := pair(512)
		faults[0].Inject(mappertest.Fault{Start: 70, End: 71})
		tg, _ := start(t, 512, "core 1 64 2 7:0 0 7:1 0"+features, faults[0], faults[1])
		waitStatus(t, tg, "2 7:0 7:1 7/8 1 SA 1 core")
		if err := mappertest.CheckStamp(disks[1].Peek(64, 64), 64, 2); err != nil {
			t.Errorf("%q: %v", features, err)
		}
		if _, err := read(tg, 64, 1); !errors.Is(err, mapper.ErrIO) {
			t.Errorf("%q: a read of the region: %v, want an error", features, err)
		}
	}
}

// Without handle_errors a leg that missed a region is not asked when the other fails, though the status calls it good.
func TestStaleLeg(t *testing.T) {
	_, faults, _ := pair(512)
	faults[1].Inject(mappertest.Fault{Ops: []mapper.Op{mapper.OpWrite}, Times: 1})
	tg, _ := start(t, 512, "core 1 64 2 7:0 0 7:1 0", faults[0], faults[1])
	waitStatus(t, tg, "2 7:0 7:1 8/8 1 AA 1 core")
	faults[0].Inject(mappertest.Fault{Ops: []mapper.Op{mapper.OpRead}})
	if buf, err := read(tg, 0, 8); !errors.Is(err, mapper.ErrIO) {
		t.Errorf("read %q, %v; want an error", buf[:32], err)
	}
}

// With handle_errors reads go to the leg that has less to do, without to the first one; and so they do with nosync, where legs may differ.
func TestBalance(t *testing.T) {
	for _, c := range []struct {
		log, features string
		want          int
	}{{"1 64", "", 0}, {"1 64", " 1 handle_errors", 1}, {"2 64 nosync", " 1 handle_errors", 0}} {
		disks, faults, stalls := pair(512)
		tg, _ := start(t, 512, "core "+c.log+" 2 7:0 0 7:1 0"+c.features, faults[0], faults[1])
		waitStatus(t, tg, "2 7:0 7:1 8/8 1 AA 1 core")
		stalls[0].Hold()
		done := make(chan struct{}, 2)
		go func() { _, _ = read(tg, 0, 8); done <- struct{}{} }()
		if err := stalls[0].WaitHeld(context.Background(), 1); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = read(tg, 0, 8); done <- struct{}{} }()
		if c.want == 1 {
			<-done
		} else if err := stalls[0].WaitHeld(context.Background(), 2); err != nil {
			t.Fatal(err)
		}
		if got := disks[1].Counts().Reads; got != c.want {
			t.Errorf("%s%s: the other leg had %d reads, want %d", c.log, c.features, got, c.want)
		}
		stalls[0].Release()
		<-done
	}
}

// Many writes to a region cost the log two: one that calls it dirty, one that calls it clean.
func TestLogWrites(t *testing.T) {
	_, faults, _ := pair(512)
	log := mappertest.NewDisk("7:9", 16)
	tg, _ := start(t, 512, "disk 3 7:9 64 nosync 2 7:0 0 7:1 0", faults[0], faults[1], log)
	if got := log.Peek(2, 1)[0]; got != 0xff {
		t.Fatalf("at first the bits are %#x, want all clean", got)
	}
	before := log.Counts().Writes
	for i := range mapper.Sector(8) {
		if err := write(tg, 64+i, 1, 3); err != nil {
			t.Fatal(err)
		}
	}
	if got := log.Peek(2, 1)[0]; got != 0xfd {
		t.Errorf("after a write the bits are %#x, want region 1 dirty", got)
	}
	suspend(t, tg, false)
	if got := log.Peek(2, 1)[0]; got != 0xff {
		t.Errorf("after the suspend the bits are %#x, want all clean", got)
	}
	if n := log.Counts().Writes - before; n != 2 {
		t.Skipf("%d log writes: this machine was too slow for the delay", n)
	}
}

// A read-only mirror writes nothing.
func TestReadOnly(t *testing.T) {
	disks, faults, _ := pair(512)
	log := mappertest.NewDisk("7:9", 16)
	h := mappertest.NewHost(faults[0], faults[1], log)
	h.RO = true
	tg, err := newTarget(context.Background(), h, mapper.Spec{Len: 512, Args: strings.Fields("disk 2 7:9 64 2 7:0 0 7:1 0")})
	if err != nil {
		t.Fatal(err)
	}
	resume(t, tg.(*target))
	buf, err := read(tg.(*target), 0, 512)
	if err == nil {
		err = mappertest.CheckStamp(buf, 0, 1)
	}
	if err != nil {
		t.Error(err)
	}
	suspend(t, tg.(*target), false)
	if n := disks[1].Counts().Writes + log.Counts().Writes; n != 0 {
		t.Errorf("%d writes", n)
	}
}

// FuzzArgs: a line that is taken is rebuilt from its own table.
func FuzzArgs(f *testing.F) {
	f.Add(uint64(2000), "core 1 64 2 7:0 0 7:1 0")
	f.Add(uint64(2000), "disk 3 7:9 64 nosync 3 7:0 0 7:1 08 7:0 16 2 keep_log handle_errors")
	f.Add(uint64(1)<<62, "core 1 2147483648 2 7:0 0 7:1 0")
	f.Add(uint64(2000), "core 4294967295 2 2 7:0 0 7:1 0")
	f.Add(uint64(7), "core 2 4 sync 9 7:0 0")
	f.Fuzz(func(t *testing.T, length uint64, line string) {
		disks := []mapper.Disk{
			mappertest.Null{Name: "7:0", Size: 1 << 20}, mappertest.Null{Name: "7:1", Size: 1 << 20}, mappertest.Null{Name: "7:9", Size: 1 << 12},
		}
		tg, _, err := build(t, mapper.Sector(length%(1<<32)), line, disks...)
		if err != nil {
			return
		}
		args := tg.Table(true)
		again, _, err := build(t, mapper.Sector(length%(1<<32)), strings.Join(args, " "), disks...)
		if err != nil || !reflect.DeepEqual(again.Table(true), args) {
			t.Fatalf("rebuilt from %q: %v", args, err)
		}
	})
}

// A mirror of more regions than memory is meant for is refused before any is taken.
func TestTooManyRegions(t *testing.T) {
	disks := []mapper.Disk{mappertest.Null{Name: "7:0", Size: 1 << 20}, mappertest.Null{Name: "7:1", Size: 1 << 20}}
	_, h, err := build(t, 1<<40, "core 1 2 2 7:0 0 7:1 0", disks...)
	if !errors.Is(err, unix.EINVAL) || !slices.Equal(h.Log(), []string{"dirty region log: couldn't allocate sync bitset"}) {
		t.Errorf("got %v and the log %q", err, h.Log())
	}
}

func null(t testing.TB, args string) *target {
	tg, _ := start(t, 8192, args, mappertest.Null{Name: "7:0", Size: 1 << 20}, mappertest.Null{Name: "7:1", Size: 1 << 20})
	waitStatus(t, tg, "2 7:0 7:1 128/128 1 AA 1 core")
	return tg
}

// A read costs no allocation.
func TestReadDoesNotAllocate(t *testing.T) {
	for _, args := range []string{"core 2 64 nosync 2 7:0 0 7:1 0", "core 2 64 sync 2 7:0 0 7:1 0 1 handle_errors"} {
		tg := null(t, args)
		r := mapper.Request{Op: mapper.OpRead, Start: 16, Count: 4, Data: make([]byte, 2048)}
		ctx := context.Background()
		if n := testing.AllocsPerRun(100, func() { _ = tg.Submit(ctx, r) }); n != 0 {
			t.Errorf("%s: %v allocations", args, n)
		}
	}
}

func BenchmarkSubmit(b *testing.B) {
	ctx := context.Background()
	for _, c := range []struct {
		name, args string
		op         mapper.Op
	}{
		{"read", "core 2 64 nosync 2 7:0 0 7:1 0", mapper.OpRead},
		{"read, balanced", "core 2 64 sync 2 7:0 0 7:1 0 1 handle_errors", mapper.OpRead},
		{"write", "core 2 64 nosync 2 7:0 0 7:1 0", mapper.OpWrite},
	} {
		b.Run(c.name, func(b *testing.B) {
			tg := null(b, c.args)
			r := mapper.Request{Op: c.op, Start: 16, Count: 4, Data: make([]byte, 2048)}
			b.ReportAllocs()
			for b.Loop() {
				_ = tg.Submit(ctx, r)
			}
		})
	}
}
