package random

import (
	"slices"
	"strings"
	"testing"

	"dmfs/tests/scenario"
)

// A scenario that fails for one segment of one table and one sector of one write comes down to little more than these.
func TestShrink(t *testing.T) {
	s, err := scenario.Parse("s", `# A failure among much else.
disk a 4096
disk b 4096
fill a 1
create x {
	0 8 linear @a@ 0
	8 8 zero
	16 100 linear @b@ 7
	116 4 linear @a@ 100
}
create y 0 8 zero
read x 0 120
write x 17 90 2
write y 0 8 3
flush x
hash x`)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	fails := func(s *scenario.Scenario) bool {
		asked++
		if _, err := scenario.Parse("again", s.Text()); err != nil {
			t.Fatalf("%v in\n%s", err, s.Text())
		}
		wrote := slices.ContainsFunc(s.Steps, func(s scenario.Step) bool { return s.Words[0] == "write" && s.Words[1] == "x" })
		return wrote && strings.Contains(s.Text(), "linear @b@ 7")
	}
	least := Shrink(s, 150, fails)
	want := "# A failure among much else.\ncreate x {\n0 100 linear @b@ 7\n}\nwrite x 17 1 2\n"
	if got := least.Text(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if !fails(least) || asked > 151 {
		t.Errorf("asked %d times, of 150", asked)
	}
	if got := Shrink(s, 0, fails); got.Text() != s.Text() {
		t.Error("without a try it is another")
	}
}
