package thin

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// A watched disk counts the reads while watch says so.
type watched struct {
	mapper.Disk
	watch func() bool
	reads atomic.Int32
}

func (d *watched) DiskName() string { return mapper.DiskName(d.Disk) }

func (d *watched) Submit(ctx context.Context, r mapper.Request) error {
	if watch := d.watch; watch != nil && r.Op == mapper.OpRead && watch() {
		d.reads.Add(1)
	}
	return d.Disk.Submit(ctx, r)
}

// With a cold cache, what first writes and discards change is read before others are kept from looking, not while they are.
func TestReadsBeforeChanges(t *testing.T) {
	const blocks = 20000
	meta := &watched{Disk: mappertest.NewDisk("7:0", 1<<15)}
	data7 := mappertest.Null{Name: "7:1", Size: 1 << 22}
	var p *pool
	g := new(mapper.Registry)
	for _, typ := range NewTypes() {
		wrapped := *typ
		wrapped.New = func(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
			made, err := typ.New(ctx, h, s)
			if pt, ok := made.(*poolTarget); ok && err == nil {
				p = pt.pool
			}
			return made, err
		}
		g.Register(&wrapped)
	}
	b := &bench{t, mapper.NewManager(g, mapper.Options{Files: mappertest.NewFiles(meta, data7)}), meta, data7}
	table := fmt.Sprintf("0 %d thin-pool 7:0 7:1 128 0 1 skip_block_zeroing", 1<<22)
	pool := b.create("pool", table)
	b.message(pool, "create_thin 1")
	d := b.create("d", fmt.Sprintf("0 %d thin pool 1", 2*blocks*128))
	data := make([]byte, mapper.Sector(128).Bytes())
	for i := range mapper.Sector(blocks) {
		b.submit(d, mapper.Request{Op: mapper.OpWrite, Start: 2 * i * 128, Count: 128, Data: data})
	}
	b.close()
	pool = b.create("pool", table)
	d = b.create("d", fmt.Sprintf("0 %d thin pool 1", 2*blocks*128))
	b.message(pool, "create_thin 2") // what the first change of a transaction needs is there
	meta.watch = func() bool {
		cold, cancel := context.WithCancel(ctx)
		cancel()
		if p.look.Share(cold) != nil {
			return true // held alone
		}
		p.look.Unshare()
		return false
	}
	for i := mapper.Sector(1); i < 2*blocks; i += 5000 {
		b.submit(d, mapper.Request{Op: mapper.OpWrite, Start: i * 128, Count: 128, Data: data})
	}
	for i := mapper.Sector(2500); i < 2*blocks; i += 5000 {
		b.submit(d, mapper.Request{Op: mapper.OpDiscard, Start: i * 128, Count: 3 * 128})
	}
	if n := meta.reads.Load(); n > 0 {
		t.Errorf("%d reads of metadata while nobody could look", n)
	}
	meta.watch = nil
	b.close()
	checked(t, meta, false)
}
