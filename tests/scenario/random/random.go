// Package random makes scenarios by chance, the same from the same seed, and makes those that fail small.
package random

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"dmfs/tests/scenario"
)

// A maker makes one scenario.
type maker struct {
	*rand.Rand
	lines   []string
	disks   []*place
	devices []*device
	serial  int
	fails   bool // a table has a target that fails: how much of a failed zeroing was done is nobody's promise
	onePath bool // a table has a switch target, of which the kernel sends a discard of several regions down one path
	cut     bool // thin devices and the like are below: the kernel cuts discards at multiples of their blocks, counted on whatever stands on them, and may leave no block whole
	forgets bool // a device keeps nothing once it is removed
	grain   int  // offsets and lengths are multiples, in sectors: 8 if a disk has blocks of 4096 bytes
}

// A place is what a table line may name. No sector of it is used twice: the order of writes to one sector that come
// from one request is nobody's promise.
type place struct {
	name string
	size int // sectors
	used [][2]int
}

// take finds n sectors that are not used yet.
func (p *place) take(m *maker, n int) (start int, ok bool) {
	if n > p.size {
		return 0, false
	}
	for range 8 {
		start = m.upTo(p.size - n)
		free := true
		for _, u := range p.used {
			free = free && (start >= u[1] || start+n <= u[0])
		}
		if free {
			p.used = append(p.used, [2]int{start, start + n})
			return start, true
		}
	}
	return 0, false
}

// A device is one that was made. What stands on another keeps its size, and nothing stands on a read-only one.
type device struct {
	place
	below, readOnly, suspended bool // below: something stands on it
	talkers                    []talker
}

// Make returns the scenario of a seed.
func Make(seed uint64) *scenario.Scenario {
	m := &maker{Rand: rand.New(rand.NewPCG(seed, 0)), grain: 1}
	m.makeDisks()
	switch {
	case m.IntN(8) == 0:
		m.makeVerity()
	case m.grain == 1 && m.IntN(2) == 0:
		m.makeBase()
	}
	for range 1 + m.IntN(4) {
		m.create()
	}
	for range 8 + m.IntN(16) {
		m.operation()
	}
	for _, d := range m.devices {
		if d.suspended {
			m.add("resume %s", d.name)
		}
		m.add("table %s", d.name)
		m.add("status %s", d.name)
		m.add("deps %s", d.name)
	}
	head := fmt.Sprintf("# Made by chance from seed %d.\n", seed)
	if m.forgets {
		head += "# forgets\n"
	}
	s, err := scenario.Parse(fmt.Sprintf("random-%d", seed), head+strings.Join(m.lines, "\n"))
	if err != nil {
		panic("random: " + err.Error()) // what is made here is in the language
	}
	return s
}

func (m *maker) add(format string, args ...any) {
	m.lines = append(m.lines, fmt.Sprintf(format, args...))
}

// upTo returns a multiple of the grain from 0 to n.
func (m *maker) upTo(n int) int { return m.IntN(n/m.grain+1) * m.grain }

// some returns a multiple of the grain from 1 to n, n >= grain.
func (m *maker) some(n int) int { return (1 + m.IntN(n/m.grain)) * m.grain }

func (m *maker) makeDisks() {
	large := m.IntN(6) == 0
	if large {
		m.grain = 8
	}
	for i := range 1 + m.IntN(3) {
		d := &place{name: string(rune('a' + i)), size: (64 + m.IntN(4000)) &^ (m.grain - 1)}
		block := ""
		if large && (i == 0 || m.IntN(2) == 0) {
			block = " 4096"
		}
		m.add("disk %s %d%s", d.name, d.size, block)
		m.serial++
		m.add("fill %s %d", d.name, m.serial)
		m.disks = append(m.disks, d)
	}
}

// below returns n sectors to stand on, of a disk or of a device that was made before.
func (m *maker) below(n int, not string) (name string, start int, ok bool) {
	for range 20 {
		if len(m.devices) > 0 && m.IntN(3) == 0 {
			d := m.devices[m.IntN(len(m.devices))]
			if d.readOnly || d.suspended || d.name >= not {
				continue
			}
			if start, ok := d.take(m, n); ok {
				d.below = true
				return d.name, start, true
			}
			continue
		}
		d := m.disks[m.IntN(len(m.disks))]
		if start, ok := d.take(m, n); ok {
			return d.name, start, true
		}
	}
	return "", 0, false
}

// table returns the lines of a table for a device, its size, and what of it takes messages; a size of 0 asks for any.
func (m *maker) table(device string, size int) (lines []string, total int, talkers []talker) {
	for len(lines) == 0 || size > 0 && total < size || size == 0 && len(lines) < 5 && m.IntN(3) == 0 {
		length := m.some(min(400, m.smallest()))
		if size > 0 && (total+length > size || len(lines) > 6) {
			length = size - total
		}
		text, n, t := m.segment(device, length, size > 0)
		lines = append(lines, fmt.Sprintf("%d %d %s", total, n, text))
		if t != nil {
			t.at += total
			talkers = append(talkers, *t)
		}
		total += n
	}
	return lines, total, talkers
}

func (m *maker) smallest() int {
	n := m.disks[0].size
	for _, d := range m.disks {
		n = min(n, d.size)
	}
	return n
}

