package ioctls

import "strings"

// messages has messages sent to targets and to the core.
func (m *maker) messages() {
	send := func(what string, sector uint64, s string) { m.add(what, message, sent("low", sector, s)) }
	send("a message that nobody takes", 0, "hello")
	send("a message outside", 2048, "hello")
	send("no message", 0, "")
	send("a message of blanks", 0, " \t\n\v ")
	send("a message to the core that it does not know", 0, "@hello")
	send("called off with more", 0, "@cancel_deferred_remove now")
	send("called off in capitals", 0, "@CANCEL_deferred_remove")
	send("lines in a message", 0, "hello\nremove low\nremove_all")
	send("a quote in a message", 0, "\"hello there")
	send("a backslash in a message", 0, "@stats\\_list")
	for _, at := range []uint32{0, 304, 312 - 8, 1016, 1017, 1024, 1 << 31, 1<<32 - 8, 1<<32 - 1} {
		m.raw("a message with a start out of range", message, sent("low", 0, "@stats_list"), start(at))
	}
	m.raw("a message that begins early", message, sent("low", 0, "x"), func(b []byte) []byte {
		copy(b[minimumLen:], "\x00\x00\x00\x00\x00\x00\x00\x00@stats_list\x00")
		return start(minimumLen)(b)
	})
	m.raw("a message without end", message, sent("low", 0, "x"), func(b []byte) []byte {
		for i := headerLen; i < len(b); i++ {
			b[i] = 'x'
		}
		return b
	})
	m.on("no table", create, "empty", 0)
	m.add("a message to no table", message, sent("empty", 0, "hello"))
	m.add("statistics of no table", message, sent("empty", 0, "@stats_list"))
	m.statistics(send)
	m.add("a key is wiped", message, func(h *header) { sent("top2", 0, "key wipe")(h); h.flags |= secure })
	m.on("suspend for the key", suspend, "top2", suspending)
	m.add("a key is wiped when suspended", message, func(h *header) { sent("top2", 0, "key wipe")(h); h.flags |= secure })
	m.on("resume without a key", suspend, "top2", 0)
	m.add("a key comes back", message, func(h *header) {
		sent("top2", 0, "key set 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff")(h)
		h.flags |= secure
	})
	m.on("resume with a key", suspend, "top2", 0)
}

func (m *maker) statistics(send func(what string, sector uint64, s string)) {
	send("statistics: none", 0, "@stats_list")
	send("statistics: create", 0, "@stats_create - /4")
	send("statistics: create with all", 0, "@stats_create 8+16 8 2 precise_timestamps histogram:1,2,3 prog aux\\ data")
	send("statistics: create wrongly", 0, "@stats_create - /0")
	send("statistics: list", 0, "@stats_list")
	send("statistics: list of a program", 0, "@stats_list prog")
	send("statistics: list of a program that is not", 0, "@stats_list gorp")
	send("statistics: print", 0, "@stats_print 0")
	send("statistics: print some", 0, "@stats_print 0 1 2")
	send("statistics: print no more", 0, "@stats_print 0 9 2")
	send("statistics: print and clear", 0, "@stats_print_clear 1")
	send("statistics: clear", 0, "@stats_clear 1")
	send("statistics: aux", 0, "@stats_set_aux 1 other")
	send("statistics: of none", 0, "@stats_print 7")
	send("statistics: unknown", 0, "@stats_what")
	send("statistics: in capitals", 0, "@STATS_LIST")
	for _, n := range []uint32{8 + 22, 40, 50, 51, 52, 60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70} {
		m.add("statistics: print and clear in little room", message, func(h *header) { sent("low", 0, "@stats_print_clear 1")(h); h.size = headerLen + n })
	}
	program := strings.Repeat("x", 40)
	send("statistics: a long program", 0, "@stats_create - 2048 "+program)
	for _, n := range []uint32{8 + 12, 60, 70, 71, 72, 73, 74, 100, 200} {
		m.add("statistics: list in little room", message, func(h *header) { sent("low", 0, "@stats_list")(h); h.size = headerLen + n })
	}
	send("statistics: delete", 0, "@stats_delete 1")
	send("statistics: what is left", 0, "@stats_list")
}
