package raid

import (
	"context"
	"sync/atomic"

	"dmfs/mapper"
)

// A reshape moves what an array with parity or a raid10 holds from one geometry to another with the same level: more or fewer members, other chunks,
// another layout. Both lie on the same disks, at different offsets, so that what is written does not meet what is still to be read.
//
// Forwards data moves to a smaller offset, the array's first sectors first; before the position it is in the new geometry. Backwards it moves to a
// larger one, the last first; from the position on it is in the new geometry. The position is in sectors of the array.
//
//  1. A table that asks for the reshape writes superblocks that tell both geometries and the position where it begins. Nothing moves yet: the
//     array waits for a table that does not ask, so that the table that will be loaded after a crash cannot ask again.
//  2. The next sectors are claimed: as many as can be written without meeting sectors that are not moved. They are read in the old
//     geometry, from the rest if a member is lost, and written in the new one.
//  3. All members flush, then superblocks with the new position are written. Only then the claim ends: nobody writes to sectors in the
//     new geometry that a restart would copy again.
//  4. After the last sector superblocks are written that tell the new geometry alone.
//
// A crash at any point leaves the position of 3 on one member at least; up to there everything is durable, and behind it nothing was
// overwritten. The member with the most events counts.
//
// Bits of the bitmap stay set until the end: they may mean a row in either geometry. What a crash left different in the old geometry is copied
// as its data says, with new parity, or as the copy that is read first; in the new one it is resynced after the reshape.
type reshape struct {
	t         *target
	old, now  *plane
	backwards bool
	waits     bool          // for a table that does not ask for it
	end       mapper.Sector // of the array, until all is moved: sectors that both geometries have
	moving    claims        // of the array
	pos       atomic.Uint64
	broken    atomic.Bool // the superblocks may be ahead of the position, or behind
}

// moveSectors bounds what is moved of each member between two writes of superblocks.
const moveSectors mapper.Sector = 1024

// unit is what the position is a multiple of.
func (rs *reshape) unit() mapper.Sector {
	if rs.now.geo.mirrored() {
		return leastChunk
	}
	return max(rs.old.geo.chunk, rs.now.geo.chunk) * mapper.Sector(rs.now.geo.data())
}

// final returns the position at which all is moved: forwards the new end, for sectors after the array's old end are written, too, as zeroes.
func (rs *reshape) final() mapper.Sector {
	if rs.backwards {
		return 0
	}
	return rs.now.geo.array
}

// room returns how far data moves on the members.
func (rs *reshape) room() mapper.Sector {
	return max(rs.old.offset, rs.now.offset) - min(rs.old.offset, rs.now.offset)
}

// next returns where the position can go from p without writing over what it does not cover, p itself if nowhere.
func (rs *reshape) next(p mapper.Sector) mapper.Sector {
	unit := rs.unit()
	most := max(unit, rs.now.geo.spread(moveSectors)/unit*unit)
	if rs.backwards {
		need := rs.old.geo.ends(p) + rs.old.offset // where old rows end that are needed
		least := mapper.Sector(0)
		if need > rs.now.offset {
			least = min(p, ceil(rs.now.geo.above(need-rs.now.offset), unit)*unit)
		}
		return max(least, p-min(p, most))
	}
	need := rs.old.geo.begins(p) + rs.old.offset // where old rows begin that are needed
	if p >= rs.end {
		need = rs.now.geo.dev + rs.now.offset // none is
	}
	if need <= rs.now.offset {
		return p
	}
	q := rs.now.geo.below(need-rs.now.offset) / unit * unit
	return max(p, min(q, p+most, rs.final()))
}

