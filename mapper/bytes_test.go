package mapper_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// blockDisk returns a disk of n sectors with blocks of that many bytes, which can write zeroes or not.
func blockDisk(n mapper.Sector, block int, zeroes bool) *mappertest.Disk {
	d := mappertest.NewDisk("a", n)
	l := mappertest.DefaultLimits
	l.LogicalBlock, l.PhysicalBlock, l.MinIO = block, block, block
	if !zeroes {
		l.MaxWriteZeroes = 0
	}
	d.SetLimits(l)
	return d
}

var blockSizes = []int{512, 1024, 2048, 4096}

// Reads, writes and zeroes at any byte do what they do to an array of bytes, in the device and on a device above that
// was built when the blocks were smaller.
func TestBytesAgainstModel(t *testing.T) {
	const sectors = 256
	for _, block := range blockSizes {
		for _, zeroes := range []bool{false, true} {
			t.Run(fmt.Sprint(block, zeroes), func(t *testing.T) {
				disk := blockDisk(sectors, block, zeroes)
				m := newManager(disk)
				low := create(t, m, "low", "0 256 zero")
				top := create(t, m, "top", "0 64 linear low 192; 64 192 linear low 0")
				must(t, low.Replace(ctx, parse(t, "0 256 linear a 0"), false))
				rng := rand.New(rand.NewPCG(mappertest.Seed(t), 0))
				for _, d := range []*mapper.Device{low, top} {
					exerciseBytes(t, rng, d)
				}
				must(t, disk.Broken())
				closeManager(t, m)
			})
		}
	}
}

func exerciseBytes(t *testing.T, rng *rand.Rand, d *mapper.Device) {
	t.Helper()
	size := d.Size()
	model := make([]byte, size)
	must(t, d.Zero(ctx, 0, size, false))
	for range 1500 {
		off := rng.Int64N(size + 600)
		n := rng.Int64N(1 << rng.IntN(16))
		fits := max(0, min(n, size-off))
		var want []byte
		if off < size {
			want = model[off : off+fits]
		}
		what := fmt.Sprintf("%s: %d bytes at %d", d.Name(), n, off)
		switch op := rng.IntN(8); {
		case op < 3:
			p := make([]byte, n)
			got, err := d.ReadAt(ctx, p, off)
			if int64(got) != fits || !bytes.Equal(p[:got], want) || err != nil && err != io.EOF || (err == io.EOF) != (fits < n) {
				t.Fatalf("read of %s: %d, %v", what, got, err)
			}
		case op < 7:
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
			got, err := d.WriteAt(ctx, p, off, op == 6)
			if int64(got) != fits || (err != nil) != (fits < n) || err != nil && !errors.Is(err, mapper.ErrNoSpace) {
				t.Fatalf("write of %s: %d, %v", what, got, err)
			}
			copy(want, p)
		default:
			if err := d.Zero(ctx, off, n, rng.IntN(2) == 0); err != nil {
				t.Fatalf("zero of %s: %v", what, err)
			}
			clear(want)
		}
	}
	all := make([]byte, size)
	if _, err := d.ReadAt(ctx, all, 0); err != nil || !bytes.Equal(all, model) {
		t.Fatalf("%s differs from the model: %v", d.Name(), err)
	}
}

// Hostile offsets and lengths are the end of the device, and nothing overflows.
func TestHostileOffsets(t *testing.T) {
	m := newManager(blockDisk(64, 4096, true))
	d := create(t, m, "d", "0 64 linear a 0")
	const huge = 1<<63 - 1
	for _, off := range []int64{-1, -huge - 1, d.Size(), huge, huge - 4095} {
		if n, err := d.ReadAt(ctx, make([]byte, 8192), off); n != 0 || err != io.EOF {
			t.Errorf("read at %d: %d, %v", off, n, err)
		}
		if n, err := d.WriteAt(ctx, make([]byte, 8192), off, false); n != 0 || !errors.Is(err, mapper.ErrNoSpace) {
			t.Errorf("write at %d: %d, %v", off, n, err)
		}
		if err := d.Zero(ctx, off, huge, false); err != nil {
			t.Errorf("zero at %d: %v", off, err)
		}
	}
	must(t, d.Zero(ctx, 1, huge, false))
	if n, err := d.WriteAt(ctx, nil, huge, false); n != 0 || err != nil {
		t.Errorf("an empty write: %d, %v", n, err)
	}
	closeManager(t, m)
}

