package dmioctl

import (
	"slices"
	"strings"
	"testing"
)

func TestSplitWords(t *testing.T) {
	for s, want := range map[string][]string{
		"": nil, " \t\v\f\r\n\xa0": nil, "a": {"a"}, " a  b ": {"a", "b"}, `a\ b c`: {"a b", "c"}, `a\`: {`a\`}, `\\ \"x y"`: {`\`, `"x`, `y"`},
		"a\xa0b": {"a", "b"}, "\xe9\xa1": {"\xe9\xa1"},
	} {
		if got := splitWords([]byte(s)); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}

// swapping is a Translator for which the mount's 253:N are the caller's 8:N, and /img/x is 7:0.
type swapping struct{ plain }

func (swapping) Disk(word string) string {
	if n, ok := strings.CutPrefix(word, "8:"); ok {
		return "253:" + n
	}
	if word == "7:0" {
		return "/img/a b"
	}
	return word
}

func (swapping) Word(disk string) string {
	if n, ok := strings.CutPrefix(disk, "253:"); ok {
		return "8:" + n
	}
	if disk == "/img/a b" {
		return "7:0"
	}
	return disk
}

// What the mount prints is told with the caller's names, its blanks as they are, and quotes as the kernel has none.
func TestTold(t *testing.T) {
	s := New(nil, swapping{})
	for params, want := range map[string]string{
		"": "", "253:3 0": "8:3 0", "2 253:1  253:2 1 AA ": "2 8:1  8:2 1 AA ", `"/img/a b" 0`: "7:0 0", `"/img/c d" 0`: `/img/c\ d 0`,
		`"/img/c\"d"`: `/img/c"d`, `"unclosed 253:1`: `"unclosed 253:1`, `x"y z"`: `x"y z"`, `a\b`: `a\b`,
		"meta_device:253:3 x:253:3": "meta_device:8:3 x:253:3", `"meta_device:/img/a b"`: "meta_device:7:0",
	} {
		if got := s.told(params); got != want {
			t.Errorf("%s: %q, want %q", params, got, want)
		}
	}
}

// A word of a table that names a disk, or has a disk in it, is given to the mount with the mount's name of that.
func TestDisk(t *testing.T) {
	s := New(nil, swapping{})
	for word, want := range map[string]string{
		"8:3": "253:3", "meta_device:8:3": "meta_device:253:3", "meta_device:7:0": `"meta_device:/img/a b"`, "meta_device": "meta_device",
		"internal_hash:8:3": "internal_hash:8:3",
	} {
		c := newCommand("load")
		if err := s.disk(c, word); err != nil || string(c.text) != "load "+want {
			t.Errorf("%s: %q, %v, want %s", word, c.text, err, want)
		}
	}
}
