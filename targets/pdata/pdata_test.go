package pdata

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

var ctx = context.Background()

// superKind is that of the superblocks of these tests: the roots of the space maps, and of up to 8 trees.
var superKind = Kind{Name: "superblock", Xor: 1, At: 8, Module: "test", Prefix: "check"}

// A store is metadata with a data space map and trees whose values are data blocks.
type store struct {
	t     testing.TB
	disk  *mappertest.Disk
	tm    *TM
	data  *DataMap
	trees []Block
}

func newStore(t testing.TB, blocks Block, data Block) *store {
	s := &store{t: t, disk: mappertest.NewDisk("meta", mapper.Sector(blocks)*BlockSectors)}
	var err error
	s.tm, err = Format(ctx, NewStore(s.disk, nil), blocks)
	s.must(err)
	s.data, err = NewDataMap(ctx, s.tm)
	s.must(err)
	s.must(s.data.Extend(ctx, data))
	s.commit()
	return s
}

func (s *store) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *store) commit() {
	s.t.Helper()
	s.must(s.data.Commit(ctx))
	s.must(s.tm.PreCommit(ctx))
	var p [BlockSize]byte
	s.tm.Meta().Root().Put(p[64:])
	s.data.Root().Put(p[64+MapRootSize:])
	binary.LittleEndian.PutUint32(p[16:], uint32(len(s.trees)))
	for i, root := range s.trees {
		binary.LittleEndian.PutUint64(p[512+8*i:], uint64(root))
	}
	s.must(s.tm.Store.WriteSuper(ctx, 0, &superKind, p[:]))
	s.tm.Committed()
}

// reopen reads everything from the disk.
func (s *store) reopen() {
	s.t.Helper()
	st := NewStore(s.disk, nil)
	p, err := st.ReadChecked(ctx, 0, &superKind)
	s.must(err)
	s.tm, err = OpenTM(ctx, st, DecodeMapRoot(p[64:]))
	s.must(err)
	s.data, err = OpenDataMap(s.tm, DecodeMapRoot(p[64+MapRootSize:]))
	s.must(err)
	s.trees = make([]Block, binary.LittleEndian.Uint32(p[16:]))
	for i := range s.trees {
		s.trees[i] = Block(binary.LittleEndian.Uint64(p[512+8*i:]))
	}
}

func (s *store) tree() *Tree {
	ref := func(f func(context.Context, Block) error) func(context.Context, []byte) error {
		return func(ctx context.Context, v []byte) error { return f(ctx, Block(binary.LittleEndian.Uint64(v))) }
	}
	return &Tree{TM: s.tm, Size: 8, Inc: ref(s.data.Inc), Dec: ref(s.data.Dec)}
}

// check counts everything anew.
func (s *store) check() {
	s.t.Helper()
	meta, data := NewCensus(), NewDataCensus()
	s.must(errors.Join(meta.Meta(ctx, s.tm.Meta()), meta.Data(ctx, s.data)))
	for _, root := range s.trees {
		s.must(meta.Tree(ctx, s.tree(), root, func(_ uint64, v []byte) error {
			data.Count(Block(binary.LittleEndian.Uint64(v)))
			return nil
		}))
	}
	s.must(errors.Join(meta.CompareMeta(ctx, s.tm.Meta()), data.CompareData(ctx, s.data)))
}

// Trees that share nodes are changed at random, and compared with maps; now and then all is counted, committed, and read again.
func TestTrees(t *testing.T) {
	seed := mappertest.Seed(t)
	for _, keys := range []uint64{300, 5000, 1 << 40} {
		t.Run(fmt.Sprint(keys), func(t *testing.T) { randomTrees(t, rand.New(rand.NewPCG(seed, keys)), keys) })
	}
}

