package luks

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"dmfs/mapper"
)

// interrupted returns a layout whose segment n is what a reencryption was interrupted in, with the key slot's area of a type.
func interrupted(name string, n int, kind string) layout {
	l := layouts()[name]
	l.segments[n]["flags"] = []string{"in-reencryption"}
	l.area["type"] = kind
	return l
}

// resolved reads a container, resolves it, and returns its segments: whose keys, where, with which IVs.
func resolved(t *testing.T, disk []byte, data io.ReaderAt) (*Header, string, error) {
	t.Helper()
	r := bytes.NewReader(disk)
	h, err := Read(r, int64(len(disk)))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.MayOpen(true); err != nil || !h.Interrupted() {
		t.Fatalf("%v, interrupted %v", err, h.Interrupted())
	}
	if err := h.Resolve(context.Background(), r, data); err != nil {
		return h, "", err
	}
	if h.Interrupted() {
		t.Error("it is not resolved")
	}
	text := ""
	for _, s := range h.Segments {
		on := ""
		if s.OnHeader {
			on = " of the header"
		}
		text += fmt.Sprintf("%s %d+%d key %d iv %d%s; ", s.Type, s.Offset, s.Size, s.Key, s.IVTweak, on)
	}
	return h, text, nil
}

// What was interrupted is read from where it was kept.
func TestResolve(t *testing.T) {
	const d, j = testData / 512, testJournal / 512
	for _, c := range []struct {
		layout layout
		want   string
	}{
		{interrupted("reencrypt", 0, "journal"), fmt.Sprintf("crypt %d+128 key 0 iv 0 of the header; crypt %d+0 key 0 iv 128; ", j, d+128)},
		{interrupted("encrypt", 2, "datashift"), "linear 12288+2048 key -1 iv 0; linear 2048+4096 key -1 iv 0; linear 6144+4096 key -1 iv 0; "},
		{interrupted("decrypt", 1, "datashift-checksum"), "crypt 0+2048 key 0 iv 0; crypt 4096+2048 key 0 iv 2048; crypt 6144+0 key 0 iv 4096; "},
		{interrupted("decrypt in place", 1, "journal"), fmt.Sprintf("crypt 0+2048 key 0 iv 0; crypt %d+8 key 0 iv 2048 of the header; linear 2056+0 key -1 iv 0; ", j)},
	} {
		l := c.layout
		delete(l.area, "hash")
		delete(l.area, "sector_size")
		switch {
		case l.area["type"] == "journal":
			delete(l.area, "shift_size")
			l.areaSize = 64 << 10 // as large as the segment
		case l.area["type"] == "datashift-checksum":
			l.area["hash"], l.area["sector_size"] = "sha256", 512
		}
		if l.direction == "backward" && l.mode == "decrypt" { // between what was and what is
			l.segments = slices.Insert(l.segments, 2, linearAt(mib+4096, "dynamic"))
			l.segments[1]["size"] = "4096"
		}
		_, got, err := resolved(t, l.build(t, nil), bytes.NewReader(nil))
		if err != nil || got != c.want {
			t.Errorf("%s, %v:\n got %s, %v\nwant %s", l.mode, l.area, got, err, c.want)
		}
	}
}

// hotBlocks are the blocks of the segment that was interrupted, in the tests of checksums.
const hotBlocks = 65536 / 512

// torn makes a container that was interrupted in its first segment after some blocks of that were written, and its disk.
func torn(t *testing.T, written func(block int) bool) (header, data []byte) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	l := interrupted("reencrypt", 0, "checksum")
	header = l.build(t, nil)
	data = make([]byte, testData+hotBlocks*512+4096)
	for n := range hotBlocks {
		block := data[testData+n*512:][:512]
		for i := range block {
			block[i] = byte(random.Uint32())
		}
		sum := sha256.Sum256(block)
		copy(header[testJournal+n*len(sum):], sum[:])
		if written(n) {
			block[n] ^= 0x40
		}
	}
	return header, data
}

