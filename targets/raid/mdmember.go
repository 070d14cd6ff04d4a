package raid

import (
	"context"
	"fmt"
	"sync"
	"time"

	"dmfs/mapper"
	"dmfs/targets/raid/md"
)

// A window is the part of a disk that has a member's data.
type window struct {
	mapper.Disk
	start, sectors mapper.Sector
}

// Submit carries r out, whose sectors count from the start of the window.
func (w *window) Submit(ctx context.Context, r mapper.Request) error {
	if r.Op != mapper.OpFlush {
		if r.Start > w.sectors || r.Count > w.sectors-r.Start {
			return fmt.Errorf("sectors %d+%d beyond the data of a member, which has %d: %w", r.Start, r.Count, w.sectors, mapper.ErrIO)
		}
		r.Start += w.start
	}
	return w.Disk.Submit(ctx, r)
}

// Sectors returns the size of the window.
func (w *window) Sectors() mapper.Sector { return w.sectors }

// DiskName returns the name of the disk.
func (w *window) DiskName() string { return mapper.DiskName(w.Disk) }

// An mdMetadata shows the superblock and the bitmap of a member of md as the metadata device that the target raid keeps with a member: a
// superblock of dm-raid, and from superBlock bytes on the bitmap, whose format is the same.
//
// What is written to it is written to md's. Where md keeps a bitmap it goes there; where it keeps none, it stays in memory, and is all ones
// when an array is opened that was not closed. In either case md's superblock says that the array is not clean before a bit is on the disk, hence before
// data are written, and that it is clean after none is any more.
type mdMetadata struct {
	mapper.Disk
	geo     *geometry
	regions int
	region  mapper.Sector // of the bitmap that is shown

	mu     sync.Mutex
	super  *md.Super
	shown  superblock
	bitmap []byte // what is shown: the header and the bits
	kept   []byte // md's header, as it was read; nil if it keeps no bitmap
	other  bool   // what is on the disk is not what is shown, and of no use: all is to be written, the header last
	closed bool   // nobody writes, and bits that are set tell only what a member lacks that is not there
}

// Bytes of a bitmap's header that stay md's: before the events magic, version and the array's identity, and from the daemon's sleep on what mdadm was told.
const (
	mdHeaderEvents = 0x18
	mdHeaderSleep  = 0x38
)

// newMDMetadata shows the superblock of a member of a. shown is what dm-raid's is to be, region the size of the bitmap's.
func newMDMetadata(ctx context.Context, disk mapper.Disk, s *md.Super, a *md.Array, shown superblock, geo *geometry, region mapper.Sector) (*mdMetadata, error) {
	m := &mdMetadata{Disk: disk, super: s, shown: shown, geo: geo, region: region}
	m.regions = int((geo.syncSectors() + region - 1) / region)
	m.bitmap = make([]byte, bitmapBytes(m.regions))
	head := bitmapSuper{
		events: a.Events, cleared: a.Events, sectors: geo.syncSectors(), regionBytes: uint32(region.Bytes()), sleep: 5,
	}
	head.encode(m.bitmap)
	if s.Bitmap == 0 {
		if a.Dirty {
			setBits(m.bitmap)
		}
		return m, nil
	}
	if room := m.bitmapRoom(); mapper.SectorsOf(int64(len(m.bitmap))) > room {
		return nil, fmt.Errorf("a bitmap of %d regions where there is room for %d sectors", m.regions, room)
	}
	if err := m.load(ctx, a.Dirty); err != nil {
		return nil, err
	}
	return m, nil
}

// bitmapRoom returns how many sectors there are for the bitmap, before whatever comes next.
func (m *mdMetadata) bitmapRoom() mapper.Sector {
	end := m.Disk.Sectors()
	for _, next := range []mapper.Sector{m.super.At, m.super.Data} {
		if next > m.super.Bitmap {
			end = min(end, next)
		}
	}
	return end - m.super.Bitmap
}

// load reads md's bitmap. One of a clean array may have bits, of what a member that is not there lacks.
func (m *mdMetadata) load(ctx context.Context, dirty bool) error {
	b := make([]byte, len(m.bitmap))
	r := mapper.Request{Op: mapper.OpRead, Start: m.super.Bitmap, Count: mapper.SectorsOf(int64(len(b))), Data: b}
	if err := m.Disk.Submit(ctx, r); err != nil {
		return fmt.Errorf("bitmap: %w", err)
	}
	s, err := decodeBitmap(b)
	usable := err == nil && s.counts(m.geo.syncSectors(), m.super.Events) && s.regionBytes == uint32(m.region.Bytes())
	m.kept = b[:bitmapHeader:bitmapHeader]
	switch {
	case usable:
		copy(m.bitmap, b)
	case err != nil:
		return fmt.Errorf("bitmap: %w", err)
	case dirty:
		setBits(m.bitmap)
	}
	m.other = !usable
	return nil
}