func randomTrees(t *testing.T, rnd *rand.Rand, keys uint64) {
	s := newStore(t, 8000, 200000)
	root, err := s.tree().Empty(ctx)
	s.must(err)
	s.trees = []Block{root}
	models := []map[uint64]uint64{{}}
	next := uint64(0)
	for round := range 60 {
		i := rnd.IntN(len(s.trees))
		switch k := rnd.IntN(12); {
		case k == 0 && len(s.trees) < 6: // a snapshot
			s.must(s.tm.Inc(ctx, s.trees[i]))
			s.trees, models = append(s.trees, s.trees[i]), append(models, maps.Clone(models[i]))
		case k == 1 && len(s.trees) > 1:
			s.must(s.tree().Delete(ctx, s.trees[i]))
			s.trees, models = slices.Delete(s.trees, i, i+1), slices.Delete(models, i, i+1)
		case k < 8:
			key := rnd.Uint64N(keys)
			for range rnd.IntN(600) {
				switch rnd.IntN(3) {
				case 0:
					key = rnd.Uint64N(keys)
				default:
					key = (key + 1) % keys
				}
				s.insert(i, models[i], key, &next)
			}
		default:
			list := slices.Sorted(maps.Keys(models[i]))
			if rnd.IntN(2) == 0 {
				rnd.Shuffle(len(list), func(a, b int) { list[a], list[b] = list[b], list[a] })
			}
			for _, key := range list[:rnd.IntN(len(list)+1)] {
				var err error
				s.trees[i], err = s.tree().Remove(ctx, s.trees[i], key)
				s.must(err)
				delete(models[i], key)
			}
		}
		if round%5 == 0 {
			s.check()
			s.commit()
		}
		if round%10 == 0 {
			s.reopen()
		}
		s.compare(models)
	}
	s.commit()
	s.check()
}

// insert maps key to a new data block.
func (s *store) insert(i int, model map[uint64]uint64, key uint64, serial *uint64) {
	s.t.Helper()
	b, err := s.data.Reserve(ctx)
	s.must(err)
	s.must(s.data.Take(ctx, b))
	root, inserted, err := s.tree().Insert(ctx, s.trees[i], key, blockValue(b))
	s.must(err)
	if _, had := model[key]; had == inserted {
		s.t.Fatalf("Insert(%d) = %v", key, inserted)
	}
	s.trees[i], model[key] = root, uint64(b)
}

// compare looks for the entries of the models, in each way there is.
func (s *store) compare(models []map[uint64]uint64) {
	s.t.Helper()
	for i, model := range models {
		want := slices.Sorted(maps.Keys(model))
		var got []uint64
		s.must(s.tree().Walk(ctx, s.trees[i], 0, ^uint64(0), func(key uint64, v []byte) error {
			if binary.LittleEndian.Uint64(v) != model[key] {
				s.t.Fatalf("key %d has %d, want %d", key, binary.LittleEndian.Uint64(v), model[key])
			}
			got = append(got, key)
			return nil
		}))
		if !slices.Equal(got, want) {
			s.t.Fatalf("%d keys, want %d", len(got), len(want))
		}
		var v [8]byte
		for n, key := range want {
			if n%37 != 0 {
				continue
			}
			s.must(s.tree().Lookup(ctx, s.trees[i], key, v[:]))
			if k, err := s.tree().Next(ctx, s.trees[i], key, v[:]); err != nil || k != key {
				s.t.Fatalf("Next(%d) = %d, %v", key, k, err)
			}
			if n > 0 && want[n-1]+1 < key {
				if err := s.tree().Lookup(ctx, s.trees[i], key-1, v[:]); !errors.Is(err, ErrNotFound) {
					s.t.Fatalf("Lookup of a key that is not there: %v", err)
				}
				if k, err := s.tree().Next(ctx, s.trees[i], want[n-1]+1, v[:]); err != nil || k != key {
					s.t.Fatalf("Next(%d) = %d, %v, want %d", want[n-1]+1, k, err, key)
				}
			}
		}
		high, err := s.tree().Highest(ctx, s.trees[i], v[:])
		if len(want) == 0 != errors.Is(err, ErrNotFound) || len(want) > 0 && high != want[len(want)-1] {
			s.t.Fatalf("Highest = %d, %v", high, err)
		}
	}
}

