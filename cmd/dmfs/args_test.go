package main

import (
	"slices"
	"strings"
	"testing"
)

func TestParseArgs(t *testing.T) {
	for _, tt := range []struct{ args, got, words, err string }{
		{args: "MNT -f -o a -ob --options=c", got: "f o=a o=b o=c", words: "MNT"},
		{args: "-fn A -- -f", got: "f n", words: "A -f"},
		{args: "-fo x B", got: "f o=x", words: "B"},
		{args: "-x", err: "unknown option -x"},
		{args: "--frob=1", err: "unknown option --frob"},
		{args: "--front=1", err: "option --front takes no value"},
		{args: "A -o", err: "option -o needs a value"},
		{args: "-", words: "-"},
	} {
		var got []string
		words, err := parseArgs(strings.Fields(tt.args), []flag{
			{names: "-f --front", set: func() { got = append(got, "f") }},
			{names: "-n", set: func() { got = append(got, "n") }},
			{names: "-o --options", take: func(v string) { got = append(got, "o="+v) }},
		})
		if tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("%s: got %v, want %s", tt.args, err, tt.err)
			}
			continue
		}
		if err != nil || !slices.Equal(got, strings.Fields(tt.got)) || !slices.Equal(words, strings.Fields(tt.words)) {
			t.Errorf("%s: got %q, %q, %v", tt.args, got, words, err)
		}
	}
}
