package thin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// reload loads a table and makes it live.
func (b *bench) reload(d *mapper.Device, table string) error {
	b.t.Helper()
	specs, err := mapper.ParseTable(table)
	must(b, err)
	if err := d.Load(ctx, specs, false); err != nil {
		return err
	}
	return d.Resume(ctx, mapper.ResumeOptions{})
}

// fullPool makes a pool of two blocks, both mapped by a device that is larger.
func fullPool(t testing.TB, features string) (b *bench, pool, thin *mapper.Device) {
	b = newDisks(t, 4096, 65536)
	pool = b.create("pool", "0 256 thin-pool 7:0 7:1 128 0 "+features)
	b.message(pool, "create_thin 0")
	thin = b.create("t", "0 4096 thin pool 0")
	b.write(thin, 0, 256, 1)
	return b, pool, thin
}

// begin writes where there is no block, on a goroutine of its own.
func begin(ctx context.Context, d *mapper.Device, at mapper.Sector) chan error {
	result := make(chan error, 1)
	go func() {
		result <- d.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: at, Count: 8, Data: mappertest.Stamped(at, 8, 7)})
	}()
	return result
}

// A write that waits for space ends with its context, by growth, by a discard, and after the timeout; a suspend with noflush passes it on to the next table.
func TestWaitForSpace(t *testing.T) {
	for _, c := range []struct {
		name     string
		features string
		end      func(b *bench, pool, thin *mapper.Device, cancel context.CancelFunc)
		want     error
	}{
		{"context", "0", func(_ *bench, _, _ *mapper.Device, cancel context.CancelFunc) { cancel() }, context.Canceled},
		{"growth", "0", func(b *bench, pool, _ *mapper.Device, _ context.CancelFunc) {
			must(b, b.reload(pool, "0 1024 thin-pool 7:0 7:1 128 0"))
		}, nil},
		{"discard", "0", func(b *bench, pool, thin *mapper.Device, _ context.CancelFunc) {
			b.submit(thin, mapper.Request{Op: mapper.OpDiscard, Start: 0, Count: 128})
			b.status(pool) // commits
		}, nil},
		{"timeout", "0", func(*bench, *mapper.Device, *mapper.Device, context.CancelFunc) { time.Sleep(61 * time.Second) }, unix.ENOSPC},
		{"other timeout", "1 no_space_timeout:5", func(*bench, *mapper.Device, *mapper.Device, context.CancelFunc) { time.Sleep(6 * time.Second) }, unix.ENOSPC},
		{"suspend noflush", "0", func(b *bench, pool, thin *mapper.Device, _ context.CancelFunc) {
			must(b, thin.Suspend(ctx, true))
			must(b, b.reload(pool, "0 1024 thin-pool 7:0 7:1 128 0"))
			must(b, thin.Resume(ctx, mapper.ResumeOptions{}))
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, pool, thin := fullPool(t, c.features)
				ctx, cancel := context.WithCancel(ctx)
				defer cancel()
				result := begin(ctx, thin, 1024)
				synctest.Wait()
				select {
				case err := <-result:
					t.Fatalf("the write did not wait: %v", err)
				default:
				}
				c.end(b, pool, thin, cancel)
				if err := <-result; !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
				b.close()
				checked(t, b.meta, false)
			})
		})
	}
}

// For ever is for ever.
func TestNoTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _, thin := fullPool(t, "1 no_space_timeout:0")
		ctx, cancel := context.WithCancel(ctx)
		result := begin(ctx, thin, 1024)
		time.Sleep(24 * time.Hour)
		select {
		case err := <-result:
			t.Errorf("the wait ended: %v", err)
		default:
		}
		cancel()
		<-result
		b.close()
	})
}

// What was written is committed a second later without a flush, and nothing happens while nothing changes.
func TestPeriodicCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newDisks(t, 4096, 65536)
		pool := b.create("pool", poolTable)
		b.message(pool, "create_thin 0")
		thin := b.create("t", "0 4096 thin pool 0")
		b.write(thin, 0, 128, 1)
		before := b.meta.(*mappertest.Disk).Counts().Writes
		time.Sleep(1100 * time.Millisecond)
		after := b.meta.(*mappertest.Disk).Counts().Writes
		if after == before {
			t.Error("no commit in a second")
		}
		checked(t, b.meta, false)
		time.Sleep(time.Hour)
		if n := b.meta.(*mappertest.Disk).Counts().Writes; n != after {
			t.Errorf("%d writes to the metadata while nothing happened", n-after)
		}
		b.close()
	})
}

