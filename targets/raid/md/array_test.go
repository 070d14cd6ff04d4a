package md

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"dmfs/mapper"
)

// raid0 returns the superblocks of an array of level 0 with chunks of 8 sectors, whose members have that many.
func raid0(layout uint32, sectors ...mapper.Sector) (names []string, supers []*Super) {
	raw := make([]byte, newSize+2*len(sectors))
	for i, n := range sectors {
		le.PutUint16(raw[newSize+2*i:], uint16(i))
		names = append(names, fmt.Sprintf("d%d", i))
		supers = append(supers, &Super{
			Version: "1.2", Members: len(sectors), Layout: layout, Chunk: 8, Data: 100, Size: n, Role: i, Resync: Done, Recovered: Done, raw: raw,
		})
	}
	return names, supers
}

// Members that differ in size are zones. In the original layout, which mdadm 4.2 makes, the disks of a zone take turns by the chunk's number in
// the array, in the other by that in the zone. The content of arrays made by Linux 6.1 is read so in either.
func TestZones(t *testing.T) {
	for _, c := range []struct {
		layout  uint32
		sectors []mapper.Sector
		want    string
	}{
		{original, []mapper.Sector{24, 47, 17, 32, 64}, // zones of 5, 4, 3, 2 and 1 disks, of 2, 1, 1, 1 and 3 rows; 10, 14, 17 chunks before the later ones
			"0+80 striped 5 8 d0 100 d1 100 d2 100 d3 100 d4 100, 80+32 striped 4 8 d3 116 d4 116 d0 116 d1 116, " +
				"112+24 striped 3 8 d4 124 d1 124 d3 124, 136+16 striped 2 8 d4 132 d1 132, 152+24 linear d4 140"},
		{alternate, []mapper.Sector{24, 47, 17, 32, 64},
			"0+80 striped 5 8 d0 100 d1 100 d2 100 d3 100 d4 100, 80+32 striped 4 8 d0 116 d1 116 d3 116 d4 116, " +
				"112+24 striped 3 8 d1 124 d3 124 d4 124, 136+16 striped 2 8 d1 132 d4 132, 152+24 linear d4 140"},
		{0, []mapper.Sector{24, 24}, "0+48 striped 2 8 d0 100 d1 100"},
		{0, []mapper.Sector{24, 40}, "0+48 striped 2 8 d0 100 d1 100, 48+16 linear d1 124"},
		{0, []mapper.Sector{24, 40, 40}, "layout-original"},
		{7, []mapper.Sector{24, 40, 40}, "layout-original"},
	} {
		names, supers := raid0(c.layout, c.sectors...)
		a, err := Assemble(names, supers, false)
		if err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("layout %d of %v: %v, want %s", c.layout, c.sectors, err, c.want)
			}
			continue
		}
		var got []string
		for _, s := range a.Specs(false) {
			got = append(got, fmt.Sprintf("%d+%d %s %s", s.Start, s.Len, s.Type, strings.Join(s.Args, " ")))
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("layout %d of %v:\n%s, want\n%s", c.layout, c.sectors, s, c.want)
		}
	}
}

// Linux counts less than there is of an array whose chunks are not a power of two: an array is as long as Linux 6.1 says.
func TestZonesCut(t *testing.T) {
	for _, c := range []struct {
		chunk, want mapper.Sector
		sectors     []mapper.Sector
	}{
		{24, 24480, []mapper.Sector{8168, 8168, 8168}}, {40, 24384, []mapper.Sector{8168, 8168, 8168}}, {56, 24216, []mapper.Sector{8168, 8168, 8168}},
		{24, 50648, []mapper.Sector{8168, 9976, 6640, 15976, 9976}}, {40, 50552, []mapper.Sector{8168, 9976, 6640, 15976, 9976}},
		{56, 50448, []mapper.Sector{8168, 9976, 6640, 15976, 9976}}, {24, 16336, []mapper.Sector{8184, 8184}}, {40, 16256, []mapper.Sector{8184, 8184}},
		{24, 22960, []mapper.Sector{6640, 8184, 8184}}, {56, 22848, []mapper.Sector{6640, 8184, 8184}}, {40, 14736, []mapper.Sector{8176, 6648}},
		{56, 0, []mapper.Sector{7, 7}},
	} {
		names, supers := raid0(original, c.sectors...)
		for _, s := range supers {
			s.Chunk = c.chunk
		}
		a, err := Assemble(names, supers, false)
		if err != nil {
			if c.want > 0 {
				t.Errorf("chunks of %d, %v: %v", c.chunk, c.sectors, err)
			}
			continue
		}
		end := mapper.Sector(0)
		for _, s := range a.Specs(false) {
			if s.Start != end || s.Type == "striped" && s.Len%(c.chunk*mapper.Sector(len(s.Args)/2-1)) != 0 {
				t.Errorf("chunks of %d, %v: %v after sector %d", c.chunk, c.sectors, s, end)
			}
			end += s.Len
		}
		if end != c.want || a.Sectors() != c.want {
			t.Errorf("chunks of %d, %v: %d sectors in segments, %d in all, want %d", c.chunk, c.sectors, end, a.Sectors(), c.want)
		}
	}
}

// A layout of level 0 counts only if a feature says that it does: the superblock of equal members has one without.
func TestLayoutOnRecord(t *testing.T) {
	for features, want := range map[uint32]uint32{0: 0, raid0Layout: original} {
		disk := image(t, "raid0")
		s, err := Read(bytes.NewReader(disk), int64(len(disk)))
		if err != nil {
			t.Fatal(err)
		}
		b := disk[s.At.Bytes():]
		le.PutUint32(b[8:], features)
		s.raw = b[:len(s.raw)]
		le.PutUint32(b[216:], s.sumNew())
		if s, err = Read(bytes.NewReader(disk), int64(len(disk))); err != nil || s.Layout != want {
			t.Errorf("features %#x: %+v, %v, want layout %d", features, s, err, want)
		}
	}
}

// One member is missing, and several are.
func TestGone(t *testing.T) {
	for want, places := range map[string][]int{
		"member 2 is missing": {2}, "members 0 and 3 are missing": {0, 3}, "members 1, 2 and 10 are missing": {1, 2, 10},
	} {
		if got := Gone(places); got != want {
			t.Errorf("%v: %q, want %q", places, got, want)
		}
	}
}
