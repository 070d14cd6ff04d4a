package luks

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"dmfs/mapper"
)

// Interrupted reports whether a reencryption was interrupted while it wrote data: then a segment is neither what it was nor what it was
// going to be, until Resolve says what it is.
func (h *Header) Interrupted() bool {
	return h.Reencryption != nil && slices.ContainsFunc(h.Segments, func(s Segment) bool { return s.Hot })
}

// mostRuns is how many segments may take the place of one. What was written in the wrong order is in few pieces, or in very many.
const mostRuns = 1024

// Resolve puts in the place of the segment in which a reencryption was interrupted others, from which its data can be read. They must not be
// written to: whoever recovers the container will look at the same places. header is the disk that the header is on, data that of the data.
//
// Before data is written over, what a crash would destroy is made durable, with a header that says which segment it is about. How depends on
// the type of the key slot's area, and for the segment that was moved on the second half of it:
//
//   - journal: the area has the segment as it was. It is read from there.
//   - checksum: the area has a checksum of each block as it was, in their order. Blocks that have it still are as they were, others as they were
//     going to be; a block is written as a whole.
//   - datashift: where the segment was nothing was written yet. It is read from there.
//   - none: nothing is known, which is an error.
func (h *Header) Resolve(ctx context.Context, header, data io.ReaderAt) error {
	r := h.Reencryption
	n := slices.IndexFunc(h.Segments, func(s Segment) bool { return s.Hot })
	if r == nil || n < 0 {
		return nil
	}
	at := mapper.Sector(0)
	for _, s := range h.Segments[:n] {
		at += s.Size
	}
	before, after := r.Previous, h.Segments[n]
	kind := r.area.kind
	if _, shift := r.area.has(); shift {
		kind = "datashift"
	}
	if at == 0 && r.Moved != nil {
		before = *r.Moved
		if second, ok := strings.CutPrefix(r.area.kind, "datashift-"); ok {
			kind = second
		}
	}
	before = before.part(at, after.Size)
	after.Hot, after.Key = false, r.Final.Key
	var now []Segment
	var err error
	switch kind {
	case "datashift":
		now = []Segment{before}
	case "journal":
		now, err = r.journaled(before)
	case "checksum":
		now, err = r.summed(ctx, before, after, header, data)
	default:
		err = fmt.Errorf("there is nothing to recover it with (resilience %s)", kind)
	}
	if err != nil {
		return fmt.Errorf("segment %d, in which the reencryption was interrupted: %w", n, err)
	}
	h.Segments = slices.Replace(h.Segments, n, n+1, now...)
	return nil
}

// part returns the part of s that begins at one of its sectors and has size.
func (s Segment) part(at, size mapper.Sector) Segment {
	s.Offset, s.Size = s.Offset+at, size
	if s.Type == "crypt" {
		s.IVTweak += uint64(at)
	}
	return s
}

// journaled returns the segment in the area.
func (r *Reencryption) journaled(before Segment) ([]Segment, error) {
	var whole bool
	before.Offset, whole = sectorsOf(r.area.offset)
	before.OnHeader = true
	if !whole || uint64(before.Size.Bytes()) > r.area.size {
		return nil, fmt.Errorf("it has %d bytes, and the journal %d at byte %d", before.Size.Bytes(), r.area.size, r.area.offset)
	}
	return []Segment{before}, nil
}

// summed tells by the checksums in the area which blocks are what they were, and returns a segment for each run of them.
func (r *Reencryption) summed(ctx context.Context, before, after Segment, header, data io.ReaderAt) (runs []Segment, err error) {
	maker, err := hashNamed(r.area.hash)
	if err != nil {
		return nil, err
	}
	h := maker()
	unit, size := r.area.sectorSize, uint64(after.Size.Bytes())
	count := size / unit
	const mostUnit = 1 << 20 // bytes
	switch {
	case unit > mostUnit || size%unit != 0 || before.Offset != after.Offset:
		return nil, fmt.Errorf("it has %d bytes, which do not lie in blocks of %d", size, unit)
	case count > r.area.size/uint64(h.Size()):
		return nil, fmt.Errorf("it has %d blocks, and there is no room for so many checksums", count)
	}
	sums := bufio.NewReaderSize(io.NewSectionReader(header, int64(r.area.offset), int64(r.area.size)), 1<<16)
	blocks := bufio.NewReaderSize(io.NewSectionReader(data, after.Offset.Bytes(), after.Size.Bytes()), 1<<16)
	block, sum, got := make([]byte, unit), make([]byte, h.Size()), make([]byte, 0, h.Size())
	each := mapper.SectorsOf(int64(unit))
	wasOld := false
	for n := range mapper.Sector(count) {
		_, err1 := io.ReadFull(sums, sum)
		_, err2 := io.ReadFull(blocks, block)
		if err := errors.Join(err1, err2, ctx.Err()); err != nil {
			return nil, err
		}
		h.Reset()
		h.Write(block) //nolint:errcheck // a hash takes everything
		got = h.Sum(got[:0])
		isOld := bytes.Equal(got, sum)
		if n == 0 || isOld != wasOld {
			next := after
			if isOld {
				next = before
			}
			runs = append(runs, next.part(n*each, 0))
		}
		runs[len(runs)-1].Size += each
		wasOld = isOld
		if len(runs) > mostRuns {
			return nil, fmt.Errorf("it is in more than %d pieces", mostRuns)
		}
	}
	return runs, nil
}
