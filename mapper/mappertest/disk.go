package mappertest

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"

	"dmfs/mapper"
)

// pageSectors is the unit in which a Disk allocates.
const pageSectors mapper.Sector = 128

type page [pageSectors * mapper.SectorSize]byte

// Discarded is what a Disk holds where it was told to discard: not zeroes, and not what was
// there, for OpDiscard promises neither.
const Discarded = 0xdd

// discarded is the page of a discarded range; it is shared and never written to.
var discarded = func() *page {
	p := new(page)
	fill(p[:], Discarded)
	return p
}()

// ErrContract is wrapped by the errors that a Disk answers unlawful requests with.
var ErrContract = errors.New("contract broken")

// A Disk is a disk in memory. What was never written reads as zeroes and takes no space. It refuses requests that
// the core and the targets must not send (out of bounds, misaligned, without data) and remembers the first of them.
type Disk struct {
	name    string
	sectors mapper.Sector

	mu     sync.RWMutex
	limits mapper.Limits
	pages  map[mapper.Sector]*page  // by first sector / pageSectors
	tags   map[mapper.Sector][]byte // by first sector of the unit; zeroes where there is none
	counts Counts
	broken error // the first unlawful request
}

// Counts are the requests that a Disk has carried out.
type Counts struct {
	Reads, Writes, Flushes, Discards, WriteZeroes int
	FUA                                           int // of Writes and WriteZeroes
	Read, Written                                 mapper.Sector
}

// DefaultLimits are those of a disk that can do everything, with blocks of 512 bytes.
var DefaultLimits = mapper.Limits{
	LogicalBlock: mapper.SectorSize, PhysicalBlock: mapper.SectorSize, MinIO: mapper.SectorSize,
	DiscardGranularity: 1, MaxDiscard: mapper.MaxSectors, MaxWriteZeroes: mapper.MaxSectors,
	VolatileCache: true,
}

// NewDisk returns a disk of that many sectors with DefaultLimits. Listings print it as name, say "253:7".
func NewDisk(name string, sectors mapper.Sector) *Disk {
	return &Disk{name: name, sectors: sectors, limits: DefaultLimits, pages: make(map[mapper.Sector]*page), tags: make(map[mapper.Sector][]byte)}
}

// SetLimits replaces the limits. The disk enforces the block size, discard and write-zeroes of them.
func (d *Disk) SetLimits(l mapper.Limits) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limits = l
}

// Sectors returns the size.
func (d *Disk) Sectors() mapper.Sector { return d.sectors }

// Limits returns what SetLimits set.
func (d *Disk) Limits() mapper.Limits {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.limits
}

// DiskName returns the name.
func (d *Disk) DiskName() string { return d.name }

// KernelName returns the last element of the name.
func (d *Disk) KernelName() string { return path.Base(d.name) }

// Counts returns what the disk has done so far.
func (d *Disk) Counts() Counts {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.counts
}

// Broken returns the first unlawful request, or nil.
func (d *Disk) Broken() error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.broken
}

