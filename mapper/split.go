package mapper

import (
	"context"
	"errors"
)

// fanWidth bounds how many pieces of one request run at a time.
const fanWidth = 4

// submit carries out r, which lies within the table and is aligned to its logical blocks. It is called
// inside the device's gate.
func (t *Table) submit(ctx context.Context, r Request) error {
	if r.Op == OpFlush {
		return t.flush(ctx, r.Flags)
	}
	if t.readOnly && r.Op != OpRead {
		return ErrReadOnly
	}
	if r.Op == OpDiscard && t.limits.MaxDiscard == 0 {
		return ErrNotSupported // whatever the segments at hand could do: a device discards as a whole or not at all
	}
	if regions := t.dev.stats.active.Load(); regions != nil {
		began := beginStats(*regions, r)
		err := t.carry(ctx, r)
		endStats(*regions, r, began)
		return err
	}
	return t.carry(ctx, r)
}

// carry carries out r, whole or in pieces.
func (t *Table) carry(ctx context.Context, r Request) error {
	seg := t.find(r.Start)
	if seg.whole(r) == r.Count {
		return t.submitPiece(ctx, seg, r)
	}
	return t.submitPieces(ctx, r)
}

// maxPieces bounds how many pieces of a request are made at a time: a discard may be as long as the device.
const maxPieces = 256

// submitPieces cuts r where segments end and where their limits ask, and carries out the pieces.
func (t *Table) submitPieces(ctx context.Context, r Request) error {
	type piece struct {
		seg *segment
		r   Request
	}
	pieces := make([]piece, 0, 8)
	for done := Sector(0); done < r.Count; {
		if done > 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for pieces = pieces[:0]; done < r.Count && len(pieces) < maxPieces; {
			rest := r.Slice(done, r.Count-done)
			seg := t.find(rest.Start)
			n := seg.whole(rest)
			pieces = append(pieces, piece{seg, rest.Slice(0, n)})
			done += n
		}
		err := FanOut(len(pieces), fanWidth, func(i int) error {
			return t.submitPiece(ctx, pieces[i].seg, pieces[i].r)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// whole returns how many sectors from r.Start on one request to seg's target may have.
func (seg *segment) whole(r Request) Sector {
	n := min(r.Count, seg.end-r.Start)
	l := &seg.limits
	if l.Split != 0 && (r.Op <= OpWrite || l.SplitDiscard) {
		n = min(n, l.Split-(r.Start-seg.start)%l.Split)
	}
	switch {
	case r.Op == OpDiscard && l.MaxDiscard != 0:
		n = min(n, l.MaxDiscard)
	case r.Op == OpWriteZeroes && l.MaxWriteZeroes != 0:
		n = min(n, l.MaxWriteZeroes)
	}
	return n
}

// submitPiece hands r, in sectors of the device, to seg's target.
func (t *Table) submitPiece(ctx context.Context, seg *segment, r Request) error {
	down := r
	down.Start -= seg.start
	err := seg.submit(ctx, down)
	if err != nil {
		return t.located(seg, r, err)
	}
	return nil
}

// submit carries out r, in sectors of the segment, and does what the target cannot.
func (seg *segment) submit(ctx context.Context, r Request) error {
	switch r.Op {
	case OpDiscard:
		if seg.limits.MaxDiscard == 0 {
			return ErrNotSupported
		}
	case OpWriteZeroes:
		if seg.limits.MaxWriteZeroes != 0 {
			err := seg.target.Submit(ctx, r)
			if !errors.Is(err, ErrNotSupported) {
				return err
			}
		}
		return seg.writeZeroes(ctx, r)
	}
	return seg.target.Submit(ctx, r)
}

// writeZeroes writes buffers of zeroes over r.
func (seg *segment) writeZeroes(ctx context.Context, r Request) error {
	buf := zeroes()
	for done := Sector(0); done < r.Count; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		w := Request{Op: OpWrite, Flags: r.Flags & FlagFUA, Start: r.Start + done, Count: r.Count - done}
		w.Count = min(w.Count, SectorsOf(int64(len(buf))))
		if split := seg.limits.Split; split != 0 {
			w.Count = min(w.Count, split-w.Start%split)
		}
		w.Data = buf[:w.Count.Bytes()]
		if err := seg.target.Submit(ctx, w); err != nil {
			return err
		}
		done += w.Count
	}
	return nil
}

// flush makes durable what completed before, on every disk of the table once. The flags go along.
func (t *Table) flush(ctx context.Context, flags Flags) error {
	return t.flushWith(ctx, flags, func(ctx context.Context, d Disk) error {
		return d.Submit(ctx, Request{Op: OpFlush, Flags: flags})
	})
}

// flushWith is flush, with what flushes the disks below targets that only forward.
func (t *Table) flushWith(ctx context.Context, flags Flags, flush func(context.Context, Disk) error) error {
	n := len(t.flushDisks)
	return FanOut(n+len(t.flushSegs), fanWidth, func(i int) error {
		if i < n {
			if err := flush(ctx, t.flushDisks[i]); err != nil {
				return t.located(t.segmentOn(t.flushDisks[i]), Request{Op: OpFlush}, err)
			}
			return nil
		}
		seg := t.flushSegs[i-n]
		if err := seg.target.Submit(ctx, Request{Op: OpFlush, Flags: flags}); err != nil {
			return t.located(seg, Request{Op: OpFlush}, err)
		}
		return nil
	})
}

// segmentOn returns a segment that stands on d.
func (t *Table) segmentOn(d Disk) *segment {
	for i := range t.segs {
		for _, have := range t.segs[i].host.disks {
			if have == d {
				return &t.segs[i]
			}
		}
	}
	return &t.segs[0]
}

// located adds to err where it happened and logs it, unless a device below did so, or the request
// was not carried out for a reason that is nobody's fault.
func (t *Table) located(seg *segment, r Request, err error) error {
	var have *Error
	switch {
	case errors.As(err, &have), Interrupted(err):
		return err
	}
	err = &Error{Device: t.dev.Name(), Type: seg.typ.Name, Op: r.Op, Start: r.Start, Count: r.Count, Err: err}
	if !errors.Is(err, ErrNotSupported) {
		t.dev.mgr.log.ioError(err)
	}
	return err
}
