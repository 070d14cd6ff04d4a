package scenario

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// A Difference is a way in which we mean to differ from the kernel.
type Difference struct {
	Scenario string   // a pattern of names, as path.Match has them
	Step     string   // a regular expression for the whole step, of its first line
	In       []string // the drivers that differ: "process", "mount"; none means both
	Ours     string   // a regular expression; what matches in our result
	Kernel   string   // is this in the kernel's
	Only     string   // a regular expression of lines that the kernel's result has and ours lacks, in place of Ours and Kernel
	Both     string   // a regular expression, in place of those; what matches in either result is of one run, and left out
	Limited  string   // a regular expression of log lines, in place of those; the kernel leaves out what comes too fast, so it may lack some of ours
	Reason   string

	step, ours, only, both, limited *regexp.Regexp
	mutual                          bool            // ours is another run of the kernel, so either may lack what is Limited
	used                            map[string]bool // drivers for which it made a difference
}

// Differences are all of them.
type Differences struct{ list []*Difference }

// Dir returns the directory of the scenarios, which a test reaches from that of its package.
func Dir() string { return filepath.Join("..", "scenarios") }

// LoadDifferences reads a file of differences.
func LoadDifferences(path string) (*Differences, error) {
	var file struct {
		Difference []*Difference `toml:"difference"`
	}
	meta, err := toml.DecodeFile(path, &file)
	if err != nil {
		return nil, err
	}
	if extra := meta.Undecoded(); len(extra) > 0 {
		return nil, fmt.Errorf("%s: unknown key %q", path, extra[0])
	}
	for i, d := range file.Difference {
		if d.Reason == "" || d.Scenario == "" {
			err = errors.Join(err, fmt.Errorf("%s: difference %d has no scenario or no reason", path, i+1))
		}
		var e1, e2, e3, e4, e5 error
		d.step, e1 = regexp.Compile("^(?:" + d.Step + ")$")
		d.ours, e2 = regexp.Compile("(?s)" + d.Ours)
		d.only, e3 = regexp.Compile("^(?:" + d.Only + ")$")
		d.both, e4 = regexp.Compile("(?s)" + d.Both)
		d.limited, e5 = regexp.Compile("^log: (?:" + d.Limited + ")$")
		d.used = make(map[string]bool)
		err = errors.Join(err, e1, e2, e3, e4, e5)
	}
	return &Differences{file.Difference}, err
}

// All returns the differences in the order of the file.
func (ds *Differences) All() []*Difference { return ds.list }

// OfOneRun returns those that say what is of one run, which the kernel does not repeat either.
func (ds *Differences) OfOneRun() *Differences {
	var list []*Difference
	for _, d := range ds.list {
		if len(d.In) == 0 && (d.Both != "" || d.Limited != "") {
			mutual := *d
			mutual.mutual = true
			list = append(list, &mutual)
		}
	}
	return &Differences{list}
}

// Applies reports whether d is about a scenario played by a driver.
func (d *Difference) Applies(scenario, driver string) bool {
	ok, err := filepath.Match(d.Scenario, scenario)
	return err == nil && ok && (len(d.In) == 0 || slices.Contains(d.In, driver))
}

// Unused returns the differences that made none in what a driver played; names are the scenarios it played. What is Limited depends on how
// fast the kernel was.
func (ds *Differences) Unused(driver string, names []string) []*Difference {
	var list []*Difference
	for _, d := range ds.list {
		played := slices.ContainsFunc(names, func(name string) bool { return d.Applies(name, driver) })
		if played && d.Limited == "" && !d.used[driver] {
			list = append(list, d)
		}
	}
	return list
}

// Compare compares what a driver played with what the kernel did, apart from what is meant to differ. It
// returns nil or an error that shows each step that differs.
func (ds *Differences) Compare(name, driver string, kernel, ours Transcript) error {
	var b strings.Builder
	for i := range max(len(kernel), len(ours)) {
		if i >= len(kernel) || i >= len(ours) || kernel[i].Step != ours[i].Step {
			fmt.Fprintf(&b, "step %d is not the same: record the golden anew (make golden)\n", i+1)
			break
		}
		k, o := kernel[i], ours[i]
		if ds.excused(name, driver, k, o.Text) {
			continue
		}
		fmt.Fprintf(&b, "$ %s\n--- kernel\n%s\n--- %s\n%s\n", k.Step, k.Text, driver, o.Text)
	}
	if b.Len() == 0 {
		return nil
	}
	return errors.New(b.String())
}

// excused reports whether our result of a step is the kernel's, or should be another and is.
func (ds *Differences) excused(name, driver string, k Result, ours string) bool {
	first, _, _ := strings.Cut(k.Step, "\n")
	kernel := k.Text
	for _, d := range ds.list {
		if ours == kernel {
			return true
		}
		if !d.Applies(name, driver) || !d.step.MatchString(first) {
			continue
		}
		o, k := d.apply(ours, kernel)
		if o != ours || k != kernel {
			d.used[driver] = true
		}
		ours, kernel = o, k
	}
	return ours == kernel
}

// apply returns both results without the difference.
func (d *Difference) apply(ours, kernel string) (o, k string) {
	if d.Both != "" {
		return d.both.ReplaceAllString(ours, ""), d.both.ReplaceAllString(kernel, "")
	}
	if d.Limited != "" {
		o, k = without(d.limited, ours, kernel), kernel
		if d.mutual {
			k = without(d.limited, kernel, ours)
		}
		return o, k
	}
	if d.Only == "" {
		return d.ours.ReplaceAllString(ours, d.Kernel), kernel
	}
	return ours, without(d.only, kernel, "")
}

// without returns text without the lines that match, but with those that other has, too, each as often as other has it.
func without(match *regexp.Regexp, text, other string) string {
	has := make(map[string]int)
	for line := range strings.SplitSeq(other, "\n") {
		has[line]++
	}
	var kept []string
	for line := range strings.SplitSeq(text, "\n") {
		if has[line]--; has[line] >= 0 || !match.MatchString(line) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// Load reads the scenarios of a directory, sorted by name.
func Load(dir string) ([]*Scenario, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.scenario"))
	if err != nil || len(paths) == 0 {
		return nil, fmt.Errorf("no scenarios in %s: %v", dir, err)
	}
	var list []*Scenario
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		s, err := Parse(strings.TrimSuffix(filepath.Base(path), ".scenario"), string(text))
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// GoldenPath returns where the kernel's transcript of a scenario lies.
func GoldenPath(dir, name string) string { return filepath.Join(dir, name+".golden") }

// LoadGolden reads the kernel's transcript of a scenario.
func LoadGolden(dir, name string) (Transcript, error) {
	text, err := os.ReadFile(GoldenPath(dir, name))
	if err != nil {
		return nil, fmt.Errorf("%w: record it with make golden", err)
	}
	return ParseTranscript(string(text))
}
