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
