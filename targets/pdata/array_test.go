package pdata

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// A modelArray is an array and what is to be in it.
type modelArray struct {
	root   Block
	values [][]byte
}

// checkArrays counts all references anew, and compares the values.
func (s *store) checkArrays(a *Array, list []modelArray) {
	s.t.Helper()
	meta := NewCensus()
	s.must(errors.Join(meta.Meta(ctx, s.tm.Meta()), meta.Data(ctx, s.data)))
	for _, m := range list {
		s.must(meta.Tree(ctx, a.tree(), m.root, func(_ uint64, v []byte) error {
			meta.Count(blockOf(v))
			return nil
		}))
		n := 0
		s.must(a.Walk(ctx, m.root, uint64(len(m.values)), func(i uint64, v []byte) error {
			if int(i) != n || !bytes.Equal(v, m.values[i]) {
				return fmt.Errorf("value %d is %x, want %d: %x", i, v, n, m.values[n])
			}
			n++
			return nil
		}))
		if n != len(m.values) {
			s.t.Fatalf("%d values, want %d", n, len(m.values))
		}
	}
	s.must(meta.CompareMeta(ctx, s.tm.Meta()))
}

// Arrays that share blocks are changed, grown and shrunk at random, and compared with slices; now and then all is counted, committed and read again.
func TestArrays(t *testing.T) {
	seed := mappertest.Seed(t)
	for _, size := range []int{1, 4, 8, 24, 1000, BlockSize - arrayHeader} {
		t.Run(fmt.Sprint(size), func(t *testing.T) { randomArrays(t, rand.New(rand.NewPCG(seed, uint64(size))), size) })
	}
}

func randomArrays(t *testing.T, rnd *rand.Rand, size int) {
	s := newStore(t, 8000, 100)
	array := func() *Array { return &Array{TM: s.tm, Size: size} }
	root, err := array().Empty(ctx)
	s.must(err)
	list := []modelArray{{root: root}}
	most := int(array().PerBlock()) * 300 // two levels
	value := func() []byte {
		v := make([]byte, size)
		for i := range v {
			v[i] = byte(rnd.Uint32())
		}
		return v
	}
	for range 60 {
		m := &list[rnd.IntN(len(list))]
		switch k := rnd.IntN(10); {
		case k == 0 && len(list) < 5: // a snapshot
			s.must(s.tm.Inc(ctx, m.root))
			list = append(list, modelArray{m.root, slices.Clone(m.values)})
		case k == 1 && len(list) > 1:
			s.must(array().Delete(ctx, m.root))
			*m = list[len(list)-1]
			list = list[:len(list)-1]
		case k < 5:
			v, n := value(), rnd.IntN(most)
			if rnd.IntN(3) == 0 {
				n = len(m.values) + rnd.IntN(5)
			}
			m.root, err = array().Resize(ctx, m.root, uint64(len(m.values)), uint64(n), v)
			s.must(err)
			for len(m.values) < n {
				m.values = append(m.values, v)
			}
			m.values = slices.Clip(m.values[:n])
		case len(m.values) > 0:
			for range rnd.IntN(50) {
				i, v := rnd.IntN(len(m.values)), value()
				m.root, err = array().Set(ctx, m.root, uint64(i), v)
				s.must(err)
				m.values[i] = v
			}
		}
		for _, i := range []uint64{uint64(len(m.values)), 1 << 40, 1<<64 - 1} {
			_, err := array().Set(ctx, m.root, i, value())
			if err := errors.Join(err, array().Get(ctx, m.root, i, value())); mapper.Errno(err) != unix.ENODATA {
				t.Fatalf("value %d of %d: %v", i, len(m.values), err)
			}
		}
		if rnd.IntN(5) == 0 {
			s.trees = s.trees[:0]
			for _, m := range list {
				s.trees = append(s.trees, m.root)
			}
			s.commit()
			s.reopen()
			s.checkArrays(array(), list)
		}
	}
	if err := array().Walk(ctx, list[0].root, uint64(len(list[0].values)+1), func(uint64, []byte) error { return nil }); err == nil {
		t.Error("more values than there are were walked over")
	}
}

// Sets of bits are compared with slices of them.
func TestBitset(t *testing.T) {
	rnd := rand.New(rand.NewPCG(mappertest.Seed(t), 0))
	s := newStore(t, 2000, 100)
	set := &Bitset{TM: s.tm}
	root, err := set.Empty(ctx)
	s.must(err)
	var bits []bool
	for range 30 {
		n, value := rnd.IntN(200000), rnd.IntN(2) == 0
		root, err = set.Resize(ctx, root, uint64(len(bits)), uint64(n), value)
		s.must(err)
		bits = bits[:min(n, len(bits))]
		for len(bits) < n && len(bits)%wordBits != 0 { // they keep what was there
			bit, err := set.Get(ctx, root, uint64(len(bits)))
			s.must(err)
			bits = append(bits, bit)
		}
		for len(bits) < n {
			bits = append(bits, value)
		}
		for range min(n, 200) {
			i, bit := rnd.IntN(n), rnd.IntN(2) == 0
			root, err = set.Set(ctx, root, uint64(i), bit)
			s.must(err)
			bits[i] = bit
			got, err := set.Get(ctx, root, uint64(i))
			if s.must(err); got != bit {
				t.Fatalf("bit %d is %v", i, got)
			}
		}
		next := uint64(0)
		s.must(set.Walk(ctx, root, uint64(n), func(i uint64, bit bool) error {
			if i != next || bit != bits[i] {
				return fmt.Errorf("bit %d is %v, want bit %d to be %v", i, bit, next, bits[next])
			}
			next++
			return nil
		}))
	}
	s.must(set.Delete(ctx, root))
	s.commit()
	s.check()
}

// FuzzArray patches the blocks of an array. Whatever is in them, nothing panics and all comes to an end.
func FuzzArray(f *testing.F) {
	f.Add(byte(1), uint16(0), []byte{255, 255, 255, 255})
	f.Add(byte(2), uint16(4), []byte{255, 255, 255, 255, 8, 0, 0, 0})
	f.Fuzz(func(t *testing.T, which byte, at uint16, patch []byte) {
		s := newStore(t, 200, 10)
		a := &Array{TM: s.tm, Size: 8}
		root, err := a.Empty(ctx)
		s.must(err)
		const n = 2000
		root, err = a.Resize(ctx, root, 0, n, make([]byte, 8))
		s.must(err)
		s.commit()
		b, kind := root, &NodeKind
		if which%4 > 0 {
			var v [8]byte
			s.must(a.tree().Lookup(ctx, root, uint64(which%4-1), v[:]))
			b, kind = blockOf(v[:]), &ArrayKind
		}
		data, err := s.tm.Store.ReadChecked(ctx, b, kind)
		s.must(err)
		copy(data[4+int(at)%(BlockSize-4):], patch)
		kind.Seal(b, data)
		s.must(s.disk.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: mapper.Sector(b) * BlockSectors, Count: BlockSectors, Data: data}))
		s.reopen()
		a.TM = s.tm
		_ = a.Walk(ctx, root, n, func(uint64, []byte) error { return nil })
		for _, i := range []uint64{0, 700, n - 1} {
			if r, err := a.Set(ctx, root, i, binary.LittleEndian.AppendUint64(nil, i)); err == nil {
				root = r
			}
		}
		for _, to := range []uint64{n + 3000, 700, 0} {
			r, err := a.Resize(ctx, root, n, to, make([]byte, 8))
			if err != nil {
				break
			}
			root = r
		}
		_ = a.Delete(ctx, root)
	})
}
