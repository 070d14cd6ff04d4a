package ioctls

import "encoding/binary"

// malformed has every command with every header that is wrong for all, and those that are wrong for some.
func (m *maker) malformed() {
	names := [...]string{"version", "remove all", "list", "create", "remove", "rename", "suspend", "status", "wait", "load", "clear", "deps",
		"table", "versions", "message", "geometry", "arm poll", "target version", "unknown"}
	for nr, name := range names {
		m.add(name+": major version 3", nr, func(h *header) { h.version[0] = 3 })
		m.add(name+": minor version of the future", nr, func(h *header) { h.version = [3]uint32{4, 100, 0} })
		m.add(name+": newest patch", nr, func(h *header) { h.version = [3]uint32{4, 47, 99}; h.name = "none" })
		m.raw(name+": size 0", nr, nil, size(0))
		m.raw(name+": size 304", nr, nil, size(minimumLen-1))
		m.raw(name+": size of more than there is", nr, func(h *header) { h.name = "none" }, size(1<<20))
		m.add(name+": only the least", nr, func(h *header) { h.size, h.name = minimumLen, "none" })
		m.add(name+": only a header", nr, func(h *header) { h.size, h.name = headerLen, "none" })
		m.on(name+": such a device there is not", nr, "none", allOut)
		m.add(name+": such a uuid there is not", nr, func(h *header) { h.uuid = "none" })
		m.add(name+": such a number there is not", nr, func(h *header) { h.dev = m.dev(77) })
		m.add(name+": number of another major", nr, func(h *header) { h.dev = 1 << 8 })
		m.add(name+": name and uuid", nr, func(h *header) { h.name, h.uuid = "none", "none" })
		m.add(name+": nothing is named", nr, nil)
		m.add(name+": secure", nr, func(h *header) { h.flags |= secure; h.name = "none" })
		m.add(name+": afterwards", removeAll, nil)
	}
	m.add("no name and no uuid", create, func(h *header) { h.uuid = "u" })
	m.add("a name with a slash", create, func(h *header) { h.name = "a/b" })
	m.raw("a name without end", create, nil, func(b []byte) []byte {
		for i := 48; i < 176; i++ {
			b[i] = 'n'
		}
		return b
	})
	m.raw("a uuid without end", create, func(h *header) { h.name = "a" }, func(b []byte) []byte {
		for i := 176; i < 305; i++ {
			b[i] = 'u'
		}
		return b
	})
	m.add("what became of them", list, func(h *header) { h.flags |= uuidFlag })
	m.add("afterwards", removeAll, nil)
}

// size makes the header lie about the size.
func size(n uint32) func(b []byte) []byte {
	return func(b []byte) []byte {
		binary.LittleEndian.PutUint32(b[12:], n)
		return b
	}
}

// start makes what follows the header begin elsewhere.
func start(n uint32) func(b []byte) []byte {
	return func(b []byte) []byte {
		binary.LittleEndian.PutUint32(b[16:], n)
		return b
	}
}
