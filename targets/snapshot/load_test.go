package snapshot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// While an origin is overwritten, a snapshot is written to and another is merged, each shows what it should.
func TestUnderLoad(t *testing.T) {
	const sectors, rounds = 4096, 150
	power := new(mappertest.Power)
	base := power.Disk("7:0", sectors)
	base.Poke(0, mappertest.Stamped(0, sectors, 1))
	h := mappertest.NewHost(base, power.Disk("7:1", 3*sectors), power.Disk("7:2", 3*sectors), power.Disk("7:3", 3*sectors))
	types := make(map[string]*mapper.Type)
	for _, ty := range NewTypes() {
		types[ty.Name] = ty
	}
	start := func(name string, args ...string) mapper.Target {
		d, err := types[name].New(t.Context(), h, mapper.Spec{Len: sectors, Args: args})
		if err != nil {
			t.Fatal(err)
		}
		if p, ok := d.(mapper.PreResumer); ok {
			if err := p.PreResume(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		return d
	}
	frozen, other := start("snapshot", "7:0", "7:1", "P", "8"), start("snapshot", "7:0", "7:2", "N", "16")
	first := start("snapshot", "7:0", "7:3", "P", "4")
	write := func(d mapper.Target, at, n mapper.Sector, serial uint64) error {
		return d.Submit(t.Context(), mapper.Request{Op: mapper.OpWrite, Start: at, Count: n, Data: mappertest.Stamped(at, n, serial)})
	}
	for at := mapper.Sector(0); at < sectors; at += 64 { // every second run of 32 is to be merged
		if err := write(first, at, 32, 2); err != nil {
			t.Fatal(err)
		}
	}
	_ = first.(*snapshot).PostSuspend(t.Context())
	merging := start("snapshot-merge", "7:0", "7:3", "P", "4")
	_ = first.(*snapshot).Close()

	var wg sync.WaitGroup
	work := func(seed uint64, f func(rnd *rand.Rand, serial uint64) error) {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, 0))
			for i := range uint64(rounds) {
				if err := f(rnd, seed*1000+i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	merging.(*snapshot).Resume()
	// Each writer has a quarter of the device for itself, so that what it wrote is what it reads.
	for w := range uint64(2) {
		from := mapper.Sector(w) * sectors / 2
		own := func(d mapper.Target, at mapper.Sector) func(*rand.Rand, uint64) error {
			return func(rnd *rand.Rand, serial uint64) error {
				n := mapper.Sector(1 + rnd.IntN(40))
				at := at + mapper.Sector(rnd.IntN(sectors/4-int(n)))
				if err := write(d, at, n, serial); err != nil {
					return err
				}
				p := make([]byte, n.Bytes())
				if err := d.Submit(t.Context(), mapper.Request{Op: mapper.OpRead, Start: at, Count: n, Data: p}); err != nil {
					return err
				}
				return mappertest.CheckStamp(p, at, serial)
			}
		}
		work(10+w, own(merging, from))
		work(20+w, own(other, from))
		work(30+w, func(rnd *rand.Rand, _ uint64) error {
			n := mapper.Sector(1 + rnd.IntN(100))
			at := mapper.Sector(rnd.IntN(sectors - int(n)))
			p := make([]byte, n.Bytes())
			if err := frozen.Submit(t.Context(), mapper.Request{Op: mapper.OpRead, Start: at, Count: n, Data: p}); err != nil {
				return err
			}
			return mappertest.CheckStamp(p, at, 1)
		})
	}
	wg.Wait()
	merged(t, stack{first: merging})
	p := make([]byte, mapper.Sector(sectors).Bytes())
	if err := frozen.Submit(t.Context(), mapper.Request{Op: mapper.OpRead, Count: sectors, Data: p}); err != nil {
		t.Fatal(err)
	}
	if err := mappertest.CheckStamp(p, 0, 1); err != nil {
		t.Errorf("the frozen snapshot: %v", err)
	}
	for _, d := range []mapper.Target{merging, frozen, other} {
		_ = d.(*snapshot).PostSuspend(t.Context())
		_ = d.(*snapshot).Close()
	}
}

// A snapshot that fails costs the writer of the origin nothing, and shows nothing wrong: it shows nothing.
func TestFailingStore(t *testing.T) {
	for _, op := range []mapper.Op{mapper.OpWrite, mapper.OpFlush} {
		base, store := mappertest.NewDisk("7:0", 256), mappertest.NewFaulty(mappertest.NewDisk("7:1", 256))
		h := mappertest.NewHost(base, store)
		types := make(map[string]*mapper.Type)
		for _, ty := range NewTypes() {
			types[ty.Name] = ty
		}
		s, err := types["snapshot"].New(t.Context(), h, mapper.Spec{Len: 256, Args: []string{"7:0", "7:1", "P", "8"}})
		o, e2 := types["snapshot-origin"].New(t.Context(), h, mapper.Spec{Len: 256, Args: []string{"7:0"}})
		if err := errors.Join(err, e2, s.(*snapshot).PreResume(t.Context())); err != nil {
			t.Fatal(err)
		}
		store.Inject(mappertest.Fault{Ops: []mapper.Op{op}, Times: 1})
		if err := o.Submit(t.Context(), mapper.Request{Op: mapper.OpWrite, Start: 4, Count: 1, Data: mappertest.Stamped(4, 1, 1)}); err != nil {
			t.Errorf("%s fails: the origin's writer got %v", op, err)
		}
		if got, _ := s.(*snapshot).Status(t.Context(), false); got != "Invalid" {
			t.Errorf("%s fails: the status is %s", op, got)
		}
		if err := s.Submit(t.Context(), mapper.Request{Op: mapper.OpRead, Count: 1, Data: make([]byte, 512)}); !errors.Is(err, mapper.ErrIO) {
			t.Errorf("%s fails: a read of the snapshot got %v", op, err)
		}
		if h.Events() != 1 {
			t.Errorf("%s fails: %d events", op, h.Events())
		}
		_ = s.(*snapshot).Close()
		_ = o.(*originTarget).Close()
	}
}

// A million exceptions that nothing puts together take less than 40 MiB.
func TestMemory(t *testing.T) {
	const count = 1 << 20
	before := heap()
	x := newExceptions()
	for i := range uint64(count) {
		x.add([]exception{{i * 0x9e3779b97f4a7c15 >> 20, i}})
	}
	if got := heap() - before; got > 40<<20 {
		t.Errorf("%d exceptions take %d MiB", x.size(), got>>20)
	}
	runtime.KeepAlive(x)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A store as a stranger might make it is refused, or it is used within its bounds.
func FuzzFormat(f *testing.F) {
	disk := mappertest.NewDisk("7:1", 128)
	p := &persistent{geometry: geometry{disk, 4}, host: mappertest.NewHost()}
	ctx := context.Background()
	if _, err := p.load(ctx, nil); err != nil {
		f.Fatal(err)
	}
	if err := p.begin(ctx); err != nil {
		f.Fatal(err)
	}
	for i := range uint64(20) {
		n, _ := p.allocate()
		if err := p.commit(ctx, []exception{{i * 3, n}}); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(disk.Peek(0, 16))
	header := disk.Peek(0, 1)
	binary.LittleEndian.PutUint32(header[12:], 1)
	f.Add(append(header, bytes.Repeat([]byte{1}, 512)...))
	f.Fuzz(func(t *testing.T, image []byte) {
		disk := mappertest.NewDisk("7:1", 128)
		whole := make([]byte, 128*512)
		copy(whole, image)
		disk.Poke(0, whole)
		base := mappertest.NewDisk("7:0", 128)
		for _, ty := range NewTypes() {
			if ty.Name == "snapshot-origin" {
				continue
			}
			h := mappertest.NewHost(base, disk)
			d, err := ty.New(ctx, h, mapper.Spec{Len: 128, Args: []string{"7:0", "7:1", "P", "4"}})
			if err != nil {
				continue
			}
			s := d.(*snapshot)
			if err := s.PreResume(ctx); err == nil {
				s.Resume()
				_ = s.Submit(ctx, mapper.Request{Op: mapper.OpRead, Count: 128, Data: make([]byte, 128*512)})
				_ = s.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: 3, Count: 100, Data: make([]byte, 100*512)})
			}
			_ = s.PostSuspend(ctx)
			_ = s.Close()
		}
		if err := errors.Join(disk.Broken(), base.Broken()); err != nil {
			t.Error(err)
		}
	})
}

func FuzzArgs(f *testing.F) {
	for _, line := range []string{"7:0 7:1 P 16", "7:0 7:1 PO 8 1 discard_zeroes_cow", "7:0 7:1 n 4294967295", "7:0 7:1 N 4194304", "7:0 7:0 P 0", "7:0"} {
		f.Add(uint8(0), line)
		f.Add(uint8(1), line)
		f.Add(uint8(2), line)
	}
	f.Fuzz(func(t *testing.T, which uint8, line string) {
		disks := []mapper.Disk{mappertest.NewDisk("7:0", 128), mappertest.NewDisk("7:1", 128)}
		types := NewTypes()
		d, err := types[int(which)%len(types)].New(context.Background(), mappertest.NewHost(disks...), mapper.Spec{Len: 64, Args: strings.Fields(line)})
		if err != nil {
			if mapper.Errno(err) == unix.EIO {
				t.Errorf("%q: %v", line, err)
			}
			return
		}
		_ = d.(interface{ Close() error }).Close()
	})
}

// A snapshot that is shorter than its origin spends nothing on what is written behind its end.
func TestShorterThanOrigin(t *testing.T) {
	const sectors, shown = 256, 100 // the chunk that has the end reaches on to 104
	base := mappertest.NewDisk("7:0", sectors)
	h := mappertest.NewHost(base, mappertest.NewDisk("7:1", 4*sectors))
	types := make(map[string]*mapper.Type)
	for _, ty := range NewTypes() {
		types[ty.Name] = ty
	}
	d, err := types["snapshot"].New(t.Context(), h, mapper.Spec{Len: shown, Args: []string{"7:0", "7:1", "N", "8"}})
	if err != nil {
		t.Fatal(err)
	}
	s := d.(*snapshot)
	origin, err := types["snapshot-origin"].New(t.Context(), h, mapper.Spec{Len: sectors, Args: []string{"7:0"}})
	if err == nil {
		err = s.PreResume(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at, n mapper.Sector
		want  string
	}{{100, 156, "0/1024 0"}, {99, 100, "8/1024 0"}, {0, 256, "104/1024 0"}} {
		r := mapper.Request{Op: mapper.OpWrite, Start: c.at, Count: c.n, Data: make([]byte, c.n.Bytes())}
		if err := origin.Submit(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if got, _ := s.Status(t.Context(), false); got != c.want {
			t.Errorf("after a write of %d sectors at %d: %s, want %s", c.n, c.at, got, c.want)
		}
	}
	_ = s.Close()
	_ = origin.(*originTarget).Close()
}
