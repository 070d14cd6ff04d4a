package ioctls

import (
	"encoding/binary"
	"fmt"
)

// tables has tables loaded, swapped in and shown.
func (m *maker) tables() {
	m.on("low", create, "low", 0)
	m.add("top", create, func(h *header) { h.name, h.uuid = "top", "U-top" })
	m.loads("load", "low", 0, "0 2048 zero ")
	m.on("status with an inactive table", status, "low", 0)
	m.on("status of the inactive table", status, "low", inactive)
	m.on("inactive table", table, "low", inactive|tableLines)
	m.add("resume with a cookie", suspend, func(h *header) { h.name, h.event = "low", 0x00200042 })
	m.on("resume again", suspend, "low", 0)
	m.on("status when live", status, "low", 0)
	m.on("table", table, "low", tableLines)
	m.on("its status", table, "low", 0)
	m.badTables()
	num := fmt.Sprintf("%d:0", m.major)
	m.loads("load two lines", "top", 0, "0 1000 linear "+num+" 8", "1000 24 error ")
	m.on("status of both", status, "low", 0)
	m.add("load by number", load, func(h *header) { h.dev, h.data, h.targets = m.dev(1), specs("0 100 linear "+num+" 0"), 1 })
	m.add("load by uuid", load, func(h *header) {
		h.uuid, h.data, h.targets = "U-top", specs(fmt.Sprintf("0 1000 linear \t %d:\\0  8 ", m.major), "1000 24 error ", "1024 8 zero "), 3
	})
	m.on("deps of the inactive table", deps, "top", inactive)
	m.on("deps of the live table", deps, "top", 0)
	m.on("resume without udev", suspend, "top", noLockFS|noFlush)
	m.on("deps", deps, "top", 0)
	m.add("deps that just fit", deps, func(h *header) { h.name, h.size = "top", headerLen+16 })
	m.add("deps that do not", deps, func(h *header) { h.name, h.size = "top", headerLen+15 })
	m.on("table of three", table, "top", tableLines)
	m.on("what is measured", table, "top", 1<<19)
	m.on("status of three", table, "top", noFlush)
	for _, n := range []uint32{40, 41, 48, 50, 51, 52, 55, 56, 57, 96, 97, 104, 105, 106, 144, 145, 146, 160} {
		m.add("as much of the table as fits", table, func(h *header) { h.name, h.flags, h.size = "top", usual|tableLines, headerLen+n })
	}
	m.add("a table of which nothing fits", table, func(h *header) { h.name, h.flags, h.size = "top", usual|tableLines, minimumLen })
	m.on("remove what is used", remove, "low", 0)
	m.on("remove what is used, later", remove, "low", deferred)
	m.on("status of what is removed later", status, "low", 0)
	m.add("not then", message, sent("low", 0, "@cancel_deferred_remove"))
	m.on("status of what is not", status, "low", 0)
	m.loads("load read-only", "top", readOnly, "0 8 linear "+num+" 0")
	m.on("status of the live table", status, "top", 0)
	m.on("status of the read-only one", status, "top", inactive)
	m.on("resume read-only", suspend, "top", 0)
	m.on("status of a read-only one", status, "top", 0)
	m.loads("load another", "top", 0, "0 16 linear "+num+" 0")
	m.on("clear", clearTable, "top", 0)
	m.on("clear, asked of what is not there", clearTable, "top", inactive)
	m.on("suspend", suspend, "top", suspending|noFlush)
	m.on("suspend again", suspend, "top", suspending)
	m.on("table once suspended", table, "top", tableLines)
	m.loads("load while suspended", "top", 0, "0 16 linear "+num+" 0")
	m.on("resume with a table", suspend, "top", 0)
	m.loads("stripes", "top", 0, fmt.Sprintf("0 16 striped 2 8 %s 0 %s 512", num, num))
	m.on("resume stripes", suspend, "top", 0)
	m.on("deps of stripes", deps, "top", 0)
	m.on("status of stripes", table, "top", 0)
	m.on("table of stripes", table, "top", tableLines)
	key := "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	m.loads("a key", "top", secure, "0 16 crypt aes-xts-plain64 "+key+" 0 "+num+" 0")
	m.on("resume a key", suspend, "top", 0)
	m.on("the key", table, "top", tableLines|secure)
	m.on("no key", table, "top", 0)
	m.add("wait for what was", wait, func(h *header) { h.name, h.event = "top", 77 })
	m.add("wait for what was, with the table", wait, func(h *header) { h.name, h.event, h.flags = "top", 77, usual|tableLines })
	m.add("an event", rename, func(h *header) { h.name, h.data = "top", []byte("top2\x00") })
	m.add("wait for the event", wait, func(h *header) { h.name = "top2" })
	m.add("wait with the inactive table", wait, func(h *header) { h.name, h.flags = "top2", usual|inactive })
	m.on("arm poll", armPoll, "top2", 0)
	m.add("arm poll of nothing", armPoll, nil)
	m.geometries()
}

