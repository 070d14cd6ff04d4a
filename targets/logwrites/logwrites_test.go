package logwrites

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

func TestConformance(t *testing.T) {
	for name, log := range map[string]mappertest.DiskSpec{
		"large log":     {Name: "7:1", Sectors: 1 << 18, NoFlush: true},
		"log runs full": {Name: "7:1", Sectors: 700, NoFlush: true},
		"log of 4 KiB":  {Name: "7:1", Sectors: 1 << 18, NoFlush: true, Limits: mapper.Limits{LogicalBlock: 4096}},
		"tiny log":      {Name: "7:1", Sectors: 2, NoFlush: true},
	} {
		t.Run(name, func(t *testing.T) {
			mappertest.TestTarget(t, NewType(), mappertest.Setup{
				Disks: []mappertest.DiskSpec{{Name: "7:0", Sectors: 400}, log}, Len: 304, Args: []string{"7:0", "7:1"},
			})
		})
	}
	t.Run("no discard, little memory", func(t *testing.T) {
		defer func(n int64) { maxHeld = n }(maxHeld)
		maxHeld = 8000
		mappertest.TestTarget(t, NewType(), mappertest.Setup{
			Disks: []mappertest.DiskSpec{{Name: "7:0", Sectors: 400, Limits: mapper.Limits{LogicalBlock: 512}}, {Name: "7:1", Sectors: 1 << 18, NoFlush: true}},
			Len:   304, Args: []string{"7:0", "7:1"},
		})
	})
}

// A bench is a target of 256 sectors.
type bench struct {
	t     *testing.T
	disk  *mappertest.Disk
	log   *mappertest.Disk
	fault *mappertest.Faulty // in front of log
	host  *mappertest.Host
	*target
}

func newBench(t *testing.T, logSectors mapper.Sector) *bench {
	t.Helper()
	b := &bench{t: t, disk: mappertest.NewDisk("7:0", 256), log: mappertest.NewDisk("7:1", logSectors)}
	b.fault = mappertest.NewFaulty(b.log)
	b.host = mappertest.NewHost(b.disk, b.fault)
	b.target = b.again(NewType())
	return b
}

// again makes another target on the same disks and starts it.
func (b *bench) again(typ *mapper.Type) *target {
	b.t.Helper()
	made, err := typ.New(context.Background(), b.host, mapper.Spec{Len: 256, Args: []string{"7:0", "7:1"}})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := made.(*target).PreResume(context.Background()); err != nil {
		b.t.Fatal(err)
	}
	return made.(*target)
}

func (b *bench) submit(op mapper.Op, flags mapper.Flags, s, n mapper.Sector, serial uint64) error {
	r := mapper.Request{Op: op, Flags: flags, Start: s, Count: n}
	if op == mapper.OpWrite {
		r.Data = mappertest.Stamped(s, n, serial)
	}
	return b.Submit(context.Background(), r)
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) write(s, n mapper.Sector, serial uint64) {
	b.must(b.submit(mapper.OpWrite, 0, s, n, serial))
}
func (b *bench) fua(s, n mapper.Sector, serial uint64) {
	b.must(b.submit(mapper.OpWrite, mapper.FlagFUA, s, n, serial))
}
func (b *bench) flush() { b.must(b.submit(mapper.OpFlush, 0, 0, 0, 0)) }

// logged returns the entries that the super block counts: "w0+8" with the serial, "fua", "discard", "flush", a mark.
func (b *bench) logged() string {
	b.t.Helper()
	var words []string
	b.each(func(e Entry, data []byte) {
		switch {
		case e.Flags&FlagMark != 0:
			words = append(words, "["+e.Mark+"]")
		case e.Flags&FlagFlush != 0:
			words = append(words, "flush")
		case e.Flags&FlagDiscard != 0:
			words = append(words, fmt.Sprintf("discard%d+%d", e.Sector, e.Count))
		default:
			_, serial, _ := mappertest.ReadStamp(data)
			name := "w"
			if e.Flags&FlagFUA != 0 {
				name = "fua"
			}
			words = append(words, fmt.Sprintf("%s%d:%d+%d", name, serial, e.Sector, e.Count))
		}
	})
	return strings.Join(words, " ")
}