// Sectors returns the size of the metadata device that is shown.
func (m *mdMetadata) Sectors() mapper.Sector {
	return mapper.SectorsOf(superBlock + int64(len(m.bitmap)))
}

// DiskName returns the name of the disk.
func (m *mdMetadata) DiskName() string { return mapper.DiskName(m.Disk) }

// Submit reads and writes what is shown, in whole blocks of the disk.
func (m *mdMetadata) Submit(ctx context.Context, r mapper.Request) error {
	if r.Op == mapper.OpFlush {
		return m.Disk.Submit(ctx, r)
	}
	at := int(r.Start.Bytes())
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case r.Start > m.Sectors() || r.Count > m.Sectors()-r.Start || r.Op > mapper.OpWrite:
		return fmt.Errorf("no metadata at sector %d: %w", r.Start, mapper.ErrIO)
	case r.Op == mapper.OpRead && at == 0:
		super := make([]byte, superBlock)
		m.shown.encode(super)
		n := copy(r.Data, super)
		copy(r.Data[n:], m.bitmap)
		return nil
	case r.Op == mapper.OpRead:
		copy(r.Data, m.bitmap[at-superBlock:])
		return nil
	case at == 0:
		return m.writeSuper(ctx, r.Data)
	}
	return m.writeBitmap(ctx, at-superBlock, r.Data)
}

// writeSuper takes what a superblock of dm-raid says anew.
func (m *mdMetadata) writeSuper(ctx context.Context, p []byte) error {
	s, err := decodeSuper(p)
	if err != nil {
		return err
	}
	m.shown = s
	return m.putSuper(ctx)
}

// putSuper writes md's superblock.
func (m *mdMetadata) putSuper(ctx context.Context) error {
	c := md.Change{Events: m.shown.events, Resync: md.Done, Recovered: md.Done, Failed: make([]bool, m.shown.members), Time: time.Now()}
	if !m.clean() {
		c.Resync = 0
	}
	if m.shown.rebuilt != done {
		c.Recovered = m.shown.rebuilt
	}
	for i := range c.Failed {
		c.Failed[i] = m.shown.hasFailed(i)
	}
	m.super.Apply(c)
	b := m.super.Bytes(int(m.Disk.Limits().LogicalSectors().Bytes()))
	return m.Disk.Submit(ctx, mapper.Request{
		Op: mapper.OpWrite, Flags: mapper.FlagFUA, Start: m.super.At, Count: mapper.SectorsOf(int64(len(b))), Data: b,
	})
}

// clean reports whether the superblock is to say so.
func (m *mdMetadata) clean() bool { return m.closed || m.shown.synced == done && !m.anySet() }

// close says that nobody writes any more, or that somebody may. All writes before were flushed.
func (m *mdMetadata) close(ctx context.Context, closed bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = closed
	if m.clean() == (m.super.Resync == md.Done) {
		return nil
	}
	return m.putSuper(ctx)
}

// anySet reports whether a bit of a region is set.
func (m *mdMetadata) anySet() bool {
	bits := m.bitmap[bitmapHeader:]
	for _, b := range bits[:m.regions/8] {
		if b != 0 {
			return true
		}
	}
	return m.regions%8 != 0 && bits[m.regions/8]&(1<<(m.regions%8)-1) != 0
}

// writeBitmap takes a part of the bitmap, and says in the superblock what that means.
func (m *mdMetadata) writeBitmap(ctx context.Context, at int, p []byte) error {
	was := m.super.Resync == md.Done
	copy(m.bitmap[at:], p)
	is := m.clean()
	if was && !is {
		if err := m.putSuper(ctx); err != nil {
			return err
		}
	}
	if m.kept != nil {
		if err := m.putBitmap(ctx, at, p); err != nil {
			return err
		}
	}
	if !was && is {
		return m.putSuper(ctx)
	}
	return nil
}

// putBitmap writes a part of md's bitmap.
func (m *mdMetadata) putBitmap(ctx context.Context, at int, p []byte) error {
	if m.other {
		if err := m.putPages(ctx, bitmapPageSize, m.bitmap[bitmapPageSize:]); err != nil {
			return err
		}
		at, p = 0, m.bitmap[:bitmapPageSize]
	}
	if at == 0 {
		p = append([]byte(nil), p...)
		copy(p[:mdHeaderEvents], m.kept)
		copy(p[mdHeaderSleep:], m.kept[mdHeaderSleep:])
	}
	if err := m.putPages(ctx, at, p); err != nil {
		return err
	}
	m.other = false
	return nil
}

func (m *mdMetadata) putPages(ctx context.Context, at int, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	return m.Disk.Submit(ctx, mapper.Request{
		Op: mapper.OpWrite, Flags: mapper.FlagFUA, Start: m.super.Bitmap + mapper.SectorsOf(int64(at)), Count: mapper.SectorsOf(int64(len(p))), Data: p,
	})
}
