package mappertest

import (
	"bytes"
	"context"
	"sync"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// testReadsOnly reads in pieces, many at a time, and has the n-th I/O of each disk fail; nothing may ever be changed.
func testReadsOnly(g *rig) {
	before := g.changes()
	read := func(s, n mapper.Sector) error {
		p := make([]byte, n.Bytes())
		err := g.target.Submit(context.Background(), mapper.Request{Op: mapper.OpRead, Start: s, Count: n, Data: p})
		if want := g.setup.Content[s.Bytes():(s + n).Bytes()]; err == nil && !bytes.Equal(p, want) {
			g.t.Errorf("read %d+%d: other data than the content", s, n)
		}
		return err
	}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := g.block(); n <= g.setup.Len; n += g.block() * mapper.Sector(i+1) {
				for s := mapper.Sector(0); s < g.setup.Len; s += n {
					if err := read(s, min(n, g.setup.Len-s)); err != nil {
						g.t.Error(err)
						return
					}
				}
			}
		})
	}
	all.Wait()
	for disk, f := range g.fault {
		for n := 1; ; n++ {
			g.start(g.setup.Args) // what it has kept in memory is gone
			f.FailNth(n)
			failed := read(0, g.setup.Len) != nil
			f.Heal()
			if !failed {
				break
			}
			g.must(read(0, g.setup.Len))
			if n > mostFaults {
				g.t.Fatalf("I/O %d of disk %d is still one of a single read", n, disk)
			}
		}
	}
	for _, op := range []mapper.Op{mapper.OpWrite, mapper.OpDiscard, mapper.OpWriteZeroes} {
		r := mapper.Request{Op: op, Count: g.block()}
		if op == mapper.OpWrite {
			r.Data = make([]byte, g.block().Bytes())
		}
		if err := g.target.Submit(context.Background(), r); mapper.Errno(err) != unix.EPERM {
			g.t.Errorf("%v: %v, want EPERM", op, err)
		}
	}
	g.must(g.flush())
	if g.changes() != before {
		g.t.Error("a disk was changed")
	}
}