// Submit carries r out at once.
func (d *Disk) Submit(_ context.Context, r mapper.Request) error {
	if err := d.check(r); err != nil {
		return err
	}
	if r.Op == mapper.OpRead {
		d.mu.RLock()
		d.load(r.Start, r.Data)
		d.loadTags(r)
		d.mu.RUnlock()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch r.Op {
	case mapper.OpRead:
		d.counts.Reads++
		d.counts.Read += r.Count
	case mapper.OpWrite:
		d.counts.Writes++
		d.counts.Written += r.Count
		d.store(r.Start, r.Data)
		d.storeTags(r)
	case mapper.OpFlush:
		d.counts.Flushes++
	case mapper.OpDiscard:
		d.counts.Discards++
		d.set(r.Start, r.Count, discarded)
	case mapper.OpWriteZeroes:
		d.counts.WriteZeroes++
		d.set(r.Start, r.Count, nil)
	}
	if r.Flags&mapper.FlagFUA != 0 {
		d.counts.FUA++
	}
	return nil
}

// check returns an error for a request that must not reach a disk with these limits.
func (d *Disk) check(r mapper.Request) error {
	l := d.Limits()
	var why string
	block := l.LogicalSectors()
	withData := r.Op == mapper.OpRead || r.Op == mapper.OpWrite
	switch {
	case r.Op > mapper.OpWriteZeroes:
		why = "an operation that does not exist"
	case r.Op == mapper.OpFlush && (r.Count != 0 || r.Data != nil):
		why = "a flush with sectors or data"
	case r.Op == mapper.OpFlush:
		return nil
	case r.Count == 0:
		why = "no sectors"
	case r.Start > d.sectors || r.Count > d.sectors-r.Start:
		why = fmt.Sprintf("outside the disk of %d sectors", d.sectors)
	case r.Start%block != 0 || r.Count%block != 0:
		why = fmt.Sprintf("not aligned to blocks of %d sectors", block)
	case withData && int64(len(r.Data)) != r.Count.Bytes():
		why = fmt.Sprintf("%d bytes of data", len(r.Data))
	case !withData && (r.Data != nil || r.Tags != nil):
		why = "data where none belongs"
	case r.Tags != nil && len(r.Tags) != l.Tags.Len(r.Count):
		why = fmt.Sprintf("%d bytes of tags", len(r.Tags))
	case r.Op == mapper.OpDiscard && r.Count > l.MaxDiscard, r.Op == mapper.OpWriteZeroes && r.Count > l.MaxWriteZeroes:
		if r.Op == mapper.OpDiscard && l.MaxDiscard == 0 || r.Op == mapper.OpWriteZeroes && l.MaxWriteZeroes == 0 {
			return mapper.ErrNotSupported
		}
		why = "more sectors than the limits allow"
	case r.Op != mapper.OpRead && l.ReadOnly:
		return mapper.ErrReadOnly
	default:
		return nil
	}
	err := fmt.Errorf("%w: disk %s: %s of %d sectors at %d: %s", ErrContract, d.name, r.Op, r.Count, r.Start, why)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken == nil {
		d.broken = err
	}
	return err
}

// Peek returns a copy of n sectors from s on, without being counted as I/O.
func (d *Disk) Peek(s, n mapper.Sector) []byte {
	buf := make([]byte, n.Bytes())
	d.mu.RLock()
	defer d.mu.RUnlock()
	d.load(s, buf)
	return buf
}

// Poke writes data from sector s on, without being counted as I/O. The data is copied.
func (d *Disk) Poke(s mapper.Sector, data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.store(s, data)
}

// Allocated returns how many sectors take space, rounded up to pages of 128.
func (d *Disk) Allocated() mapper.Sector {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var n mapper.Sector
	for _, p := range d.pages {
		if p != discarded {
			n += pageSectors
		}
	}
	return n
}

// Clone returns a disk with the same name, limits and contents, and with no counts.
func (d *Disk) Clone() *Disk {
	d.mu.RLock()
	defer d.mu.RUnlock()
	c := NewDisk(d.name, d.sectors)
	c.limits = d.limits
	for k, p := range d.pages {
		if p != discarded {
			p = new(page)
			*p = *d.pages[k]
		}
		c.pages[k] = p
	}
	for s, tag := range d.tags {
		c.tags[s] = slices.Clone(tag)
	}
	return c
}

// load copies from the pages. d.mu is held.
func (d *Disk) load(s mapper.Sector, buf []byte) {
	for len(buf) > 0 {
		off := (s % pageSectors).Bytes()
		n := min(len(buf), int(pageSectors.Bytes()-off))
		if p := d.pages[s/pageSectors]; p != nil {
			copy(buf[:n], p[off:])
		} else {
			clear(buf[:n])
		}
		buf, s = buf[n:], s+mapper.SectorsOf(int64(n))
	}
}

// store copies to the pages. d.mu is held.
func (d *Disk) store(s mapper.Sector, data []byte) {
	for len(data) > 0 {
		n := copy(d.own(s / pageSectors)[(s%pageSectors).Bytes():], data)
		data, s = data[n:], s+mapper.SectorsOf(int64(n))
	}
}

// own returns page k for writing. d.mu is held.
func (d *Disk) own(k mapper.Sector) *page {
	p := d.pages[k]
	if p == nil || p == discarded {
		q := new(page)
		if p != nil {
			*q = *p
		}
		p, d.pages[k] = q, q
	}
	return p
}

// set gives n sectors from s on the contents of kind: nil for zeroes, or discarded. d.mu is held.
func (d *Disk) set(s, n mapper.Sector, kind *page) {
	for end := s + n; s < end; {
		k := s / pageSectors
		next := min(end, (k+1)*pageSectors)
		switch {
		case next-s < pageSectors:
			part := d.pages[k]
			if part == kind {
				break
			}
			p := d.own(k)[(s % pageSectors).Bytes():][:(next - s).Bytes()]
			if kind == nil {
				clear(p)
			} else {
				fill(p, Discarded)
			}
		case kind == nil:
			delete(d.pages, k)
		default:
			d.pages[k] = kind
		}
		s = next
	}
}

func fill(b []byte, c byte) {
	for i := range b {
		b[i] = c
	}
}