// Keys in ascending order leave full nodes behind, as the kernel's trees do.
func TestSequentialKeysFillNodes(t *testing.T) {
	s := newStore(t, 2000, 100000)
	root, err := s.tree().Empty(ctx)
	s.must(err)
	s.trees = []Block{root}
	model, serial := map[uint64]uint64{}, uint64(0)
	for key := range uint64(20000) {
		s.insert(0, model, key, &serial)
	}
	leaves := 0
	s.must(s.tree().WalkNodes(ctx, s.trees[0], func(_ Block, _ int, n NodeInfo) (bool, error) {
		if n.Leaf {
			leaves++
		}
		return true, nil
	}))
	if most := 20000/252 + 20; leaves > most {
		t.Errorf("%d leaves, want at most %d", leaves, most)
	}
	s.commit()
	s.check()
}

// Metadata that are full grow, and a change that failed for lack of space is given up as a whole.
func TestFullAndExtend(t *testing.T) {
	s := newStore(t, 60, 100000)
	s.disk = mappertest.NewDisk("large", 4000)
	s.tm = nil
	disk := s.disk
	small := &sized{disk, 60}
	var err error
	s.tm, err = Format(ctx, NewStore(small, nil), 60)
	s.must(err)
	s.data, err = NewDataMap(ctx, s.tm)
	s.must(err)
	s.must(s.data.Extend(ctx, 100000))
	root, err := s.tree().Empty(ctx)
	s.must(err)
	s.trees = []Block{root}
	s.commit()
	key := uint64(0)
	for ; err == nil; key += 1000 {
		if key%20000 == 0 {
			s.commit()
		}
		var b Block
		if b, err = s.data.Reserve(ctx); err == nil {
			err = s.data.Take(ctx, b)
		}
		if err == nil {
			var r Block
			if r, _, err = s.tree().Insert(ctx, s.trees[0], key*7919%(1<<40), blockValue(b)); err == nil {
				s.trees[0] = r
			}
		}
		if s.tm.Meta().Free() < 12 {
			break
		}
	}
	s.tm.Abort()
	s.reopen()
	s.check()
	small.blocks = 400
	s.tm.Store = NewStore(small, nil)
	s.reopenOn(small)
	s.must(s.tm.Meta().Extend(ctx, 340))
	s.commit()
	s.check()
	s.reopenOn(small)
	s.check()
	if free := s.tm.Meta().Free(); free < 300 {
		t.Errorf("%d blocks are free after the growth", free)
	}
}

// sized is a disk that grows.
type sized struct {
	mapper.Disk
	blocks Block
}

func (d *sized) Sectors() mapper.Sector { return mapper.Sector(d.blocks) * BlockSectors }

func (s *store) reopenOn(d mapper.Disk) {
	s.t.Helper()
	s.reopen()
	p, err := s.tm.Store.ReadChecked(ctx, 0, &superKind)
	s.must(err)
	s.tm, err = OpenTM(ctx, NewStore(d, nil), DecodeMapRoot(p[64:]))
	s.must(err)
	s.data, err = OpenDataMap(s.tm, DecodeMapRoot(p[64+MapRootSize:]))
	s.must(err)
}

