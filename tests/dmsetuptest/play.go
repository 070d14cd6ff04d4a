// Package dmsetuptest plays recorded scenarios of dmsetup command lines and compares what comes back with
// what the real dmsetup said (testdata/*.golden, made by testdata/record.sh).
//
// A scenario line is a command line in shell quoting, "dmsetup ARGS", that may be preceded by
// environment settings or by "printf 'TEXT' |" for its standard input.
package dmsetuptest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A Call is one invocation of dmsetup.
type Call struct {
	Env   map[string]string
	Stdin string
	Args  []string // without the program's name
}

// A Result is what an invocation gave.
type Result struct {
	Stdout, Stderr string
	Status         int
}

// A Runner carries out a call.
type Runner func(c Call) Result

// Options say how what is played differs from the machine the goldens were recorded on, which has
// major 254 for mapped devices and the disks /dev/ubda (98:0) and /dev/ubdb (98:16).
type Options struct {
	Major int // of mapped devices; 0 means 254
	// Disks are regular files that stand in for /dev/ubda and /dev/ubdb; their base names must be ubda and ubdb.
	// Files have no number, so what is compared then has disks by a common name and blanks squeezed.
	Disks []string
}

const recordedMajor = "254"

// Play runs the scenario beside the golden file and compares the result of each line. It must be
// called in the directory that the scenario's files lie in.
func Play(t *testing.T, golden string, run Runner, o Options) {
	t.Helper()
	data, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	folded := filepath.Base(golden) != "help.golden"
	for _, step := range parse(t, string(data)) {
		call, err := ParseCall(o.command(step.line))
		if err != nil {
			t.Fatalf("%s: %v", step.line, err)
		}
		got := o.normal(format(run(call), folded))
		want := o.normal(o.major(step.want))
		if got != want {
			t.Errorf("$ %s\n--- dmsetup\n%s--- ours\n%s", step.line, want, got)
		}
	}
}

// A step is one line of a scenario with what is expected of it.
type step struct{ line, want string }

func parse(t *testing.T, golden string) []step {
	var steps []step
	for _, l := range strings.SplitAfter(golden, "\n") {
		line, isLine := strings.CutPrefix(l, "$ ")
		switch {
		case isLine:
			steps = append(steps, step{line: strings.TrimSuffix(line, "\n")})
		case l == "" || strings.HasPrefix(l, "#"):
		case len(steps) == 0:
			t.Fatalf("golden begins with %q", l)
		default:
			steps[len(steps)-1].want += l
		}
	}
	return steps
}

// format writes r as goldens have it.
func format(r Result, folded bool) string {
	if folded {
		r.Stderr = fold(r.Stderr)
	}
	return prefix("1|", r.Stdout) + prefix("2|", r.Stderr) + fmt.Sprintf("rc=%d\n", r.Status)
}

func prefix(mark, text string) string {
	var b strings.Builder
	for _, l := range strings.SplitAfter(text, "\n") {
		if l != "" {
			b.WriteString(mark + strings.TrimSuffix(l, "\n") + "\n")
		}
	}
	return b.String()
}

// folds are the long texts that goldens have as one line.
var folds = []struct {
	from, to *regexp.Regexp
	short    string
}{
	{regexp.MustCompile(`(?m)^Usage:$`), regexp.MustCompile(`(?m)and uuid\.\n\n`), "(usage)\n"},
	{regexp.MustCompile(`(?m)^Mapped Device Name Fields$`), regexp.MustCompile(`(?m)^  \?.*\n \n`), "(fields)\n"},
	{regexp.MustCompile(`(?m)^Selection operands$`), regexp.MustCompile(`(?m)List subset end\n \n`), "(operators)\n"},
}

func fold(text string) string {
	for _, f := range folds {
		from := f.from.FindStringIndex(text)
		if from == nil {
			continue
		}
		if to := f.to.FindStringIndex(text[from[0]:]); to != nil {
			text = text[:from[0]] + f.short + text[from[0]+to[1]:]
		}
	}
	return text
}

var wholeMajor = regexp.MustCompile(`\b` + recordedMajor + `\b`)

// major replaces the major number of mapped devices.
func (o Options) major(text string) string {
	if o.Major == 0 {
		return text
	}
	return wholeMajor.ReplaceAllString(text, fmt.Sprint(o.Major))
}

// command returns line for the machine that is played on.
func (o Options) command(line string) string {
	line = o.major(line)
	for _, d := range o.Disks {
		line = strings.ReplaceAll(line, "/dev/"+filepath.Base(d), d)
	}
	return line
}

var blanks = regexp.MustCompile(` +`)

// normal gives disks a common name where they are files.
func (o Options) normal(text string) string {
	if len(o.Disks) == 0 {
		return text
	}
	for i, d := range o.Disks {
		name := filepath.Base(d)
		text = strings.ReplaceAll(text, d, name)
		text = strings.ReplaceAll(text, fmt.Sprintf("98, %d", 16*i), name)
		text = regexp.MustCompile(fmt.Sprintf(`\b98:%d\b`, 16*i)).ReplaceAllString(text, name)
	}
	text = blanks.ReplaceAllString(text, " ")
	return strings.ReplaceAll(text, " \n", "\n")
}

// ParseCall takes a line of a scenario apart.
func ParseCall(line string) (Call, error) {
	c := Call{Env: make(map[string]string)}
	if rest, ok := strings.CutPrefix(line, "printf "); ok {
		words, rest, err := shellWords(rest, true)
		if err != nil || len(words) != 1 {
			return c, fmt.Errorf("want printf 'TEXT' | dmsetup ARGS: %v", err)
		}
		c.Stdin = strings.ReplaceAll(words[0], `\n`, "\n")
		line = rest
	}
	words, _, err := shellWords(line, false)
	if err != nil {
		return c, err
	}
	for len(words) > 0 && words[0] != "dmsetup" {
		name, value, ok := strings.Cut(words[0], "=")
		if !ok {
			return c, fmt.Errorf("want dmsetup, not %q", words[0])
		}
		c.Env[name] = value
		words = words[1:]
	}
	if len(words) == 0 {
		return c, fmt.Errorf("no command")
	}
	c.Args = words[1:]
	return c, nil
}

// shellWords splits s as a shell does, as far as scenarios need it; with pipe it stops at a bar and returns
// what follows.
func shellWords(s string, pipe bool) (words []string, rest string, err error) {
	var word strings.Builder
	in := false
	end := func() {
		if in {
			words = append(words, word.String())
		}
		word.Reset()
		in = false
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case ' ':
			end()
		case '|':
			if pipe {
				end()
				return words, strings.TrimSpace(s[i+1:]), nil
			}
			word.WriteByte(c)
			in = true
		case '\\':
			i++
			if i == len(s) {
				return nil, "", fmt.Errorf("nothing follows the backslash")
			}
			word.WriteByte(s[i])
			in = true
		case '\'', '"':
			quoted, _, ok := strings.Cut(s[i+1:], string(c))
			if !ok {
				return nil, "", fmt.Errorf("%c is not closed", c)
			}
			word.WriteString(quoted)
			i += len(quoted) + 1
			in = true
		default:
			word.WriteByte(c)
			in = true
		}
	}
	end()
	return words, "", nil
}
