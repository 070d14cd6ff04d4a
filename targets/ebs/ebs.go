package ebs

import (
	"context"
	"strconv"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// Type is the ebs target.
var Type = mapper.Type{Name: "ebs", Version: [3]int{1, 0, 1}, New: newTarget}

const (
	maxEmulated   = 8       // sectors: a page of the kernel
	maxUnderlying = 1 << 15 // sectors: the largest power of two of 16 bits
	// splitSectors bounds a request, and so the buffer that it may need, unless a block is larger.
	splitSectors = mapper.Sector(mapper.MaxBuffer / mapper.SectorSize)
)

type target struct {
	disk          mapper.Disk
	start, length mapper.Sector
	emulated      mapper.Sector // sectors in a block above, a power of two
	block         mapper.Sector // sectors in a block of the disk, a power of two
	blockGiven    bool          // by the table line
	claims        claims        // of what changes the disk, in its sectors
}

var (
	_ mapper.Areaser = (*target)(nil)
	_ mapper.Tabler  = (*target)(nil)
	_ mapper.Hinter  = (*target)(nil)
)

func newTarget(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
	if n := len(s.Args); n != 3 && n != 4 {
		return nil, mapper.BadArg("Invalid argument count", "%d arguments: want DISK OFFSET EMULATED, and perhaps UNDERLYING", n)
	}
	start, ok := args.Uint64(s.Args[1])
	if !ok {
		return nil, mapper.BadArg("Invalid device offset sector", "offset %q: want a number of sectors", s.Args[1])
	}
	t := &target{start: mapper.Sector(start), length: s.Len, blockGiven: len(s.Args) == 4}
	if t.emulated, ok = blockSize(s.Args[2], maxEmulated); !ok {
		return nil, mapper.BadArg("Invalid emulated block size", "%q: want 1, 2, 4 or 8 sectors", s.Args[2])
	}
	if t.blockGiven {
		if t.block, ok = blockSize(s.Args[3], maxUnderlying); !ok {
			return nil, mapper.BadArg("Invalid underlying block size", "%q: want a power of two of sectors, at most %d", s.Args[3], maxUnderlying)
		}
	}
	var err error
	if t.disk, err = args.Open(ctx, h, s.Args[0], "Device lookup failed"); err != nil {
		return nil, err
	}
	return t, t.fit(h)
}

// blockSize reads a power of two of sectors.
func blockSize(s string, most uint32) (mapper.Sector, bool) {
	n, ok := args.ScanUint32(s)
	return mapper.Sector(n), ok && n != 0 && n&(n-1) == 0 && n <= most
}

// fit makes the blocks fit the disk, or refuses.
func (t *target) fit(h mapper.Host) error {
	native := t.disk.Limits().LogicalSectors()
	if !t.blockGiven {
		t.block = native
		if t.block > maxUnderlying {
			return mapper.BadArg("Invalid retrieved underlying block size", "%d sectors of %s: want at most %d", native, mapper.DiskName(t.disk), maxUnderlying)
		}
		if t.emulated == t.block {
			h.Logf("Emulation superfluous: emulated equal to underlying block size")
		}
	}
	if t.block < native {
		return mapper.BadArg("Invalid underlying block size", "%d sectors: want the %d of %s or more", t.block, native, mapper.DiskName(t.disk))
	}
	if t.start%t.block != 0 {
		return mapper.BadArg("Device offset must be multiple of underlying block size", "offset %d, a block has %d sectors", t.start, t.block)
	}
	return nil
}

// Submit passes whole blocks on, and carries out the rest through them.
func (t *target) Submit(ctx context.Context, r mapper.Request) error {
	if r.Op == mapper.OpFlush {
		return t.disk.Submit(ctx, r)
	}
	r.Start += t.start
	switch r.Op {
	case mapper.OpRead:
		if t.whole(r) {
			return t.disk.Submit(ctx, r)
		}
		return t.read(ctx, r)
	case mapper.OpDiscard:
		if r = t.inner(r); r.Count == 0 {
			return nil
		}
		return t.submitWhole(ctx, r)
	}
	if t.whole(r) {
		return t.submitWhole(ctx, r)
	}
	if r.Op == mapper.OpWriteZeroes {
		return t.zero(ctx, r)
	}
	return t.change(ctx, r)
}

// down and up return the border of a block before and after s, or s.
func (t *target) down(s mapper.Sector) mapper.Sector { return s &^ (t.block - 1) }
func (t *target) up(s mapper.Sector) mapper.Sector   { return t.down(s + t.block - 1) }

// whole reports whether r consists of whole blocks.
func (t *target) whole(r mapper.Request) bool { return (r.Start|r.Count)&(t.block-1) == 0 }

// inner returns the whole blocks within r, which has no data; there may be none.
func (t *target) inner(r mapper.Request) mapper.Request {
	from, to := t.up(r.Start), t.down(r.End())
	if from >= to {
		from, to = r.Start, r.Start
	}
	return r.Slice(from-r.Start, to-from)
}

// read reads the blocks that r is in, at once, and takes its part.
func (t *target) read(ctx context.Context, r mapper.Request) error {
	from, to := t.down(r.Start), t.up(r.End())
	buf := mapper.GetBuffer(int((to - from).Bytes()))
	defer buf.Free()
	if err := t.disk.Submit(ctx, mapper.Request{Op: mapper.OpRead, Start: from, Count: to - from, Data: buf.Data}); err != nil {
		return err
	}
	copy(r.Data, buf.Data[(r.Start-from).Bytes():])
	return nil
}

// submitWhole passes on what changes whole blocks, apart from changes of parts of them.
func (t *target) submitWhole(ctx context.Context, r mapper.Request) error {
	id, err := t.claims.take(ctx, r.Start, r.End(), false)
	if err != nil {
		return err
	}
	defer t.claims.release(id)
	return t.disk.Submit(ctx, r)
}

// change writes r, or zeroes if it has no data, as whole blocks, in one request, with what they held around it.
func (t *target) change(ctx context.Context, r mapper.Request) error {
	from, to := t.down(r.Start), t.up(r.End())
	id, err := t.claims.take(ctx, from, to, true)
	if err != nil {
		return err
	}
	defer t.claims.release(id)
	buf := mapper.GetBuffer(int((to - from).Bytes()))
	defer buf.Free()
	w := mapper.Request{Op: mapper.OpWrite, Flags: r.Flags & mapper.FlagFUA, Start: from, Count: to - from, Data: buf.Data}
	readBlock := func(s mapper.Sector) error {
		b := w.Slice(s-from, t.block)
		b.Op, b.Flags = mapper.OpRead, 0
		return t.disk.Submit(ctx, b)
	}
	last := to - t.block
	if from < r.Start || last == from { // a block alone is read whichever of its ends is amiss
		if err := readBlock(from); err != nil {
			return err
		}
	}
	if last > from && r.End() < to {
		if err := readBlock(last); err != nil {
			return err
		}
	}
	part := w.Data[(r.Start - from).Bytes():][:r.Count.Bytes()]
	if r.Op == mapper.OpWriteZeroes {
		clear(part)
	} else {
		copy(part, r.Data)
	}
	return t.disk.Submit(ctx, w)
}

// zero passes on the whole blocks of r and changes the others.
func (t *target) zero(ctx context.Context, r mapper.Request) error {
	in := t.inner(r)
	if in.Count == 0 {
		return t.change(ctx, r)
	}
	if err := t.submitWhole(ctx, in); err != nil {
		return err
	}
	if head := in.Start - r.Start; head > 0 {
		if err := t.change(ctx, r.Slice(0, head)); err != nil {
			return err
		}
	}
	if tail := r.End() - in.End(); tail > 0 {
		return t.change(ctx, r.Slice(r.Count-tail, tail))
	}
	return nil
}

// Areas returns the blocks that the segment is in.
func (t *target) Areas() []mapper.Area {
	return []mapper.Area{{Disk: t.disk, Start: t.start, Len: t.up(t.length)}}
}

// Hints tells of the emulated blocks, and of those of the disk as what is best.
func (t *target) Hints(l *mapper.Limits) {
	l.LogicalBlock = int(t.emulated.Bytes())
	l.PhysicalBlock = int(max(t.block, t.emulated).Bytes())
	l.MinIO = max(l.MinIO, l.PhysicalBlock)
	l.DiscardGranularity = max(l.DiscardGranularity, t.block)
	l.Split = max(t.block, splitSectors)
}

// Table returns DISK OFFSET EMULATED [UNDERLYING].
func (t *target) Table(bool) []string {
	number := func(s mapper.Sector) string { return strconv.FormatUint(uint64(s), 10) }
	words := []string{mapper.DiskName(t.disk), number(t.start), number(t.emulated)}
	if t.blockGiven {
		words = append(words, number(t.block))
	}
	return words
}
