package random

import (
	"fmt"
	"strings"
)

// makeBase makes devices that need disks of their own, which others may stand on as on disks.
func (m *maker) makeBase() {
	switch m.IntN(6) {
	case 0:
		m.makeThin()
	case 1:
		m.makeSnapshot()
	case 2:
		m.makeIntegrity()
	case 3:
		m.makeMultipath()
	case 4:
		m.makeLogged()
	default:
		m.makeRaid()
	}
}

// base notes that others may stand on a device.
func (m *maker) base(name string, size int) {
	m.disks = append(m.disks, &place{name: name, size: size})
}

// disk makes a disk that others may not stand on, and fills it.
func (m *maker) disk(name string, size int) {
	m.serial++
	m.add("disk %s %d", name, size)
	m.add("fill %s %d", name, m.serial)
}

// makeThin makes a pool, with a thin device and maybe a snapshot of it, that others may stand on as on disks.
func (m *maker) makeThin() {
	m.cut = true
	features := []string{"", " 1 skip_block_zeroing", " 1 no_discard_passdown"}[m.IntN(3)]
	m.add("disk poolmeta 4096 metadata")
	m.add("disk pooldata 16384 metadata")
	m.add("create pool 0 16384 thin-pool @poolmeta@ @pooldata@ 128 0%s", features)
	m.add("message pool 0 create_thin 0")
	size := (200 + m.IntN(5000)) &^ 7
	m.add("create thin0 0 %d thin @pool@ 0", size)
	m.base("thin0", size)
	m.serial++
	if m.IntN(2) == 0 {
		m.add("write thin0 0 %d %d", m.some(size), m.serial)
	}
	if features == " 1 skip_block_zeroing" { // what is not written may hold anything
		m.serial++
		m.add("write thin0 0 %d %d", size, m.serial)
	}
	if m.IntN(2) == 0 {
		m.add("suspend thin0")
		m.add("message pool 0 create_snap 1 0")
		m.add("resume thin0")
		m.add("create thin1 0 %d thin @pool@ 1", size)
		m.base("thin1", size)
	}
	m.add("status pool")
	m.add("status thin0")
}

// makeSnapshot makes an origin and up to two snapshots of it. The origin comes last: the kernel cuts writes to it by the snapshots that there
// are by then.
func (m *maker) makeSnapshot() {
	m.cut = true
	size := (100 + m.IntN(3000)) &^ 7
	m.disk("base", size)
	for i := range 1 + m.IntN(2) {
		store, name := fmt.Sprintf("store%d", i), fmt.Sprintf("snap%d", i)
		m.add("disk %s %d metadata", store, 16384)
		kind := []string{"P", "PO", "N"}[m.IntN(3)]
		m.forgets = m.forgets || kind == "N"
		m.add("create %s 0 %d snapshot @base@ @%s@ %s %d", name, size, store, kind, []int{8, 16, 64}[m.IntN(3)])
		m.base(name, size)
		m.add("table %s", name)
	}
	m.add("create origin 0 %d snapshot-origin @base@", size)
	m.base("origin", size)
}

// makeIntegrity makes an integrity device and writes all of it: the tags of a disk of zeroes do not match.
func (m *maker) makeIntegrity() {
	m.cut = true
	size := (100 + m.IntN(3000)) &^ 7
	m.add("disk tagged 16384 metadata")
	tag := []string{"4 %s 1 internal_hash:crc32c", "- %s 2 internal_hash:sha256 fix_padding", "8 %s 2 internal_hash:xxhash64 interleave_sectors:1024"}[m.IntN(3)]
	m.add("create whole 0 %d integrity @tagged@ 0 %s", size, fmt.Sprintf(tag, []string{"J", "B", "D"}[m.IntN(3)]))
	m.serial++
	m.add("write whole 0 %d %d", size, m.serial)
	m.base("whole", size)
}

