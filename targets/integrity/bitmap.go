package integrity

import (
	"context"
	"fmt"
	"sync"

	"dmfs/mapper"
)

// bitmapBlock is the unit in which the bitmap is written, in sectors.
const bitmapBlock = 8

// # The bitmap
//
// In mode B the journal's place on the disk holds a bit for each so many blocks, which says that tags there may not match.
//
//  1. The bits of a write are set and written, with FUA, before its data are.
//  2. Data and tags are written, in no order.
//  3. From time to time, with no write under way, everything is flushed, and then the bits are cleared and written.
//
// A crash leaves bits set wherever a write may be half done; what they cover is recalculated when the device is opened again,
// and not verified until then.
type bitmap struct {
	t *target

	mu      sync.Mutex
	disk    bitset        // as it is on the disk, or is about to be
	may     bitset        // bits that are on the disk, so that writes need not wait
	recalc  bitset        // tags that are not known
	writing chan struct{} // holds a token while somebody writes the bitmap
}

// A bitset is bits, the first the lowest of the first byte.
type bitset []byte

func (b bitset) set(from, to uint64) {
	for ; from < to && from%8 != 0; from++ {
		b[from/8] |= 1 << (from % 8)
	}
	for ; from+8 <= to; from += 8 {
		b[from/8] = 0xff
	}
	for ; from < to; from++ {
		b[from/8] |= 1 << (from % 8)
	}
}

func (b bitset) clear(from, to uint64) {
	for ; from < to && from%8 != 0; from++ {
		b[from/8] &^= 1 << (from % 8)
	}
	for ; from+8 <= to; from += 8 {
		b[from/8] = 0
	}
	for ; from < to; from++ {
		b[from/8] &^= 1 << (from % 8)
	}
}

// all reports whether all bits are as value says.
func (b bitset) all(from, to uint64, value bool) bool {
	same := byte(0)
	if value {
		same = 0xff
	}
	for from < to {
		if from%8 == 0 && from+8 <= to {
			if b[from/8] != same {
				return false
			}
			from += 8
			continue
		}
		if b[from/8]>>(from%8)&1 != 0 != value {
			return false
		}
		from++
	}
	return true
}

func newBitmap(t *target) *bitmap {
	size := int(t.geometry.bitmapSectors) * mapper.SectorSize
	return &bitmap{t: t, disk: make(bitset, size), may: make(bitset, size), recalc: make(bitset, size), writing: make(chan struct{}, 1)}
}

// bits returns the bits of n sectors from s on.
func (b *bitmap) bits(s, n uint64) (from, to uint64) {
	shift := b.t.geometry.bitShift
	return s >> shift, (s + n + 1<<shift - 1) >> shift
}

// unknown reports whether the tags of some of n sectors from s on are not known.
func (b *bitmap) unknown(s, n uint64) bool {
	from, to := b.bits(s, n)
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.recalc.all(from, to, false)
}

// nextUnknown returns the first sectors of n from s on whose tags are not known, in one piece; count is 0 if all are known.
func (b *bitmap) nextUnknown(s, n uint64) (at, count uint64) {
	end := s + n
	b.mu.Lock()
	defer b.mu.Unlock()
	bit := func(s uint64) bool { i := s >> b.t.geometry.bitShift; return b.recalc[i/8]>>(i%8)&1 != 0 }
	next := func(s uint64) uint64 { return min(end, (s>>b.t.geometry.bitShift+1)<<b.t.geometry.bitShift) }
	for at = s; at < end && !bit(at); {
		at = next(at)
	}
	for s = at; s < end && bit(s); {
		s = next(s)
	}
	return at, s - at
}

// allow returns when n sectors from s on may be written, which the caller holds.
func (b *bitmap) allow(ctx context.Context, s, n uint64) error {
	from, to := b.bits(s, n)
	b.mu.Lock()
	ok := b.may.all(from, to, true)
	b.mu.Unlock()
	if ok {
		return nil
	}
	select {
	case b.writing <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-b.writing }()
	b.mu.Lock()
	if b.may.all(from, to, true) {
		b.mu.Unlock()
		return nil
	}
	b.disk.set(from, to)
	b.mu.Unlock()
	const perBlock = bitmapBlock * mapper.SectorSize * 8
	first, last := from/perBlock, (to-1)/perBlock
	if err := b.write(context.WithoutCancel(ctx), first*bitmapBlock, (last-first+1)*bitmapBlock); err != nil {
		return err
	}
	b.mu.Lock()
	b.may.set(from, to)
	b.mu.Unlock()
	b.t.back.bits()
	return nil
}

// write writes n sectors of the bitmap from sector at on. The caller has the token.
func (b *bitmap) write(ctx context.Context, at, n uint64) error {
	g := &b.t.geometry
	for n > 0 {
		part := min(n, uint64(mapper.SectorsOf(mapper.MaxBuffer)))
		buf := mapper.GetBuffer(int(part) * mapper.SectorSize)
		b.mu.Lock()
		copy(buf.Data, b.disk[at*mapper.SectorSize:])
		b.mu.Unlock()
		err := b.t.metaDisk.Submit(ctx, mapper.Request{
			Op: mapper.OpWrite, Flags: mapper.FlagFUA, Start: mapper.Sector(g.start + superSectors + at), Count: mapper.Sector(part), Data: buf.Data,
		})
		buf.Free()
		if err != nil {
			return fmt.Errorf("writing bitmap: %w", err)
		}
		at, n = at+part, n-part
	}
	return nil
}

func (b *bitmap) writeAll(ctx context.Context) error {
	b.writing <- struct{}{}
	defer func() { <-b.writing }()
	return b.write(ctx, 0, b.t.geometry.bitmapSectors)
}

// load reads the bitmap from the disk.
func (b *bitmap) load(ctx context.Context) error {
	g := &b.t.geometry
	return b.t.metaDisk.Submit(ctx, mapper.Request{
		Op: mapper.OpRead, Start: mapper.Sector(g.start + superSectors), Count: mapper.Sector(g.bitmapSectors), Data: b.disk,
	})
}

// flush makes everything durable and clears the bits.
func (b *bitmap) flush(ctx context.Context) error {
	if err := b.t.flushTags(ctx, true); err != nil { // most of it while writes go on
		return err
	}
	all, err := b.t.hold(ctx, mapper.Request{Count: mapper.Sector(b.t.geometry.provided)}, false)
	if err != nil {
		return err
	}
	defer b.t.letGo(all)
	if err := b.t.flushTags(ctx, true); err != nil {
		return err
	}
	limit := b.t.geometry.provided
	b.t.superMu.Lock()
	if b.t.super.flags&flagRecalc != 0 {
		limit = b.t.super.recalc
	}
	b.t.superMu.Unlock()
	_, to := b.bits(0, b.t.geometry.provided)
	if limit < b.t.geometry.provided {
		to = limit >> b.t.geometry.bitShift
	}
	b.mu.Lock()
	b.disk.clear(0, to)
	b.may.clear(0, to)
	b.mu.Unlock()
	return b.writeAll(ctx)
}

// setAll sets all bits from sector s on, in all three.
func (b *bitmap) setAll(s uint64) {
	_, to := b.bits(0, b.t.geometry.provided)
	from := s >> b.t.geometry.bitShift
	for _, set := range []bitset{b.disk, b.may, b.recalc} {
		set.set(from, to)
	}
}
