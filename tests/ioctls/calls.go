package ioctls

import (
	"encoding/binary"
	"strconv"
	"strings"
)

// Numbers of the ioctls.
const (
	version = iota
	removeAll
	list
	create
	remove
	rename
	suspend
	status
	wait
	load
	clearTable
	deps
	table
	versions
	message
	geometry
	armPoll
	targetVersion
	unknown
)

// Flags of the header.
const (
	readOnly        = 1 << 0
	suspending      = 1 << 1
	persistent      = 1 << 3
	tableLines      = 1 << 4
	full            = 1 << 8
	noLockFS        = 1 << 10
	noFlush         = 1 << 11
	inactive        = 1 << 12
	uevent          = 1 << 13
	uuidFlag        = 1 << 14
	secure          = 1 << 15
	dataOut         = 1 << 16
	deferred        = 1 << 17
	internal        = 1 << 18
	allOut          = full | uevent | dataOut | internal
	usual           = 1 << 2 // libdevmapper always sets it
	headerLen       = 312
	minimumLen      = 305
	filler     byte = 0xee // of what a caller has not set
)

// A header is what a call begins with, and what follows it.
type header struct {
	version    [3]uint32
	size       uint32 // of the whole buffer
	start      uint32
	targets    uint32
	flags      uint32
	event      uint32
	dev        uint64
	name, uuid string
	data       []byte
}

// buffer lays h out. What nobody set is filler, so that it shows what a call leaves alone.
func (h header) buffer() []byte {
	b := make([]byte, h.size)
	for i := range b {
		b[i] = filler
	}
	full := make([]byte, headerLen)
	le := binary.LittleEndian
	for i, v := range h.version {
		le.PutUint32(full[4*i:], v)
	}
	le.PutUint32(full[12:], h.size)
	le.PutUint32(full[16:], h.start)
	le.PutUint32(full[20:], h.targets)
	le.PutUint32(full[28:], h.flags)
	le.PutUint32(full[32:], h.event)
	le.PutUint64(full[40:], h.dev)
	copy(full[48:176], h.name)
	copy(full[176:305], h.uuid)
	for i := 305; i < headerLen; i++ {
		full[i] = filler
	}
	copy(b, full)
	if len(b) > headerLen {
		copy(b[headerLen:], h.data)
	}
	return b
}

// A maker collects calls.
type maker struct {
	major uint32
	calls []Call
}

// add appends a call; change says how its header differs from one of 1024 bytes about nothing.
func (m *maker) add(what string, nr int, change func(h *header)) {
	h := header{version: [3]uint32{4, 0, 0}, size: 1024, start: headerLen, flags: usual}
	if change != nil {
		change(&h)
	}
	m.calls = append(m.calls, Call{What: what, Nr: nr, Before: h.buffer()})
}

// on appends a call about a device.
func (m *maker) on(what string, nr int, name string, flags uint32) {
	m.add(what, nr, func(h *header) { h.name, h.flags = name, usual|flags })
}

// raw appends a call whose buffer is changed after it was laid out.
func (m *maker) raw(what string, nr int, change func(h *header), edit func(b []byte) []byte) {
	m.add(what, nr, change)
	last := &m.calls[len(m.calls)-1]
	last.Before = edit(last.Before)
}

func (m *maker) dev(minor uint32) uint64 {
	return uint64(minor&0xff) | uint64(m.major)<<8 | uint64(minor&^0xff)<<12
}

// text is a string that begins what follows the header.
func text(s string) func(h *header) { return func(h *header) { h.data = []byte(s + "\x00") } }

// sent is a message.
func sent(name string, sector uint64, s string) func(h *header) {
	return func(h *header) {
		h.name = name
		h.data = append(binary.LittleEndian.AppendUint64(nil, sector), s+"\x00"...)
	}
}

// specs lays out lines "START LENGTH TYPE ARGS".
func specs(lines ...string) (data []byte) {
	for _, l := range lines {
		words := strings.SplitN(l, " ", 4)
		data = append(data, spec(number(words[0]), number(words[1]), words[2], words[3])...)
	}
	return data
}

func number(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		panic(err) // the calls are written down wrongly
	}
	return n
}

func spec(start, length uint64, typ, params string) []byte {
	size := (40 + len(params) + 1 + 7) &^ 7
	b := make([]byte, size)
	le := binary.LittleEndian
	le.PutUint64(b, start)
	le.PutUint64(b[8:], length)
	le.PutUint32(b[20:], uint32(size))
	copy(b[24:40], typ)
	copy(b[40:], params)
	return b
}

// loads appends the load of a table.
func (m *maker) loads(what, name string, flags uint32, lines ...string) {
	m.add(what, load, func(h *header) {
		h.name, h.flags = name, usual|flags
		h.data, h.targets = specs(lines...), uint32(len(lines))
		h.size = max(h.size, uint32(headerLen+len(h.data)))
	})
}

// Calls returns what is played, for devices of that major number. There are none before.
func Calls(major uint32) []Call {
	m := &maker{major: major}
	m.malformed()
	m.life()
	m.tables()
	m.messages()
	m.lists()
	m.end()
	return m.calls
}

// Probe returns calls whose outcome tells Major which number devices have.
func Probe() []Call {
	m := &maker{}
	m.on("probe", create, "probe", 0)
	m.on("probe", remove, "probe", 0)
	return m.calls
}

// Major returns the major number of devices that Probe's calls told.
func Major(probe []Call) uint32 {
	return uint32(binary.LittleEndian.Uint64(probe[0].After[40:])>>8) & 0xfff
}
