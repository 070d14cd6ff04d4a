package snapshot

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// The format on disk, of the kernel's Documentation/admin-guide/device-mapper/snapshot.rst and images of Linux 6.1: numbers are
// little endian. Chunk 0 is a header; chunk 1 is an area of exceptions of two numbers of 64 bits, the old chunk and the new; as many chunks of
// data follow as an area has exceptions, then the next area. A new chunk of 0 ends the list: the area behind a full one is zeroed first.
const (
	magic         = 0x70416e53 // "SnAp"
	diskVersion   = 1
	headerChunks  = 1
	exceptionSize = 16   // bytes
	pageBytes     = 4096 // of an area are read and written at a time; less if a chunk is smaller
)

// A persistent store.
type persistent struct {
	geometry
	host     mapper.Host
	supplied bool // the table line has a chunk size

	fresh   bool
	invalid bool // the header says so
	perArea uint64

	next      atomic.Uint64 // the next free chunk
	area      atomic.Uint64 // the one that is filled
	committed uint64        // exceptions in area

	page     []byte // the part of area that has exception number committed, or committed-1 at its end
	pageFrom uint64 // exception at which page begins
}

// pageExceptions returns how many exceptions a page has.
func (p *persistent) pageExceptions() uint64 {
	return min(pageBytes, uint64(p.chunk.Bytes())) / exceptionSize
}

// areaChunk returns the chunk of an area.
func (p *persistent) areaChunk(area uint64) uint64 { return headerChunks + (p.perArea+1)*area }

// isArea reports whether chunk n is an area.
func (p *persistent) isArea(n uint64) bool { return n%(p.perArea+1) == headerChunks }

// load reads the header and all areas.
func (p *persistent) load(ctx context.Context, add func(exception) error) (valid bool, err error) {
	if err := p.readHeader(ctx); err != nil {
		return false, err
	}
	if !p.invalid && p.disk.Sectors() < 2*p.chunk {
		if p.fresh {
			p.host.LogFrom(module, "zero_disk_area(0) failed")
		}
		return false, p.refuse(unix.EIO, "the disk has %d sectors, no room for a header and an area of %d each", p.disk.Sectors(), p.chunk)
	}
	p.perArea = uint64(p.chunk.Bytes()) / exceptionSize
	p.page = make([]byte, p.pageExceptions()*exceptionSize)
	p.next.Store(headerChunks + 1)
	if p.fresh || p.invalid {
		return !p.invalid, nil
	}
	for {
		full, err := p.readArea(ctx, add)
		if err != nil {
			return false, err
		}
		if !full {
			break
		}
		p.area.Add(1)
	}
	p.skipArea()
	return true, nil
}

// readHeader reads chunk 0, and takes its size of chunks.
func (p *persistent) readHeader(ctx context.Context) error {
	block := p.disk.Limits().LogicalSectors()
	buf := make([]byte, block.Bytes())
	if p.disk.Sectors() < max(block, p.chunk) {
		return p.refuse(unix.EIO, "the disk has %d sectors, less than a chunk", p.disk.Sectors())
	}
	if err := transfer(ctx, p.disk, mapper.OpRead, 0, 0, buf); err != nil {
		return fmt.Errorf("the header: %w", err)
	}
	switch binary.LittleEndian.Uint32(buf) {
	case 0:
		p.fresh = true
		return nil
	case magic:
	default:
		p.host.LogFrom(module, "Invalid or corrupt snapshot")
		return p.refuse(unix.ENXIO, "the disk has something else on it, no snapshot; zero its first sector to begin one")
	}
	p.invalid = binary.LittleEndian.Uint32(buf[4:]) == 0
	version := binary.LittleEndian.Uint32(buf[8:])
	size := binary.LittleEndian.Uint32(buf[12:])
	if mapper.Sector(size) != p.chunk {
		if p.supplied {
			p.host.LogFrom(module, "chunk size %d in device metadata overrides table chunk size of %d.", size, p.chunk)
		}
		if reason := badChunk(mapper.Sector(size), p.disk); reason != "" || size == 0 {
			p.host.LogFrom(module, "invalid on-disk chunk size %d: %s.", size, reason)
			return p.refuse(unix.EINVAL, "chunks of %d sectors: %s", size, reason)
		}
		p.chunk = mapper.Sector(size)
	}
	if version != diskVersion {
		p.host.LogFrom(module, "unable to handle snapshot disk version %d", version)
		return p.refuse(unix.EINVAL, "version %d", version)
	}
	return nil
}

