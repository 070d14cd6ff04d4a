package thin

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// A discard unmaps the blocks that it covers as a whole and leaves the others as they are; write-zeroes gives zeroes everywhere. This and what follows is
// as the kernel's, but no scenario: a mount knows no discard.
func TestPartsOfBlocks(t *testing.T) {
	for _, c := range []struct {
		op     mapper.Op
		status string
	}{{mapper.OpDiscard, "384 511"}, {mapper.OpWriteZeroes, "384 511"}} {
		b := newDisks(t, 4096, 65536)
		pool := b.create("pool", poolTable)
		b.message(pool, "create_thin 0")
		thin := b.create("t", "0 4096 thin pool 0")
		b.write(thin, 0, 512, 1)
		b.submit(thin, mapper.Request{Op: c.op, Start: 100, Count: 200})
		if got := b.status(thin); got != c.status {
			t.Errorf("%s: status %q, want %q", c.op, got, c.status)
		}
		buf := make([]byte, mapper.Sector(512).Bytes())
		b.submit(thin, mapper.Request{Op: mapper.OpRead, Count: 512, Data: buf})
		part := func(from, to mapper.Sector) []byte { return buf[from.Bytes():to.Bytes()] }
		must(b, mappertest.CheckZero(part(128, 256), 128))
		if c.op == mapper.OpDiscard {
			must(b, mappertest.CheckStamp(part(0, 128), 0, 1))
			must(b, mappertest.CheckStamp(part(256, 512), 256, 1))
		} else {
			must(b, mappertest.CheckZero(part(100, 300), 100))
			must(b, mappertest.CheckStamp(part(0, 100), 0, 1))
			must(b, mappertest.CheckStamp(part(300, 512), 300, 1))
		}
		b.close()
	}
}

// Over an origin a discard shows the origin again, and write-zeroes does not.
func TestDiscardOverOrigin(t *testing.T) {
	b := newDisks(t, 4096, 65536)
	origin := mappertest.NewDisk("7:3", 512)
	must(b, origin.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Count: 512, Data: mappertest.Stamped(0, 512, 1)}))
	b = newBench(t, b.meta, b.data, origin)
	pool := b.create("pool", poolTable)
	b.message(pool, "create_thin 0")
	thin := b.create("t", "0 1024 thin pool 0 7:3")
	b.write(thin, 0, 256, 2)
	b.submit(thin, mapper.Request{Op: mapper.OpDiscard, Start: 0, Count: 128})
	b.submit(thin, mapper.Request{Op: mapper.OpWriteZeroes, Start: 128, Count: 256})
	buf := make([]byte, mapper.Sector(512).Bytes())
	b.submit(thin, mapper.Request{Op: mapper.OpRead, Count: 512, Data: buf})
	at := func(s mapper.Sector) []byte { return buf[s.Bytes():] }
	must(b, mappertest.CheckStamp(at(0)[:mapper.Sector(128).Bytes()], 0, 1))
	must(b, mappertest.CheckZero(at(128)[:mapper.Sector(256).Bytes()], 128))
	must(b, mappertest.CheckStamp(at(384), 384, 1))
	if got, want := b.status(thin), "256 383"; got != want {
		t.Errorf("status %q, want %q", got, want)
	}
	b.close()
}

// A read-only pool takes discards and does nothing; one with ignore_discard refuses them.
func TestDiscardNotWanted(t *testing.T) {
	b := newDisks(t, 4096, 65536)
	pool := b.create("pool", poolTable)
	b.message(pool, "create_thin 0")
	thin := b.create("t", "0 4096 thin pool 0")
	b.write(thin, 0, 128, 1)
	must(b, b.reload(pool, poolTable+" 1 read_only"))
	b.submit(thin, mapper.Request{Op: mapper.OpDiscard, Start: 0, Count: 128})
	if got := b.status(thin); got != "128 127" {
		t.Errorf("status %q", got)
	}
	if err := thin.Submit(ctx, mapper.Request{Op: mapper.OpWriteZeroes, Start: 0, Count: 128}); !errors.Is(err, unix.EIO) {
		t.Errorf("write-zeroes that would unmap, on a read-only pool: %v", err)
	}
	b.close()
	b.create("pool", poolTable+" 1 ignore_discard")
	thin = b.create("t", "0 4096 thin pool 0")
	if err := thin.Submit(ctx, mapper.Request{Op: mapper.OpDiscard, Start: 0, Count: 128}); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("a discard where they are ignored: %v", err)
	}
	b.submit(thin, mapper.Request{Op: mapper.OpWriteZeroes, Start: 0, Count: 128})
	if got := b.status(thin); got != "128 127" {
		t.Errorf("status %q", got)
	}
	b.close()
}