func (m *maker) badTables() {
	loads := func(count uint32, data []byte) func(h *header) {
		return func(h *header) { h.name, h.targets, h.data = "top", count, data }
	}
	zero := specs("0 8 zero ")
	m.add("no targets", load, loads(0, zero))
	m.add("more targets than lines", load, loads(2, zero))
	m.add("far more targets than lines", load, loads(1<<32-1, zero))
	for _, at := range []uint32{0, 8, 39, 1024 - 40, 1023, 1024, 1 << 31, 1<<32 - 1} {
		m.raw("load with a start out of range", load, loads(1, zero), start(at))
	}
	for _, at := range []uint32{40, 48, 200, 264, 265, 272} {
		m.raw("load from amid the header", load, loads(1, nil), func(b []byte) []byte {
			copy(b[at:], zero)
			return start(at)(b)
		})
	}
	for _, next := range []uint32{0, 1, 8, 39, 1024, 1<<32 - 8, 1<<32 - 40} {
		data := specs("0 8 zero ", "8 8 zero ")
		binary.LittleEndian.PutUint32(data[20:], next)
		m.add("next line out of range", load, loads(2, data))
	}
	m.add("next line after a gap", load, func(h *header) {
		first := spec(0, 8, "zero", "")
		binary.LittleEndian.PutUint32(first[20:], 104)
		h.name, h.targets = "top", 2
		h.data = append(append(first, make([]byte, 104-len(first))...), spec(8, 8, "zero", "")...)
	})
	m.add("parameters without end", load, loads(1, append(zero[:40:40], "                                         "...)))
	m.raw("parameters without end at the end", load, func(h *header) {
		loads(1, zero)(h)
		h.size = headerLen + 44
	}, func(b []byte) []byte { copy(b[headerLen+40:], "    "); return b })
	long := specs("0 8 zero ")
	copy(long[24:], "sixteen-letters!")
	m.add("type without end", load, loads(1, long))
	m.add("type that does not end before the parameters", load, loads(1, func() []byte {
		b := specs("0 8 zero  ")
		for i := 24; i < 40; i++ {
			b[i] = 'z'
		}
		return b
	}()))
	m.add("no type", load, loads(1, spec(0, 8, "", "")))
	m.add("unknown type", load, loads(1, spec(0, 8, "nonsense", "")))
	m.add("arguments that are not wanted", load, loads(1, spec(0, 8, "zero", "x")))
	m.add("a gap", load, loads(2, specs("0 8 zero ", "9 8 zero ")))
	m.add("nothing long", load, loads(1, specs("0 0 zero ")))
	m.add("too long", load, loads(1, spec(0, 1<<63, "zero", "")))
	m.add("no such disk", load, loads(1, specs("0 8 linear 259:99 0")))
	m.add("no such path", load, loads(1, specs("0 8 linear /nowhere 0")))
	m.add("a quote", load, loads(1, specs("0 8 linear \"/nowhere\" 0")))
	m.add("an end of line in a path", load, loads(1, specs("0 8 linear /no\\\nwhere 0")))
	m.add("lines in the parameters", load, loads(1, specs("0 8 zero \n8 8 zero\n}\nremove_all\n")))
	m.add("blanks of all kinds", load, loads(1, specs("0 8 zero  \t\v\f\r\n\xa0")))
	m.add("a last backslash", load, loads(1, specs("0 8 zero \\")))
	m.add("on itself", load, loads(1, specs(fmt.Sprintf("0 8 linear %d:1 0", m.major))))
	m.on("what is left of them", status, "top", 0)
	m.on("cleared", clearTable, "top", 0)
}

func (m *maker) geometries() {
	geo := func(s string) func(h *header) {
		return func(h *header) { h.name = "low"; text(s)(h) }
	}
	for _, g := range []string{"16 4 8 0", "  16\t4 8\n8", "16 4 8 513", "16 4 8", "16 4 8 0 ", "16 4 8 0x", "65536 1 1 0", "1 256 1 0", "1 1 256 0", "-1 1 1 1",
		"+1 1 1 1", "", "a b c d", "16,4,8,0", "18446744073709551616 1 1 0", "1 1 1 18446744073709551615", "16 4 8 0"} {
		m.add(fmt.Sprintf("geometry %q", g), geometry, geo(g))
	}
	m.raw("geometry with a start out of range", geometry, geo("16 4 8 0"), start(304))
	m.raw("geometry with a start past the end", geometry, geo("16 4 8 0"), start(1024))
	m.raw("geometry without end", geometry, geo("1"), func(b []byte) []byte {
		for i := headerLen; i < len(b); i++ {
			b[i] = '1'
		}
		return b
	})
	m.add("geometry of none", geometry, func(h *header) { h.name = "none"; text("16 4 8 0")(h) })
}
