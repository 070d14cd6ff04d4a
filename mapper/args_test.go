package mapper

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSplitArgs(t *testing.T) {
	for _, c := range []struct {
		line string
		want []string // nil: refused
	}{
		{"", []string{}},
		{" \t ", []string{}},
		{"0 8 linear a 0", []string{"0", "8", "linear", "a", "0"}},
		{`a\ b c`, []string{"a b", "c"}},
		{`"a b" c`, []string{"a b", "c"}},
		{`a"b c"d`, []string{"ab cd"}},
		{`"" x ""`, []string{"", "x", ""}},
		{`\"a\\`, []string{`"a\`}},
		{`"a\"b"`, []string{`a"b`}},
		{"a\nb\rc", []string{"a", "b", "c"}},
		{`a\`, nil},
		{`"a`, nil},
	} {
		got, err := SplitArgs(c.line)
		if (err == nil) != (c.want != nil) || !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q, %v; want %q", c.line, got, err, c.want)
		}
	}
}

func TestQuoteArgQuotesOnlyWhereNeeded(t *testing.T) {
	for s, want := range map[string]string{
		"/dev/sda":     "/dev/sda",
		"253:7":        "253:7",
		"":             `""`,
		"a b":          `"a b"`,
		`a"b\c`:        `"a\"b\\c"`,
		"a;b":          `"a;b"`,
		"nbd://h/{x},": `"nbd://h/{x},"`,
		"é":            "é",
	} {
		if got := QuoteArg(s); got != want {
			t.Errorf("%q: got %s, want %s", s, got, want)
		}
	}
}

// FuzzSplitArgs: words that were quoted and joined come back, and no line makes it panic.
func FuzzSplitArgs(f *testing.F) {
	f.Add("a b", `c"d\`, "")
	f.Add("\n", "\x00", "{;}#,")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		words := []string{a, b, c}
		line := QuoteArg(a) + " " + QuoteArg(b) + "\t" + QuoteArg(c)
		if got, err := SplitArgs(line); err != nil || !slices.Equal(got, words) {
			t.Errorf("%q came back from %s as %q, %v", words, line, got, err)
		}
		if got, err := SplitArgs(a); err == nil {
			var quoted []string
			for _, w := range got {
				quoted = append(quoted, QuoteArg(w))
			}
			if again, err := SplitArgs(strings.Join(quoted, " ")); err != nil || !slices.Equal(again, got) {
				t.Errorf("%q splits into %q, and that into %q, %v", a, got, again, err)
			}
		}
	})
}

func TestParseTable(t *testing.T) {
	specs, err := ParseTable("# two disks\n\n 0 8 linear a 0\r\n\t8 16 striped 2 4 \"b c\" 0 d 1\n")
	want := []Spec{
		{Start: 0, Len: 8, Type: "linear", Args: []string{"a", "0"}},
		{Start: 8, Len: 16, Type: "striped", Args: []string{"2", "4", "b c", "0", "d", "1"}},
	}
	if err != nil || !slices.EqualFunc(specs, want, sameSpec) {
		t.Errorf("got %+v, %v", specs, err)
	}
	// A quoted blank at the end of a line belongs to the word.
	if specs, err := ParseTable(`0 8 linear a\ ` + "\r\n"); err != nil || len(specs) != 1 || !slices.Equal(specs[0].Args, []string{"a "}) {
		t.Errorf("got %q, %v", specs, err)
	}
	for text, line := range map[string]int{
		"0 8":                        1,
		"0 8 zero\n8 x zero":         2,
		"\n\n-1 8 zero":              3,
		"0 8 \"zero":                 1,
		"0 18446744073709551616 z":   1,
		"0 8 zero\n#\n8 8 linear \\": 3,
	} {
		_, err := ParseTable(text)
		var at *LineError
		if !errors.As(err, &at) || at.Line != line || Errno(err) != unix.EINVAL {
			t.Errorf("%q: got %v (%v), want an error at line %d", text, err, Errno(err), line)
		}
	}
}

func sameSpec(a, b Spec) bool {
	return a.Start == b.Start && a.Len == b.Len && a.Type == b.Type && slices.Equal(a.Args, b.Args)
}

// FuzzParseTable: what was parsed is parsed again from its String.
func FuzzParseTable(f *testing.F) {
	f.Add("0 8 linear a 0\n8 8 zero")
	f.Add("0 0 \f\"\"")
	f.Add("# x\n0 18446744073709551615 \"\" \"a b\"")
	f.Fuzz(func(t *testing.T, text string) {
		specs, err := ParseTable(text)
		if err != nil {
			var at *LineError
			if !errors.As(err, &at) || at.Line < 1 || at.Line > strings.Count(text, "\n")+1 {
				t.Errorf("%v: want a line of the text", err)
			}
			return
		}
		var lines []string
		for _, s := range specs {
			lines = append(lines, s.String())
		}
		again, err := ParseTable(strings.Join(lines, "\n"))
		if err != nil || !slices.EqualFunc(again, specs, sameSpec) {
			t.Errorf("%q\nparsed as %+v\nprinted and parsed again as %+v, %v", text, specs, again, err)
		}
	})
}
