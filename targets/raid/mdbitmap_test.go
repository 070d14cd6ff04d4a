package raid

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
	"dmfs/targets/raid/md"
)

// What mdadm was told of a bitmap stays in its header, and a region may be larger than the array, as it is of small arrays that mdadm makes.
func TestMDBitmapHeader(t *testing.T) {
	for _, k := range mdKinds {
		if !k.bitmap {
			continue
		}
		t.Run(k.String(), func(t *testing.T) {
			ctx, s := context.Background(), k.setup()
			disks := make(map[string]mapper.Disk)
			for _, d := range s.Disks {
				disks[d.Name] = mappertest.NewDisk(d.Name, d.Sectors)
			}
			if err := s.Prepare(ctx, disks); err != nil {
				t.Fatal(err)
			}
			_, _, at, _ := k.places()
			told := make([]byte, 4096)
			for _, d := range disks {
				if err := d.Submit(ctx, mapper.Request{Op: mapper.OpRead, Start: at, Count: 8, Data: told}); err != nil {
					t.Fatal(err)
				}
				for i, v := range []uint32{64 << 20, 7, 100, 8} { // a region's bytes, the daemon's sleep, KiB of write-behind, sectors reserved
					binary.LittleEndian.PutUint32(told[0x34+4*i:], v)
				}
				if err := d.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: at, Count: 8, Data: told}); err != nil {
					t.Fatal(err)
				}
			}
			x, err := startMD(disks, s.Len, false, s.Args...)
			if err != nil {
				t.Fatal(err)
			}
			if err := submit(x.now.Load().target, mapper.Request{Op: mapper.OpWrite, Count: 8, Data: mappertest.Stamped(0, 8, 1)}); err != nil {
				t.Fatal(err)
			}
			header := make([]byte, 512)
			if err := disks["7:0"].Submit(ctx, mapper.Request{Op: mapper.OpRead, Start: at, Count: 1, Data: header}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(header[:0x18], told[:0x18]) || !bytes.Equal(header[0x28:bitmapHeader], told[0x28:bitmapHeader]) {
				t.Errorf("the header has changed:\n%x\n%x", header[:bitmapHeader], told[:bitmapHeader])
			}
			if header[bitmapHeader]&1 == 0 {
				t.Error("the only region was written, and has no bit")
			}
			if err := stopMD(x); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// The bytes of a region fit into a header, however large the array is.
func TestMDRegionOfLargeArray(t *testing.T) {
	for _, sectors := range []mapper.Sector{512, 1 << 32, 1 << 38, 1 << 43} {
		x := &mdArray{spec: mapper.Spec{Len: sectors}}
		region := x.region(&md.Array{Super: &md.Super{Level: 5, Chunk: 128, Dev: sectors / 4}})
		b := make([]byte, bitmapHeader)
		(&bitmapSuper{regionBytes: uint32(region.Bytes())}).encode(b)
		if s, err := decodeBitmap(b); err != nil || mapper.SectorsOf(int64(s.regionBytes)) != region {
			t.Errorf("%d sectors: regions of %d, and the header says %d bytes: %v", sectors, region, s.regionBytes, err)
		}
	}
}

// A mirror that may differ is read from the first member, of a read-only table, too, however busy that is.
func TestMDReadOnlyDirty(t *testing.T) {
	k := mdKinds[1]
	s, disks, x := newMDArray(t, k)
	if err := submit(x.now.Load().target, mapper.Request{Op: mapper.OpWrite, Count: 8, Data: mappertest.Stamped(0, 8, 1)}); err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil { // as a crash
		t.Fatal(err)
	}
	y, err := startMD(disks, s.Len, true, s.Args...)
	if err != nil {
		t.Fatal(err)
	}
	tg := y.now.Load()
	tg.members[0].pending.Add(5)
	places := tg.geo.copies(nil, 0)
	if got := tg.cur.pick(places, 0, 8); got != 0 {
		t.Errorf("sectors that may differ are read from copy %d", got)
	}
	if err := stopMD(y); err != nil {
		t.Fatal(err)
	}
}
