package mapper

import (
	"bytes"
	"testing"
)

func TestSlice(t *testing.T) {
	data := make([]byte, 4*SectorSize)
	data[SectorSize] = 1
	r := Request{Op: OpWrite, Flags: FlagFUA, Start: 100, Count: 4, Data: data}
	got := r.Slice(1, 2)
	if got.Op != OpWrite || got.Flags != FlagFUA || got.Start != 101 || got.Count != 2 || got.End() != 103 {
		t.Errorf("got %+v", got)
	}
	if !bytes.Equal(got.Data, data[SectorSize:3*SectorSize]) || cap(got.Data) != 2*SectorSize {
		t.Errorf("%d bytes with room for %d; must be exactly its own", len(got.Data), cap(got.Data))
	}
	got.Data[1] = 2
	if data[SectorSize+1] != 2 {
		t.Error("the data was copied")
	}
	if d := (Request{Op: OpDiscard, Count: 8}).Slice(2, 3); d.Data != nil || d.Start != 2 || d.Count != 3 {
		t.Errorf("without data: %+v", d)
	}
}

// Tags go with the units of data that they belong to.
func TestSliceTags(t *testing.T) {
	r := Request{Op: OpRead, Start: 80, Count: 32, Data: make([]byte, 32*SectorSize), Tags: []byte("aabbccdd")} // 2 bytes for 8 sectors
	for _, c := range []struct {
		from, n Sector
		want    string
	}{{0, 32, "aabbccdd"}, {8, 16, "bbcc"}, {24, 8, "dd"}} {
		got := r.Slice(c.from, c.n)
		if string(got.Tags) != c.want || cap(got.Tags) != len(c.want) {
			t.Errorf("%d sectors from %d have the tags %q, with room for %d; want %q", c.n, c.from, got.Tags, cap(got.Tags), c.want)
		}
	}
	if f := (TagFormat{Size: 2, Unit: 4096}); f.Len(r.Count) != len(r.Tags) || (TagFormat{}).Len(r.Count) != 0 {
		t.Errorf("%d bytes of tags for %d sectors", f.Len(r.Count), r.Count)
	}
}

func TestSectors(t *testing.T) {
	if got := MaxSectors.Bytes(); got <= 0 {
		t.Errorf("MaxSectors is %d bytes", got)
	}
	if got := SectorsOf(1023); got != 1 {
		t.Errorf("1023 bytes hold %d sectors", got)
	}
	for op, want := range map[Op]string{OpRead: "read", OpWriteZeroes: "write-zeroes", 77: "op 77"} {
		if got := op.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
