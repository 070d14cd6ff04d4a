package snapshot

import (
	"context"

	"dmfs/mapper"
)

// batchBytes bounds what is copied before it is committed.
const batchBytes = mapper.MaxBuffer

// except gives s chunks first to before end, none of which it has, for itself: with what the origin has, and over it what r writes, if it is not
// nil. full reports that the store had no room for all; what it had room for is kept.
func (s *snapshot) except(ctx context.Context, c *content, first, end uint64, r *mapper.Request) (full bool, err error) {
	most := max(1, batchBytes/uint64(c.store.size().Bytes()))
	for first < end && !full {
		want := min(most, end-first)
		b := c.reserve(first, want)
		have := uint64(len(b.list))
		full = have < want
		if have == 0 {
			break
		}
		if err := c.finish(ctx, b, s.fill(ctx, c, b.list, r)); err != nil {
			return full, err
		}
		first += have
	}
	return full, nil
}

// fill writes the chunks of a list, whose old ones are adjacent.
func (s *snapshot) fill(ctx context.Context, c *content, list []exception, r *mapper.Request) error {
	size := c.store.size()
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n].new == list[0].new+uint64(n) {
			n++
		}
		from, to := mapper.Sector(list[0].old)*size, mapper.Sector(list[0].new)*size
		if err := s.copyOut(ctx, from, to, mapper.Sector(n)*size, r); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// copyOut copies n sectors of the origin to the store, as far as there are so many, with r over them.
func (s *snapshot) copyOut(ctx context.Context, from, to, n mapper.Sector, r *mapper.Request) error {
	origin := s.origin.disk
	size := origin.Sectors()
	if from >= size {
		return nil
	}
	n = min(n, size-from)
	var buf *mapper.Buffer
	for most := mapper.SectorsOf(mapper.MaxBuffer); n > 0; {
		count := min(n, most)
		w := mapper.Request{Op: mapper.OpWrite, Start: to, Count: count}
		if r != nil {
			w.Flags = r.Flags & mapper.FlagFUA
		}
		if r != nil && r.Start <= from && r.End() >= from+count {
			w.Data = r.Slice(from-r.Start, count).Data
		} else {
			if buf == nil {
				buf = mapper.GetBuffer(int(count.Bytes()))
				defer buf.Free()
			}
			w.Data = buf.Data[:count.Bytes()]
			if err := origin.Submit(ctx, mapper.Request{Op: mapper.OpRead, Start: from, Count: count, Data: w.Data}); err != nil {
				return err
			}
			overlay(w.Data, from, r)
		}
		if err := s.cow.Submit(ctx, w); err != nil {
			return err
		}
		from, to, n = from+count, to+count, n-count
	}
	return nil
}

// overlay puts what r writes of the sectors from start on into p, which holds them.
func overlay(p []byte, start mapper.Sector, r *mapper.Request) {
	if r == nil {
		return
	}
	first, end := max(start, r.Start), min(start+mapper.SectorsOf(int64(len(p))), r.End())
	if first < end {
		copy(p[(first-start).Bytes():], r.Slice(first-r.Start, end-first).Data)
	}
}
