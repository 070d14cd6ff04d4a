package arch

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// inCode calls f for each node of the non-test files of the rooms.
func inCode(t *testing.T, rooms []string, visit func(f *file, n ast.Node)) {
	for _, f := range all(t) {
		if f.test || !under(f.dir, rooms...) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if n != nil {
				visit(f, n)
			}
			return true
		})
	}
}

// mayHaveGoroutines are the packages in targets/ whose purpose is to run goroutines.
var mayHaveGoroutines = map[string]string{ // directory: reason
	"targets/internal/worker": "it owns the goroutines of targets: they live from Resume to PostSuspend",
	"targets/internal/copier": "it bounds the copies that run at a time",
}

func TestNoNakedGoroutinesInTargets(t *testing.T) {
	const why = "use targets/internal/worker, which stops with the target, or mapper.FanOut, which waits"
	inCode(t, []string{"targets"}, func(f *file, n ast.Node) {
		if mayHaveGoroutines[f.dir] != "" {
			return
		}
		switch n := n.(type) {
		case *ast.GoStmt:
			t.Errorf("%s: a goroutine without an owner: %s", at(n), why)
		case *ast.CallExpr:
			sel, ok := n.Fun.(*ast.SelectorExpr)
			if ok && sel.Sel.Name == "Go" && slices.Contains(f.imports(), "sync") { // a WaitGroup's
				t.Errorf("%s: a goroutine without an owner (%s.Go): %s", at(n), sel.X, why)
			}
		}
	})
}

// bytesLiveIn are the places that may count sectors in bytes by hand.
func bytesLiveIn(f *file) bool {
	return f.dir == "fs" || f.dir == "mapper/disk" || f.path == "mapper/bytes.go" || f.path == "mapper/request.go"
}

// sectorLiteral returns what n does with a sector size written as a number, or "".
func sectorLiteral(n ast.Node) string {
	b, ok := n.(*ast.BinaryExpr)
	if !ok {
		return ""
	}
	is := func(e ast.Expr, values ...string) bool {
		lit, ok := e.(*ast.BasicLit)
		for _, v := range values {
			if ok && lit.Kind == token.INT && lit.Value == v {
				return true
			}
		}
		return false
	}
	switch b.Op {
	case token.MUL, token.QUO, token.REM, token.AND, token.AND_NOT:
		if is(b.X, "512", "511", "0x200", "0x1ff") || is(b.Y, "512", "511", "0x200", "0x1ff") {
			return "arithmetic with 512"
		}
	case token.SHL, token.SHR:
		if is(b.Y, "9") {
			return "a shift by 9"
		}
	}
	return ""
}

// reportsInBytes are rooms that print or parse numbers of bytes for people, and are no part of the data path.
var reportsInBytes = []string{"cmd", "tests"}

func TestSectorsAreNotBytes(t *testing.T) {
	for _, f := range all(t) {
		if f.test || bytesLiveIn(f) || under(f.dir, reportsInBytes...) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if what := sectorLiteral(n); what != "" {
				t.Errorf("%s: %s: use mapper.Sector.Bytes, SectorsOf or SectorSize; bytes live in fs, mapper/bytes.go and mapper/disk, "+
					"everywhere else it is sectors", at(n), what)
			}
			return true
		})
	}
}

// mayPanic are the files where a panic means that the program itself is wrong.
var mayPanic = map[string]string{ // path: reason
	"mapper/registry.go":         "a type registered twice",
	"mapper/gate.go":             "shut or opened twice: whoever shuts a gate holds a lock over it",
	"mapper/table.go":            "a wait without a deadline that ended",
	"mapper/inspect.go":          "a wait without a deadline that ended",
	"mapper/mappertest/crash.go": "a disk without its supply",

	"targets/internal/aesxts/aesxts.go":     "lengths that do not fit, or a key used after it was wiped: going on would destroy data",
	"targets/internal/aescbc/aescbc.go":     "as aesxts.go",
	"targets/internal/aescbc/impl_other.go": "assembly chosen where there is none",
	"targets/internal/aeskey/cpu_other.go":  "assembly called where there is none",
	"targets/internal/aesxts/impl_other.go": "assembly chosen where there is none",

	"targets/internal/sha256x2/impl_other.go": "assembly called where there is none",
}

func TestNoPanics(t *testing.T) {
	seen := make(map[string]bool)
	inCode(t, []string{"mapper", "targets", "fs", "config", "cmd"}, func(f *file, n ast.Node) {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return
		}
		if id, ok := call.Fun.(*ast.Ident); ok && id.Name == "panic" {
			seen[f.path] = true
			if mayPanic[f.path] == "" && !strings.Contains(filepath.Base(f.path), "invariant") {
				t.Errorf("%s: panic: bad input is an error, a corrupt disk degrades; a panic is for broken code, under the build tag "+
					"invariants or listed here with its reason", at(n))
			}
		}
	})
	for path := range mayPanic {
		if !seen[path] {
			t.Errorf("%s does not panic and needs no exception", path)
		}
	}
}

// manualParts are what the manual of every target has, in this order.
var manualParts = []string{"# Use", "# Table line", "# Status and messages", "# Limits", "# Ordering and crashes", "# Differences from the kernel"}

// TestTargetsHaveManualsAndConformance: what a target promises is written down, and tested as for all others.
func TestTargetsHaveManualsAndConformance(t *testing.T) {
	manual, conforms, fuzzes, listed := make(map[string]string), make(map[string]bool), make(map[string]bool), make(map[string]bool)
	for _, f := range all(t) {
		if f.path == "targets/targets.go" {
			for _, path := range f.imports() {
				listed[family(strings.TrimPrefix(path, module+"/"))] = true
			}
		}
		name := family(f.dir)
		if name == "" || f.dir != "targets/"+name {
			continue
		}
		if f.ast.Doc != nil {
			manual[name] += f.ast.Doc.Text()
		}
		text, err := os.ReadFile(filepath.Join("..", "..", f.path))
		if err != nil {
			t.Fatal(err)
		}
		manual[name] += "" // so that a package without a comment is listed
		conforms[name] = conforms[name] || f.test && strings.Contains(string(text), "mappertest.TestTarget(")
		fuzzes[name] = fuzzes[name] || f.test && strings.Contains(string(text), "func FuzzArgs(")
	}
	for name, text := range manual {
		rest := text
		for _, part := range manualParts {
			_, after, ok := strings.Cut(rest, "\n"+part+"\n")
			if !ok {
				t.Errorf("targets/%s: the manual has no %q in its place; the parts are %q", name, part, manualParts)
				break
			}
			rest = after
		}
		if !listed[name] {
			t.Errorf("targets/%s: not in targets.go, the one list of every target", name)
		}
		if !conforms[name] {
			t.Errorf("targets/%s: no test calls mappertest.TestTarget, which tests what every target must do", name)
		}
		if !fuzzes[name] {
			t.Errorf("targets/%s: no FuzzArgs: table lines come from anybody", name)
		}
	}
}
