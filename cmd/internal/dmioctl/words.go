package dmioctl

import (
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// A command is being written for the control file. It may hold keys, so it is wiped when it has been carried out.
type command struct{ text []byte }

func newCommand(verb string) *command { return &command{[]byte(verb)} }

// add appends words of ours, which need no quotes.
func (c *command) add(words ...string) *command {
	for _, w := range words {
		c.grow(len(w) + 1)
		c.text = append(append(c.text, ' '), w...)
	}
	return c
}

// word appends a word of the caller's, quoted so that the control file takes it for one word. A line break would end the
// command, and cannot be quoted: it is refused.
func (c *command) word(w string) error {
	if strings.IndexByte(w, '\n') >= 0 {
		return unix.EINVAL
	}
	c.add(mapper.QuoteArg(w))
	return nil
}

// line begins another line, for a segment of a table.
func (c *command) line() {
	c.grow(1)
	c.text = append(c.text, '\n')
}

// grow makes room for n bytes more, and wipes what it moves away from.
func (c *command) grow(n int) {
	if cap(c.text)-len(c.text) >= n {
		return
	}
	more := make([]byte, len(c.text), 2*cap(c.text)+n)
	copy(more, c.text)
	clear(c.text)
	c.text = more
}

// disk appends a word of the caller's that may name a disk.
func (s *Server) disk(c *command, w string) error {
	if !mayBeKey(w) {
		option, name := diskIn(strings.Clone(w))
		w = option + s.t.Disk(name)
	}
	return c.word(w)
}

// caller returns a word of the mount's with the caller's name if it is a disk.
func (s *Server) caller(w string) string {
	option, name := diskIn(w)
	return option + s.t.Word(name)
}

// diskIn splits a word before what may name a disk: that of integrity's metadata is in one word with its option.
func diskIn(w string) (option, name string) {
	const metadata = "meta_device:"
	if name, ok := strings.CutPrefix(w, metadata); ok {
		return metadata, name
	}
	return "", w
}

// mayBeKey reports a long row of hexadecimal digits.
func mayBeKey(w string) bool {
	const shortest = 32 // digits: no key of a cipher has less than 16 bytes
	return len(w) >= shortest && strings.Trim(w, "0123456789abcdefABCDEF") == ""
}

// isSpace reports what separates words for the kernel, which takes its characters for Latin-1.
func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' || c == 0xa0 }

// splitWords splits text as the kernel does, and where it lies, so that there is no other copy of it: a backslash takes the next
// character as it is, a last one stands for itself, and nothing else is special. The words are good as long as text is.
func splitWords(text []byte) []string {
	var words []string
	for {
		for len(text) > 0 && isSpace(text[0]) {
			text = text[1:]
		}
		if len(text) == 0 {
			return words
		}
		w := text[:0]
		for len(text) > 0 && !isSpace(text[0]) {
			if text[0] == '\\' && len(text) > 1 {
				text = text[1:]
			}
			w = append(w, text[0])
			text = text[1:]
		}
		words = append(words, unsafe.String(unsafe.SliceData(w), len(w)))
	}
}

// told returns params as the mount prints them in the way that the kernel would: with the caller's names of disks, and without
// double quotes, which it does not know.
func (s *Server) told(params string) string {
	var b strings.Builder
	for rest := params; rest != ""; {
		if rest[0] == ' ' {
			b.WriteByte(' ')
			rest = rest[1:]
			continue
		}
		end := tokenEnd(rest)
		token := rest[:end]
		rest = rest[end:]
		if token[0] == '"' {
			if words, err := mapper.SplitArgs(token); err == nil && len(words) == 1 {
				b.WriteString(escape(s.caller(words[0])))
				continue
			}
		}
		b.WriteString(s.caller(token))
	}
	return b.String()
}

// tokenEnd returns where the token that s begins with ends: at a space, outside of double quotes if it begins with one.
func tokenEnd(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"' && s[0] == '"':
			quoted = !quoted
		case s[i] == '\\' && quoted:
			i++
		case s[i] == ' ' && !quoted:
			return i
		}
	}
	return len(s)
}

// escape writes a word so that splitWords gives it back.
func escape(w string) string {
	var b strings.Builder
	for i := range len(w) {
		if isSpace(w[i]) || w[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(w[i])
	}
	return b.String()
}
