package arch

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mayBeAssembly are the packages with assembly.
var mayBeAssembly = map[string]string{ // directory: reason
	"targets/internal/aescbc": "AES-CBC, eight to 32 blocks at a time, ten to thirty times the speed of what Go's libraries have",
	"targets/internal/aeskey": "expansion of AES keys without tables, whose time would tell about the key",
	"targets/internal/aesxts": "AES-XTS by 32 blocks, dozens of times the speed of what Go's libraries have; all of a crypt device's work",

	"targets/internal/sha256x2": "SHA-256 of two blocks at a time, twice the speed of one after the other; most of a verity device's work",
}

var asmFunction = regexp.MustCompile(`^TEXT ·(\w+)\(SB\)`)

// TestAssembly: assembly is what fewest can check, so it is rare, in short files, and each function has its declaration in Go and
// what it does above it; a header, which is a body, says at its top how it uses the registers.
func TestAssembly(t *testing.T) {
	seen := make(map[string]bool)
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "build") {
			return filepath.SkipDir
		}
		ext := filepath.Ext(path)
		if d.IsDir() || ext != ".s" && ext != ".S" && ext != ".h" {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		dir := filepath.ToSlash(filepath.Dir(rel))
		seen[dir] = true
		if mayBeAssembly[dir] == "" {
			t.Errorf("%s: assembly: write Go, or list the package here with a reason", rel)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		checkAssembly(t, rel, strings.Split(string(text), "\n"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir := range mayBeAssembly {
		if !seen[dir] {
			t.Errorf("%s has no assembly and needs no exception", dir)
		}
	}
}

func checkAssembly(t *testing.T, path string, lines []string) {
	const most = 500
	if len(lines) > most {
		t.Errorf("%s has %d lines, want at most %d", path, len(lines), most)
	}
	if strings.HasSuffix(path, ".h") && !strings.HasPrefix(lines[0], "// ") {
		t.Errorf("%s: no comment at its top: say what it is the body of, what each register holds, and why it is right", path)
	}
	for i, line := range lines {
		m := asmFunction.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		first := i
		for first > 0 && strings.HasPrefix(lines[first-1], "//") {
			first--
		}
		if !strings.HasPrefix(lines[first], "// func "+m[1]+"(") {
			t.Errorf("%s:%d: the comment of %s does not begin with its declaration in Go", path, i+1, m[1])
		}
	}
}
