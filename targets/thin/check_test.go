package thin

import (
	"context"
	"errors"
	"fmt"

	"dmfs/mapper"
	"dmfs/targets/pdata"
)

// check reads the metadata on a disk as thin_check does: everything that refers to something, and whether the space maps
// say the same. It returns the ids of the devices.
func check(ctx context.Context, meta mapper.Disk) ([]DevID, error) {
	m := newMetadata(pdata.NewStore(meta, nil), func(string, string, ...any) {})
	s, blank, err := readSuper(ctx, m.store)
	if err == nil && blank {
		err = errors.New("the superblock is blank")
	}
	if err == nil {
		err = m.load(ctx, s)
	}
	if err != nil {
		return nil, err
	}
	blocks, data := pdata.NewCensus(), pdata.NewDataCensus()
	if err := errors.Join(blocks.Meta(ctx, m.tm.Meta()), blocks.Data(ctx, m.data)); err != nil {
		return nil, fmt.Errorf("space maps: %w", err)
	}
	ids, err := m.census(ctx, blocks, data, s)
	if err != nil {
		return nil, err
	}
	if s.held != 0 {
		blocks.Count(s.held)
		root, err := m.tm.Read(ctx, s.held, &superKind)
		if err != nil {
			return nil, err
		}
		if _, err := m.census(ctx, blocks, data, decodeSuper(root)); err != nil {
			return nil, fmt.Errorf("held snapshot: %w", err)
		}
	}
	return ids, errors.Join(blocks.CompareMeta(ctx, m.tm.Meta()), data.CompareData(ctx, m.data))
}

// census counts what the trees of a superblock refer to.
func (m *metadata) census(ctx context.Context, blocks, data *pdata.Census, s superblock) (ids []DevID, err error) {
	mapped := make(map[DevID]uint64)
	err = blocks.Tree(ctx, &m.top, s.mappings, func(id uint64, root []byte) error {
		ids = append(ids, DevID(id))
		return blocks.Tree(ctx, &m.sub, decodeBlock(root), func(_ uint64, v []byte) error {
			b, _ := decodeMapping(v)
			data.Count(b)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("mappings: %w", err)
	}
	for _, id := range ids {
		var root [mappingSize]byte
		if err := m.top.Lookup(ctx, s.mappings, uint64(id), root[:]); err != nil {
			return nil, err
		}
		err := m.sub.Walk(ctx, decodeBlock(root[:]), 0, ^uint64(0), func(uint64, []byte) error { mapped[id]++; return nil })
		if err != nil {
			return nil, err
		}
	}
	known := 0
	err = blocks.Tree(ctx, &m.detail, s.details, func(id uint64, v []byte) error {
		known++
		if d := decodeDetails(v); d.mapped != mapped[DevID(id)] {
			return fmt.Errorf("device %d has %d mappings, its details say %d", id, mapped[DevID(id)], d.mapped)
		}
		return nil
	})
	if err == nil && known != len(mapped) && known != len(ids) {
		err = fmt.Errorf("%d devices with details, %d with mappings", known, len(ids))
	}
	return ids, err
}