// A block may be given any contents with a right checksum: whatever is then done with the tree ends, with or without an error.
func FuzzNode(f *testing.F) {
	f.Add(uint8(0), uint16(4), []byte{2, 0, 0, 0})
	f.Add(uint8(1), uint16(32), []byte{255, 255, 255, 255, 255, 255, 255, 255})
	f.Add(uint8(0), uint16(2048), []byte{1, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, which uint8, at uint16, patch []byte) {
		dog := time.AfterFunc(time.Minute, func() { panic("it does not end") })
		defer dog.Stop()
		s := newStore(t, 400, 5000)
		root, err := s.tree().Empty(ctx)
		s.must(err)
		s.trees = []Block{root}
		model, serial := map[uint64]uint64{}, uint64(0)
		for key := range uint64(900) {
			s.insert(0, model, key*3, &serial)
		}
		s.commit()
		var nodes []Block
		s.must(s.tree().WalkNodes(ctx, s.trees[0], func(b Block, _ int, _ NodeInfo) (bool, error) {
			nodes = append(nodes, b)
			return true, nil
		}))
		b := nodes[int(which)%len(nodes)]
		data, err := s.tm.Store.ReadChecked(ctx, b, &NodeKind)
		s.must(err)
		copy(data[4+int(at)%(BlockSize-4):], patch)
		NodeKind.Seal(b, data)
		s.must(s.disk.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: mapper.Sector(b) * BlockSectors, Count: BlockSectors, Data: data}))
		s.reopen()
		var v [8]byte
		_ = s.tree().Lookup(ctx, s.trees[0], 300, v[:])
		_, _ = s.tree().Next(ctx, s.trees[0], 301, v[:])
		_, _ = s.tree().Highest(ctx, s.trees[0], v[:])
		_ = s.tree().Walk(ctx, s.trees[0], 0, ^uint64(0), func(uint64, []byte) error { return nil })
		for key := uint64(0); key < 2700; key += 50 {
			if r, _, err := s.tree().Insert(ctx, s.trees[0], key+1, blockValue(7)); err == nil {
				s.trees[0] = r
			}
			if r, err := s.tree().Remove(ctx, s.trees[0], key); err == nil {
				s.trees[0] = r
			}
		}
		_ = s.tree().Delete(ctx, s.trees[0])
	})
}

// A bitmap, an index or a count that says anything ends in errors at most.
func FuzzSpaceMap(f *testing.F) {
	f.Add(uint8(0), uint16(16), []byte{255, 255})
	f.Add(uint8(1), uint16(16), []byte{9, 9, 9, 9, 9, 9, 9, 9})
	f.Add(uint8(2), uint16(24), []byte{0, 0, 0, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, which uint8, at uint16, patch []byte) {
		s := newStore(t, 400, 40000)
		root, err := s.tree().Empty(ctx)
		s.must(err)
		s.trees = []Block{root}
		s.commit()
		m := s.tm.Meta()
		type target struct {
			b Block
			k *Kind
		}
		e, _, _, err := s.data.load(ctx, 0)
		s.must(err)
		list := []target{{m.root, &IndexKind}, {m.entry[0].At, &BitmapKind}, {e.At, &BitmapKind}, {m.counts, &NodeKind}, {s.data.root, &NodeKind}, {s.data.counts, &NodeKind}}
		c := list[int(which)%len(list)]
		data, err := s.tm.Store.ReadChecked(ctx, c.b, c.k)
		s.must(err)
		copy(data[4+int(at)%(BlockSize-4):], patch)
		c.k.Seal(c.b, data)
		s.must(s.disk.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: mapper.Sector(c.b) * BlockSectors, Count: BlockSectors, Data: data}))
		st := NewStore(s.disk, nil)
		p, err := st.ReadChecked(ctx, 0, &superKind)
		s.must(err)
		tm, err := OpenTM(ctx, st, DecodeMapRoot(p[64:]))
		if err != nil {
			return
		}
		dm, err := OpenDataMap(tm, DecodeMapRoot(p[64+MapRootSize:]))
		if err != nil {
			return
		}
		s.tm, s.data = tm, dm
		for key := range uint64(50) {
			b, err := s.data.Reserve(ctx)
			if err != nil || s.data.Take(ctx, b) != nil {
				break
			}
			r, _, err := s.tree().Insert(ctx, s.trees[0], key, blockValue(b))
			if err != nil {
				break
			}
			s.trees[0] = r
		}
		_ = s.data.Commit(ctx)
		_ = s.tm.PreCommit(ctx)
		_ = NewCensus().Meta(ctx, s.tm.Meta())
	})
}
