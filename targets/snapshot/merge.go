package snapshot

import (
	"context"

	"dmfs/mapper"
)

// mergeBytes bounds what is merged in one step, unless a chunk is more.
const mergeBytes = 4 << 20

// submitMerging reads and writes what was not merged yet in the store, and all else on the origin.
func (s *snapshot) submitMerging(ctx context.Context, c *content, r mapper.Request) error {
	first, end := c.span(r.Start, r.Count)
	set, err := c.share(ctx, first, end)
	if err != nil {
		return err
	}
	defer c.unshare(set)
	return c.each(r, func(piece mapper.Request, at mapper.Sector, kept bool) error {
		switch {
		case kept && c.valid.Load():
			piece.Start = at
			return s.cow.Submit(ctx, piece)
		case r.Op == mapper.OpWrite:
			return s.family.writeOrigin(ctx, s.origin, piece)
		}
		return s.origin.disk.Submit(ctx, piece)
	})
}

// merge brings one run of chunks after the other back to the origin, the last that were made first, until there is none, or ctx ends.
func (s *snapshot) merge(ctx context.Context) {
	c := s.content
	most := max(1, mergeBytes/uint64(c.store.size().Bytes()))
	for ctx.Err() == nil && c.valid.Load() && !c.failed.Load() {
		// A step that is begun is finished.
		first, n, err := c.store.last(context.WithoutCancel(ctx), most)
		if err != nil {
			s.stopMerging(c, "Read error in exception store: shutting down merge")
			return
		}
		if n == 0 || !s.mergeRun(ctx, c, first, n) {
			return
		}
	}
}

// stopMerging ends it for good.
func (s *snapshot) stopMerging(c *content, why string) {
	s.host.LogFrom(logModule, "%s", why)
	c.failed.Store(true)
}

// mergeRun brings n chunks back, and reports whether it did.
func (s *snapshot) mergeRun(ctx context.Context, c *content, first exception, n uint64) bool {
	set, err := c.lock(ctx, first.old, first.old+n)
	if err != nil {
		return false
	}
	defer c.unlock(set)
	if err := s.origin.writes.Share(ctx); err != nil {
		return false
	}
	defer s.origin.writes.Unshare()
	size := c.store.size()
	from, to, count := mapper.Sector(first.new)*size, mapper.Sector(first.old)*size, mapper.Sector(n)*size
	if sectors := s.origin.disk.Sectors(); to < sectors {
		count = min(count, sectors-to)
		if err := s.family.protect(ctx, s.origin, to, count); err != nil {
			return false
		}
		if !s.mergeCopy(context.WithoutCancel(ctx), c, from, to, count) {
			return false
		}
	}
	if err := c.store.forget(context.WithoutCancel(ctx), n); err != nil {
		s.stopMerging(c, "Write error in exception store: shutting down merge")
		return false
	}
	c.kept.remove(first.old, n)
	return true
}

// mergeCopy copies n sectors of the store to the origin, and makes them last there.
func (s *snapshot) mergeCopy(ctx context.Context, c *content, from, to, n mapper.Sector) bool {
	buf := mapper.GetBuffer(int(min(n.Bytes(), mapper.MaxBuffer)))
	defer buf.Free()
	for n > 0 {
		p := buf.Data[:min(n.Bytes(), int64(len(buf.Data)))]
		if err := transfer(ctx, s.cow, mapper.OpRead, 0, from, p); err != nil {
			s.stopMerging(c, "Read error: shutting down merge.")
			return false
		}
		if err := transfer(ctx, s.origin.disk, mapper.OpWrite, 0, to, p); err != nil {
			s.stopMerging(c, "Write error: shutting down merge.")
			return false
		}
		done := mapper.SectorsOf(int64(len(p)))
		from, to, n = from+done, to+done, n-done
	}
	if err := flush(ctx, s.origin.disk); err != nil {
		s.stopMerging(c, "Flush after merge failed: shutting down merge.")
		return false
	}
	return true
}
