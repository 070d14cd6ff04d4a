package crypt

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// buffered are the limits of a disk on which large writes are encrypted ahead.
var buffered = func() mapper.Limits {
	l := mappertest.DefaultLimits
	l.Buffered = true
	return l
}()

const aheadLength = aheadSectors + 304 // of the devices of these tests

// buildAhead makes a target over a buffered disk, and one like it over another disk.
func buildAhead(t *testing.T, args string) (got, plain *target, gotDisk, plainDisk *mappertest.Disk) {
	t.Helper()
	gotDisk, plainDisk = mappertest.NewDisk("7:0", aheadLength+8), mappertest.NewDisk("7:0", aheadLength+8)
	gotDisk.SetLimits(buffered)
	got, _, err := build(t, aheadLength, args, gotDisk)
	if err != nil {
		t.Fatal(err)
	}
	if plain, _, err = build(t, aheadLength, args, plainDisk); err != nil {
		t.Fatal(err)
	}
	return got, plain, gotDisk, plainDisk
}

// contents reads a whole disk.
func contents(t *testing.T, d mapper.Disk) []byte {
	t.Helper()
	b := make([]byte, d.Sectors().Bytes())
	if err := d.Submit(t.Context(), mapper.Request{Op: mapper.OpRead, Count: d.Sectors(), Data: b}); err != nil {
		t.Fatal(err)
	}
	return b
}

// aheadCiphers are of each way to encrypt: a fast cipher, a slow one, IVs by unit, keys that take turns, a mode that looks at the data.
var aheadCiphers = []string{
	"aes-xts-plain64 " + k16 + other + " 3 7:0 8",
	"aes-xts-plain64 " + k16 + other + " 16 7:0 0 2 sector_size:4096 iv_large_sectors",
	"serpent-cbc-essiv:sha256 " + k16 + " 0 7:0 1",
	"aes:64-cbc-lmk " + strings.Repeat(k16, 65) + " 0 7:0 1",
}

// What is encrypted ahead is on the disk as it is otherwise, whatever the length of the last piece, and the data is only read.
func TestAheadWritesTheSame(t *testing.T) {
	for _, args := range aheadCiphers {
		got, plain, gotDisk, plainDisk := buildAhead(t, args)
		for _, n := range []mapper.Sector{2*pieceSectors + 8, 3 * pieceSectors, splitSectors + 8, aheadSectors - 8, aheadSectors} {
			r := mapper.Request{Op: mapper.OpWrite, Start: 16, Count: n, Data: mappertest.Stamped(0, n, uint64(n))}
			before := bytes.Clone(r.Data)
			if !got.writesAhead(r) || plain.writesAhead(r) {
				t.Fatalf("%d sectors are not encrypted ahead, or also where the disk is not buffered", n)
			}
			if err := errors.Join(got.Submit(t.Context(), r), plain.Submit(t.Context(), r)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(r.Data, before) {
				t.Fatal("the data was changed")
			}
			if !bytes.Equal(contents(t, gotDisk), contents(t, plainDisk)) {
				t.Fatalf("%s: %d sectors: the disks differ", args[:strings.IndexByte(args, ' ')], n)
			}
			back := make([]byte, n.Bytes())
			if err := got.Submit(t.Context(), mapper.Request{Op: mapper.OpRead, Start: 16, Count: n, Data: back}); err != nil || !bytes.Equal(back, before) {
				t.Fatalf("%d sectors are not read back: %v", n, err)
			}
		}
	}
}

// The error of a piece in the middle is that of the request, and all other pieces are written.
func TestAheadFails(t *testing.T) {
	for _, bad := range []mapper.Sector{0, 3*pieceSectors + 5, aheadSectors - 1} {
		below := mappertest.NewDisk("7:0", aheadLength+8)
		below.SetLimits(buffered)
		disk := mappertest.NewFaulty(below)
		got, _, err := build(t, aheadLength, aheadCiphers[0], disk)
		if err != nil {
			t.Fatal(err)
		}
		disk.Inject(mappertest.Fault{Ops: []mapper.Op{mapper.OpWrite}, Start: 8 + bad, End: 8 + bad + 1, Err: mapper.ErrMedium})
		want := mappertest.Stamped(0, aheadSectors, 1)
		err = got.Submit(t.Context(), mapper.Request{Op: mapper.OpWrite, Count: aheadSectors, Data: want})
		if !errors.Is(err, mapper.ErrMedium) {
			t.Errorf("sector %d cannot be written: %v, want %v", bad, err, mapper.ErrMedium)
		}
		back := make([]byte, int64(aheadSectors)*mapper.SectorSize)
		if err := got.Submit(t.Context(), mapper.Request{Op: mapper.OpRead, Count: aheadSectors, Data: back}); err != nil {
			t.Fatal(err)
		}
		lost := bad / pieceSectors * pieceSectors
		if !bytes.Equal(back[:lost.Bytes()], want[:lost.Bytes()]) || !bytes.Equal(back[(lost+pieceSectors).Bytes():], want[(lost+pieceSectors).Bytes():]) {
			t.Errorf("sector %d cannot be written: sectors of other pieces were not", bad)
		}
	}
}

// What is to be durable goes to the disk in no more pieces than it does elsewhere.
func TestAheadLeavesFUA(t *testing.T) {
	got, _, disk, _ := buildAhead(t, aheadCiphers[0])
	r := mapper.Request{Op: mapper.OpWrite, Flags: mapper.FlagFUA, Count: aheadSectors, Data: mappertest.Stamped(0, aheadSectors, 1)}
	if err := got.Submit(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if n := disk.Counts(); n.FUA != aheadSectors/splitSectors || n.Writes != n.FUA {
		t.Errorf("%d writes, %d of them FUA; want %d", n.Writes, n.FUA, aheadSectors/splitSectors)
	}
}

// Several goroutines write and read at once, each its own sectors.
func TestAheadConcurrently(t *testing.T) {
	got, _, _, _ := buildAhead(t, aheadCiphers[0])
	const writers, n = 4, aheadLength / 4 / 8 * 8
	if !got.writesAhead(mapper.Request{Op: mapper.OpWrite, Count: n}) {
		t.Fatal("the requests are too short")
	}
	var wg sync.WaitGroup
	for w := range mapper.Sector(writers) {
		wg.Go(func() {
			back := make([]byte, n*mapper.SectorSize)
			for round := range 5 {
				want := mappertest.Stamped(w*n, n, uint64(round))
				err := got.Submit(context.Background(), mapper.Request{Op: mapper.OpWrite, Start: w * n, Count: n, Data: want})
				if err == nil {
					err = got.Submit(context.Background(), mapper.Request{Op: mapper.OpRead, Start: w * n, Count: n, Data: back})
				}
				if err != nil || !bytes.Equal(back, want) {
					t.Errorf("writer %d, round %d: not read back: %v", w, round, err)
				}
			}
		})
	}
	wg.Wait()
}