// Writers of different bytes of one block never lose each other, nor do writers of whole blocks next to them.
func TestConcurrentPartsOfABlock(t *testing.T) {
	for _, block := range blockSizes {
		m := newManager(blockDisk(64, block, true))
		d := create(t, m, "d", "0 64 linear a 0")
		const writers = 8
		part := block / writers
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				mine := bytes.Repeat([]byte{byte(w + 1)}, part)
				have := make([]byte, part)
				for i := range 200 {
					mine[0] = byte(i)
					off := int64(block + w*part)
					if _, err := d.WriteAt(ctx, mine, off, false); err != nil {
						t.Errorf("write: %v", err)
					}
					if _, err := d.ReadAt(ctx, have, off); err != nil || !bytes.Equal(have, mine) {
						t.Errorf("blocks of %d: writer %d lost write %d: %v", block, w, i, err)
						return
					}
				}
			})
		}
		for _, at := range []int{0, 2} {
			wg.Go(func() {
				whole, have := make([]byte, block), make([]byte, block)
				for i := range 200 {
					whole[7] = byte(i)
					if _, err := d.WriteAt(ctx, whole, int64(at*block), false); err != nil {
						t.Errorf("write: %v", err)
					}
					if _, err := d.ReadAt(ctx, have, int64(at*block)); err != nil || !bytes.Equal(have, whole) {
						t.Errorf("blocks of %d: block %d lost write %d: %v", block, at, i, err)
						return
					}
				}
			})
		}
		wg.Wait()
		closeManager(t, m)
	}
}

// A requeueTarget hands back what it is given once it was told of a suspend without flush.
type requeueTarget struct {
	held chan struct{} // a request has arrived
	stop chan struct{} // closed by PreSuspend
}

func (t *requeueTarget) PreSuspend(noFlush bool) {
	if noFlush {
		close(t.stop)
	}
}

func (t *requeueTarget) Submit(ctx context.Context, r mapper.Request) error {
	if r.Op == mapper.OpFlush {
		return nil
	}
	t.held <- struct{}{}
	select {
	case <-t.stop:
		return mapper.ErrRequeue
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Requests that a target hands back go to the next table, and the wait for it can be interrupted.
func TestRequeueGoesToTheNextTable(t *testing.T) {
	target := &requeueTarget{held: make(chan struct{}, 10), stop: make(chan struct{})}
	registry := new(mapper.Registry)
	registry.Register(&mapper.Type{Name: "requeue", New: func(context.Context, mapper.Host, mapper.Spec) (mapper.Target, error) {
		return target, nil
	}})
	disk := mappertest.NewDisk("a", 64)
	m := mapper.NewManager(registry, mapper.Options{Files: mappertest.NewFiles(disk)})
	registry.Register(&mapper.Type{Name: "fwd", New: func(ctx context.Context, h mapper.Host, _ mapper.Spec) (mapper.Target, error) {
		d, err := h.Open(ctx, "a")
		return forward{d}, err
	}})
	d := create(t, m, "d", "0 64 requeue")
	data := bytes.Repeat([]byte{9}, 1024)
	results := make(chan error, 3)
	go func() { _, err := d.WriteAt(ctx, data, 512, false); results <- err }()
	go func() { _, err := d.ReadAt(ctx, make([]byte, 512), 0); results <- err }()
	go func() {
		results <- d.Submit(ctx, mapper.Request{Op: mapper.OpWriteZeroes, Start: 10, Count: 1})
	}()
	killed, kill := context.WithCancel(ctx)
	killedResult := make(chan error, 1)
	go func() { _, err := d.ReadAt(killed, make([]byte, 512), 0); killedResult <- err }()
	for range 4 {
		<-target.held
	}
	must(t, d.Suspend(ctx, true))
	select {
	case err := <-results:
		t.Fatalf("a request that was handed back ended: %v", err)
	default:
	}
	kill()
	if err := <-killedResult; !errors.Is(err, context.Canceled) {
		t.Errorf("the killed read: %v", err)
	}
	must(t, d.Replace(ctx, parse(t, "0 64 fwd"), false))
	for range 3 {
		must(t, <-results)
	}
	if !bytes.Equal(disk.Peek(1, 2), data) {
		t.Error("the write did not reach the next table")
	}
	closeManager(t, m)
}

// forward is a target on one disk.
type forward struct{ mapper.Disk }
