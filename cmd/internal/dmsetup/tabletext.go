package dmsetup

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"dmfs/mapper"
)

// maxTypeName bounds the name of a target type, in bytes, as the kernel's structure does.
const maxTypeName = 15

// tableText returns the segments given by --table, by the file operand if there is one, or on standard input.
func (s *session) tableText(file []string) ([]mapper.Spec, error) {
	switch {
	case s.opts.has("table"):
		return s.parseTable(strings.NewReader(s.opts.get("table")), "")
	case len(file) > 0:
		f, err := os.Open(file[0])
		if err != nil {
			return nil, s.failf("Couldn't open '%s' for reading.", file[0])
		}
		defer f.Close()
		return s.parseTable(f, file[0])
	}
	return s.parseTable(s.Stdin, "on stdin")
}

// parseTable reads a table, one segment a line, with dmsetup's idea of a line: START LENGTH TYPE ARGS, where #
// begins a comment. name goes into its error.
func (s *session) parseTable(r io.Reader, name string) ([]mapper.Spec, error) {
	var specs []mapper.Spec
	lines := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := lines.ReadString('\n')
		if err != nil && err != io.EOF {
			return nil, s.failf("reading table %s: %v", name, err)
		}
		atEnd := err == io.EOF
		line = strings.TrimSpace(line)
		if line != "" && line[0] != '#' {
			spec, err := s.parseSegment(line, n, name)
			if err != nil {
				return nil, err
			}
			specs = append(specs, spec)
		}
		if atEnd {
			return specs, nil
		}
	}
}

func (s *session) parseSegment(line string, n int, name string) (mapper.Spec, error) {
	line, _, _ = strings.Cut(line, "#")
	start, rest, ok1 := leadingUint(line)
	length, rest, ok2 := leadingUint(rest)
	typ, rest, _ := strings.Cut(strings.TrimLeft(rest, " \t"), " ")
	if !ok1 || !ok2 || typ == "" {
		return mapper.Spec{}, s.failf("Invalid format on line %d of table %s.", n, name)
	}
	if len(typ) > maxTypeName {
		return mapper.Spec{}, s.failf("Target type name %s is too long.", typ)
	}
	args, err := mapper.SplitArgs(rest)
	if err != nil {
		return mapper.Spec{}, s.failf("Invalid format on line %d of table %s: %v", n, name, err)
	}
	return mapper.Spec{Start: mapper.Sector(start), Len: mapper.Sector(length), Type: typ, Args: args}, nil
}

// leadingUint reads the number at the start of s as C's scanf does: blanks before it, a sign that wraps around.
func leadingUint(s string) (n uint64, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t")
	negative := strings.HasPrefix(s, "-")
	s = strings.TrimPrefix(strings.TrimPrefix(s, "-"), "+")
	end := 0
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	n, err := strconv.ParseUint(s[:end], 10, 64)
	if end == 0 {
		return 0, s, false
	}
	if err != nil {
		n = 1<<64 - 1
	}
	if negative {
		n = -n
	}
	return n, s[end:], true
}

// formatTable returns specs as a block of the control file's language.
func formatTable(specs []mapper.Spec) string {
	var b strings.Builder
	b.WriteString("{\n")
	for _, spec := range specs {
		b.WriteString(strings.TrimRight(spec.String(), " ") + "\n")
	}
	b.WriteString("}")
	return b.String()
}

// errorTable returns a table of n sectors that fails all I/O; none for 0 sectors.
func errorTable(n uint64) string {
	if n == 0 {
		return formatTable(nil)
	}
	return fmt.Sprintf("{\n0 %d error\n}", n)
}
