package unstriped

import (
	"context"
	"math/bits"
	"strconv"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// Type is the unstriped target.
var Type = mapper.Type{Name: "unstriped", Version: [3]int{1, 1, 0}, New: newTarget}

// target takes every stripes-th chunk of disk, from the index-th after start on.
type target struct {
	disk           mapper.Disk
	start, length  mapper.Sector
	chunk          mapper.Sector // sectors in a chunk
	shift          int           // log2 of chunk, -1 if it is not a power of two
	stripes, index mapper.Sector
}

var (
	_ mapper.Remapper = (*target)(nil)
	_ mapper.Areaser  = (*target)(nil)
	_ mapper.Tabler   = (*target)(nil)
	_ mapper.Hinter   = (*target)(nil)
)

func newTarget(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
	if len(s.Args) != 5 {
		return nil, mapper.BadArg("Invalid number of arguments", "%d arguments: want STRIPES CHUNK INDEX DISK OFFSET", len(s.Args))
	}
	stripes, ok := args.Uint32(s.Args[0])
	if !ok || stripes == 0 {
		return nil, mapper.BadArg("Invalid stripe count", "%q: want a number above 0", s.Args[0])
	}
	chunk, ok := args.Uint32(s.Args[1])
	if !ok || chunk == 0 {
		return nil, mapper.BadArg("Invalid chunk_size", "%q: want a number of sectors above 0", s.Args[1])
	}
	index, ok := args.Uint32(s.Args[2])
	if !ok {
		return nil, mapper.BadArg("Invalid stripe number", "%q: want a number", s.Args[2])
	}
	if index >= stripes {
		return nil, mapper.BadArg("Please provide stripe between [0, # of stripes]", "stripe %d of %d: they count from 0", index, stripes)
	}
	disk, err := args.OpenInvalid(ctx, h, s.Args[3], "Couldn't get striped device")
	if err != nil {
		return nil, err
	}
	start, ok := args.Uint64(s.Args[4])
	if !ok {
		return nil, mapper.BadArg("Invalid striped device offset", "%q: want a number of sectors", s.Args[4])
	}
	t := &target{disk: disk, start: mapper.Sector(start), length: s.Len,
		chunk: mapper.Sector(chunk), shift: -1, stripes: mapper.Sector(stripes), index: mapper.Sector(index)}
	if chunk&(chunk-1) == 0 {
		t.shift = bits.TrailingZeros32(chunk)
	}
	return t, t.check()
}

// check refuses what does not fit together.
func (t *target) check() error {
	if t.length%t.chunk != 0 {
		return mapper.BadArg("Target length not divisible by chunk size", "%d sectors, a chunk has %d", t.length, t.chunk)
	}
	if high, all := bits.Mul64(uint64(t.length), uint64(t.stripes)); high != 0 || mapper.Sector(all) > mapper.MaxSectors {
		return mapper.BadArg("Invalid stripe count", "%d stripes of %d sectors are more than a disk can have", t.stripes, t.length)
	}
	if block := t.disk.Limits().LogicalSectors(); t.chunk%block != 0 {
		return mapper.BadArg("Invalid chunk_size", "%d sectors: want a multiple of the %d of a block of %s",
			t.chunk, block, mapper.DiskName(t.disk))
	}
	return nil
}

// Submit passes r, which lies within a chunk, on to its place on the disk.
func (t *target) Submit(ctx context.Context, r mapper.Request) error {
	if r.Op != mapper.OpFlush {
		r.Start, _ = t.place(r.Start)
	}
	return t.disk.Submit(ctx, r)
}

// place returns the sector of the disk that s is, and how many sectors follow it there.
func (t *target) place(s mapper.Sector) (at, run mapper.Sector) {
	var row, off mapper.Sector
	if t.shift >= 0 {
		row, off = s>>t.shift, s&(t.chunk-1)
	} else {
		row, off = s/t.chunk, s%t.chunk
	}
	return t.start + (row*t.stripes+t.index)*t.chunk + off, t.chunk - off
}

// Remap returns the sector of the disk that s is, and the rest of its chunk as the run.
func (t *target) Remap(s mapper.Sector) (d mapper.Disk, at, run mapper.Sector) {
	at, run = t.place(s)
	return t.disk, at, run
}

// Areas returns what the kernel checks: as if the stripe were in one piece.
func (t *target) Areas() []mapper.Area {
	return []mapper.Area{{Disk: t.disk, Start: t.start, Len: t.length}}
}

// Hints asks for cuts at the borders of chunks.
func (t *target) Hints(l *mapper.Limits) {
	l.Split, l.SplitDiscard = t.chunk, true
	l.MaxDiscard = 0
}

// Table returns STRIPES CHUNK INDEX DISK OFFSET.
func (t *target) Table(bool) []string {
	number := func(s mapper.Sector) string { return strconv.FormatUint(uint64(s), 10) }
	return []string{number(t.stripes), number(t.chunk), number(t.index), mapper.DiskName(t.disk), number(t.start)}
}
