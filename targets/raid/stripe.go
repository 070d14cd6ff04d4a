package raid

import (
	"context"

	"dmfs/mapper"
)

// columnSectors bounds the sectors of a row that are worked on at a time: what they take of memory is that times the members.
const columnSectors mapper.Sector = 256

// A column is a range of sectors of all members in one row, in memory.
type column struct {
	t      *plane
	row    *row
	at, n  mapper.Sector    // of the members
	blocks [][]byte         // by member; nil if it is not in memory
	bufs   []*mapper.Buffer // that blocks are in, to be freed
	again  bool             // a crash may have left it half written: parity is computed from data if all is there
}

// newColumn waits for memory.
func (t *plane) newColumn(ctx context.Context, at, n mapper.Sector) (*column, error) {
	select {
	case t.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return &column{t: t, row: t.geo.row(at), at: at, n: n, blocks: make([][]byte, t.geo.members)}, nil
}

func (c *column) free() {
	for _, b := range c.bufs {
		b.Free()
	}
	<-c.t.slots
}

// buffer gives member m memory.
func (c *column) buffer(m int) []byte {
	b := mapper.GetBuffer(int(c.n.Bytes()))
	c.bufs = append(c.bufs, b)
	c.blocks[m] = b.Data
	return b.Data
}

// readable reports whether member m, -1 for none, holds its part.
func (c *column) readable(m int) bool { return m >= 0 && c.t.members[m].readable(c.at+c.n) }

// fetch reads the members of a list into memory, and returns those that could not be read because of their disk.
func (c *column) fetch(ctx context.Context, list []int) (bad []int, err error) {
	errs := make([]error, len(list))
	for _, m := range list {
		c.buffer(m)
	}
	_ = mapper.FanOut(len(list), fanWidth, func(i int) error {
		if errs[i] = c.t.read(ctx, &c.t.members[list[i]], c.at, c.blocks[list[i]]); errs[i] == nil {
			c.t.putOwed(list[i], c.at, c.blocks[list[i]])
		}
		return nil
	})
	for i, e := range errs {
		switch {
		case e == nil:
		case mapper.DiskFailed(e):
			bad = append(bad, list[i])
			c.blocks[list[i]] = nil
			err = e
		default:
			return bad, e
		}
	}
	return bad, err
}

// complete reads what is readable and not in memory, and recovers the data of all members from that. unreadable are members that
// are known not to be. The lowest error is that of a disk if too much is lost.
func (c *column) complete(ctx context.Context, unreadable []int) (bad []int, err error) {
	bad = unreadable
	lost := func(m int) bool {
		for _, b := range bad {
			if b == m {
				return true
			}
		}
		return !c.readable(m)
	}
	cause := mapper.ErrIO
	for {
		missing := c.missing()
		need := c.lacking(missing, lost)
		if need == nil {
			return bad, cause
		}
		more, err := c.fetch(ctx, need)
		if err != nil && more == nil {
			return bad, err
		}
		if more == nil {
			break
		}
		bad, cause = append(bad, more...), err
	}
	c.solveData()
	return bad, nil
}

// missing returns the members with data that are not in memory.
func (c *column) missing() (list []int) {
	for _, m := range c.row.data {
		if c.blocks[m] == nil {
			list = append(list, m)
		}
	}
	return list
}

// lacking returns which members to read so that those missing can be recovered, an empty list if all is there, nil if
// that is impossible.
func (c *column) lacking(missing []int, lost func(m int) bool) []int {
	need, gone := make([]int, 0, len(missing)+2), 0
	for _, m := range missing {
		if lost(m) {
			gone++
		} else {
			need = append(need, m)
		}
	}
	for _, m := range []int{c.row.p, c.row.q} {
		if gone == 0 {
			break
		}
		if m < 0 || lost(m) {
			continue
		}
		if c.blocks[m] == nil {
			need = append(need, m)
		}
		gone--
	}
	if gone > 0 {
		return nil
	}
	return need
}

// solveData recovers the data that is not in memory from parity that is.
func (c *column) solveData() {
	x, y := -1, -1
	data := make([][]byte, len(c.row.data))
	for k, m := range c.row.data {
		if c.blocks[m] == nil {
			if x < 0 {
				x = k
			} else {
				y = k
			}
			c.buffer(m)
		}
		data[k] = c.blocks[m]
	}
	if x < 0 {
		return
	}
	p, q := c.blocks[c.row.p], []byte(nil)
	if c.row.q >= 0 {
		q = c.blocks[c.row.q]
	}
	solve(data, c.row.coef, p, q, x, y, p == nil, false)
}

// data returns the blocks of data, in order.
func (c *column) data() [][]byte {
	data := make([][]byte, len(c.row.data))
	for k, m := range c.row.data {
		data[k] = c.blocks[m]
	}
	return data
}

// encode computes P and Q of data into memory of their own.
func (c *column) encode(data [][]byte) {
	sumP(c.buffer(c.row.p), data, -1)
	if c.row.q >= 0 {
		sumQ(c.buffer(c.row.q), data, c.row.coef, -1, -1)
	}
}

// parities returns the members with parity that live.
func (c *column) parities() (list []int) {
	for _, m := range []int{c.row.p, c.row.q} {
		if m >= 0 && !c.t.members[m].dead.Load() {
			list = append(list, m)
		}
	}
	return list
}

// store writes blocks of members, by number, where they live. A member that cannot be written to has failed. The
// error is that of one that the array cannot do without: the column is torn then.
func (c *column) store(list []int, blocks func(m int) []byte, flags mapper.Flags) error {
	ctx := context.Background() // a row that was begun is finished
	errs := make([]error, len(list))
	_ = mapper.FanOut(len(list), fanWidth, func(i int) error {
		if m := &c.t.members[list[i]]; !m.dead.Load() {
			errs[i] = c.t.write(ctx, m, c.at, blocks(list[i]), flags)
		}
		return nil
	})
	var first error
	for i, err := range errs {
		if err != nil && (!mapper.DiskFailed(err) || !c.t.failed(&c.t.members[list[i]])) && first == nil {
			first = err
		}
	}
	return first
}
