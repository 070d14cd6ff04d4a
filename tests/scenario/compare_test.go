package scenario

import (
	"os"
	"path/filepath"
	"testing"
)

// The kernel may lack limited log lines that we have, but not the other way round; another run of it may, both ways.
func TestLimited(t *testing.T) {
	path := filepath.Join(t.TempDir(), "differences.toml")
	text := "[[difference]]\nscenario = \"*\"\nstep = \".*\"\nlimited = 'crypt: sector \\d+'\nreason = \"it is fast\"\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	ds, err := LoadDifferences(path)
	if err != nil {
		t.Fatal(err)
	}
	const none, one, two, twice, other = "EIO", "EIO\nlog: crypt: sector 1", "EIO\nlog: crypt: sector 2", "EIO\nlog: crypt: sector 1\nlog: crypt: sector 1", "EIO\nlog: crypt: gone"
	for _, c := range []struct {
		kernel, ours string
		alike, again bool
	}{
		{none, one, true, true},
		{one, none, false, true},
		{one, twice, true, true},
		{twice, one, false, true},
		{one, two, false, true},
		{one, one, true, true},
		{none, other, false, false},
		{other, none, false, false},
		{"ok", one, false, false},
	} {
		kernel, ours := Transcript{{Step: "read", Text: c.kernel}}, Transcript{{Step: "read", Text: c.ours}}
		if err := ds.Compare("x", "process", kernel, ours); (err == nil) != c.alike {
			t.Errorf("the kernel's %q and our %q: %v", c.kernel, c.ours, err)
		}
		if err := ds.OfOneRun().Compare("x", "kernel", kernel, ours); (err == nil) != c.again {
			t.Errorf("the kernel's %q and %q: %v", c.kernel, c.ours, err)
		}
	}
}
