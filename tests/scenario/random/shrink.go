package random

import (
	"slices"

	"dmfs/tests/scenario"
)

// Shrink returns the smallest scenario it finds by leaving out steps of s that still fails. It asks at most tries times.
func Shrink(s *scenario.Scenario, tries int, fails func(*scenario.Scenario) bool) *scenario.Scenario {
	least := *s
	for n := max(1, len(least.Steps)/2); tries > 0; {
		smaller := false
		for from := len(least.Steps) - 1; from >= 0 && tries > 0; from -= n {
			to := from + 1
			try := least
			try.Steps = slices.Delete(slices.Clone(least.Steps), max(0, to-n), to)
			tries--
			if len(try.Steps) > 0 && fails(&try) {
				least, smaller = try, true
				from = min(from, len(least.Steps))
			}
		}
		if n == 1 && !smaller {
			break
		}
		n = max(1, n/2)
	}
	return &least
}