// makeMultipath makes a multipath device with paths to the same sectors, of which up to one is broken, and is told to be at times.
func (m *maker) makeMultipath() {
	size := (100 + m.IntN(2000)) &^ 7
	m.disk("lun", size)
	var groups strings.Builder
	paths, count := 0, 1+m.IntN(2)
	for range count {
		n := 1 + m.IntN(2)
		selector := []string{"round-robin 0 %d 1", "queue-length 0 %d 1", "service-time 0 %d 0"}[m.IntN(3)]
		fmt.Fprintf(&groups, " "+selector, n)
		for range n {
			m.add("create path%d 0 %d linear @lun@ 0", paths, size)
			fmt.Fprintf(&groups, " @path%d@", paths)
			if !strings.HasSuffix(selector, "0") {
				groups.WriteString(" 1")
			}
			paths++
		}
	}
	m.add("create multi 0 %d multipath 2 queue_mode bio 0 %d 1%s", size, count, groups.String())
	if paths > 1 {
		if m.IntN(2) == 0 {
			m.add("load path0 0 %d error", size)
			m.add("resume path0")
		} else {
			m.add("message multi 0 fail_path @path0@")
		}
		m.add("read multi 0 8")
		m.add("status multi")
	}
	m.base("multi", size)
}

// makeLogged makes a device whose writes are logged.
func (m *maker) makeLogged() {
	m.cut = true
	size := (100 + m.IntN(2000)) &^ 7
	m.disk("seen", size)
	m.add("disk log 32768 metadata")
	m.add("create logged 0 %d log-writes @seen@ @log@", size)
	m.base("logged", size)
}

// layouts are the levels of arrays that keep content without one member at least, with the members it takes and those that hold no data.
var layouts = []struct {
	kind        string
	least, lost int
}{
	{"raid4", 3, 1}, {"raid5_la", 3, 1}, {"raid5_ra", 3, 1}, {"raid5_ls", 3, 1}, {"raid5_rs", 3, 1}, {"raid5_n", 3, 1},
	{"raid6_zr", 4, 2}, {"raid6_nr", 4, 2}, {"raid6_nc", 4, 2}, {"raid6_ls_6", 4, 2}, {"raid6_rs_6", 4, 2}, {"raid6_la_6", 4, 2},
	{"raid6_ra_6", 4, 2}, {"raid6_n_6", 4, 2},
}

// makeRaid makes an array, some of them without a member. All but raid0 stand on zeroes, of which redundancy agrees.
func (m *maker) makeRaid() {
	chunk := 8 << m.IntN(4)
	each := chunk * (4 + m.IntN(20))
	kind, options, members, data := "raid0", fmt.Sprint("1 ", chunk), 2+m.IntN(3), 0
	switch m.IntN(6) {
	case 0:
		data = members
	case 1:
		kind, options, data = "raid1", "2 0 nosync", 1
	case 2:
		members = 2 * (1 + m.IntN(3))
		format := []string{"near", "far", "offset"}[m.IntN(3)]
		each = each / (2 * chunk) * 2 * chunk // whole copies of chunks
		kind, options, data = "raid10", fmt.Sprintf("4 %d nosync raid10_format %s", chunk, format), members/2
	default:
		l := layouts[m.IntN(len(layouts))]
		members = l.least + m.IntN(3)
		kind, options, data = l.kind, fmt.Sprintf("2 %d nosync", chunk), members-l.lost
	}
	m.cut = m.cut || kind != "raid0"
	absent := -1
	if kind != "raid0" && members > 2 && m.IntN(4) == 0 {
		absent = m.IntN(members)
	}
	var list strings.Builder
	for i := range members {
		name := fmt.Sprintf("leg%d", i)
		switch {
		case i == absent:
			list.WriteString(" - -")
			continue
		case kind == "raid0":
			m.disk(name, each)
		default:
			m.add("disk %s %d", name, each)
		}
		fmt.Fprintf(&list, " - @%s@", name)
	}
	m.add("create row 0 %d raid %s %s %d%s", data*each, kind, options, members, list.String())
	m.base("row", data*each)
}