// When the metadata runs out the pool stops in time: what it has is sound, and growth of the metadata disk lets it go on.
func TestMetadataFull(t *testing.T) {
	meta := &growing{Disk: mappertest.NewDisk("7:0", 65536), sectors: 1024}
	b := newBench(t, meta, mappertest.Null{Name: "7:1", Size: 1 << 40})
	table := "0 134217728 thin-pool 7:0 7:1 128 0 1 skip_block_zeroing"
	pool := b.create("pool", table)
	b.message(pool, "create_thin 0")
	thin := b.create("t", "0 1099511627776 thin pool 0")
	var err error
	n := mapper.Sector(0)
	for ; err == nil && n < 1<<20; n++ {
		err = thin.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: n * 7919 * 128 % (1 << 40), Count: 1, Data: make([]byte, mapper.SectorSize)})
	}
	if err == nil {
		t.Fatal("the metadata never filled up")
	}
	if s := b.status(pool); !strings.Contains(s, " ro ") || strings.Contains(s, "needs_check") {
		t.Errorf("status %q, want ro and no needs_check", s)
	}
	if log := b.mgr.Log().Text(); !strings.Contains(log, "make the metadata disk") {
		t.Errorf("the log does not say what to do:\n%s", log)
	}
	if _, err := pool.Message(ctx, 0, []string{"create_thin", "1"}); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("a message: %v", err)
	}
	checked(t, b.meta, false)
	meta.sectors = 65536
	must(b, b.reload(pool, table))
	b.submit(thin, mapper.Request{Op: mapper.OpWrite, Start: 1 << 39, Count: 1, Data: make([]byte, mapper.SectorSize)})
	if s := b.status(pool); !strings.Contains(s, " rw ") {
		t.Errorf("status %q, want rw", s)
	}
	b.close()
	checked(t, b.meta, false)
}

// Snapshots make a single write take more metadata blocks than the reserve has: each data block of its leaf is counted once more. Whatever the change that
// finds none left, nothing that was done is lost, and there is nothing to check.
func TestMetadataFullBySharing(t *testing.T) {
	for _, last := range []string{"write", "discard"} {
		meta := &growing{Disk: mappertest.NewDisk("7:0", 65536), sectors: 4096}
		b := newBench(t, meta, mappertest.NewDisk("7:1", 1<<22))
		table := "0 4194304 thin-pool 7:0 7:1 128 0 1 skip_block_zeroing"
		pool := b.create("pool", table)
		b.message(pool, "create_thin 0")
		thin := b.create("t", "0 1099511627776 thin pool 0")
		at := func(n int) mapper.Sector { return mapper.Sector(n) * 7919 % (1 << 20) * 128 }
		var err error
		n := 0
		for ; err == nil && n < 30000; n++ {
			if n%2000 == 1999 {
				must(b, thin.Suspend(ctx, false))
				_, _ = pool.Message(ctx, 0, []string{"create_snap", fmt.Sprint(n), "0"})
				must(b, thin.Resume(ctx, mapper.ResumeOptions{}))
			}
			if last == "discard" && n > 2000 {
				err = thin.Submit(ctx, mapper.Request{Op: mapper.OpDiscard, Start: at(n / 2), Count: 128})
			}
			if err == nil {
				err = thin.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: at(n), Count: 1, Data: mappertest.Stamped(at(n), 1, uint64(n))})
			}
		}
		if err == nil {
			t.Fatal("the metadata never filled up")
		}
		if s := b.status(pool); !strings.Contains(s, " ro ") || strings.Contains(s, "needs_check") {
			t.Errorf("%s: status %q, want ro and no needs_check\n%s", last, s, b.mgr.Log().Text())
		}
		must(b, thin.Submit(ctx, mapper.Request{Op: mapper.OpFlush}))
		must(b, b.mgr.Remove(ctx, "t", mapper.RemoveOptions{}))
		meta.sectors = 65536
		must(b, b.reload(pool, table))
		thin = b.create("t", "0 1099511627776 thin pool 0")
		first := 0
		if last == "discard" {
			first = n/2 + 1
		}
		for i := first; i < n-1; i++ {
			buf := make([]byte, mapper.SectorSize)
			b.submit(thin, mapper.Request{Op: mapper.OpRead, Start: at(i), Count: 1, Data: buf})
			must(b, mappertest.CheckStamp(buf, at(i), uint64(i)))
		}
		b.write(thin, 1<<39, 1, 1)
		b.close()
		checked(t, meta, false)
	}
}

