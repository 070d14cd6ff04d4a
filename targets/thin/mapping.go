package thin

import (
	"context"
	"errors"

	"dmfs/targets/pdata"
)

// A mapping is where a block of a thin device lives.
type mapping struct {
	block pdata.Block
	// shared: a snapshot was taken since it was mapped, so that others may map the same block.
	shared bool
}

// lookup returns where block b of d lives. pdata.ErrNotFound if it is not mapped.
func (m *metadata) lookup(ctx context.Context, d *device, b uint64) (mapping, error) {
	var v [mappingSize]byte
	if err := m.sub.Lookup(ctx, d.root, b, v[:]); err != nil {
		return mapping{}, err
	}
	return m.mapping(d, v[:]), nil
}

// mapping reads the value of a mapping.
func (m *metadata) mapping(d *device, v []byte) mapping {
	at, time := decodeMapping(v)
	return mapping{at, d.snapped > time}
}

// inMappings lets f change the tree of mappings of d.
func (m *metadata) inMappings(ctx context.Context, d *device, f func(root pdata.Block) (pdata.Block, error)) (err error) {
	m.mappings, err = m.top.Update(ctx, m.mappings, uint64(d.id), func(v []byte) error {
		root, err := f(decodeBlock(v))
		if err != nil {
			return err
		}
		copy(v, encodeBlock(root))
		d.root = root
		return nil
	})
	if err != nil {
		return err
	}
	d.changed = true
	m.devices[d.id] = d
	return m.tm.Relieve(ctx)
}

// insert maps block b of d to a reserved data block.
func (m *metadata) insert(ctx context.Context, d *device, b uint64, at pdata.Block) error {
	if err := m.data.Take(ctx, at); err != nil {
		return err
	}
	return m.inMappings(ctx, d, func(root pdata.Block) (pdata.Block, error) {
		root, inserted, err := m.sub.Insert(ctx, root, b, encodeMapping(at, m.super.time))
		if inserted {
			d.mapped++
		}
		return root, err
	})
}

// remove unmaps the mapped blocks of d among from to to.
func (m *metadata) remove(ctx context.Context, d *device, from, to uint64) error {
	return m.inMappings(ctx, d, func(root pdata.Block) (pdata.Block, error) {
		for {
			var v [mappingSize]byte
			key, err := m.sub.Next(ctx, root, from, v[:])
			if errors.Is(err, pdata.ErrNotFound) || err == nil && key >= to {
				return root, nil
			}
			if err == nil {
				root, err = m.sub.Remove(ctx, root, key)
			}
			if err != nil {
				return 0, err
			}
			d.mapped--
			from = key + 1
		}
	})
}

// A blockRun is n data blocks from start on.
type blockRun struct{ start, n pdata.Block }

// maxFreed bounds the runs that are remembered. Of what is freed beyond, the space in the data disk stays taken.
const maxFreed = 1 << 20

// unref counts one reference less to a data block, and remembers it if that was the last.
func (m *metadata) unref(ctx context.Context, v []byte) error {
	b, _ := decodeMapping(v)
	if err := m.data.Dec(ctx, b); err != nil {
		return err
	}
	count, err := m.data.Count(ctx, b)
	if err == nil && count == 0 {
		m.noteFreed(b)
	}
	return err
}

// noteFreed remembers a data block that lost its last reference.
func (m *metadata) noteFreed(b pdata.Block) {
	if n := len(m.freed); n > 0 && m.freed[n-1].start+m.freed[n-1].n == b {
		m.freed[n-1].n++
	} else if n < maxFreed {
		m.freed = append(m.freed, blockRun{b, 1})
	}
}

// takeFreed returns the data blocks that were freed since it was called last. They may have been allocated again since.
func (m *metadata) takeFreed() []blockRun {
	freed := m.freed
	m.freed = nil
	return freed
}
