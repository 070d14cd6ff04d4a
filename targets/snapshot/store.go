package snapshot

import (
	"context"

	"dmfs/mapper"
)

// An exception says that chunk old of the origin is kept, or was changed, in chunk new of the store.
type exception struct{ old, new uint64 }

// usage is what a status line tells, in sectors.
type usage struct{ used, total, metadata mapper.Sector }

// A store keeps the chunks and, if it is persistent, which they are. Its methods are called one at a time, but for allocate, which may be
// called during a commit, and usage, which may be called at any time.
type store interface {
	// load reads what is there without writing, and calls add for each exception. It is false if the store was invalidated.
	load(ctx context.Context, add func(exception) error) (valid bool, err error)
	// begin writes for the first time: it formats a store that is fresh.
	begin(ctx context.Context) error
	// allocate takes the next free chunk; false if there is none.
	allocate() (chunk uint64, ok bool)
	// commit makes exceptions last whose chunks were written, in the order they were allocated. Each is on disk when it returns.
	commit(ctx context.Context, list []exception) error
	// invalidate marks the store for good.
	invalidate(ctx context.Context) error
	usage() usage
	// size returns the sectors in a chunk, a power of two, or 0 if there are no chunks.
	size() mapper.Sector
	// abstain has the store be without chunks: that of another takes its place before it is used.
	abstain()
	// letter is how table lines call it.
	letter() string

	// last returns the last exceptions that were committed, as many in a row as have adjacent chunks on both sides, at most so many, the
	// first of them, and whether there are any.
	last(ctx context.Context, most uint64) (first exception, n uint64, err error)
	// forget takes the last n exceptions back; it is on disk when it returns.
	forget(ctx context.Context, n uint64) error
}

// A geometry is how a store divides its disk.
type geometry struct {
	disk  mapper.Disk
	chunk mapper.Sector // sectors in a chunk, a power of two
}

func (g *geometry) size() mapper.Sector { return g.chunk }
func (g *geometry) abstain()            { g.chunk = 0 }

// at returns where a chunk begins.
func (g *geometry) at(chunk uint64) mapper.Sector { return mapper.Sector(chunk) * g.chunk }

// transfer reads or writes p at s, in pieces that any disk takes.
func transfer(ctx context.Context, d mapper.Disk, op mapper.Op, flags mapper.Flags, s mapper.Sector, p []byte) error {
	for len(p) > 0 {
		n := min(len(p), mapper.MaxBuffer)
		r := mapper.Request{Op: op, Flags: flags, Start: s, Count: mapper.SectorsOf(int64(n)), Data: p[:n]}
		if err := d.Submit(ctx, r); err != nil {
			return err
		}
		p, s = p[n:], r.End()
	}
	return nil
}

func flush(ctx context.Context, d mapper.Disk) error {
	return d.Submit(ctx, mapper.Request{Op: mapper.OpFlush})
}

// zero makes n sectors from s on read as zeroes, by the disk's own means if it has any.
func zero(ctx context.Context, d mapper.Disk, s, n mapper.Sector) error {
	most := d.Limits().MaxWriteZeroes
	for most > 0 && n > 0 {
		r := mapper.Request{Op: mapper.OpWriteZeroes, Flags: mapper.FlagNoUnmap, Start: s, Count: min(n, most)}
		if err := d.Submit(ctx, r); err != nil {
			break
		}
		s, n = r.End(), n-r.Count
	}
	if n == 0 {
		return nil
	}
	buf := mapper.GetBuffer(int(min(n.Bytes(), mapper.MaxBuffer)))
	defer buf.Free()
	clear(buf.Data)
	for n > 0 {
		r := mapper.Request{Op: mapper.OpWrite, Start: s, Count: min(n, mapper.SectorsOf(int64(len(buf.Data))))}
		r.Data = buf.Data[:r.Count.Bytes()]
		if err := d.Submit(ctx, r); err != nil {
			return err
		}
		s, n = r.End(), n-r.Count
	}
	return nil
}