// growing is a disk whose size changes.
type growing struct {
	*mappertest.Disk
	sectors mapper.Sector
}

func (d *growing) Sectors() mapper.Sector { return d.sectors }

// An error of the metadata disk gives up the transaction; the pool is read-only until it has been checked, and what was flushed is there.
func TestFailedCommit(t *testing.T) {
	meta := mappertest.NewFaulty(mappertest.NewDisk("7:0", 4096))
	b := newBench(t, meta, mappertest.NewDisk("7:1", 65536))
	pool := b.create("pool", poolTable)
	b.message(pool, "create_thin 0")
	thin := b.create("t", "0 4096 thin pool 0")
	b.write(thin, 0, 128, 1)
	b.submit(thin, mapper.Request{Op: mapper.OpFlush})
	b.write(thin, 1280, 128, 2)
	meta.FailNth(1)
	if err := thin.Submit(ctx, mapper.Request{Op: mapper.OpFlush}); err == nil {
		t.Error("a flush whose commit failed succeeded")
	}
	if err := thin.Submit(ctx, mapper.Request{Op: mapper.OpFlush}); err == nil {
		t.Error("a later flush does not say that a write was lost")
	}
	if s := b.status(pool); !strings.Contains(s, " ro ") || !strings.Contains(s, " needs_check ") {
		t.Errorf("status %q, want ro and needs_check", s)
	}
	buf := make([]byte, 128*mapper.SectorSize)
	b.submit(thin, mapper.Request{Op: mapper.OpRead, Count: 128, Data: buf})
	must(b, mappertest.CheckStamp(buf, 0, 1))
	if err := thin.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: 2560, Count: 8, Data: buf[:4096]}); !errors.Is(err, unix.EIO) {
		t.Errorf("a write that needs a block: %v", err)
	}
	must(b, b.reload(pool, poolTable))
	if s := b.status(pool); !strings.Contains(s, " ro ") {
		t.Errorf("after a reload %q: it must be checked first", s)
	}
	b.close()
	checked(t, meta, false)
}