// each calls f with each entry of the log.
func (b *bench) each(f func(e Entry, data []byte)) {
	b.t.Helper()
	raw := b.log.Peek(0, b.log.Sectors())
	s, err := DecodeSuper(raw)
	b.must(err)
	raw = raw[s.SectorSize:]
	for range s.Entries {
		e, err := DecodeEntry(raw[:s.SectorSize])
		b.must(err)
		raw = raw[s.SectorSize:]
		n := 0
		if e.HasData() {
			n = int(e.Count) * s.SectorSize
		}
		f(e, raw[:n])
		raw = raw[n:]
	}
}

func (b *bench) want(what, got, want string) {
	b.t.Helper()
	if got != want {
		b.t.Errorf("%s:\ngot  %s\nwant %s", what, got, want)
	}
}

func TestWhatIsLoggedWhen(t *testing.T) {
	b := newBench(t, 1<<14)
	b.want("begun", b.logged(), "")
	b.write(0, 4, 1)
	b.must(b.submit(mapper.OpDiscard, 0, 100, 8, 0))
	b.want("a write waits", b.logged(), "")
	b.fua(50, 1, 2)
	b.want("FUA", b.logged(), "fua2:50+1")
	b.write(10, 1, 3)
	b.flush()
	b.want("flush", b.logged(), "fua2:50+1 w1:0+4 discard100+8 w3:10+1 flush")
	b.write(11, 1, 4)
	_, err := b.Message(context.Background(), []string{"Mark", "here"})
	b.must(err)
	b.must(b.Close())
	b.want("closed", b.logged(), "fua2:50+1 w1:0+4 discard100+8 w3:10+1 flush [here] w4:11+1 [dm-log-writes-end]")
	status, err := b.Status(context.Background(), false)
	b.must(err)
	b.want("status", status, "8 15")
}

// A write with FUA over one that waits comes after it in the log: else the log would end with the old data.
func TestFUAOverWaitingWrites(t *testing.T) {
	b := newBench(t, 1<<14)
	b.write(0, 4, 1)
	b.write(2, 4, 2)
	b.write(20, 1, 3)
	b.fua(5, 1, 4)
	b.want("log", b.logged(), "w1:0+4 w2:2+4 fua4:5+1")
	b.flush()
	b.want("log", b.logged(), "w1:0+4 w2:2+4 fua4:5+1 w3:20+1 flush")
}

// A write with FUA that waits for the log keeps its place among the others, and is not forgotten if the wait is given up.
func TestFUAKeepsItsPlace(t *testing.T) {
	for _, killed := range []bool{false, true} {
		b := newBench(t, 1<<14)
		b.wire <- struct{}{}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		result := make(chan error)
		go func() {
			result <- b.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Flags: mapper.FlagFUA, Start: 0, Count: 4, Data: mappertest.Stamped(0, 4, 1)})
		}()
		for waiting := 0; waiting == 0; {
			b.mu.Lock()
			waiting = len(b.queue)
			b.mu.Unlock()
		}
		b.write(2, 4, 2)
		if killed {
			cancel()
			if err := <-result; err == nil {
				t.Error("the wait was not given up")
			}
			b.release()
		} else {
			b.release()
			b.must(<-result)
			b.want("log", b.logged(), "fua1:0+4")
		}
		b.flush()
		b.want("log", b.logged(), "fua1:0+4 w2:2+4 flush")
		if b.held != 0 {
			t.Errorf("%d bytes are held", b.held)
		}
	}
}

// A flushGate is a disk whose flushes wait for what they are sent: nil, or the error to fail with.
type flushGate struct {
	*mappertest.Disk
	arrived chan chan error
}

func (d *flushGate) Submit(ctx context.Context, r mapper.Request) error {
	if r.Op == mapper.OpFlush {
		outcome := make(chan error)
		d.arrived <- outcome
		if err := <-outcome; err != nil {
			return err
		}
	}
	return d.Disk.Submit(ctx, r)
}

