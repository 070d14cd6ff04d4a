package thin

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// While a large device is deleted others that share blocks with it are read and written, break sharing and commit; nobody can open
// it meanwhile, and the counts are right after.
func TestDeleteWhileInUse(t *testing.T) {
	const blocks = 6000
	b := newBench(t, mappertest.NewDisk("7:0", 1<<15), mappertest.Null{Name: "7:1", Size: 1 << 21})
	pool := b.create("pool", fmt.Sprintf("0 %d thin-pool 7:0 7:1 128 0 1 skip_block_zeroing", 1<<21))
	b.message(pool, "create_thin 1")
	d := b.create("d", fmt.Sprintf("0 %d thin pool 1", blocks*128))
	data := make([]byte, mapper.Sector(128).Bytes())
	write := func(d *mapper.Device, block int) {
		b.submit(d, mapper.Request{Op: mapper.OpWrite, Start: mapper.Sector(block) * 128, Count: 128, Data: data})
	}
	for i := range blocks {
		write(d, i)
	}
	b.message(pool, "create_snap 2 1")
	b.message(pool, "create_snap 3 2")
	if err := b.mgr.Remove(ctx, "d", mapper.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	other := b.create("other", fmt.Sprintf("0 %d thin pool 3", blocks*128))
	for i := 0; i < blocks; i += 3 {
		write(other, i)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 1; ; i += 7 {
			select {
			case <-stop:
				return
			default:
			}
			write(other, i%blocks)
			if i%100 == 1 {
				b.submit(other, mapper.Request{Op: mapper.OpFlush})
			}
		}
	})
	time.Sleep(10 * time.Millisecond)
	b.message(pool, "delete 1")
	b.message(pool, "delete 2")
	close(stop)
	wg.Wait()
	if got := b.status(pool); !strings.Contains(got, fmt.Sprintf(" %d/16384 ", blocks)) {
		t.Errorf("status %q, want %d data blocks in use", got, blocks)
	}
	b.close()
	if ids, err := check(ctx, b.meta); err != nil || len(ids) != 1 {
		t.Errorf("devices %v, %v", ids, err)
	}
}

// A device that a metadata snapshot holds is gone when it is deleted, and its blocks when that is released.
func TestDeleteHeld(t *testing.T) {
	b := newDisks(t, 16384, 65536)
	pool := b.create("pool", poolTable)
	b.message(pool, "create_thin 1")
	d := b.create("d", "0 65536 thin pool 1")
	b.write(d, 0, 6000, 1)
	if err := b.mgr.Remove(ctx, "d", mapper.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	b.message(pool, "reserve_metadata_snap")
	b.message(pool, "delete 1")
	checked(t, b.meta, false)
	if got := b.status(pool); !strings.Contains(got, " 47/512 ") {
		t.Errorf("status %q: the held snapshot has lost its blocks", got)
	}
	b.message(pool, "release_metadata_snap")
	if got := b.status(pool); !strings.Contains(got, " 0/512 ") {
		t.Errorf("status %q: blocks are left", got)
	}
	b.close()
	checked(t, b.meta, false)
}
