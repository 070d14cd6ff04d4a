package ioctls

import "strings"

// life has devices made, named, suspended and removed.
func (m *maker) life() {
	m.on("create", create, "a", 0)
	m.on("create again", create, "a", 0)
	m.add("create with a uuid", create, func(h *header) { h.name, h.uuid = "b", "U-b" })
	m.add("create with a uuid that is taken", create, func(h *header) { h.name, h.uuid = "c", "U-b" })
	m.add("create with a number", create, func(h *header) { h.name, h.flags, h.dev = "c", usual|persistent, m.dev(300) })
	m.add("create with a number that is taken", create, func(h *header) { h.name, h.flags, h.dev = "d", usual|persistent, m.dev(300) })
	m.add("create with a number of another major", create, func(h *header) { h.name, h.flags, h.dev = "d", usual|persistent, 1<<8|5 })
	m.add("create with every flag", create, func(h *header) { h.name, h.flags = "e", 0xfffff&^(secure|persistent) })
	m.add("create with secure data", create, func(h *header) { h.name, h.flags = "f", usual|secure })
	m.on("status", status, "a", 0)
	m.on("status with every flag that comes out", status, "a", allOut|suspending|readOnly|deferred)
	m.add("status by uuid", status, func(h *header) { h.uuid = "U-b" })
	m.add("status by number", status, func(h *header) { h.dev = m.dev(300) })
	m.add("status by name and number", status, func(h *header) { h.name, h.dev = "c", m.dev(300) })
	m.add("status by uuid and number", status, func(h *header) { h.uuid, h.dev = "U-b", m.dev(1) })
	m.add("status with secure data", status, func(h *header) { h.name, h.flags = "a", usual|secure })
	m.on("a name that only begins so", status, "a ", 0)
	m.on("resume without a table", suspend, "a", 0)
	m.on("suspend without a table", suspend, "a", suspending|noLockFS)
	m.on("resume without a table once suspended", suspend, "a", 0)
	m.on("status once suspended", status, "a", 0)
	m.on("clear of nothing", clearTable, "a", 0)
	m.on("deps of nothing", deps, "a", 0)
	m.on("table of nothing", table, "a", 0)
	m.on("inactive table of nothing", table, "a", tableLines|inactive)
	m.renames()
	m.add("list", list, func(h *header) { h.flags |= uuidFlag })
	m.on("remove", remove, "a2", 0)
	m.add("remove with a cookie", remove, func(h *header) { h.name, h.event = "c", 0x00010001 })
	m.on("remove deferred", remove, "d", deferred)
	m.on("remove again", remove, "d", deferred)
	m.add("remove all", removeAll, func(h *header) { h.flags |= deferred })
	m.add("list of nothing", list, nil)
}

func (m *maker) renames() {
	named := func(name, to string, flags uint32) func(h *header) {
		return func(h *header) { h.name, h.flags, h.data = name, usual|flags, []byte(to+"\x00") }
	}
	m.add("rename", rename, named("a", "a2", 0))
	m.add("rename of the old name", rename, named("a", "a3", 0))
	m.add("rename to what is taken", rename, named("a2", "b", 0))
	m.add("rename to itself", rename, named("a2", "a2", 0))
	m.add("rename of none to what is taken", rename, named("none", "b", 0))
	m.add("rename with a slash", rename, named("a2", "a/b", 0))
	m.add("rename to nothing", rename, named("a2", "", 0))
	m.add("rename to 127 bytes", rename, named("e", strings.Repeat("n", 127), 0))
	m.add("rename back", rename, named(strings.Repeat("n", 127), "e", 0))
	m.add("rename to 128 bytes", rename, named("e", strings.Repeat("n", 128), 0))
	m.add("rename by uuid", rename, func(h *header) { h.uuid, h.data = "U-b", []byte("b2\x00") })
	m.add("rename by number", rename, func(h *header) { h.dev, h.data = m.dev(1), []byte("b2\x00") })
	m.add("rename with a cookie", rename, func(h *header) { h.name, h.data, h.event = "e", []byte("e2\x00"), 0x12345 })
	m.add("rename with flags", rename, named("e2", "e", inactive|suspending|1<<6))
	m.raw("rename without end", rename, named("a2", "x", 0), func(b []byte) []byte {
		for i := headerLen; i < len(b); i++ {
			b[i] = 'x'
		}
		return b
	})
	for _, at := range []uint32{0, 40, minimumLen - 1, 1023, 1024, 1 << 31, 1<<32 - 1} {
		m.raw("rename with a start out of range", rename, named("a2", "x", 0), start(at))
	}
	m.raw("rename that begins early", rename, named("a2", "x", 0), func(b []byte) []byte {
		copy(b[minimumLen:], "early\x00\x00")
		return start(minimumLen)(b)
	})
	m.add("rename back from early", rename, named("early", "a2", 0))
	m.add("uuid", rename, named("a2", "U-a", uuidFlag))
	m.add("uuid again", rename, named("a2", "U-a2", uuidFlag))
	m.add("uuid that is taken", rename, named("e", "U-a", uuidFlag))
	m.add("uuid for none", rename, named("none", "U-n", uuidFlag))
	m.add("uuid of 129 bytes", rename, named("e", strings.Repeat("u", 129), uuidFlag))
	m.add("uuid of 128 bytes", rename, named("e", strings.Repeat("u", 128), uuidFlag))
}