// Of two flushes that overlap each is logged behind all that it covers, whichever completes first, and what completed after both were
// submitted comes behind both.
func TestOverlappingFlushes(t *testing.T) {
	for _, c := range []struct {
		name        string
		secondFirst bool
		firstFails  bool
		want        string
	}{
		{"in order", false, false, "w1:0+1 flush w2:1+1 flush"},
		{"in the other order", true, false, "w1:0+1 w2:1+1 flush flush"},
		{"the first fails", false, true, "w1:0+1 w2:1+1 flush"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, 1<<14)
			gate := &flushGate{b.disk, make(chan chan error)}
			b.target.disk = gate
			results := [2]chan error{make(chan error, 1), make(chan error, 1)}
			var outcomes [2]chan error
			for i := range 2 {
				b.write(mapper.Sector(i), 1, uint64(i+1))
				go func() { results[i] <- b.submit(mapper.OpFlush, 0, 0, 0, 0) }()
				outcomes[i] = <-gate.arrived
			}
			b.write(2, 1, 3)
			order := []int{0, 1}
			if c.secondFirst {
				order = []int{1, 0}
			}
			for _, i := range order {
				var outcome error
				if i == 0 && c.firstFails {
					outcome = mapper.ErrIO
				}
				outcomes[i] <- outcome
				if err := <-results[i]; !errors.Is(err, outcome) {
					t.Errorf("flush %d: %v", i, err)
				}
			}
			b.want("log", b.logged(), c.want)
			b.target.disk = b.disk
			b.flush()
			b.want("and after the next flush", b.logged(), c.want+" w3:2+1 flush")
		})
	}
}

// Whatever ran at the same time, the log replays to what the disk holds.
func TestConcurrent(t *testing.T) {
	defer func(n int64) { maxHeld = n }(maxHeld)
	maxHeld = 40000
	b := newBench(t, 1<<17)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for serial := 1; serial < 200; serial++ {
				flags := mapper.Flags(0)
				if serial%17 == 0 {
					flags = mapper.FlagFUA
				}
				b.must(b.submit(mapper.OpWrite, flags, mapper.Sector(w*8+serial%4), 4, uint64(serial)))
				if serial%5 == 0 {
					b.flush()
				}
			}
		})
	}
	wg.Wait()
	b.must(b.Close())
	replayed := mappertest.NewDisk("7:2", 256)
	b.each(func(e Entry, data []byte) { replayed.Poke(mapper.Sector(e.Sector), data) })
	if !bytes.Equal(replayed.Peek(0, 256), b.disk.Peek(0, 256)) {
		t.Error("the log does not replay to what the disk holds")
	}
	if b.held != 0 {
		t.Errorf("%d bytes are still held", b.held)
	}
}

// More than the bound is not held; what is logged early is the oldest.
func TestMemoryIsBounded(t *testing.T) {
	defer func(n int64) { maxHeld = n }(maxHeld)
	maxHeld = 10 * (512 + 128)
	b := newBench(t, 1<<14)
	for s := range mapper.Sector(40) {
		b.write(s, 1, uint64(s+1))
		if b.held > maxHeld {
			t.Fatalf("%d bytes are held, at most %d may", b.held, maxHeld)
		}
	}
	b.flush()
	got := strings.Fields(b.logged())
	if len(got) != 41 || got[0] != "w1:0+1" || got[39] != "w40:39+1" || got[40] != "flush" {
		t.Errorf("got %q", got)
	}
	big := bytes.Clone(mappertest.Stamped(0, 256, 7)) // larger than the bound alone
	b.must(b.Submit(context.Background(), mapper.Request{Op: mapper.OpWrite, Count: 256, Data: big}))
	b.flush()
}

