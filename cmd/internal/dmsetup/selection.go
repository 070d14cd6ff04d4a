package dmsetup

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// The grammar of selections, loosest first; OR is || or #, AND is && or a comma:
//
//	any        = all { OR all }
//	all        = term { AND term }
//	term       = "!" "(" any ")" | "(" any ")" | comparison
//	comparison = FIELD OPERATOR VALUE
//
// A value is quoted by ' or ", or ends at a blank, a closing parenthesis or a logical operator.

// A selNode is a part of a selection.
type selNode interface {
	matches(value func(*field) (cell, error)) (bool, error)
}

type (
	selAny     []selNode
	selAll     []selNode
	selNot     struct{ of selNode }
	comparison struct {
		field   *field
		negated bool
		regex   *regexp.Regexp  // for =~ and !~
		accept  func(cell) bool // for the others
	}
)

func (n selAny) matches(value func(*field) (cell, error)) (bool, error) {
	for _, m := range n {
		if ok, err := m.matches(value); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

func (n selAll) matches(value func(*field) (cell, error)) (bool, error) {
	for _, m := range n {
		if ok, err := m.matches(value); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (n selNot) matches(value func(*field) (cell, error)) (bool, error) {
	ok, err := n.of.matches(value)
	return !ok, err
}

func (n *comparison) matches(value func(*field) (cell, error)) (bool, error) {
	c, err := value(n.field)
	if err != nil {
		return false, err
	}
	if n.regex != nil {
		return n.regex.MatchString(c.text) != n.negated, nil
	}
	return n.accept(c) != n.negated, nil
}

// A selError says why a selection does not parse, in the lines that dmsetup prints after the help texts that go
// with it.
type selError struct {
	help  selHelp
	lines []string
}

// A selHelp is the help that an error is preceded by.
type selHelp int

const (
	helpNone selHelp = iota
	helpFields
	helpOperators
)

func (e *selError) Error() string { return strings.Join(e.lines, "\n") }

// syntaxError returns an error at the text at, with what is wrong before it.
func syntaxError(help selHelp, at, format string, args ...any) error {
	return &selError{help, []string{
		fmt.Sprintf(format, args...),
		fmt.Sprintf("Selection syntax error at '%s'.", at),
		"Use 'help' for selection to get more help.",
	}}
}

// parseSelection parses the selection of the command line and reports what is wrong with it. done says that
// help was asked for and given. A nil node selects everything.
func (s *session) parseSelection(text string) (node selNode, done bool, err error) {
	switch strings.TrimSpace(text) {
	case "", "all":
		return nil, false, nil
	case "help", "?":
		s.fieldHelp(true)
		s.errorf("%s", selectionHelp)
		return nil, true, nil
	}
	node, err = parseSelection(text)
	e, bad := err.(*selError)
	if !bad {
		return node, false, nil
	}
	switch e.help {
	case helpFields:
		s.fieldHelp(true)
	case helpOperators:
		s.errorf("%s", selectionHelp)
	}
	for _, l := range e.lines {
		s.errorf("%s", l)
	}
	return nil, false, errSaid
}

// parseSelection parses a selection. Its errors are *selError.
func parseSelection(text string) (selNode, error) {
	p := &selParser{rest: text}
	n, err := p.any(0)
	if err != nil {
		return nil, err
	}
	if p.skip(); p.rest != "" {
		return nil, syntaxError(helpNone, p.rest, "Expecting logical operator")
	}
	return n, nil
}

// maxSelDepth bounds the nesting of parentheses.
const maxSelDepth = 100

// A selParser takes a selection apart from the left.
type selParser struct{ rest string }

func (p *selParser) skip() { p.rest = strings.TrimLeft(p.rest, " \t\n") }

// take consumes the first of words that comes next.
func (p *selParser) take(words ...string) bool {
	p.skip()
	for _, w := range words {
		if after, ok := strings.CutPrefix(p.rest, w); ok {
			p.rest = after
			return true
		}
	}
	return false
}

func (p *selParser) any(depth int) (selNode, error) {
	list := selAny{}
	for {
		n, err := p.all(depth)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
		if !p.take("||", "#") {
			return list, nil
		}
	}
}

func (p *selParser) all(depth int) (selNode, error) {
	list := selAll{}
	for {
		n, err := p.term(depth)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
		if !p.take("&&", ",") {
			return list, nil
		}
	}
}

func (p *selParser) term(depth int) (selNode, error) {
	negated := p.take("!")
	if !p.take("(") {
		if negated {
			return nil, &selError{lines: []string{fmt.Sprintf("Syntax error: left parenthesis expected at '%s'", p.rest)}}
		}
		return p.comparison()
	}
	if depth == maxSelDepth {
		return nil, syntaxError(helpNone, p.rest, "Too many parentheses")
	}
	n, err := p.any(depth + 1)
	if err != nil {
		return nil, err
	}
	if !p.take(")") {
		return nil, &selError{lines: []string{fmt.Sprintf("Syntax error: right parenthesis expected at '%s'", p.rest)}}
	}
	if negated {
		n = selNot{n}
	}
	return n, nil
}

// comparisonOperators in the order in which they must be tried.
var comparisonOperators = []string{"=~", "!~", "!=", ">=", "<=", "=", ">", "<", "since", "after", "until", "before"}

func (p *selParser) comparison() (selNode, error) {
	p.skip()
	at := p.rest
	end := 0
	for end < len(at) && (plain(at[end]) && strings.IndexByte("#=", at[end]) < 0) {
		end++
	}
	name := at[:end]
	if name == "" {
		return nil, syntaxError(helpNone, at, "Expecting field name")
	}
	f := fieldNamed(name)
	if f == nil {
		return nil, syntaxError(helpFields, at, "Unrecognised selection field: %s", name)
	}
	p.rest = at[end:]
	for _, op := range comparisonOperators {
		if p.take(op) {
			return p.compare(f, op, at)
		}
	}
	return nil, syntaxError(helpOperators, at, "Unrecognised comparison operator: %s", strings.TrimSpace(p.rest))
}

// compare reads the value that f is compared with. at is where the comparison begins.
func (p *selParser) compare(f *field, op, at string) (selNode, error) {
	c := &comparison{field: f, negated: op[0] == '!'}
	switch {
	case op == "=~" || op == "!~":
		return c, p.regex(c, at)
	case len(op) > len(">="):
		return nil, syntaxError(helpOperators, at, "Operator can be used only with time fields: %s", at)
	case strings.ContainsAny(op, "<>") && f.kind == stringField:
		return nil, syntaxError(helpOperators, at, "Operator can be used only with number, size, time or percent fields: %s", at)
	case f.kind == stringField:
		want, ok := p.value(`"'`)
		if !ok {
			return nil, p.badValue("string", f, at)
		}
		c.accept = func(c cell) bool { return c.text == want }
		return c, nil
	}
	want, err := p.number(f, at)
	if err != nil {
		return nil, err
	}
	c.accept = func(c cell) bool {
		switch strings.TrimPrefix(op, "!") {
		case ">":
			return c.number > want
		case ">=":
			return c.number >= want
		case "<":
			return c.number < want
		case "<=":
			return c.number <= want
		}
		return c.number == want
	}
	return c, nil
}

func (p *selParser) badValue(kind string, f *field, at string) error {
	return &selError{lines: []string{
		"Missing end quote.",
		fmt.Sprintf("Failed to parse %s value for selection field %s.", kind, f.id),
		fmt.Sprintf("Selection syntax error at '%s'.", at),
		"Use 'help' for selection to get more help.",
	}}
}

func (p *selParser) regex(c *comparison, at string) error {
	pattern, ok := p.value(`"'([{`)
	if !ok {
		return p.badValue("regex", c.field, at)
	}
	if c.field.kind != stringField {
		return &selError{lines: []string{"dm_report: incompatible comparison type for selection field " + c.field.id}}
	}
	var err error
	c.regex, err = regexp.Compile("(?s)" + strings.NewReplacer("{", `\{`, "}", `\}`).Replace(pattern))
	if err != nil {
		return &selError{lines: []string{
			"Couldn't parse regex",
			"dm_report: failed to create regex matcher for selection field " + c.field.id,
		}}
	}
	return nil
}

// value reads a string: up to the closing quote if it begins with one of quotes, else up to a
// blank, a closing parenthesis or a logical operator. It fails for a quote that is not closed.
func (p *selParser) value(quotes string) (string, bool) {
	p.skip()
	if p.rest != "" && strings.IndexByte(quotes, p.rest[0]) >= 0 {
		closing := p.rest[0]
		if i := strings.IndexByte("([{", closing); i >= 0 {
			closing = ")]}"[i]
		}
		text, after, ok := strings.Cut(p.rest[1:], string(closing))
		p.rest = after
		return text, ok
	}
	end := 0
	for end < len(p.rest) && strings.IndexByte(" \t\n),#", p.rest[end]) < 0 &&
		!strings.HasPrefix(p.rest[end:], "&&") && !strings.HasPrefix(p.rest[end:], "||") {
		end++
	}
	text := p.rest[:end]
	p.rest = p.rest[end:]
	return text, true
}

// size reads the unit behind a size, megabytes if there is none, and returns it in sectors.
func (p *selParser) size(digits string) uint64 {
	unit := byte('m')
	if p.rest != "" && strings.IndexByte(sizeUnits, p.rest[0]) >= 0 {
		unit = p.rest[0]
		p.rest = p.rest[1:]
	}
	n, err := strconv.ParseFloat(digits, 64)
	sectors := n * unitBytes(unit) / 512
	if err != nil || sectors >= math.MaxUint64 {
		return math.MaxUint64
	}
	return uint64(sectors)
}

// number reads a number: digits, of which those after a point do not count.
func (p *selParser) number(f *field, at string) (uint64, error) {
	p.skip()
	end := 0
	for end < len(p.rest) && (p.rest[end] >= '0' && p.rest[end] <= '9' || p.rest[end] == '.') {
		end++
	}
	whole, _, _ := strings.Cut(p.rest[:end], ".")
	n, err := strconv.ParseUint(whole, 10, 64)
	if whole == "" {
		return 0, syntaxError(helpNone, at, "Failed to parse numeric value for selection field %s.", f.id)
	}
	if err != nil {
		n = math.MaxUint64
	}
	digits := p.rest[:end]
	p.rest = p.rest[end:]
	if f.kind == sizeField {
		return p.size(digits), nil
	}
	if p.rest != "" && strings.IndexByte("bBsSkKmMgGtTpPeE", p.rest[0]) >= 0 {
		return 0, syntaxError(helpNone, at, "Found size unit specifier but numeric value expected for selection field %s.", f.id)
	}
	return n, nil
}
