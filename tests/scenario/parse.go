package scenario

import (
	"fmt"
	"slices"
	"strings"

	"dmfs/mapper"
)

// A Scenario is a sequence of steps.
type Scenario struct {
	Name     string // of its file, without the ending
	About    string // what it shows, one or more lines
	Ours     bool   // it is about targets that the kernel does not have
	Forgets  bool   // what its devices hold is not on its disks once they are removed
	Restless bool   // its disks change while nobody writes: they are not compared when they are handed over
	Steps    []Step
}

// A Step is one command.
type Step struct {
	Words []string // of the command, without the table
	Table []Line   // nil if it has none
	Lines []string // as written, the table's lines trimmed
}

// A Line is one segment of a table. Params is what follows the target, as written.
type Line struct {
	Start, Len uint64 // sectors
	Type       string
	Params     string
}

// Text returns the step as it is written in scenarios and transcripts: several lines if it has a table in braces.
func (s Step) Text() string { return strings.Join(s.Lines, "\n") }

// WithTable returns s with another table.
func (s Step) WithTable(table []Line) Step {
	lines := []string{strings.Join(s.Words, " ") + " {"}
	for _, l := range table {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%d %d %s %s", l.Start, l.Len, l.Type, l.Params)))
	}
	return Step{Words: s.Words, Table: table, Lines: append(lines, "}")}
}

// Text returns the scenario so that Parse gives it back.
func (s *Scenario) Text() string {
	var b strings.Builder
	for _, line := range strings.Split(s.About, "\n") {
		b.WriteString("# " + line + "\n")
	}
	if s.Ours {
		b.WriteString("# " + onlyOurs + "\n")
	}
	if s.Forgets {
		b.WriteString("# " + forgets + "\n")
	}
	if s.Restless {
		b.WriteString("# " + restless + "\n")
	}
	for _, step := range s.Steps {
		b.WriteString(step.Text() + "\n")
	}
	return b.String()
}

// Types returns the types of target that the scenario's tables name, sorted.
func (s *Scenario) Types() []string {
	var types []string
	for _, step := range s.Steps {
		for _, line := range step.Table {
			if !slices.Contains(types, line.Type) {
				types = append(types, line.Type)
			}
		}
	}
	slices.Sort(types)
	return types
}

// Parse reads a scenario. Errors name the line.
func Parse(name, text string) (*Scenario, error) {
	s := &Scenario{Name: name}
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		if line == "" || line[0] == '#' {
			if line != "" && len(s.Steps) == 0 {
				s.head(strings.TrimSpace(line[1:]))
			}
			continue
		}
		block := []string{line}
		if strings.HasSuffix(line, " {") {
			for i++; i < len(lines) && strings.TrimSpace(lines[i]) != "}"; i++ {
				block = append(block, strings.TrimSpace(lines[i]))
			}
			block = append(block, "}")
		}
		step, err := parseStep(block)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %q: %w", name, i+1, line, err)
		}
		s.Steps = append(s.Steps, step)
	}
	return s, nil
}

// onlyOurs is the line at the head of a scenario that the kernel cannot play.
const onlyOurs = "only: dmfs"

// forgets is the line at the head of a scenario whose disks nobody can open again.
const forgets = "forgets"

// restless is the line at the head of a scenario with journals that are written back in their own time.
const restless = "restless"

// head takes a line that comes before the first step.
func (s *Scenario) head(line string) {
	switch line {
	case onlyOurs:
		s.Ours = true
		return
	case forgets:
		s.Forgets = true
		return
	case restless:
		s.Restless = true
		return
	}
	s.About = strings.TrimSpace(s.About + "\n" + line)
}

// parseStep reads a command with the lines of its braces, if it has them.
func parseStep(lines []string) (Step, error) {
	s := Step{Lines: lines}
	first := lines[0]
	if len(lines) > 1 {
		first = strings.TrimSuffix(first, "{")
		s.Table = []Line{}
		for _, text := range lines[1 : len(lines)-1] {
			line, err := parseLine(text)
			if err != nil {
				return s, err
			}
			s.Table = append(s.Table, line)
		}
	}
	words, err := mapper.SplitArgs(first)
	if err != nil {
		return s, err
	}
	takes, ok := shapes[words[0]]
	if !ok {
		return s, fmt.Errorf("unknown command")
	}
	if takes.table && s.Table == nil {
		if words, err = s.inlineTable(first, words); err != nil {
			return s, err
		}
	}
	s.Words = words
	if n := len(words) - 1; n < takes.least || takes.most >= 0 && n > takes.most {
		return s, fmt.Errorf("%d words follow, want %d to %d", n, takes.least, takes.most)
	}
	return s, nil
}

// inlineTable takes START LENGTH TARGET ARGS from the end of a create or load, and returns the words before.
func (s *Step) inlineTable(text string, words []string) ([]string, error) {
	for i := 2; i < len(words); i++ {
		if words[i] == "" || words[i][0] < '0' || words[i][0] > '9' {
			continue
		}
		rest := text
		for range i {
			rest = strings.TrimLeft(rest, " ")
			rest = rest[strings.IndexByte(rest, ' '):]
		}
		line, err := parseLine(strings.TrimSpace(rest))
		s.Table = []Line{line}
		return words[:i], err
	}
	return words, nil
}

func parseLine(text string) (Line, error) {
	start, rest, _ := strings.Cut(text, " ")
	length, rest, _ := strings.Cut(rest, " ")
	typ, params, _ := strings.Cut(rest, " ")
	l := Line{Type: typ, Params: params}
	from, err := mapper.ParseSector(start)
	if err != nil {
		return l, err
	}
	n, err := mapper.ParseSector(length)
	if typ == "" {
		return l, fmt.Errorf("%q: want START LENGTH TARGET ARGS", text)
	}
	l.Start, l.Len = uint64(from), uint64(n)
	return l, err
}

// shapes say how many words follow each command, and whether a table may.
var shapes = map[string]struct {
	least, most int // -1: any number
	table       bool
}{
	"disk": {2, 3, false}, "fill": {2, 2, false}, "put": {3, 3, false},
	"create": {1, 5, true}, "load": {1, 2, true},
	"suspend": {1, 2, false}, "resume": {1, 2, false}, "clear": {1, 1, false},
	"remove": {1, 3, false}, "rename": {2, 2, false}, "setuuid": {2, 2, false},
	"setgeometry": {5, 5, false}, "message": {2, -1, false},
	"table": {1, 2, false}, "status": {1, 2, false}, "info": {1, 1, false}, "deps": {1, 1, false}, "wait": {2, 2, false},
	"open": {2, 2, false}, "close": {1, 1, false},
	"read": {3, 3, false}, "write": {4, 5, false}, "discard": {3, 3, false}, "zeroout": {3, 3, false}, "flush": {1, 1, false},
	"hash": {1, 1, false}, "begin": {3, -1, false}, "waits": {1, 1, false}, "end": {1, 1, false}, "reopen": {0, 0, false},
	"pause": {0, 0, false}, "scratch": {1, 1, false}, "until": {2, 2, false},
}