// segment returns target and arguments for about so many sectors, exactly if told, and the talker if it takes messages.
func (m *maker) segment(device string, length int, exact bool) (text string, n int, t *talker) {
	switch m.IntN(16) {
	case 0:
		return "zero", length, nil
	case 1:
		if m.IntN(3) == 0 {
			m.fails = true
			return "error", length, nil
		}
	case 2, 3, 4:
		if !exact {
			text, n = m.striped(device, length)
		}
	case 5:
		if !exact {
			text, n = m.unstriped(device, length)
		}
	case 6, 7:
		text, n, t = m.switched(device, length)
	case 8:
		text, n = m.delayed(device, length)
	case 9:
		text, n = m.flakey(device, length)
	case 10:
		text, n, t = m.dust(device, length)
	case 11, 12:
		text, n = m.crypted(device, length)
	case 13:
		text, n = m.mirror(length)
	}
	if n > 0 {
		return text, n, t
	}
	name, start, ok := m.below(length, device)
	if !ok {
		return "zero", length, nil
	}
	return fmt.Sprintf("linear @%s@ %d", name, start), length, nil
}

// striped returns a striped target for about so many sectors, 0 if there is no room.
func (m *maker) striped(device string, length int) (text string, n int) {
	stripes := 1 + m.IntN(5)
	chunk := []int{1, 2, 3, 4, 7, 8, 16, 24, 63}[m.IntN(9)] * m.grain
	width := max(1, length/stripes/chunk) * chunk
	text = fmt.Sprintf("striped %d %d", stripes, chunk)
	for range stripes {
		name, start, ok := m.below(width, device)
		if !ok {
			return "", 0
		}
		text += fmt.Sprintf(" @%s@ %d", name, start)
	}
	return text, width * stripes
}

// create makes a device, or fails to on purpose.
func (m *maker) create() {
	name := fmt.Sprintf("d%d", len(m.devices))
	if m.IntN(6) == 0 {
		m.bad()
	}
	lines, size, talkers := m.table(name, 0)
	d := &device{place: place{name: name, size: size}, readOnly: m.IntN(8) == 0}
	m.command("create "+name, d.readOnly, lines)
	m.devices = append(m.devices, d)
	m.meet(d, talkers)
}

func (m *maker) command(words string, readOnly bool, lines []string) {
	if readOnly {
		words += " ro"
	}
	m.add("%s {\n%s\n}", words, strings.Join(lines, "\n"))
}

// bad tries to make a device from a table that something is wrong with.
func (m *maker) bad() {
	d := m.disks[m.IntN(len(m.disks))]
	m.add("create bad %s", []string{
		fmt.Sprintf("0 %d linear @%s@ %d", m.grain, d.name, d.size),
		fmt.Sprintf("0 %d linear @%s@ 0", d.size+m.grain, d.name),
		fmt.Sprintf("%d 8 linear @%s@ 0", m.grain, d.name),
		fmt.Sprintf("0 8 linear @%s@", d.name),
		fmt.Sprintf("0 8 linear @%s@ %d 7", d.name, m.IntN(8)),
		fmt.Sprintf("0 8 linear @%s@ -%d", d.name, m.IntN(8)),
		"0 8 linear @nosuch@ 0",
		"0 0 zero",
		fmt.Sprintf("0 %d zero x", 1+m.IntN(9)),
		"0 8 nosuch",
		fmt.Sprintf("0 %d striped 2 8 @%s@ 0 @%s@ 0", 17+m.IntN(7), d.name, d.name),
		fmt.Sprintf("0 16 striped 2 8 @%s@ 0 @%s@", d.name, d.name),
		fmt.Sprintf("0 16 striped %d 8 @%s@ 0", m.IntN(2)*4, d.name),
		fmt.Sprintf("0 16 striped 1 0 @%s@ 0", d.name),
		fmt.Sprintf("0 1024 striped 2 8 @%s@ 0 @%s@ %d", d.name, d.name, d.size),
	}[m.IntN(15)])
}

// operation adds a step on a device.
func (m *maker) operation() {
	d := m.devices[m.IntN(len(m.devices))]
	if m.IntN(8) == 0 {
		m.reload(d)
		return
	}
	if m.IntN(12) == 0 && !d.below && !d.suspended {
		m.add("suspend %s", d.name)
		d.suspended = true
		return
	}
	if len(d.talkers) > 0 && m.IntN(3) == 0 {
		m.talk(d)
		return
	}
	if d.suspended {
		m.add("deps %s", d.name)
		m.add("resume %s", d.name)
		d.suspended = false
		return
	}
	start, count := m.IntN(d.size+2), 1+m.IntN(min(d.size, 300))
	if m.IntN(4) == 0 {
		start = max(0, d.size-m.IntN(6))
	}
	op := m.IntN(9)
	if (m.onePath || m.cut) && op == 1 {
		op = 3
	}
	if m.fails {
		if op == 0 {
			op = 3
		}
		// The kernel reads parts of blocks through its cache, and then a read ends before what fails.
		start, count = start&^(m.grain-1), (count+m.grain-1)&^(m.grain-1)
	}
	switch op {
	case 0:
		m.add("zeroout %s %d %d", d.name, start&^(m.grain-1), (count+m.grain-1)&^(m.grain-1))
	case 1:
		m.add("discard %s %d %d", d.name, start&^(m.grain-1), (count+m.grain-1)&^(m.grain-1))
	case 2:
		m.add("flush %s", d.name)
	case 3, 4, 5:
		m.add("read %s %d %d", d.name, start, count)
	default:
		m.serial++
		m.add("write %s %d %d %d", d.name, start, count, m.serial)
	}
}

// reload gives a device another table, of the same size if something stands on it.
func (m *maker) reload(d *device) {
	size := 0
	if d.below {
		size = d.size
	}
	lines, size, talkers := m.table(d.name, size)
	m.command("load "+d.name, d.readOnly, lines)
	if m.IntN(4) == 0 {
		m.add("clear %s", d.name)
		return
	}
	m.add("resume %s", d.name)
	d.size, d.suspended = size, false
	m.meet(d, talkers)
}
