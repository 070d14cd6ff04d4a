package snapshot

import (
	"context"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// originTarget passes everything on to a disk, and has its snapshots keep what is overwritten.
type originTarget struct {
	family *family
	origin *origin
	start  mapper.Sector // of the segment, in the device and on the disk
	length mapper.Sector
}

var (
	_ mapper.Areaser = (*originTarget)(nil)
	_ mapper.Hinter  = (*originTarget)(nil)
	_ mapper.Tabler  = (*originTarget)(nil)
)

func (f *family) newOrigin(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
	if len(s.Args) != 1 {
		return nil, mapper.BadArg("origin: incorrect number of arguments", "%d: want ORIGIN", len(s.Args))
	}
	disk, err := args.Open(ctx, h, s.Args[0], "Cannot get target device")
	if err != nil {
		return nil, err
	}
	return &originTarget{family: f, origin: f.join(disk), start: s.Start, length: s.Len}, nil
}

// Submit passes r on; writes once all snapshots have what was there.
func (t *originTarget) Submit(ctx context.Context, r mapper.Request) error {
	if r.Op == mapper.OpFlush {
		return t.origin.disk.Submit(ctx, r)
	}
	r.Start += t.start
	switch r.Op {
	case mapper.OpWrite:
		return t.family.writeOrigin(ctx, t.origin, r)
	case mapper.OpDiscard, mapper.OpWriteZeroes:
		return mapper.ErrNotSupported
	}
	return t.origin.disk.Submit(ctx, r)
}

// writeOrigin writes to the disk of o.
func (f *family) writeOrigin(ctx context.Context, o *origin, r mapper.Request) error {
	if err := o.writes.Share(ctx); err != nil {
		return err
	}
	defer o.writes.Unshare()
	if err := f.protect(ctx, o, r.Start, r.Count); err != nil {
		return err
	}
	return o.disk.Submit(ctx, r)
}

// Hints has the core write zeroes, and refuse discards: what they drop no snapshot would keep.
func (t *originTarget) Hints(l *mapper.Limits) { l.MaxDiscard, l.MaxWriteZeroes = 0, 0 }

// Areas returns the one range.
func (t *originTarget) Areas() []mapper.Area {
	return []mapper.Area{{Disk: t.origin.disk, Start: t.start, Len: t.length}}
}

// Table returns ORIGIN.
func (t *originTarget) Table(bool) []string { return []string{mapper.DiskName(t.origin.disk)} }

// Close gives the origin back.
func (t *originTarget) Close() error {
	t.family.leave(t.origin)
	return nil
}
