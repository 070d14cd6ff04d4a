package mapper

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxSegments bounds the segments of one table, as the kernel does.
const MaxSegments = 1 << 20

// SplitArgs splits a line into words as dmsetup tables are split: at blanks and tabs; a backslash
// takes the next character as it is; double quotes keep blanks together, and "" is an empty word.
func SplitArgs(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord, quoted := false, false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '\\':
			if i+1 == len(line) {
				return nil, BadArg("trailing backslash", "nothing follows it")
			}
			i++
			word.WriteByte(line[i])
			inWord = true
		case c == '"':
			quoted = !quoted
			inWord = true
		case !quoted && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if quoted {
		return nil, BadArg("unbalanced quote", `a " is not closed`)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// ShowArg returns a word for people to read in an error or a log, quoted, unless it may be a key that stands in the wrong place: of a
// long row of hexadecimal digits it says how long it is.
func ShowArg(word string) string {
	if MayBeKey(word) {
		return fmt.Sprintf("a word with %d hexadecimal digits", longestRow(word))
	}
	return fmt.Sprintf("%q", word)
}

// MayBeKey reports whether a word is not to be shown, since it may be a key that stands in the wrong place.
func MayBeKey(word string) bool {
	const longest = 24 // digits: sectors, sizes and hashes of revisions have no more, and keys do
	return longestRow(word) > longest
}

// longestRow returns the length of the longest row of hexadecimal digits in s.
func longestRow(s string) (longest int) {
	n := 0
	for i := range len(s) {
		if n++; !strings.ContainsRune("0123456789abcdefABCDEF", rune(s[i])) {
			n = 0
		}
		longest = max(longest, n)
	}
	return longest
}

// QuoteArg returns s so that SplitArgs gives it back as one word, quoted only where needed: blanks,
// quotes, backslashes, the characters that separate segments and commands, and the empty word.
func QuoteArg(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\r\n\"\\;{}#,") {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
	return b.String()
}

// ParseSector parses a number of sectors: decimal, as the kernel's %llu, no sign.
func ParseSector(s string) (Sector, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, BadArg("not a number of sectors", "%s", ShowArg(s))
	}
	return Sector(n), nil
}

// A LineError says which line of a table text is at fault, counted from 1.
type LineError struct {
	Line int
	Err  error
}

// Error returns "line N: cause".
func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns the cause.
func (e *LineError) Unwrap() error { return e.Err }

// ParseTable parses the segments of a table, one a line: START LENGTH TARGET ARGS. Empty lines and
// lines that begin with # are passed over. Errors are *LineError. It checks the shape of each line only;
// whether the segments fit together is for the table to say.
func ParseTable(text string) ([]Spec, error) {
	var specs []Spec
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimLeft(line, " \t\r") // and not at the end, where a blank may be quoted
		if line == "" || line[0] == '#' {
			continue
		}
		if len(specs) == MaxSegments {
			return nil, &LineError{n + 1, BadArg("too many targets", "a table has at most %d", MaxSegments)}
		}
		words, err := SplitArgs(line)
		if err != nil {
			return nil, &LineError{n + 1, err}
		}
		s, err := ParseSpec(words)
		if err != nil {
			return nil, &LineError{n + 1, err}
		}
		specs = append(specs, s)
	}
	return specs, nil
}

// ParseSpec makes a segment of the words START LENGTH TARGET ARGS.
func ParseSpec(words []string) (Spec, error) {
	if len(words) < 3 {
		return Spec{}, BadArg("incomplete table line", "%d words: want START LENGTH TARGET ARGS", len(words))
	}
	start, err := ParseSector(words[0])
	if err != nil {
		return Spec{}, fmt.Errorf("start: %w", err)
	}
	length, err := ParseSector(words[1])
	if err != nil {
		return Spec{}, fmt.Errorf("length: %w", err)
	}
	return Spec{Start: start, Len: length, Type: words[2], Args: words[3:]}, nil
}

// String returns the table line, words quoted where needed.
func (s Spec) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %d %s ", s.Start, s.Len, QuoteArg(s.Type))
	for i, a := range s.Args {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(QuoteArg(a))
	}
	return b.String()
}
