package ioctls

// lists has devices and target types listed.
func (m *maker) lists() {
	m.add("list", list, nil)
	m.add("list with uuids", list, func(h *header) { h.flags |= uuidFlag })
	m.add("list of those that begin so", list, func(h *header) { h.name = "to" })
	m.add("list of those whose uuid begins so", list, func(h *header) { h.uuid, h.flags = "U-t", usual|uuidFlag })
	m.add("list of none", list, func(h *header) { h.name = "x" })
	m.raw("list of an endless name", list, nil, func(b []byte) []byte {
		for i := 48; i < 176; i++ {
			b[i] = 't'
		}
		return b
	})
	for _, n := range []uint32{0, 7, 8, 71, 72, 73, 87, 88} {
		m.add("list in little room", list, func(h *header) { h.size = headerLen + n })
		m.add("list of none in little room", list, func(h *header) { h.size, h.name = headerLen+n, "x" })
	}
	m.add("target types", versions, func(h *header) { h.size = 16 << 10 })
	m.add("target types in little room", versions, func(h *header) { h.size = headerLen + 64 })
	m.add("a target type", targetVersion, func(h *header) { h.version, h.name = [3]uint32{4, 41, 0}, "linear" })
	m.add("a target type that is not", targetVersion, func(h *header) { h.name = "nonsense" })
	m.add("no target type", targetVersion, nil)
	m.add("a target type by uuid", targetVersion, func(h *header) { h.uuid = "linear" })
	for _, n := range []uint32{0, 29, 30, 31, 32} {
		m.add("a target type in little room", targetVersion, func(h *header) { h.name, h.size = "linear", headerLen+n })
	}
}

// end has what is left removed.
func (m *maker) end() {
	m.add("events go by name", rename, func(h *header) { h.name, h.data = "low", []byte("lower\x00") })
	m.on("remove with secure data", remove, "top2", secure|0xf00000)
	m.add("remove all with secure data", removeAll, func(h *header) { h.flags |= secure })
	m.add("the end", list, nil)
}