// A pool that is replaced by force does not leave its devices waiting.
func TestForcedRemoval(t *testing.T) {
	b := newDisks(t, 4096, 65536)
	pool := b.create("pool", poolTable)
	b.message(pool, "create_thin 0")
	thin := b.create("t", "0 4096 thin pool 0")
	b.write(thin, 0, 128, 1)
	_ = b.mgr.Remove(ctx, "pool", mapper.RemoveOptions{Force: true})
	if s := b.status(thin); s != "Fail" && !strings.HasPrefix(s, "128") {
		t.Errorf("status %q", s)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	_ = thin.Submit(ctx, mapper.Request{Op: mapper.OpRead, Count: 8, Data: make([]byte, 4096)})
	if ctx.Err() != nil {
		t.Error("a read waits for ever")
	}
}

// 1,000 devices and 1,000 snapshots, and ids at the ends.
func TestManyDevices(t *testing.T) {
	b := newDisks(t, 1<<16, 65536)
	pool := b.create("pool", poolTable)
	for i := range 1000 {
		b.message(pool, fmt.Sprintf("create_thin %d", i*7))
	}
	b.message(pool, fmt.Sprintf("create_thin %d", maxDevID))
	for i := range 1000 {
		b.message(pool, fmt.Sprintf("create_snap %d %d", 10000+i, i*7))
	}
	checked(t, b.meta, true)
	for i := range 1000 {
		b.message(pool, fmt.Sprintf("delete %d", i*7))
	}
	checked(t, b.meta, true)
	b.close()
}

// The holes of a device are holes of the image below, after a discard and after a deletion.
func TestSpaceComesBack(t *testing.T) {
	b := newDisks(t, 4096, 65536)
	data := b.data.(*mappertest.Disk)
	pool := b.create("pool", poolTable)
	b.message(pool, "create_thin 0")
	thin := b.create("t", "0 8192 thin pool 0")
	b.write(thin, 0, 4096, 1)
	if n := thin.Allocated(ctx); n != mapper.Sector(4096).Bytes() {
		t.Errorf("%d bytes are allocated", n)
	}
	if at, ok, err := thin.Seek(ctx, 0, false); err != nil || !ok || at != mapper.Sector(4096).Bytes() {
		t.Errorf("a hole at %d, %v, %v", at, ok, err)
	}
	b.submit(thin, mapper.Request{Op: mapper.OpWriteZeroes, Start: 0, Count: 2048})
	b.submit(thin, mapper.Request{Op: mapper.OpFlush})
	if n := data.Counts().Discards; n == 0 {
		t.Error("nothing was discarded below")
	}
	before := data.Counts().Discards
	b.message(pool, "create_snap 1 0")
	must(b, b.mgr.Remove(ctx, "t", mapper.RemoveOptions{}))
	b.message(pool, "delete 0")
	if n := data.Counts().Discards; n != before {
		t.Error("blocks that a snapshot has were discarded")
	}
	b.message(pool, "delete 1")
	if n := data.Counts().Discards; n == before {
		t.Error("the blocks of a deleted device were not discarded")
	}
	b.close()
}

// Two disks the wrong way round are noticed before anything is written.
func TestSwappedDisks(t *testing.T) {
	b := newDisks(t, 4096, 65536)
	b.create("pool", poolTable)
	b.close()
	before := b.meta.(*mappertest.Disk).Counts().Writes + b.data.(*mappertest.Disk).Counts().Writes
	specs, err := mapper.ParseTable("0 4096 thin-pool 7:1 7:0 128 0")
	must(b, err)
	if _, err := b.mgr.Create(ctx, mapper.NewDevice{Name: "pool", Minor: -1, Table: specs}); err == nil {
		t.Error("swapped disks were taken")
	}
	if n := b.meta.(*mappertest.Disk).Counts().Writes + b.data.(*mappertest.Disk).Counts().Writes; n != before {
		t.Errorf("%d writes", n-before)
	}
	// Where the data of that pool has no room, its metadata is what an earlier pool has left.
	later := newBench(t, b.meta, mappertest.NewDisk("7:1", 4096), mappertest.NewDisk("7:2", 1000))
	later.create("pool", "0 4096 thin-pool 7:1 7:0 128 0")
	later.close()
}

// A read-only pool is resumed with a larger table, and does not grow.
func TestReadOnlyDoesNotGrow(t *testing.T) {
	b, pool, thin := fullPool(t, "0")
	must(b, b.reload(pool, "0 1024 thin-pool 7:0 7:1 128 0 1 read_only"))
	if s := b.status(pool); !strings.Contains(s, " 2/2 ") || !strings.Contains(s, " ro ") || strings.Contains(s, "needs_check") {
		t.Errorf("status %q", s)
	}
	must(b, b.reload(pool, "0 1024 thin-pool 7:0 7:1 128 0"))
	b.write(thin, 1024, 128, 2)
	b.close()
}

// The status finds out that the metadata disk cannot be written, although there is nothing to commit; with noflush it does not look. A pool that has
// changed nothing since it was opened writes nothing.
func TestStatusFindsUnwritableMetadata(t *testing.T) {
	meta := mappertest.NewFaulty(mappertest.NewDisk("7:0", 4096))
	b := newBench(t, meta, mappertest.NewDisk("7:1", 65536))
	pool := b.create("pool", poolTable)
	b.message(pool, "create_thin 0")
	must(b, b.mgr.Remove(ctx, "pool", mapper.RemoveOptions{}))
	pool = b.create("pool", poolTable)
	meta.Inject(mappertest.Fault{Ops: []mapper.Op{mapper.OpWrite}})
	if s := b.status(pool); !strings.Contains(s, " rw ") {
		t.Errorf("a pool that nobody has changed: %q", s)
	}
	meta.Heal()
	b.message(pool, "create_thin 1")
	meta.Inject(mappertest.Fault{Ops: []mapper.Op{mapper.OpWrite}})
	lines, err := pool.Status(ctx, mapper.LiveSlot, true)
	must(b, err)
	if s := lines[0].Params; !strings.Contains(s, " rw ") {
		t.Errorf("without a flush: %q", s)
	}
	if s := b.status(pool); !strings.Contains(s, " ro ") || !strings.Contains(s, " needs_check ") {
		t.Errorf("status %q, want ro and needs_check", s)
	}
	meta.Heal()
	must(b, b.mgr.Remove(ctx, "pool", mapper.RemoveOptions{}))
	pool = b.create("pool", poolTable)
	if s := b.status(pool); !strings.Contains(s, " needs_check ") {
		t.Errorf("status %q of the pool that was opened again: the flag was not written when it could be", s)
	}
	meta.Inject(mappertest.Fault{})
	if s := b.status(pool); !strings.Contains(s, " needs_check ") {
		t.Errorf("a pool that is read-only has written: %q", s)
	}
}

// Metadata that can be neither read nor written is given up: Error is said once, then Fail.
func TestStatusFindsUnreadableMetadata(t *testing.T) {
	meta := mappertest.NewFaulty(mappertest.NewDisk("7:0", 4096))
	b := newBench(t, meta, mappertest.NewDisk("7:1", 65536))
	pool := b.create("pool", poolTable)
	b.message(pool, "create_thin 0")
	meta.Inject(mappertest.Fault{})
	for _, want := range []string{"Error", "Fail"} {
		if s := b.status(pool); s != want {
			t.Errorf("status %q, want %s", s, want)
		}
	}
}

// A suspend that was given up, because a write waits for space, does not keep the next one, with noflush, from having the write back.
func TestSuspendGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, pool, thin := fullPool(t, "1 no_space_timeout:0")
		result := begin(ctx, thin, 1024)
		synctest.Wait()
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := thin.Suspend(short, false); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a suspend beside a write that waits: %v", err)
		}
		short, cancel = context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if err := thin.Suspend(short, true); err != nil {
			t.Errorf("with noflush: %v", err)
		}
		must(b, b.reload(pool, "0 1024 thin-pool 7:0 7:1 128 0"))
		must(b, thin.Resume(ctx, mapper.ResumeOptions{}))
		must(b, <-result)
		b.close()
	})
}

