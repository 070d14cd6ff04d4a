package mapper_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// Writers read back what they wrote while a stack is suspended, reloaded, resumed, flushed, looked at and grown on
// random levels, and devices on top of it come and go.
func TestTorture(t *testing.T) {
	seed := mappertest.Seed(t)
	disk := blockDisk(1024, 1024, true)
	m := newManager(disk)
	tables := [3]string{"0 512 linear a 0; 512 512 linear a 512", "0 1024 striped 2 8 low 512 low 0", "0 100 linear mid 924; 100 924 linear mid 0"}
	var devices [3]*mapper.Device
	for i, name := range []string{"low", "mid", "top"} {
		devices[i] = create(t, m, name, tables[i])
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(w)))
			for !stop.Load() {
				n := 1 + rng.IntN(5000)
				off := int64(w)*150_000 + int64(rng.IntN(140_000))
				data, have := bytes.Repeat([]byte{byte(rng.Uint32())}, n), make([]byte, n)
				if _, err := devices[2].WriteAt(ctx, data, off, rng.IntN(9) == 0); err != nil {
					t.Errorf("write: %v", err)
				}
				if _, err := devices[2].ReadAt(ctx, have, off); err != nil || !bytes.Equal(have, data) {
					t.Errorf("writer %d: %d bytes at %d are lost: %v", w, n, off, err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		rng := rand.New(rand.NewPCG(seed, 99))
		for i := 0; !stop.Load(); i++ {
			name := fmt.Sprint("extra", i)
			if _, err := m.Create(ctx, mapper.NewDevice{Name: name, Minor: -1, Table: parse(t, "0 64 linear top 0")}); err != nil {
				t.Errorf("create: %v", err)
				return
			}
			if err := m.Remove(ctx, name, mapper.RemoveOptions{Force: rng.IntN(2) == 0}); err != nil {
				t.Errorf("remove: %v", err)
			}
		}
	})
	rng := rand.New(rand.NewPCG(seed, 100))
	for end := time.Now().Add(700 * time.Millisecond); time.Now().Before(end); {
		i := rng.IntN(len(devices))
		d := devices[i]
		switch rng.IntN(4) {
		case 0:
			must(t, d.Suspend(ctx, rng.IntN(2) == 0))
			must(t, d.Resume(ctx, mapper.ResumeOptions{}))
		case 1:
			must(t, d.Replace(ctx, parse(t, tables[i]), false))
		case 2:
			must(t, m.Flush(ctx))
		case 3:
			d.Info()
			d.Table(mapper.LiveSlot, false, true)
			d.Allocated(ctx)
			must(t, d.Load(ctx, parse(t, tables[i]), false))
			must(t, d.Clear(ctx))
		}
	}
	stop.Store(true)
	wg.Wait()
	must(t, disk.Broken())
	closeManager(t, m)
}
