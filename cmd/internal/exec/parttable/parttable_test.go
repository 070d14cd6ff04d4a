package parttable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"reflect"
	"strings"
	"testing"

	"dmfs/mapper"
)

// image is a disk in memory of so many blocks of so many bytes.
type image struct {
	p     []byte
	block int
}

func newImage(blocks, block int) *image {
	m := &image{make([]byte, blocks*block), block}
	m.sign(0)
	return m
}

func (m *image) sign(at int) { m.p[at*m.block+signAt], m.p[at*m.block+signAt+1] = 0x55, 0xaa }

// entry writes an entry of the sector at block at.
func (m *image) entry(at, i int, kind byte, start, n uint32) {
	m.sign(at)
	p := m.p[at*m.block+entriesAt+i*entryLen:]
	p[4] = kind
	binary.LittleEndian.PutUint32(p[8:], start)
	binary.LittleEndian.PutUint32(p[12:], n)
}

// gpt writes a table of n entries at block 2, of which parts are the first and last blocks of those in use.
func (m *image) gpt(n int, parts ...[2]uint64) {
	m.entry(0, 0, typeProtective, 1, uint32(len(m.p)/m.block-1))
	for i, part := range parts {
		p := m.p[2*m.block+i*gptEntryLen:]
		if part[1] == 0 {
			continue
		}
		p[0] = 1
		binary.LittleEndian.PutUint64(p[32:], part[0])
		binary.LittleEndian.PutUint64(p[40:], part[1])
	}
	h := m.p[m.block:]
	copy(h, gptMagic)
	for at, v := range map[int]uint32{8: 0x10000, 12: headerLen, 80: uint32(n), 84: gptEntryLen, 88: crc32.ChecksumIEEE(m.p[2*m.block:][:n*gptEntryLen])} {
		binary.LittleEndian.PutUint32(h[at:], v)
	}
	for at, v := range map[int]uint64{24: 1, 32: uint64(len(m.p)/m.block - 1), 40: 6, 48: uint64(len(m.p)/m.block - 7), 72: 2} {
		binary.LittleEndian.PutUint64(h[at:], v)
	}
	m.sum()
}

// sum makes the sum of the header right.
func (m *image) sum() {
	h := m.p[m.block:]
	clear(h[sumOfHeader:][:4])
	binary.LittleEndian.PutUint32(h[sumOfHeader:], crc32.ChecksumIEEE(h[:headerLen]))
}

func (m *image) read() ([]Partition, error) {
	return Read(bytes.NewReader(m.p), mapper.SectorsOf(int64(len(m.p))), m.block)
}

func TestMBR(t *testing.T) {
	for _, block := range []int{512, 4096} {
		unit := mapper.SectorsOf(int64(block))
		m := newImage(200, block)
		m.entry(0, 0, 0x83, 1, 9)
		m.entry(0, 1, typeExtendedLB, 20, 100)
		m.entry(0, 3, 0x07, 190, 100) // beyond the end
		m.entry(20, 0, 0x83, 2, 8)
		m.entry(20, 1, typeExtended, 30, 20)
		m.entry(20, 2, 0x83, 3, 1000) // rubbish
		m.entry(50, 0, 0x8e, 1, 19)
		m.entry(50, 1, typeExtendedLX, 200, 20) // beyond the end
		want := []Partition{{1, unit, 9 * unit}, {2, 20 * unit, max(2, unit)}, {4, 190 * unit, 10 * unit}, {5, 22 * unit, 8 * unit}, {6, 51 * unit, 19 * unit}}
		if got, err := m.read(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("blocks of %d: %v, %v, want %v", block, got, err, want)
		}
	}
}

// A chain that leads back to itself ends, with partitions in it and without.
func TestChainOfLinks(t *testing.T) {
	m := newImage(200, 512)
	m.entry(0, 0, typeExtended, 20, 100)
	m.entry(20, 1, typeExtended, 0, 20)
	if got, err := m.read(); err != nil || len(got) != 1 {
		t.Errorf("%v, %v, want the extended partition alone", got, err)
	}
	m.entry(20, 0, 0x83, 2, 8)
	if got, err := m.read(); err != nil || len(got) != 1+MaxPartitions-firstLogical+1 || got[len(got)-1].Number != MaxPartitions {
		t.Errorf("%d partitions, %v, want up to number %d", len(got), err, MaxPartitions)
	}
}