// A metadata disk that is too small for a pool, or blank and not to be formatted, is refused before anything is written.
func TestBlankMetadataRefused(t *testing.T) {
	for _, c := range []struct {
		blocks mapper.Sector
		table  string
		want   error
	}{
		{11, "0 65536 thin-pool 7:0 7:1 128 0", unix.ENOSPC},
		{12, "0 65536 thin-pool 7:0 7:1 128 0", nil},
		{512, "0 65536 thin-pool 7:0 7:1 128 0 1 read_only", unix.EPERM},
	} {
		meta := mappertest.NewFaulty(mappertest.NewDisk("7:0", c.blocks*8))
		if c.want != nil {
			meta.Inject(mappertest.Fault{Ops: []mapper.Op{mapper.OpWrite}})
		}
		b := newBench(t, meta, mappertest.NewDisk("7:1", 65536))
		specs, err := mapper.ParseTable(c.table)
		must(b, err)
		_, err = b.mgr.Create(ctx, mapper.NewDevice{Name: "pool", Minor: -1, Table: specs})
		if !errors.Is(err, c.want) {
			t.Errorf("%s on %d blocks: %v, want %v", c.table, c.blocks, err, c.want)
		}
		b.close()
	}
}

// Metadata that is larger than can be used is told as the kernel tells it, and data disks that are too large for the metadata are ENOSPC.
func TestSizesOfDisks(t *testing.T) {
	for _, c := range []struct {
		meta, data mapper.Sector
		want       error
		log        string
	}{
		{16 << 21, 65536, nil, ""},
		{16<<21 + 8, 65536, nil, "Metadata device 7:0 is larger than 33292800 sectors: excess space will not be used."},
		{4096, 6 << 30, unix.ENOSPC, "dm_pool_resize_data_dev' failed: error = -28"},
	} {
		b := newBench(t, mappertest.NewDisk("7:0", c.meta), mappertest.Null{Name: "7:1", Size: c.data})
		specs, err := mapper.ParseTable(fmt.Sprintf("0 %d thin-pool 7:0 7:1 128 0", c.data))
		must(b, err)
		if _, err = b.mgr.Create(ctx, mapper.NewDevice{Name: "pool", Minor: -1, Table: specs}); !errors.Is(err, c.want) {
			t.Errorf("%d sectors of metadata, %d of data: %v, want %v", c.meta, c.data, err, c.want)
		}
		if log := b.mgr.Log().Text(); !strings.Contains(log, c.log) || c.log == "" && log != "" {
			t.Errorf("%d sectors of metadata, %d of data: the log is %q, want %q", c.meta, c.data, log, c.log)
		}
		b.close()
	}
}
