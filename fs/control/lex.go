package control

import (
	"strings"

	"dmfs/mapper"
)

// A command is one complete command: its words, and the lines of its braces if it has them.
type command struct {
	raw    string // the first line, for commands that take it as it is
	words  []string
	block  []string // one segment each
	braces bool
}

// A lexer collects lines until they make a command.
type lexer struct {
	cur  command
	open bool // inside braces
	size int  // bytes of the command so far
}

// line takes the next line, without its newline. It returns the command that the line completes, nil if there is none
// yet or the line is empty.
func (l *lexer) line(text string) (*command, error) {
	if !l.open {
		words, rest, err := splitLine(text, false)
		if err != nil {
			return nil, err
		}
		if len(words) == 0 && rest == "" {
			return nil, nil
		}
		l.cur = command{raw: text, words: words}
		if rest == "" {
			return l.finish(), nil
		}
		l.open, l.cur.braces = true, true
		text = rest[1:]
	}
	return l.segments(text)
}

// segments takes text from inside braces.
func (l *lexer) segments(text string) (*command, error) {
	for {
		words, rest, err := splitLine(text, true)
		if err != nil {
			return nil, err
		}
		if len(words) > 0 {
			if len(l.cur.block) == mapper.MaxSegments {
				return nil, mapper.BadArg("too many targets", "a table has at most %d", mapper.MaxSegments)
			}
			l.cur.block = append(l.cur.block, quoteAll(words))
		}
		switch {
		case rest == "":
			return nil, nil
		case rest[0] == ';':
			text = rest[1:]
		default: // the closing brace
			after, more, err := splitLine(rest[1:], false)
			if err == nil && (len(after) > 0 || more != "") {
				// Not what it is: there may be a key in it.
				err = mapper.BadArg("text after the closing brace", "the next command begins on a line of its own")
			}
			if err != nil {
				return nil, err
			}
			l.open = false
			return l.finish(), nil
		}
	}
}

func (l *lexer) finish() *command {
	c := l.cur
	*l = lexer{}
	return &c
}

// quoteAll joins words so that mapper.SplitArgs gives them back.
func quoteAll(words []string) string {
	for i, w := range words {
		words[i] = mapper.QuoteArg(w)
	}
	return strings.Join(words, " ")
}

// splitLine splits text into words up to a comment or, outside quotes, up to an opening brace; inside braces
// up to a semicolon or a closing brace. rest begins with what stopped it, and is empty at the end of the line.
func splitLine(text string, inBraces bool) (words []string, rest string, err error) {
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case blank(c):
			i++
		case c == '#':
			return words, "", nil
		case inBraces && (c == ';' || c == '}' && lone(text, i)):
			return words, text[i:], nil
		case !inBraces && c == '{' && lone(text, i):
			return words, text[i:], nil
		default:
			end, err := wordEnd(text, i, inBraces)
			if err != nil {
				return nil, "", err
			}
			word, err := mapper.SplitArgs(text[i:end])
			if err != nil {
				return nil, "", err
			}
			words = append(words, word...)
			i = end
		}
	}
	return words, "", nil
}

// wordEnd returns where the word that begins at i ends.
func wordEnd(text string, i int, inBraces bool) (int, error) {
	quoted := false
	for ; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case blank(c), inBraces && c == ';':
			return i, nil
		}
	}
	if quoted {
		return 0, mapper.BadArg("unbalanced quote", `a " is not closed on its line`)
	}
	return i, nil
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' }

// lone reports whether the brace at i is a word of its own.
func lone(text string, i int) bool {
	return i+1 == len(text) || blank(text[i+1]) || text[i+1] == ';' || text[i+1] == '#'
}