// submit carries r out on the right sides of the position.
func (rs *reshape) submit(ctx context.Context, r mapper.Request) error {
	if r.End() > rs.end {
		return mapper.ErrIO
	}
	c, err := rs.moving.take(ctx, r.Start, r.End(), true)
	if err != nil {
		return err
	}
	defer rs.moving.end(c)
	if r.Op != mapper.OpRead && rs.broken.Load() {
		return mapper.ErrIO
	}
	pos := mapper.Sector(rs.pos.Load())
	for off := mapper.Sector(0); off < r.Count; {
		s := r.Start + off
		p, n := rs.side(s, pos), r.Count-off
		if s < pos {
			n = min(n, pos-s)
		}
		n = min(n, p.geo.span()-s%p.geo.span())
		if err := p.carry(ctx, r.Slice(off, n)); err != nil {
			return err
		}
		off += n
	}
	return nil
}

// carry carries out what lies in one span.
func (t *plane) carry(ctx context.Context, r mapper.Request) error {
	read, mirrored := r.Op == mapper.OpRead, t.geo.mirrored()
	switch {
	case read && mirrored:
		return t.readMirror(ctx, r)
	case read:
		return t.readParity(ctx, r)
	case mirrored:
		return t.writeMirror(ctx, r)
	}
	return t.writeParity(ctx, r)
}

// side returns the geometry in which sector s is.
func (rs *reshape) side(s, pos mapper.Sector) *plane {
	if (s < pos) == rs.backwards {
		return rs.old
	}
	return rs.now
}

// run moves what is not moved.
func (rs *reshape) run(ctx context.Context) error {
	p := rs.t.newPace()
	for {
		pos := mapper.Sector(rs.pos.Load())
		if pos == rs.final() {
			return rs.finish()
		}
		next := rs.next(pos)
		if next == pos {
			return mapper.ErrNoSpace
		}
		if err := rs.move(ctx, pos, next); err != nil {
			return err
		}
		done := rs.done(next)
		rs.t.mu.Lock()
		rs.t.sync.at = done
		rs.t.mu.Unlock()
		if err := p.step(ctx, rs.now.geo.share(max(pos, next)-min(pos, next))); err != nil {
			return err
		}
	}
}

// done returns how many sectors of each member are written at a position, or for raid10 of the array.
func (rs *reshape) done(pos mapper.Sector) mapper.Sector {
	if rs.backwards {
		pos = rs.end - pos
	}
	if rs.now.geo.mirrored() {
		return pos
	}
	return rs.now.geo.share(pos)
}

