package pdata

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// filledNode makes a leaf with count entries, whose keys are gap apart at most.
func filledNode(rnd *rand.Rand, size, count int, gap uint64) node {
	n := make(node, BlockSize)
	n.init(leafFlag, size)
	key := rnd.Uint64N(1 << 40)
	v := make([]byte, size)
	for i := range count {
		for j := range v {
			v[j] = byte(rnd.Uint32())
		}
		n.insertAt(i, key, v)
		key += 1 + rnd.Uint64N(gap)
	}
	return n
}

// A trimmed node answers as the whole one, and restore gives that back.
func TestTrim(t *testing.T) {
	rnd := rand.New(rand.NewPCG(mappertest.Seed(t), 3))
	for range 300 {
		size := []int{4, 8, 16, 24}[rnd.IntN(4)]
		count := rnd.IntN(maxEntriesOf(size) + 1)
		n := filledNode(rnd, size, count, 1+rnd.Uint64N(3))
		small := make(node, n.trimmedSize())
		n.trim(small)
		for range 50 {
			k := rnd.Uint64N(1 << 41)
			if count > 0 && rnd.IntN(2) == 0 {
				k = n.key(rnd.IntN(count)) + rnd.Uint64N(2)
			}
			want := -1
			for i := 0; i < count && n.key(i) <= k; i++ {
				want = i
			}
			if got := small.find(k); got != want || n.find(k) != want {
				t.Fatalf("key %d is entry %d of the trimmed node, %d of the whole, want %d", k, got, n.find(k), want)
			}
			if want >= 0 && !bytes.Equal(small.value(want), n.value(want)) {
				t.Fatalf("entry %d differs", want)
			}
		}
		back := make(node, BlockSize)
		for i := range back {
			back[i] = 0xee
		}
		small.restore(back)
		if !bytes.Equal(back, n) {
			t.Fatalf("%d values of %d bytes do not come back", count, size)
		}
	}
}