func TestGPT(t *testing.T) {
	for _, block := range []int{512, 4096} {
		unit := mapper.SectorsOf(int64(block))
		m := newImage(200, block)
		m.gpt(16, [2]uint64{10, 19}, [2]uint64{}, [2]uint64{30, 30}, [2]uint64{50, 40}, [2]uint64{190, 200}, [2]uint64{1 << 63, 1<<64 - 1}, [2]uint64{199, 199})
		want := []Partition{{1, 10 * unit, 10 * unit}, {3, 30 * unit, unit}, {7, 199 * unit, unit}}
		if got, err := m.read(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("blocks of %d: %v, %v, want %v", block, got, err, want)
		}
	}
}

func TestMalformed(t *testing.T) {
	for want, damage := range map[string]func(m *image){
		"no partition table":             func(m *image) { m.p[signAt] = 0 },
		"begins at block 2":              func(m *image) { m.entry(0, 0, typeProtective, 2, 1) },
		"block 1 is no header":           func(m *image) { m.p[512] = 0 },
		"a header of 600 bytes":          func(m *image) { binary.LittleEndian.PutUint32(m.p[512+12:], 600) },
		"the header has the sum":         func(m *image) { m.p[512+60] ^= 1 },
		"says that it is at 7":           func(m *image) { m.p[512+24] = 7; m.sum() },
		"from block 6 to 4294967489":     func(m *image) { m.p[512+52] = 1; m.sum() },
		"entries of 256 bytes":           func(m *image) { m.p[512+84], m.p[512+85] = 0, 1; m.sum() },
		"0 entries":                      func(m *image) { m.p[512+80] = 0; m.sum() },
		"16777232 entries":               func(m *image) { m.p[512+83] = 1; m.sum() },
		"begin beyond the disk's end":    func(m *image) { m.p[512+77] = 1; m.sum() },
		"the entries have the sum":       func(m *image) { m.p[1024+40] ^= 1 },
		"at block 199 end with the disk": func(m *image) { m.p[512+72] = 199; m.sum() },
	} {
		m := newImage(200, 512)
		m.gpt(16, [2]uint64{10, 19})
		damage(m)
		if _, err := m.read(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	m := newImage(200, 512)
	m.p[entriesAt] = 'x' // code
	if _, err := m.read(); !errors.Is(err, ErrNone) {
		t.Errorf("a boot sector: %v", err)
	}
	if _, err := Read(bytes.NewReader(nil), 0, 512); !errors.Is(err, ErrNone) {
		t.Errorf("an empty disk: %v", err)
	}
	if _, err := Read(bytes.NewReader(nil), 10, 768); err == nil {
		t.Error("blocks that cannot be")
	}
	if _, err := Read(bytes.NewReader(nil), 10, 512); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("a disk that cannot be read: %v", err)
	}
}

// Whatever the tables say, the partitions are on the disk, in order of the table, and not too many.
func FuzzFormat(f *testing.F) {
	m := newImage(16, 512)
	m.gpt(4, [2]uint64{10, 12})
	f.Add(m.p, false, true)
	m = newImage(8, 512)
	m.entry(0, 0, 0x83, 1, 1)
	m.entry(0, 1, typeExtendedLB, 3, 4)
	m.entry(3, 0, 0x83, 1, 1)
	m.entry(3, 1, typeExtended, 2, 2)
	f.Add(m.p, false, false)
	f.Add(newImage(4, 4096).p, true, true)
	f.Fuzz(func(t *testing.T, p []byte, large, right bool) {
		m := &image{p, 512}
		if large {
			m.block = 4096
		}
		if right && len(p) >= 3*m.block { // sums that are right lead further
			h := p[m.block:]
			n, at := int(binary.LittleEndian.Uint32(h[80:]))*gptEntryLen, binary.LittleEndian.Uint64(h[72:])
			if at < uint64(len(p)/m.block) && n >= 0 && n <= len(p)-int(at)*m.block {
				binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(p[int(at)*m.block:][:n]))
			}
			m.sum()
		}
		list, err := m.read()
		var bad FormatError
		if err != nil && !errors.Is(err, ErrNone) && !errors.As(err, &bad) {
			t.Errorf("a disk that can be read: %v", err)
		}
		last := uint32(0)
		for _, part := range list {
			if part.Number <= last || part.Number > MaxPartitions || part.Len == 0 || part.Start+part.Len > mapper.SectorsOf(int64(len(p))) || part.Start+part.Len < part.Start {
				t.Fatalf("%v of %d bytes", list, len(p))
			}
			last = part.Number
		}
	})
}