// A full log stops logging, replays to what is in it, and disturbs nothing else.
func TestFullLog(t *testing.T) {
	b := newBench(t, 10)
	b.write(0, 2, 1)
	b.flush()
	b.write(0, 4, 2)
	b.flush()
	b.want("log", b.logged(), "w1:0+2 flush")
	status, _ := b.Status(context.Background(), false)
	b.want("status", status, "2 9 logging_disabled")
	b.want("what is said", strings.Join(b.host.Log(), "; "), "Ran out of space on the logdev")
	b.write(8, 1, 3)
	if _, err := b.Message(context.Background(), []string{"mark", "x"}); err == nil {
		t.Error("a mark that is not logged succeeds")
	}
	b.must(b.Close())
	b.want("data", mappertest.Describe(b.disk.Peek(8, 1)), "8 of write 3")
}

func TestLogFails(t *testing.T) {
	b := newBench(t, 1<<14)
	b.write(0, 2, 1)
	b.flush()
	b.fault.FailNth(1)
	b.write(0, 2, 2)
	b.flush()
	b.flush()
	b.want("what is said", strings.Join(b.host.Log(), "; "), "Error writing log block, error=10")
	b.want("log", b.logged(), "w1:0+2 flush")
	if b.held != 0 {
		t.Errorf("%d bytes are held", b.held)
	}
}

func TestRequestsThatFail(t *testing.T) {
	b := newBench(t, 1<<14)
	faulty := mappertest.NewFaulty(b.disk)
	b.target.disk = faulty
	b.write(0, 2, 1)
	faulty.FailNth(1)
	if b.submit(mapper.OpFlush, 0, 0, 0, 0) == nil {
		t.Error("a flush that failed")
	}
	b.want("after a flush that failed", b.logged(), "")
	faulty.FailNth(1)
	if b.submit(mapper.OpWrite, 0, 5, 1, 2) == nil {
		t.Error("a write that failed")
	}
	b.flush()
	b.want("log", b.logged(), "w1:0+2 flush")
	if b.held != 0 {
		t.Errorf("%d bytes are held", b.held)
	}
}

// A table that replaces another with the same log begins it anew, and the old one's end does not get into it.
func TestReload(t *testing.T) {
	typ := NewType()
	b := newBench(t, 1<<14)
	old := b.again(typ)
	b.target = old
	b.write(0, 1, 1)
	b.flush()
	if err := (&bench{t: t, host: b.host}).tryStart(typ); mapper.Errno(err) != mapper.Errno(mapper.ErrBusy) {
		t.Errorf("a second target with the log of one in use: %v", err)
	}
	b.write(1, 1, 2)
	b.must(old.PostSuspend(context.Background()))
	b.target = b.again(typ)
	b.must(old.Close())
	b.write(2, 1, 3)
	b.flush()
	b.want("log", b.logged(), "w3:2+1 flush")
	b.must(b.PostSuspend(context.Background()))
	b.must(b.PreResume(context.Background()))
	b.write(3, 1, 4)
	b.must(b.Close())
	b.want("log", b.logged(), "w3:2+1 flush w4:3+1 [dm-log-writes-end]")
}

func (b *bench) tryStart(typ *mapper.Type) error {
	made, err := typ.New(context.Background(), b.host, mapper.Spec{Len: 256, Args: []string{"7:0", "7:1"}})
	if err != nil {
		return err
	}
	defer made.(*target).Close()
	return made.(*target).PreResume(context.Background())
}

func BenchmarkSubmit(b *testing.B) {
	disk := mappertest.Null{Name: "7:0", Size: 4096}
	log := mappertest.Null{Name: "7:1", Size: mapper.MaxSectors}
	made, err := NewType().New(context.Background(), mappertest.NewHost(disk, log), mapper.Spec{Len: 4096, Args: []string{"7:0", "7:1"}})
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	for name, r := range map[string]mapper.Request{
		"write": {Op: mapper.OpWrite, Start: 16, Count: 8, Data: make([]byte, 4096)},
		"fua":   {Op: mapper.OpWrite, Flags: mapper.FlagFUA, Start: 16, Count: 8, Data: make([]byte, 4096)},
		"read":  {Op: mapper.OpRead, Start: 1024, Count: 8, Data: make([]byte, 4096)},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_ = made.Submit(ctx, r)
			}
		})
	}
}
