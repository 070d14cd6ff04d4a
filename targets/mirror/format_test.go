package mirror

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"dmfs/mapper/mappertest"
)

// The operations on many bits do what one bit after the other would.
func TestBitset(t *testing.T) {
	rnd := rand.New(rand.NewPCG(mappertest.Seed(t), 0))
	for range 300 {
		n := 1 + rnd.IntN(300)
		b := make(bitset, bitsetBytes(n))
		want := make([]bool, n)
		for range 4 {
			from := rnd.IntN(n)
			to, v := from+rnd.IntN(n-from+1), rnd.IntN(2) == 0
			b.put(from, to, v)
			for i := from; i < to; i++ {
				want[i] = v
			}
		}
		count, start := 0, rnd.IntN(n)
		next := n
		for i := n - 1; i >= 0; i-- {
			if b.get(i) != want[i] {
				t.Fatalf("bit %d of %d is %v", i, n, b.get(i))
			}
			if want[i] {
				count++
			} else if i >= start {
				next = i
			}
		}
		if got := b.count(); got != count {
			t.Errorf("%d bits are set, want %d", got, count)
		}
		if got := b.nextClear(start, n); got != next {
			t.Errorf("after %d the next clear bit is %d, want %d", start, got, next)
		}
	}
}

// FuzzFormat: a log disk may hold anything. What becomes of it is a log of the mirror's regions, and is understood as it is the next time.
func FuzzFormat(f *testing.F) {
	valid := make([]byte, 4096)
	header{magic: logMagic, version: logVersion, regions: 32}.encode(valid)
	valid[1024] = 0x7f
	f.Add(valid, uint16(32), uint8(0))
	f.Add(valid, uint16(100), uint8(2))
	f.Add(valid, uint16(5), uint8(1))
	f.Add([]byte("rRiM\x03\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"), uint16(900), uint8(0))
	f.Add([]byte("rRiM\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80"), uint16(1), uint8(0))
	f.Fuzz(func(t *testing.T, disk []byte, regions uint16, mode uint8) {
		n := int(regions) + 1
		image := make([]byte, int(bitsetSector.Bytes())+bitsetBytes(n)+100)
		copy(image, disk)
		before := bytes.Clone(image)
		m := syncMode(mode % 3)
		ok := restore(image, n, m)
		clean := bitset(image[bitsetSector.Bytes():][:bitsetBytes(n)])
		count := clean.count()
		switch {
		case m == syncNever && count != n, m == syncAlways && count != 0, !ok && count != 0, count > n:
			t.Fatalf("mode %d, ok %v: %d of %d regions are clean", m, ok, count, n)
		case !bytes.Equal(image[headerBytes:bitsetSector.Bytes()], before[headerBytes:bitsetSector.Bytes()]),
			!bytes.Equal(image[len(image)-100:], before[len(image)-100:]):
			t.Fatal("bytes that the log does not use have changed")
		}
		h := decodeHeader(image)
		if h.magic != logMagic || h.regions != uint64(n) || ok != (h.version == logVersion) {
			t.Fatalf("header %+v", h)
		}
		again := bytes.Clone(image)
		if restore(again, n, syncIfNeeded) != ok || ok && !bytes.Equal(again, image) {
			t.Fatal("the second time it is another log")
		}
	})
}
