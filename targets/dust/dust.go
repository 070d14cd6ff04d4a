package dust

import (
	"context"
	"math/bits"
	"strconv"
	"sync"
	"sync/atomic"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// Type is the dust target.
var Type = mapper.Type{Name: "dust", Version: [3]int{1, 0, 0}, New: newTarget}

// minBlock is the least size of a block, maxBlock the most, in bytes.
const (
	minBlock = mapper.SectorSize
	maxBlock = 1 << 30
)

type target struct {
	host          mapper.Host
	disk          mapper.Disk
	start, length mapper.Sector
	block         mapper.Sector // sectors in a block
	shift         int           // log2 of block

	enabled atomic.Bool // bad blocks fail
	quiet   atomic.Bool

	mu  sync.Mutex // guards bad
	bad blockList
}

var (
	_ mapper.Areaser   = (*target)(nil)
	_ mapper.Tabler    = (*target)(nil)
	_ mapper.Statuser  = (*target)(nil)
	_ mapper.Hinter    = (*target)(nil)
	_ mapper.Messenger = (*target)(nil)
)

func newTarget(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
	if len(s.Args) != 3 {
		return nil, mapper.BadArg("Invalid argument count", "%d arguments: want DISK OFFSET BLOCK", len(s.Args))
	}
	size, ok := args.Uint32(s.Args[2])
	switch {
	case !ok || size == 0:
		return nil, mapper.BadArg("Invalid block size parameter", "%q: want a number of bytes", s.Args[2])
	case size < minBlock:
		return nil, mapper.BadArg("Block size must be at least 512", "%d bytes", size)
	case size&(size-1) != 0:
		return nil, mapper.BadArg("Block size must be a power of 2", "%d bytes", size)
	}
	block := mapper.SectorsOf(int64(size))
	if size > maxBlock || block > s.Len {
		return nil, mapper.BadArg("Block size is too large", "%d bytes: want at most %d, and not more than the segment of %d sectors", size, maxBlock, s.Len)
	}
	start, ok := args.Uint64(s.Args[1])
	if !ok {
		return nil, mapper.BadArg("Invalid device offset sector", "offset %q: want a number of sectors", s.Args[1])
	}
	disk, err := args.OpenInvalid(ctx, h, s.Args[0], "Device lookup failed")
	if err != nil {
		return nil, err
	}
	if n := disk.Limits().LogicalSectors(); block%n != 0 {
		return nil, mapper.BadArg("Invalid block size parameter", "%d bytes: want a multiple of a block of %s", size, mapper.DiskName(disk))
	}
	return &target{host: h, disk: disk, start: mapper.Sector(start), length: s.Len, block: block, shift: bits.TrailingZeros64(uint64(block))}, nil
}

// Submit passes r on unless its first block is bad.
func (t *target) Submit(ctx context.Context, r mapper.Request) error {
	if r.Op == mapper.OpFlush {
		return t.disk.Submit(ctx, r)
	}
	r.Start += t.start
	if t.enabled.Load() {
		if r.Op == mapper.OpWriteZeroes {
			return mapper.ErrNotSupported // then the core writes zeroes, block by block
		}
		if t.fails(r) {
			return mapper.ErrIO
		}
	}
	return t.disk.Submit(ctx, r)
}

// fails reports whether r, in sectors of the disk, meets a bad block. What is not a read makes that good in time.
func (t *target) fails(r mapper.Request) bool {
	b := uint64(r.Start >> t.shift)
	fails, healed := t.meet(b, r.Op != mapper.OpRead)
	if healed {
		t.say("block %d removed from badblocklist by write", b)
	}
	return fails
}

// meet reports whether a read or a write that meets block b fails, and whether it made b good.
func (t *target) meet(b uint64, write bool) (fails, healed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	failures, bad := t.bad.find(b)
	switch {
	case !bad:
		return false, false
	case !write:
		return true, false
	case failures > 0:
		t.bad.set(b, failures-1)
		return true, false
	}
	t.bad.remove(b)
	return false, true
}

// say logs a change of the list.
func (t *target) say(format string, a ...any) {
	if !t.quiet.Load() {
		t.host.Logf(format, a...)
	}
}

// Areas returns the one range.
func (t *target) Areas() []mapper.Area {
	return []mapper.Area{{Disk: t.disk, Start: t.start, Len: t.length}}
}

// Hints asks for cuts at the borders of blocks.
func (t *target) Hints(l *mapper.Limits) { l.Split = t.block }

// Table returns DISK OFFSET BLOCK.
func (t *target) Table(bool) []string {
	return []string{mapper.DiskName(t.disk), strconv.FormatUint(uint64(t.start), 10), strconv.FormatInt(t.block.Bytes(), 10)}
}

// Status returns what bad blocks do, and whether that is logged.
func (t *target) Status(context.Context, bool) (string, error) {
	text := mapper.DiskName(t.disk)
	if t.enabled.Load() {
		text += " fail_read_on_bad_block"
	} else {
		text += " bypass"
	}
	if t.quiet.Load() {
		return text + " quiet", nil
	}
	return text + " verbose", nil
}
