package kernel

import (
	"encoding/binary"
	"flag"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var tables = flag.Int("tables", 60, "how many random partition tables the kernel and a session read")

// listPartitions prints the partitions of the loop devices that are made of all images: number, start and size.
const listPartitions = `
for name in *.img; do
	read block <$name.block
	losetup -P -b $block /dev/loop3 $name
	for i in $(cd /sys/block/loop3; echo loop3p*); do
		test -e /sys/block/loop3/$i || continue
		read number </sys/block/loop3/$i/partition; read start </sys/block/loop3/$i/start; read size </sys/block/loop3/$i/size
		echo "$name $number $start $size"
	done
	losetup -d /dev/loop3
done
`

// A tableMaker makes images with partition tables of all kinds, most of them with something wrong.
type tableMaker struct {
	*rand.Rand
	p     []byte
	block int
}

// blocks is how many blocks an image has.
const blocks = 256

// near returns a block number: mostly on the disk, sometimes close to its end, sometimes anything.
func (m *tableMaker) near() uint64 {
	switch m.IntN(12) {
	case 0:
		return uint64(m.Uint32())
	case 1:
		return uint64(blocks - 2 + m.IntN(4))
	}
	return uint64(m.IntN(blocks))
}

// sector writes a sector with four entries, as sector 0 and the links of extended partitions are, and returns the blocks of those that are extended.
func (m *tableMaker) sector(at uint64, base uint64, depth int) {
	p := m.p[at*uint64(m.block):]
	if m.IntN(15) > 0 {
		p[510], p[511] = 0x55, 0xaa
	}
	for i := range 4 {
		kind := [...]byte{0x83, 0x83, 0x07, 0x05, 0x0f, 0x85, 0x8e, 0x00}[m.IntN(8)]
		start, n := m.near(), uint64(m.IntN(blocks/4))
		if m.IntN(3) == 0 {
			n = 0
		}
		e := p[446+16*i:]
		e[4] = kind
		if m.IntN(60) == 0 {
			e[0] = byte(m.Uint32())
		}
		binary.LittleEndian.PutUint32(e[8:], uint32(start))
		binary.LittleEndian.PutUint32(e[12:], uint32(n))
		if to := base + start; (kind == 5 || kind == 0x0f || kind == 0x85) && n > 0 && depth < 12 && to < blocks && to > 0 {
			if base == 0 {
				m.sector(to, to, depth+1)
			} else {
				m.sector(to, base, depth+1)
			}
		}
	}
}

// gpt writes a protective sector 0, a header and entries.
func (m *tableMaker) gpt() {
	m.p[510], m.p[511] = 0x55, 0xaa
	e := m.p[446+16*m.IntN(4):]
	e[4] = 0xee
	binary.LittleEndian.PutUint32(e[8:], 1)
	binary.LittleEndian.PutUint32(e[12:], blocks-1)
	if m.IntN(10) == 0 {
		e[8] = 2
	}
	entries, n := uint64(2+m.IntN(3)), 1+m.IntN(20)
	if m.IntN(20) == 0 {
		n = 300 + m.IntN(40) // more than count
	}
	for i := range n {
		p := m.p[int(entries)*m.block+128*i:]
		if m.IntN(4) > 0 {
			p[m.IntN(16)] = 1
		}
		first := m.near()
		binary.LittleEndian.PutUint64(p[32:], first)
		binary.LittleEndian.PutUint64(p[40:], first+uint64(m.IntN(blocks/8)))
		if m.IntN(8) == 0 {
			binary.LittleEndian.PutUint64(p[40:], m.near())
		}
	}
	h := m.p[m.block:]
	copy(h, "EFI PART")
	size := 92
	if m.IntN(10) == 0 {
		size = 80 + m.IntN(450)
	}
	first, last := uint64(40), uint64(blocks-34)
	if m.IntN(10) == 0 {
		first, last = m.near(), m.near()
	}
	for at, v := range map[int]uint32{8: 0x10000, 12: uint32(size), 80: uint32(n), 84: 128, 88: crc32.ChecksumIEEE(m.p[int(entries)*m.block:][:128*n])} {
		binary.LittleEndian.PutUint32(h[at:], v)
	}
	for at, v := range map[int]uint64{24: 1, 32: blocks - 1, 40: first, 48: last, 72: entries} {
		binary.LittleEndian.PutUint64(h[at:], v)
	}
	if m.IntN(10) == 0 {
		h[[...]int{0, 24, 40, 48, 72, 80, 84, 88}[m.IntN(8)]]++
	}
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:size]))
	if m.IntN(15) == 0 {
		h[16]++
	}
}

// A loop device in a session has the partitions that the kernel finds in the same image, whatever tables it has.
func TestPartitionTables(t *testing.T) {
	boot(t)
	b := newToolbox(t)
	dir, said := t.TempDir(), 0
	seed := uint64(1)
	for i := range *tables {
		m := &tableMaker{Rand: rand.New(rand.NewPCG(seed, uint64(i))), block: 512}
		if m.IntN(4) == 0 {
			m.block = 4096
		}
		m.p = make([]byte, blocks*m.block)
		if i%2 == 0 {
			m.sector(0, 0, 0)
		} else {
			m.gpt()
		}
		name := filepath.Join(dir, fmt.Sprintf("t%04d.img", i))
		for name, text := range map[string][]byte{name: m.p, name + ".block": []byte(fmt.Sprintln(m.block))} {
			if err := os.WriteFile(name, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := b.session(dir, listPartitions)
	want := inKernel(t, dir, listPartitions)
	of := func(text string) map[string][]string {
		found := make(map[string][]string)
		for line := range strings.Lines(text) {
			name, rest, _ := strings.Cut(line, " ")
			// A partition that ends before it begins has a length below zero in the kernel, which takes it for a large one.
			var number, start, n uint64
			if fmt.Sscan(rest, &number, &start, &n); n < 1<<62 {
				found[name] = append(found[name], rest)
				said++
			}
		}
		for _, list := range found {
			slices.Sort(list)
		}
		return found
	}
	here, there := of(got), of(want)
	for i := range *tables {
		if name := fmt.Sprintf("t%04d.img", i); !slices.Equal(here[name], there[name]) {
			t.Errorf("%s of seed %d: in a session\n%q\nin the kernel\n%q", name, seed, here[name], there[name])
		}
	}
	if t.Logf("%d tables, %d partitions", *tables, said/2); len(there) < *tables/4 {
		t.Errorf("only %d of %d have partitions", len(there), *tables)
	}
}
