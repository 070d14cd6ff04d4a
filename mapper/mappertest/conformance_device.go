package mappertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dmfs/mapper"
)

// manage gives the disks of g, which has no target any more, to a manager, and makes a device of the table.
func (g *rig) manage() (*mapper.Manager, *mapper.Device) {
	g.t.Helper()
	g.stop()
	registry := new(mapper.Registry)
	registry.Register(g.typ)
	var disks []mapper.Disk
	for _, f := range g.fault {
		disks = append(disks, f)
	}
	m := mapper.NewManager(registry, mapper.Options{Files: NewFiles(disks...)})
	d, err := m.Create(context.Background(), mapper.NewDevice{Name: "test", Minor: -1, Table: g.table()})
	if err != nil {
		g.t.Fatalf("Create: %v\n%s", err, m.Log().Text())
	}
	return m, d
}

func (g *rig) table() []mapper.Spec {
	s := g.spec(g.setup.Args)
	s.Start = 0
	return []mapper.Spec{s}
}

// testSuspend suspends, resumes and reloads a device while workers write and read back. No I/O reaches a disk
// of a suspended device, none is lost, and none fails.
func testSuspend(g *rig) {
	m, d := g.manage()
	ctx := context.Background()
	load := startLoad(g, d)
	for round := range 12 {
		time.Sleep(time.Millisecond)
		if round%3 == 2 && !g.setup.NoReload {
			g.must(d.Load(ctx, g.table(), false))
			g.must(d.Resume(ctx, mapper.ResumeOptions{NoFlush: round%2 == 0}))
			continue
		}
		g.must(d.Suspend(ctx, round%2 == 0))
		before := g.allCounts()
		time.Sleep(time.Millisecond)
		if after := g.allCounts(); after != before {
			g.t.Errorf("I/O of a suspended device: %s, then %s", before, after)
		}
		if round%4 == 1 && !g.setup.NoReload {
			g.must(d.Load(ctx, g.table(), false))
		}
		g.must(d.Resume(ctx, mapper.ResumeOptions{}))
	}
	load.stop()
	g.must(m.Remove(ctx, "test", mapper.RemoveOptions{}))
}

// testSuspendInterrupted gives up suspends while the disks hold requests up: the device then goes on as before.
func testSuspendInterrupted(g *rig) {
	m, d := g.manage()
	load := startLoad(g, d)
	for range 3 {
		for _, s := range g.stall {
			s.Hold()
		}
		// Once drained a suspend is finished whatever happens, and may want to flush, so the disks are let go.
		release := time.AfterFunc(10*time.Millisecond, g.releaseAll)
		time.Sleep(time.Millisecond)
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Millisecond)
		err := d.Suspend(ctx, false)
		cancel()
		release.Stop()
		g.releaseAll()
		if err == nil { // nothing was in flight, or the target did not need the disks
			g.must(d.Resume(context.Background(), mapper.ResumeOptions{}))
		}
		time.Sleep(time.Millisecond)
	}
	load.stop()
	g.must(d.Suspend(context.Background(), false))
	g.must(d.Resume(context.Background(), mapper.ResumeOptions{}))
	g.must(m.Remove(context.Background(), "test", mapper.RemoveOptions{}))
}

func (g *rig) releaseAll() {
	for _, s := range g.stall {
		s.Release()
	}
}

// allCounts returns the counts of all disks, to compare.
func (g *rig) allCounts() string {
	var b strings.Builder
	for _, d := range g.crash {
		fmt.Fprintf(&b, "%+v ", d.Counts())
	}
	return b.String()
}

// A load is workers that write and read back, each in a range of its own, until they are stopped.
type load struct {
	wg   sync.WaitGroup
	done atomic.Bool
}

func startLoad(g *rig, d *mapper.Device) *load {
	const workers = 3
	l := new(load)
	share := g.setup.Len / workers
	seed := Seed(g.t)
	for w := range mapper.Sector(workers) {
		l.wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(w)))
			for serial := uint64(1); !l.done.Load() && share > 0; serial++ {
				// Sectors, not blocks: the parts of blocks are the core's to put together.
				first := w*share + mapper.Sector(rnd.Uint64N(uint64(share)))
				n := 1 + mapper.Sector(rnd.Uint64N(uint64((w+1)*share-first)))
				if err := writeAndCheck(g, d, first, n, serial); err != nil {
					g.t.Errorf("worker %d: %v", w, err)
					return
				}
			}
		})
	}
	return l
}

// stop ends the workers and waits for them.
func (l *load) stop() {
	l.done.Store(true)
	l.wg.Wait()
}

func writeAndCheck(g *rig, d *mapper.Device, first, n mapper.Sector, serial uint64) error {
	ctx := context.Background()
	if _, err := d.WriteAt(ctx, Stamped(first, n, serial), first.Bytes(), serial%5 == 0); err != nil {
		return err
	}
	if serial%7 == 0 {
		if err := d.Flush(ctx); err != nil {
			return err
		}
	}
	buf := make([]byte, n.Bytes())
	if _, err := d.ReadAt(ctx, buf, first.Bytes()); err != nil {
		return err
	}
	if g.setup.Kind == ReadsZero {
		return CheckZero(buf, first)
	}
	return CheckStamp(buf, first, serial)
}