// move moves what lies between two positions, and makes the second durable.
func (rs *reshape) move(ctx context.Context, pos, next mapper.Sector) error {
	from, to := min(pos, next), max(pos, next)
	c, err := rs.moving.take(ctx, from, to, false)
	if err != nil {
		return err
	}
	defer rs.moving.end(c)
	carry := rs.moveRows
	if rs.now.geo.mirrored() {
		carry = rs.moveCopies
	}
	if err := carry(ctx, from, to); err != nil {
		return err
	}
	if err := rs.t.flushData(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	err = rs.t.changeSupers(func(s *superblock) { s.reshape = next })
	if err != nil {
		rs.broken.Store(true)
		return err
	}
	rs.pos.Store(uint64(next))
	return nil
}

// moveRows writes the new rows of sectors [from, to) of the array.
func (rs *reshape) moveRows(ctx context.Context, from, to mapper.Sector) error {
	g := &rs.now.geo
	for s := from; s < to; s += g.stripe() {
		for off := mapper.Sector(0); off < g.chunk; off += columnSectors {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := rs.moveColumn(s, off, min(columnSectors, g.chunk-off)); err != nil {
				return err
			}
		}
	}
	return nil
}

// moveCopies writes the new copies of sectors [from, to) of the array. Only a crash leaves some of them: they are written again then.
func (rs *reshape) moveCopies(ctx context.Context, from, to mapper.Sector) error {
	old, now := rs.old.geo.chunk, rs.now.geo.chunk
	var pieces []mapper.Sector // where they begin; the last is the end
	for s := from; s < to; {
		pieces = append(pieces, s)
		s += min(to-s, columnSectors, old-s%old, now-s%now)
	}
	pieces = append(pieces, to)
	return mapper.FanOut(len(pieces)-1, fanWidth, func(i int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := pieces[i+1] - pieces[i]
		b := mapper.GetBuffer(int(n.Bytes()))
		defer b.Free()
		if err := rs.readOld(context.WithoutCancel(ctx), pieces[i], b.Data); err != nil {
			return err
		}
		_, err := rs.now.writeCopies(context.Background(), mapper.Request{Op: mapper.OpWrite, Start: pieces[i], Count: n, Data: b.Data})
		return err
	})
}

// moveColumn writes the n sectors that begin off sectors into each chunk of the new row that begins with sector s of the array.
func (rs *reshape) moveColumn(s, off, n mapper.Sector) error {
	ctx := context.Background()
	g := &rs.now.geo
	fresh := make([][]byte, g.data())
	for k := range fresh {
		b := mapper.GetBuffer(int(n.Bytes()))
		defer b.Free()
		fresh[k] = b.Data
		if err := rs.readOld(ctx, s+mapper.Sector(k)*g.chunk+off, b.Data); err != nil {
			return err
		}
	}
	c, err := rs.now.newColumn(ctx, s/g.stripe()*g.chunk+off, n)
	if err != nil {
		return err
	}
	defer c.free()
	c.encode(fresh)
	members := c.parities()
	for k, p := range fresh {
		c.blocks[c.row.data[k]] = p
		members = append(members, c.row.data[k])
	}
	return c.store(members, func(m int) []byte { return c.blocks[m] }, 0)
}

// readOld reads the array in the old geometry; zeroes follow its end.
func (rs *reshape) readOld(ctx context.Context, s mapper.Sector, p []byte) error {
	g := &rs.old.geo
	for len(p) > 0 {
		n := mapper.SectorsOf(int64(len(p)))
		if s >= g.array {
			clear(p)
			return nil
		}
		n = min(n, g.array-s, g.span()-s%g.span())
		r := mapper.Request{Op: mapper.OpRead, Start: s, Count: n, Data: p[:n.Bytes()]}
		if err := rs.old.carry(ctx, r); err != nil {
			return err
		}
		s, p = s+n, p[n.Bytes():]
	}
	return nil
}

// finish makes the new geometry the only one. Sizes of an array with parity are left in the superblock as Linux 6.1 leaves them: the next table sets them right.
func (rs *reshape) finish() error {
	t := rs.t
	err := t.changeSupers(func(s *superblock) {
		if s.flags&flagReshape == 0 {
			return // it could not be written before
		}
		switch {
		case rs.now.geo.level == 10:
			s.dev, s.array = rs.now.geo.dev, rs.now.geo.array
		case rs.backwards:
			s.dev -= rs.room()
		default:
			s.dev += rs.room()
		}
		s.flags, s.delta, s.reshape = 0, 0, done
		s.layout, s.chunk, s.offset = s.newLayout, s.newChunk, s.newOffset
	})
	if err != nil {
		return err
	}
	for i := rs.now.geo.members; i < len(t.members); i++ {
		t.members[i].good.Store(0)
	}
	t.reshaping.Store(nil)
	return nil
}

// changeSupers changes what superblocks say, and writes them.
func (t *target) changeSupers(f func(s *superblock)) error {
	if err := t.supers.Lock(context.Background()); err != nil {
		return err
	}
	defer t.supers.Unlock()
	t.mu.Lock()
	f(&t.super)
	t.mu.Unlock()
	return t.writeSupers(nil)
}

// needed returns the members that hold something of the array: all but those that a reshape removed.
func (t *target) needed() []member {
	if t.reshaping.Load() != nil {
		return t.members
	}
	return t.members[:t.geo.members]
}

// survives reports whether members that can be used, by number, hold all data.
func (t *target) survives(usable func(m int) bool) bool {
	rs := t.reshaping.Load()
	return t.geo.survives(usable) && (rs == nil || rs.old.geo.survives(usable))
}