// module is what the kernel's log says of a persistent store.
const module = "persistent snapshot"

func (p *persistent) refuse(errno unix.Errno, detail string, args ...any) error {
	return &mapper.ArgError{Reason: "Failed to read snapshot metadata", Detail: fmt.Sprintf(detail, args...), Errno: errno}
}

// readArea reads the exceptions of area. It reports whether it is full.
func (p *persistent) readArea(ctx context.Context, add func(exception) error) (full bool, err error) {
	if p.committed = 0; p.areaChunk(p.area.Load()) >= p.chunks() {
		return false, nil // the last area that the disk has room for is full
	}
	for ; p.committed < p.perArea; p.committed++ {
		if p.committed%p.pageExceptions() == 0 {
			if err := p.readPage(ctx, p.committed); err != nil {
				return false, err
			}
		}
		e := p.get(p.committed)
		if e.new == 0 {
			return false, nil
		}
		if e.new >= p.chunks() || p.isArea(e.new) {
			p.host.LogFrom(module, "Invalid or corrupt snapshot")
			return false, p.refuse(unix.EINVAL, "exception %d of area %d is in chunk %d, which is no chunk of data of this disk", p.committed, p.area.Load(), e.new)
		}
		if e.old > uint64(mapper.MaxSectors/p.chunk) {
			p.host.LogFrom(module, "Invalid or corrupt snapshot")
			return false, p.refuse(unix.EINVAL, "exception %d of area %d is of chunk %d, which no disk has", p.committed, p.area.Load(), e.old)
		}
		if p.next.Load() <= e.new {
			p.next.Store(e.new + 1)
		}
		if err := add(e); err != nil {
			return false, p.refuse(unix.EINVAL, "exception %d of area %d: %v", p.committed, p.area.Load(), err)
		}
	}
	return true, nil
}

// chunks returns how many whole chunks the disk has.
func (p *persistent) chunks() uint64 { return uint64(p.disk.Sectors() / p.chunk) }

// readPage reads the part of area that begins at exception n, a multiple of pageExceptions.
func (p *persistent) readPage(ctx context.Context, n uint64) error {
	p.pageFrom = n
	return transfer(ctx, p.disk, mapper.OpRead, 0, p.pageAt(), p.page)
}

// pageAt returns where page is on the disk.
func (p *persistent) pageAt() mapper.Sector {
	return p.at(p.areaChunk(p.area.Load())) + mapper.SectorsOf(int64(p.pageFrom*exceptionSize))
}

