package thin

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
	"dmfs/targets/pdata"
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

// A snapshot that nobody has written to is deleted without a look at the tree that it shares, damaged or not; what is wrong is told to those who read it.
func TestDeleteOfShared(t *testing.T) {
	meta := mappertest.NewDisk("7:0", 4096)
	b := newBench(t, meta, mappertest.NewDisk("7:1", 65536))
	pool := b.create("pool", poolTable)
	b.message(pool, "create_thin 0")
	d := b.create("t", "0 4096 thin pool 0")
	b.write(d, 0, 128, 1)
	must(b, b.mgr.Remove(ctx, "t", mapper.RemoveOptions{}))
	b.message(pool, "create_snap 1 0")
	must(b, b.mgr.Remove(ctx, "pool", mapper.RemoveOptions{}))
	root := rootOf(t, meta, 1)
	at := mapper.Sector(root) * pdata.BlockSectors
	must(b, meta.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: at, Count: 1, Data: make([]byte, mapper.SectorSize)}))
	pool = b.create("pool", poolTable)
	b.message(pool, "delete 1")
	if s := b.status(pool); !strings.Contains(s, " rw ") {
		t.Errorf("after the deletion of a snapshot that shares all: %s", s)
	}
	_, err := pool.Message(ctx, 0, []string{"delete", "0"})
	if !errors.Is(err, unix.ENOTBLK) {
		t.Errorf("deletion of a damaged device: %v, want ENOTBLK: the block does not say its number", err)
	}
	if s := b.status(pool); !strings.Contains(s, " needs_check ") {
		t.Errorf("after the deletion of a damaged device: %s", s)
	}
	b.close()
}

// rootOf returns the root of the mappings of a device that is not in use.
func rootOf(t *testing.T, meta mapper.Disk, id DevID) pdata.Block {
	store := pdata.NewStore(meta, nil)
	s, _, err := readSuper(ctx, store)
	must2(t, err)
	md := newMetadata(store, func(string, string, ...any) {})
	must2(t, md.load(ctx, s))
	d, err := md.open(ctx, id)
	must2(t, err)
	return d.root
}
