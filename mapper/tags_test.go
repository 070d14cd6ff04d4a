package mapper_test

import (
	"bytes"
	"fmt"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// tagged returns a disk that keeps so many bytes with each 4 KiB.
func tagged(name string, size int) *mappertest.Disk {
	d := mappertest.NewDisk(name, 1024)
	l := mappertest.DefaultLimits
	l.LogicalBlock, l.PhysicalBlock, l.MinIO = 4096, 4096, 4096
	l.Tags = mapper.TagFormat{Size: size, Unit: 4096}
	d.SetLimits(l)
	return d
}

// A device keeps tags if all that it stands on does, in the same format, and every target passes them on.
func TestTagsStack(t *testing.T) {
	m := newManager(tagged("a", 16), tagged("b", 16), tagged("other", 28), mappertest.NewDisk("plain", 1024))
	defer closeManager(t, m)
	for i, c := range []struct {
		table string
		want  int
	}{
		{"0 1024 linear a 0", 16},
		{"0 1024 linear a 0\n1024 1024 linear b 0", 16},
		{"0 2048 striped 2 64 a 0 b 0", 16},
		{"0 1024 linear a 0\n1024 1024 linear other 0", 0},
		{"0 2048 striped 2 64 a 0 other 0", 0},
		{"0 2048 striped 2 64 a 0 plain 0", 0},
		{"0 1024 linear plain 0", 0},
		{"0 1024 delay a 0 0", 0},
		{"0 1024 zero", 0},
	} {
		d := create(t, m, fmt.Sprint("d", i), c.table)
		got := d.Limits().Tags
		if got.Size != c.want || (got.Unit == 4096) != (c.want != 0) {
			t.Errorf("%s: got %+v, want %d bytes", c.table, got, c.want)
		}
	}
}

// Tags reach the disks with the data they belong to, wherever a table cuts the request.
func TestTagsTravelWithTheirData(t *testing.T) {
	a, b := tagged("a", 3), tagged("b", 3)
	m := newManager(a, b)
	defer closeManager(t, m)
	d := create(t, m, "d", "0 512 linear a 0\n512 1024 striped 2 16 b 0 a 512")
	const units = 128 // across the border, and many chunks
	w := mapper.Request{Op: mapper.OpWrite, Start: 256, Count: units * 8, Data: make([]byte, units*4096), Tags: make([]byte, units*3)}
	for i := range units {
		w.Data[i*4096], w.Tags[i*3] = byte(i), byte(i)
	}
	if err := d.Submit(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	r := mapper.Request{Op: mapper.OpRead, Start: w.Start, Count: w.Count, Data: make([]byte, len(w.Data)), Tags: make([]byte, len(w.Tags))}
	if err := d.Submit(t.Context(), r); err != nil || !bytes.Equal(r.Data, w.Data) || !bytes.Equal(r.Tags, w.Tags) {
		t.Errorf("%v; tags read back %x", err, r.Tags)
	}
	for _, disk := range []*mappertest.Disk{a, b} {
		for s := mapper.Sector(0); s < disk.Sectors(); s += 8 {
			r := mapper.Request{Op: mapper.OpRead, Start: s, Count: 8, Data: make([]byte, 4096), Tags: make([]byte, 3)}
			if err := disk.Submit(t.Context(), r); err != nil || r.Data[0] != r.Tags[0] {
				t.Fatalf("%s, sector %d: data %d has the tag %d (%v)", disk.DiskName(), s, r.Data[0], r.Tags[0], err)
			}
		}
	}
}
