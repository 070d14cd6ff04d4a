package config

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"dmfs/mapper"
)

// A source answers where in the text a key stands. It is asked only when there is something to
// report, so it parses anew each time rather than keep positions of everything.
type source struct {
	text string
}

// line returns the line of the value of key, or of the header of that table; 0 if key has none of
// its own (a table implied by a dotted key).
func (s *source) line(key []string) int {
	at, ok := s.offset(key)
	if !ok {
		return 0
	}
	return lineAt(s.text, at)
}

// errProbe is what probe answers, so that the TOML package says where it was.
var errProbe = errors.New("probe")

// A probe is a TOML value of any type that refuses to be decoded: the package reports the position of
// a value only together with an error.
type probe struct{}

// UnmarshalTOML implements toml.Unmarshaler.
func (*probe) UnmarshalTOML(any) error { return errProbe }

// offset returns the position of key in bytes from the start of the text.
func (s *source) offset(key []string) (int, bool) {
	var root map[string]toml.Primitive
	meta, err := toml.Decode(s.text, &root)
	if err != nil || len(key) == 0 {
		return 0, false
	}
	value, ok := root[key[0]]
	for _, k := range key[1:] {
		if !ok {
			return 0, false
		}
		var sub map[string]toml.Primitive
		if meta.PrimitiveDecode(value, &sub) != nil {
			return 0, false
		}
		value, ok = sub[k]
	}
	if !ok {
		return 0, false
	}
	var at toml.ParseError
	if err := meta.PrimitiveDecode(value, &probe{}); !errors.As(err, &at) || at.Position.Line == 0 {
		return 0, false
	}
	return at.Position.Start, true
}

// segmentLine returns the line of the device's segment of that index, or the best that is known.
func (s *source) segmentLine(device string, index int) int {
	table := []string{"devices", device, "table"}
	return s.lineWithin(table, func(text string) int {
		n := 0
		for i, line := range strings.Split(text, "\n") {
			if isSegment(line) {
				if n == index {
					return i
				}
				n++
			}
		}
		return 0
	})
}

// isSegment reports whether mapper.ParseTable takes the line for a segment.
func isSegment(line string) bool {
	line = strings.TrimSpace(line)
	return line != "" && line[0] != '#'
}

// lineWithin returns the line in the file of a line within the string that key holds. which is given
// the string and returns the number of the line in it, from 0.
func (s *source) lineWithin(key []string, which func(text string) int) int {
	at, ok := s.offset(key)
	if !ok {
		return s.line(key[:len(key)-1])
	}
	first := lineAt(s.text, at)
	text, lines := unquote(s.text, at)
	if n := which(text); n < len(lines) {
		return first + lines[n]
	}
	return first
}

// unquote reads the TOML string whose contents begin at offset at. It returns the string, without the
// meaning of escapes other than the line breaks they make or hide, and for each of its lines
// how many lines below the first of the source it begins.
func unquote(src string, at int) (text string, lines []int) {
	quote := src[at-1 : at]
	if at >= 3 && src[at-3:at] == strings.Repeat(quote, 3) {
		quote = src[at-3 : at]
	}
	var b strings.Builder
	below := 0
	rest := src[at:]
	if len(quote) == 3 && (strings.HasPrefix(rest, "\n") || strings.HasPrefix(rest, "\r\n")) {
		rest = rest[strings.IndexByte(rest, '\n')+1:]
		below++
	}
	lines = append(lines, below)
	newline := func() { b.WriteByte('\n'); lines = append(lines, below) }
	for rest != "" && !strings.HasPrefix(rest, quote) {
		c := rest[0]
		rest = rest[1:]
		switch {
		case c == '\n':
			below++
			newline()
		case c == '\\' && quote[0] == '"':
			folded := strings.TrimLeft(rest, " \t\r\n")
			if skipped := rest[:len(rest)-len(folded)]; strings.Contains(skipped, "\n") {
				below += strings.Count(skipped, "\n")
				if b.Len() == 0 || strings.HasSuffix(b.String(), "\n") {
					lines[len(lines)-1] = below
				}
				rest = folded
				continue
			}
			if strings.HasPrefix(rest, "n") {
				newline()
			} else {
				b.WriteByte(c)
				b.WriteString(rest[:min(1, len(rest))])
			}
			rest = rest[min(1, len(rest)):]
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), lines
}

// lineAt returns the line, from 1, of the byte at offset at.
func lineAt(text string, at int) int {
	return 1 + strings.Count(text[:min(at, len(text))], "\n")
}

// invalidLine returns the line of the first byte that is not UTF-8.
func invalidLine(text string) int {
	for at := 0; at < len(text); {
		r, n := utf8.DecodeRuneInString(text[at:])
		if r == utf8.RuneError && n == 1 {
			return lineAt(text, at)
		}
		at += n
	}
	return 0
}

// maxNesting bounds brackets within brackets and the parts of a dotted key. The configuration needs
// three of each.
const maxNesting = 32

// checkNesting refuses what would make the TOML parser recurse deeply, or build ever longer keys. It
// follows the lexical rules of TOML as far as the text obeys them; where it does not, the parser
// stops before it has gone deeper than this counted.
func checkNesting(text string) (line int, err error) {
	depth, dots := 0, 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '#':
			for i+1 < len(text) && text[i+1] != '\n' {
				i++
			}
		case '"', '\'':
			i = stringEnd(text, i)
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		case '.':
			dots++
		case '\n', ',', '=':
			dots = 0
		}
		if depth > maxNesting || dots > maxNesting {
			return lineAt(text, i), fmt.Errorf("nested more than %d deep", maxNesting)
		}
	}
	return 0, nil
}

// stringEnd returns the offset of the last byte of the string that begins at i.
func stringEnd(text string, i int) int {
	quote := text[i : i+1]
	if triple := strings.Repeat(quote, 3); strings.HasPrefix(text[i:], triple) {
		quote = triple
	}
	for j := i + len(quote); j < len(text); j++ {
		switch {
		case text[j] == '\\' && quote[0] == '"':
			j++
		case text[j] == '\n' && len(quote) == 1:
			return j - 1 // not closed: the parser stops here
		case strings.HasPrefix(text[j:], quote):
			j += len(quote) - 1
			for len(quote) == 3 && j+1 < len(text) && text[j+1] == quote[0] {
				j++ // up to two more quotes belong to the contents
			}
			return j
		}
	}
	return len(text) - 1
}

// tableLine returns the line of the n-th line, from 1, of the device's table.
func (s *source) tableLine(device string, n int) int {
	return s.lineWithin([]string{"devices", device, "table"}, func(string) int { return n - 1 })
}

// tomlError makes an Error of what the TOML package says.
func (p *parser) tomlError(err error) error {
	var at toml.ParseError
	if errors.As(err, &at) {
		text := strings.TrimPrefix(at.Message, "toml: ")
		return &Error{p.Path, at.Position.Line, errors.New(text)}
	}
	return &Error{p.Path, 0, err}
}

// segmentError reports a segment as mapper would.
func segmentError(i int, s mapper.Spec, reason, detail string, args ...any) error {
	return &mapper.SegmentError{Index: i, Spec: s, Err: mapper.BadArg(reason, detail, args...)}
}
