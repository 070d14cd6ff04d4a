package random

import (
	"slices"
	"strconv"
	"strings"

	"dmfs/tests/scenario"
)

// Shrink returns the smallest scenario it finds that still fails: it leaves out steps of s, and then takes segments from tables
// and sectors from I/O. It asks at most tries times.
func Shrink(s *scenario.Scenario, tries int, fails func(*scenario.Scenario) bool) *scenario.Scenario {
	least := *s
	ask := func(steps []scenario.Step) bool {
		if tries == 0 || len(steps) == 0 {
			return false
		}
		tries--
		try := least
		try.Steps = steps
		if fails(&try) {
			least = try
			return true
		}
		return false
	}
	for n := max(1, len(least.Steps)/2); tries > 0; n = max(1, n/2) {
		if smaller := dropSteps(&least, n, ask); n == 1 && !smaller {
			break
		}
	}
	for i := 0; i < len(least.Steps); i++ {
		for {
			simplified := slices.ContainsFunc(simpler(least.Steps[i]), func(step scenario.Step) bool {
				steps := slices.Clone(least.Steps)
				steps[i] = step
				return ask(steps)
			})
			if !simplified {
				break
			}
		}
	}
	return &least
}

// dropSteps asks for least without n steps, everywhere, and reports whether that made it smaller.
func dropSteps(least *scenario.Scenario, n int, ask func([]scenario.Step) bool) (smaller bool) {
	for from := len(least.Steps) - 1; from >= 0; from -= n {
		to := min(from+1, len(least.Steps))
		if ask(slices.Delete(slices.Clone(least.Steps), max(0, to-n), to)) {
			smaller = true
		}
	}
	return smaller
}

// simpler returns steps that do the same with less: a table without one of its segments, I/O on half as many sectors.
func simpler(s scenario.Step) (list []scenario.Step) {
	for i := range s.Table {
		if len(s.Table) == 1 {
			break
		}
		var table []scenario.Line
		var start uint64
		for j, l := range s.Table {
			if j == i {
				continue
			}
			l.Start = start
			start += l.Len
			table = append(table, l)
		}
		list = append(list, s.WithTable(table))
	}
	const count = 3 // the word that says how many sectors
	switch s.Words[0] {
	case "read", "write", "discard", "zeroout":
		if n, err := strconv.Atoi(s.Words[count]); err == nil && n > 1 {
			words := slices.Clone(s.Words)
			words[count] = strconv.Itoa(n / 2)
			list = append(list, scenario.Step{Words: words, Lines: []string{strings.Join(words, " ")}})
		}
	}
	return list
}
