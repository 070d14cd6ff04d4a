package luks

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"dmfs/mapper"
)

// An object is one of JSON, with the way to it for errors.
type object struct {
	way    string
	fields map[string]any
}

// bad refuses a field.
func (o object) bad(name, format string, args ...any) error {
	return fmt.Errorf("%s/%s: %s", o.way, name, fmt.Sprintf(format, args...))
}

func (o object) has(name string) bool { _, ok := o.fields[name]; return ok }

// object returns a field that is one.
func (o object) object(name string) (object, error) {
	v, ok := o.fields[name].(map[string]any)
	if !ok {
		return object{}, o.bad(name, "want an object")
	}
	return object{o.way + "/" + name, v}, nil
}

// text returns a field that is a text of at least one character.
func (o object) text(name string) (string, error) {
	s, ok := o.fields[name].(string)
	if !ok || s == "" {
		return "", o.bad(name, "want a text")
	}
	return s, nil
}

// digits returns a field that is a number of 64 bits in a text.
func (o object) digits(name string) (uint64, error) {
	s, err := o.text(name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || s[0] == '+' {
		return 0, o.bad(name, "%.32q: want a number of 64 bits, in a text", s)
	}
	return n, nil
}

// number returns a field that is a whole number of up to 32 bits.
func (o object) number(name string) (uint64, error) {
	s, ok := o.fields[name].(json.Number)
	if !ok {
		return 0, o.bad(name, "want a number")
	}
	n, err := strconv.ParseUint(s.String(), 10, 32)
	if err != nil {
		return 0, o.bad(name, "%.32s: want a whole number from 0 to %d", s, uint64(mostUint32))
	}
	return n, nil
}

// texts returns a field that is a list of texts.
func (o object) texts(name string) ([]string, error) {
	list, ok := o.fields[name].([]any)
	if !ok {
		return nil, o.bad(name, "want a list")
	}
	texts := make([]string, 0, len(list))
	for i, v := range list {
		s, ok := v.(string)
		if !ok {
			return nil, o.bad(name, "element %d: want a text", i)
		}
		texts = append(texts, s)
	}
	return texts, nil
}

// optionalTexts is texts of a field that may be missing.
func (o object) optionalTexts(name string) ([]string, error) {
	if !o.has(name) {
		return nil, nil
	}
	return o.texts(name)
}

// base64 returns a field of bytes.
func (o object) base64(name string) ([]byte, error) {
	s, err := o.text(name)
	if err != nil {
		return nil, err
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, o.bad(name, "no base64")
	}
	return b, nil
}

// numbered calls f for each field of o, which are objects with numbers for names, in their order.
func (o object) numbered(f func(n int, name string, field object) error) error {
	byNumber := make(map[int]string, len(o.fields))
	var numbers []int
	for name := range o.fields {
		n, err := strconv.ParseUint(name, 10, 31)
		if err != nil || name[0] == '+' {
			return fmt.Errorf("%s: %.32q: want numbers for names", o.way, name)
		}
		if _, double := byNumber[int(n)]; double {
			return fmt.Errorf("%s: %d is there twice", o.way, n)
		}
		byNumber[int(n)] = name
		numbers = append(numbers, int(n))
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		field, err := o.object(byNumber[n])
		if err == nil {
			err = f(n, byNumber[n], field)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// parseJSON reads the JSON area: an object, which zero bytes follow to the end of the area, at least one.
func parseJSON(area []byte) (object, error) {
	if len(area) == 0 || area[0] != '{' {
		return object{}, errors.New("the JSON area does not begin with {")
	}
	dec := json.NewDecoder(bytes.NewReader(area))
	dec.UseNumber()
	var fields map[string]any
	if err := dec.Decode(&fields); err != nil {
		return object{}, fmt.Errorf("the JSON area: %w", err)
	}
	rest := area[dec.InputOffset():]
	if len(rest) == 0 {
		return object{}, errors.New("the JSON area does not end with a zero byte")
	}
	if i := slices.IndexFunc(rest, func(b byte) bool { return b != 0 }); i >= 0 {
		return object{}, fmt.Errorf("the JSON area has byte %#x behind its end", rest[i])
	}
	return object{"", fields}, nil
}

// A metadata is a header while its JSON area is read.
type metadata struct {
	h            *Header
	root         object
	keyslots     object
	segments     object
	digests      object
	config       object
	requirements []string
	headerSize   uint64 // of one header and its JSON area, bytes
	areasSize    uint64 // of all key slots, bytes
	ranges       []span // of the key slots

	reencrypting           int // key slots of reencryptions, of which there may be one
	reencryption           Reencryption
	previous, final, moved *Segment // those that a reencryption keeps
}

// A span is a range of bytes.
type span struct{ offset, size uint64 }

// parseArea reads and checks the JSON area of a header of headerSize bytes, on a disk of size bytes.
func (h *Header) parseArea(area []byte, headerSize, size int64) error {
	root, err := parseJSON(area)
	if err != nil {
		return err
	}
	m := &metadata{h: h, root: root, headerSize: uint64(headerSize)}
	for _, part := range []struct {
		name string
		at   *object
	}{{"keyslots", &m.keyslots}, {"segments", &m.segments}, {"digests", &m.digests}, {"config", &m.config}} {
		if *part.at, err = root.object(part.name); err != nil {
			return err
		}
	}
	for _, step := range []func() error{m.readRequirements, m.checkTokens, m.readDigests, m.readSegments, m.readConfig, m.readSlots, m.checkRanges, m.checkReencryption, m.numberKeys} {
		if err := step(); err != nil {
			return err
		}
	}
	if end := 2*m.headerSize + m.areasSize; end > uint64(size) {
		return fmt.Errorf("the headers and key slots have %d bytes, and the disk %d", end, size)
	}
	return nil
}

// readRequirements reads what must be understood to use the container; mayOpen judges it.
func (m *metadata) readRequirements() error {
	if !m.config.has("requirements") {
		return nil
	}
	o, err := m.config.object("requirements")
	if err != nil {
		return err
	}
	m.requirements, err = o.optionalTexts("mandatory")
	if err != nil {
		return err
	}
	if n := len(slices.DeleteFunc(slices.Clone(m.requirements), func(r string) bool { return !isOnlineReencrypt(r) })); n > 1 {
		return o.bad("mandatory", "%d kinds of reencryption", n)
	}
	m.h.Requirements = m.requirements
	return nil
}

// isOnlineReencrypt reports whether a requirement is one of a reencryption of a device in use.
func isOnlineReencrypt(r string) bool {
	rest, ok := strings.CutPrefix(r, "online-reencrypt")
	if !ok || rest == "" {
		return ok
	}
	number, ok := strings.CutPrefix(rest, "-v")
	return ok && number != "" && strings.Trim(number, "0123456789") == ""
}

// checkTokens checks the tokens, of which nothing is used.
func (m *metadata) checkTokens() error {
	tokens, err := m.root.object("tokens")
	if err != nil {
		return err
	}
	return tokens.numbered(func(_ int, _ string, o object) error {
		if _, err := o.text("type"); err != nil {
			return err
		}
		return m.refers(o, "keyslots", m.keyslots)
	})
}

// refers checks that a list names what is in to.
func (m *metadata) refers(o object, list string, to object) error {
	names, err := o.texts(list)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := to.object(name); err != nil {
			return o.bad(list, "%.32q is not there", name)
		}
	}
	return nil
}

func (m *metadata) readDigests() error {
	m.h.digests = make(map[string]*digest)
	return m.digests.numbered(func(_ int, name string, o object) error {
		kind, err := o.text("type")
		if err != nil {
			return err
		}
		if err := errors.Join(m.refers(o, "keyslots", m.keyslots), m.refers(o, "segments", m.segments)); err != nil {
			return err
		}
		if kind != "pbkdf2" {
			return nil // whoever needs it will miss it
		}
		d := new(digest)
		var e [4]error
		d.hash, e[0] = o.text("hash")
		d.iterations, e[1] = o.number("iterations")
		d.salt, e[2] = o.base64("salt")
		d.sum, e[3] = o.base64("digest")
		if err := errors.Join(e[:]...); err != nil {
			return err
		}
		const leastSum, mostSum = 20, 64
		if d.iterations == 0 || len(d.sum) < leastSum || len(d.sum) > mostSum {
			return o.bad("digest", "%d bytes, %d iterations: want %d to %d bytes, and some iterations", len(d.sum), d.iterations, leastSum, mostSum)
		}
		m.h.digests[name] = d
		return nil
	})
}

// digestsOf returns the digests that list what is called name.
func (m *metadata) digestsOf(list, name string) (digests []string) {
	for d := range m.digests.fields {
		o, err := m.digests.object(d)
		if err != nil {
			continue
		}
		if names, _ := o.texts(list); slices.Contains(names, name) {
			digests = append(digests, d)
		}
	}
	slices.Sort(digests)
	return digests
}

// isHeaderSize reports whether a header and its JSON area may have n bytes together.
func isHeaderSize(n uint64) bool { return n >= least2 && n <= most2 && n&(n-1) == 0 }

func (m *metadata) readConfig() error {
	json, err := m.config.digits("json_size")
	if err != nil {
		return err
	}
	if m.areasSize, err = m.config.digits("keyslots_size"); err != nil {
		return err
	}
	const align = 4096
	switch {
	case json > most2 || !isHeaderSize(json+bin2Size):
		return m.config.bad("json_size", "%d: with %d it is no size that a header has", json, bin2Size)
	case json+bin2Size != m.headerSize:
		return m.config.bad("json_size", "%d: the header says %d", json, m.headerSize-bin2Size)
	case m.areasSize%align != 0 || m.areasSize > mostAreas:
		return m.config.bad("keyslots_size", "%d: want a multiple of %d, at most %d", m.areasSize, align, mostAreas)
	}
	first := m.h.Segments[0].Offset
	for _, s := range m.h.Segments {
		first = min(first, s.Offset)
	}
	if begin := uint64(first.Bytes()); begin != 0 && begin < 2*m.headerSize+m.areasSize {
		return m.config.bad("keyslots_size", "%d: the key slots reach into the data, which begins at byte %d", m.areasSize, begin)
	}
	m.h.Flags, err = m.config.optionalTexts("flags")
	return err
}

// checkRanges checks that key slots have their places alone.
func (m *metadata) checkRanges() error {
	slices.SortFunc(m.ranges, func(a, b span) int {
		if a.offset < b.offset {
			return -1
		}
		return 1
	})
	end := 2 * m.headerSize
	last := end + m.areasSize
	for _, r := range m.ranges {
		switch {
		case r.size == 0 || r.offset < end:
			return fmt.Errorf("keyslots: the area of bytes %d+%d overlaps a header or another one, or is empty", r.offset, r.size)
		case r.size > last || r.offset > last-r.size:
			return fmt.Errorf("keyslots: the area of bytes %d+%d reaches past byte %d, where they end", r.offset, r.size, last)
		}
		end = r.offset + r.size
	}
	return nil
}

// sectorsOf turns bytes of a header into sectors.
func sectorsOf(n uint64) (mapper.Sector, bool) {
	return mapper.Sector(n >> mapper.SectorShift), n%mapper.SectorSize == 0
}