// get returns exception n of area, which is in page.
func (p *persistent) get(n uint64) exception {
	b := p.page[(n-p.pageFrom)*exceptionSize:]
	return exception{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
}

func (p *persistent) put(n uint64, e exception) {
	b := p.page[(n-p.pageFrom)*exceptionSize:]
	binary.LittleEndian.PutUint64(b, e.old)
	binary.LittleEndian.PutUint64(b[8:], e.new)
}

// begin formats a fresh store: what stands behind the header first, so that it never leads to rubbish.
func (p *persistent) begin(ctx context.Context) error {
	if !p.fresh {
		return nil
	}
	if err := zero(ctx, p.disk, 0, 2*p.chunk); err != nil {
		return err
	}
	if err := flush(ctx, p.disk); err != nil {
		return err
	}
	if err := p.writeHeader(ctx); err != nil {
		return err
	}
	p.fresh = false
	return nil
}

func (p *persistent) writeHeader(ctx context.Context) error {
	buf := mapper.GetBuffer(int(p.disk.Limits().LogicalSectors().Bytes()))
	defer buf.Free()
	clear(buf.Data)
	valid := uint32(1)
	if p.invalid {
		valid = 0
	}
	for i, v := range []uint32{magic, valid, diskVersion, uint32(p.chunk)} {
		binary.LittleEndian.PutUint32(buf.Data[4*i:], v)
	}
	return transfer(ctx, p.disk, mapper.OpWrite, mapper.FlagFUA, 0, buf.Data)
}

func (p *persistent) invalidate(ctx context.Context) error {
	p.invalid = true
	return p.writeHeader(ctx)
}

func (p *persistent) allocate() (uint64, bool) {
	n := p.next.Load()
	if p.disk.Sectors() < p.at(n+1) {
		return 0, false
	}
	p.next.Store(n + 1)
	p.skipArea()
	return n, true
}

// skipArea moves next behind an area.
func (p *persistent) skipArea() {
	if n := p.next.Load(); p.isArea(n) {
		p.next.Store(n + 1)
	}
}

// commit makes what was written before durable, then writes the exceptions page by page, each page durable before the next.
func (p *persistent) commit(ctx context.Context, list []exception) error {
	if err := flush(ctx, p.disk); err != nil {
		return err
	}
	for len(list) > 0 {
		n := min(uint64(len(list)), p.pageFrom+p.pageExceptions()-p.committed)
		for _, e := range list[:n] {
			p.put(p.committed, e)
			p.committed++
		}
		list = list[n:]
		if err := p.writePage(ctx); err != nil {
			return err
		}
	}
	return nil
}

// writePage writes page, having cleared what follows it if it is full: the list ends at the first exception that is zero.
func (p *persistent) writePage(ctx context.Context) error {
	areaFull := p.committed == p.perArea
	if next := p.areaChunk(p.area.Load() + 1); areaFull && next < p.chunks() {
		if err := zero(ctx, p.disk, p.at(next), p.chunk); err != nil {
			return err
		}
		if err := flush(ctx, p.disk); err != nil {
			return err
		}
	}
	if err := transfer(ctx, p.disk, mapper.OpWrite, mapper.FlagFUA, p.pageAt(), p.page); err != nil {
		return err
	}
	switch {
	case areaFull:
		p.area.Add(1)
		p.committed, p.pageFrom = 0, 0
		clear(p.page)
	case p.committed == p.pageFrom+p.pageExceptions():
		p.pageFrom = p.committed
		clear(p.page)
	}
	return nil
}

func (p *persistent) usage() usage {
	return usage{used: p.at(p.next.Load()), total: p.disk.Sectors(), metadata: p.at(p.area.Load() + 1 + headerChunks)}
}

func (p *persistent) letter() string { return "P" }

// last looks at the list from its end.
func (p *persistent) last(ctx context.Context, most uint64) (first exception, n uint64, err error) {
	if p.committed == 0 {
		if p.area.Load() == 0 {
			return first, 0, nil
		}
		p.area.Store(p.area.Load() - 1)
		p.committed = p.perArea
	}
	// The page that has the last one; a run ends at its beginning.
	if from := (p.committed - 1) / p.pageExceptions() * p.pageExceptions(); from != p.pageFrom || p.committed == p.perArea {
		if err := p.readPage(ctx, from); err != nil {
			return first, 0, err
		}
	}
	first = p.get(p.committed - 1)
	if first.new == 0 {
		return first, 0, fmt.Errorf("%w: exception %d of area %d is gone from the disk", mapper.ErrIO, p.committed-1, p.area.Load())
	}
	for n = 1; n < most && p.committed-n > p.pageFrom; n++ {
		e := p.get(p.committed - 1 - n)
		if e.old != first.old-1 || e.new != first.new-1 {
			break
		}
		first = e
	}
	return first, n, nil
}

// forget zeroes them in page, where last has found them.
func (p *persistent) forget(ctx context.Context, n uint64) error {
	for i := range n {
		p.put(p.committed-1-i, exception{})
	}
	if err := flush(ctx, p.disk); err != nil {
		return err
	}
	if err := transfer(ctx, p.disk, mapper.OpWrite, mapper.FlagFUA, p.pageAt(), p.page); err != nil {
		return err
	}
	p.committed -= n
	// While it merges the used part is as if all exceptions had been made in order.
	p.next.Store(p.areaChunk(p.area.Load()) + p.committed + 1)
	return nil
}