// What readers have trimmed can be changed, and the cache stays within its bound while many read and one changes in turn.
func TestTrimmedInCache(t *testing.T) {
	ctx := t.Context()
	disk := mappertest.NewDisk("7:0", 8*4096)
	s := NewStore(disk, nil)
	tm, err := Format(ctx, s, 4096)
	if err != nil {
		t.Fatal(err)
	}
	tree := &Tree{TM: tm, Size: 8}
	root, err := tree.Empty(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const keys = 20000
	var v [8]byte
	for k := range uint64(keys) { // splits leave nodes half full
		binary.LittleEndian.PutUint64(v[:], k)
		if root, _, err = tree.Insert(ctx, root, k*7919%keys, v[:]); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.writeDirty(ctx); err != nil {
		t.Fatal(err)
	}
	s.forget()
	trimmed := func() (n, bytes int) {
		for i := range s.shards {
			for _, b := range s.shards[i].clock {
				if b.trimmed {
					n++
				}
				bytes += cap(b.data)
			}
		}
		return n, bytes
	}
	check := func(changed uint64) {
		t.Helper()
		for k := range uint64(keys) {
			at := k * 7919 % keys
			if err := tree.Lookup(ctx, root, at, v[:]); err != nil {
				t.Fatal(err)
			}
			want := k
			if at < changed {
				want = 1 << 50
			}
			if got := binary.LittleEndian.Uint64(v[:]); got != want {
				t.Fatalf("key %d has %d, want %d", at, got, want)
			}
		}
	}
	check(0)
	if n, _ := trimmed(); n == 0 {
		t.Error("no node was trimmed")
	}
	for k := range uint64(500) {
		binary.LittleEndian.PutUint64(v[:], 1<<50)
		if root, _, err = tree.Insert(ctx, root, k, v[:]); err != nil {
			t.Fatal(err)
		}
	}
	check(500)
	total := 0
	for i := range s.shards {
		total += s.shards[i].bytes
	}
	if _, bytes := trimmed(); bytes != total {
		t.Errorf("the cache has %d bytes and counts %d", bytes, total)
	}
}

// seek finds what find does, however the keys lie.
func TestSeek(t *testing.T) {
	rng := rand.New(rand.NewPCG(mappertest.Seed(t), 1))
	steps := []func(i int) uint64{
		func(int) uint64 { return 1 },                                 // without gaps
		func(int) uint64 { return 126 },                               // at even distances
		func(int) uint64 { return 1 + rng.Uint64N(1000) },             // near
		func(int) uint64 { return 1 + rng.Uint64N(1<<62/300) },        // far
		func(i int) uint64 { return 1 + uint64(i)*uint64(i)*1000 },    // ever farther
		func(i int) uint64 { return 1 + uint64(300-i)*uint64(300-i) }, // ever nearer
	}
	for kind, step := range steps {
		for _, count := range []int{0, 1, 2, 3, 50, 252} {
			n := make(node, BlockSize)
			n.init(leafFlag, 8)
			key := rng.Uint64N(1000)
			var tries []uint64
			for i := range count {
				n.setKey(i, key)
				tries = append(tries, key-1, key, key+1)
				key += step(i)
			}
			n.setLen(count)
			o := n.outline()
			for range 100 {
				tries = append(tries, rng.Uint64N(key+10))
			}
			for _, k := range append(tries, 0, 1<<64-1) {
				want := n.find(k)
				if got, exact := n.seek(&o, k); got != want || exact != n.has(want, k) {
					t.Fatalf("keys of kind %d, %d of them: key %d: found entry %d, exactly: %v; want %d, %v", kind, count, k, got, exact, want, n.has(want, k))
				}
			}
		}
	}
}

// What is remembered of a node is what is in it, whatever happened to it: nothing of one that is dirty.
func TestOutlinesAreUpToDate(t *testing.T) {
	ctx := context.Background()
	s := NewStore(mappertest.NewDisk("7:0", 4096*BlockSectors), nil)
	tm, err := Format(ctx, s, 4096)
	if err != nil {
		t.Fatal(err)
	}
	tree := &Tree{TM: tm, Size: 8}
	root, err := tree.Empty(ctx)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(mappertest.Seed(t), 2))
	noted := 0
	check := func() {
		t.Helper()
		for i := range s.shards {
			for _, n := range s.shards[i].clock {
				if !n.isNoted.Load() {
					continue
				}
				noted++
				if want := node(n.data).outline(); n.noted != want || n.dirty.Load() {
					t.Fatalf("block %d, dirty: %v: outline %+v, want %+v", n.block, n.dirty.Load(), n.noted, want)
				}
			}
		}
	}
	var v [8]byte
	for range 3000 {
		k := rng.Uint64N(5000)
		switch rng.IntN(20) {
		case 0: // as Relieve does amid a transaction
			err = s.writeDirty(ctx)
		case 1, 2, 3:
			var after Block
			if after, err = tree.Remove(ctx, root, k); err == nil {
				root = after
			}
		case 4, 5, 6, 7:
			err = tree.Lookup(ctx, root, k, v[:])
		default:
			root, _, err = tree.Insert(ctx, root, k, v[:])
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		check()
	}
	if noted == 0 {
		t.Error("no outline was remembered")
	}
}

// More blocks than the cache has room for do not stay, and those that were dropped are read again.
func TestEviction(t *testing.T) {
	s := NewStore(mappertest.NewDisk("7:0", mapper.Sector(8)), nil)
	for i := range Block(3 * cacheBytes / cacheShards / BlockSize) {
		b := i * cacheShards
		n := s.keep(&buf{block: b, kind: &NodeKind, data: make([]byte, BlockSize)}, false, true)
		if n.block != b {
			t.Fatalf("block %d is %d", b, n.block)
		}
		n.unpin()
	}
	sh := s.shard(0)
	if sh.bytes > cacheBytes/cacheShards || sh.bytes < cacheBytes/cacheShards-BlockSize || sh.bytes != len(sh.clock)*BlockSize || len(sh.bufs) != len(sh.clock) {
		t.Errorf("%d bytes in %d blocks, %d in the map; the bound is %d", sh.bytes, len(sh.clock), len(sh.bufs), cacheBytes/cacheShards)
	}
	for i, c := range sh.clock {
		if c.slot != i {
			t.Errorf("slot %d is that of %d", i, c.slot)
		}
	}
	if slices.Contains(sh.clock, nil) {
		t.Error("a gap in the clock")
	}
}