// Blocks that have their checksum still are what they were, whichever were written.
func TestResolveBlocks(t *testing.T) {
	const seed = 7
	random := rand.New(rand.NewPCG(seed, 0))
	for try := range 50 {
		chance := []int{0, 100, 50, 5, 95}[try%5]
		was := make([]bool, hotBlocks)
		header, data := torn(t, func(n int) bool { was[n] = random.IntN(100) >= chance; return !was[n] })
		h, text, err := resolved(t, header, bytes.NewReader(data))
		if err != nil {
			t.Fatalf("seed %d, try %d: %v", seed, try, err)
		}
		at := mapper.Sector(0)
		for _, s := range h.Segments[:len(h.Segments)-1] {
			for range s.Size {
				old := s.Key == h.Reencryption.Previous.Key
				if s.Offset > testData/512+at || s.IVTweak > uint64(at) || old != was[at] {
					t.Fatalf("seed %d, try %d: sector %d is by %+v, and whether it is as it was: %v\n%s", seed, try, at, s, was[at], text)
				}
				at++
			}
			if s.Offset != testData/512+at-s.Size || s.IVTweak != uint64(at-s.Size) {
				t.Fatalf("seed %d, try %d: %+v begins at %d", seed, try, s, at-s.Size)
			}
		}
		if at != hotBlocks {
			t.Fatalf("seed %d, try %d: %d sectors, want %d", seed, try, at, hotBlocks)
		}
	}
}

// What cannot be recovered, or not by what the header says, is an error.
func TestResolveRefusals(t *testing.T) {
	none := interrupted("reencrypt", 0, "none")
	delete(none.area, "hash")
	delete(none.area, "sector_size")
	small := interrupted("reencrypt", 0, "journal")
	small.areaSize = 65024
	unaligned := interrupted("reencrypt", 0, "journal")
	unaligned.areaSize = 65536
	full, _ := torn(t, func(int) bool { return false })
	for _, c := range []struct {
		name string
		disk []byte
		data []byte
		want string
	}{
		{"none", none.build(t, nil), nil, "resilience none"},
		{"small", small.build(t, nil), nil, "the journal 65024"},
		{"unaligned", unaligned.build(t, func(m fields) {
			in, _ := field(m, "keyslots/5/area/offset")
			in["offset"] = bytesOf(testJournal + 100)
		}), nil, "at byte 327780"},
		{"hash", interrupted("reencrypt", 0, "checksum").build(t, func(m fields) {
			in, _ := field(m, "keyslots/5/area/hash")
			in["hash"] = "own"
		}), nil, `"own"`},
		{"blocks", interrupted("reencrypt", 0, "checksum").build(t, func(m fields) {
			in, _ := field(m, "keyslots/5/area/sector_size")
			in["sector_size"] = 1 << 17
		}), nil, "blocks of 131072"},
		{"room", interrupted("reencrypt", 0, "checksum").build(t, func(m fields) {
			in, _ := field(m, "keyslots/5/area/size")
			in["size"] = "4064"
		}), nil, "so many checksums"},
		{"short", full, make([]byte, testData+5), "EOF"},
	} {
		if _, _, err := resolved(t, c.disk, bytes.NewReader(c.data)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := bytes.NewReader(full)
	h, err := Read(r, int64(len(full)))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Resolve(ctx, r, bytes.NewReader(make([]byte, testData+65536))); err == nil {
		t.Error("it does not end with its context")
	}
}

// Blocks that were written in no order are more pieces than a table should have: an error, not a table without end.
func TestResolvePieces(t *testing.T) {
	r := &Reencryption{area: area{kind: "checksum", hash: "sha256", sectorSize: 512, span: span{0, 1 << 20}}}
	data := make([]byte, 4*mostRuns*512)
	sums := make([]byte, 4*mostRuns*32)
	for n := range 4 * mostRuns {
		if sum := sha256.Sum256(data[:512]); n%2 == 0 {
			copy(sums[n*32:], sum[:])
		}
	}
	s := Segment{Type: "crypt", Size: 4 * mostRuns}
	if _, err := r.summed(context.Background(), s, s, bytes.NewReader(sums), bytes.NewReader(data)); err == nil || !strings.Contains(err.Error(), "pieces") {
		t.Errorf("%v, want that it is in too many pieces", err)
	}
}
