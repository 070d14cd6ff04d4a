// Package arch tests the rules that docs/architecture.md states in words. Each failure says why the rule exists;
// a rule that makes a piece of code worse gets an exception here, with its reason.
package arch

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "dmfs"

// A file is a parsed source file of the module.
type file struct {
	path  string // from the root of the module, with slashes
	dir   string // of the package; "." for the root
	test  bool
	lines int
	ast   *ast.File
}

var fset = token.NewFileSet()

// sources returns the files of the module. They are read within a test and not before, so that go test knows
// what a result depends on and does not take an old one from its cache.
var sources = sync.OnceValues(func() (files []*file, err error) {
	root := filepath.Join("..", "..")
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "build") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parse(root, path)
		files = append(files, f)
		return err
	})
	return files, err
})

// all returns the files of the module.
func all(t *testing.T) []*file {
	t.Helper()
	files, err := sources()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func parse(root, path string) (*file, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return nil, err
	}
	rel = filepath.ToSlash(rel)
	tree, err := parser.ParseFile(fset, rel, text, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	return &file{
		path: rel, dir: filepath.ToSlash(filepath.Dir(rel)), test: strings.HasSuffix(rel, "_test.go"),
		lines: strings.Count(string(text), "\n"), ast: tree,
	}, nil
}

// imports returns the paths that f imports.
func (f *file) imports() []string {
	var paths []string
	for _, i := range f.ast.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		paths = append(paths, path)
	}
	return paths
}

// under reports whether dir is one of the rooms or lies in one.
func under(dir string, rooms ...string) bool {
	return slices.ContainsFunc(rooms, func(room string) bool {
		return dir == room || strings.HasPrefix(dir, room+"/")
	})
}

// at returns the position of n for messages.
func at(n ast.Node) string { return fset.Position(n.Pos()).String() }

// arrows says for each room which rooms of the module it may import. The first room that a package is in counts. Rooms
// may import themselves.
var arrows = []struct {
	room string
	may  []string
	why  string
}{
	{"mapper/disk", []string{"mapper"}, "it is what tables stand on"},
	{"mapper/keyring", []string{"mapper/secret", "mapper"}, "it finds keys for whoever asks"},
	{"mapper/mappertest", []string{"mapper"}, "every package tests with it, so it stands on the core alone"},
	{"mapper", nil, "the core knows no file system above it and no format below it"},
	{"targets/internal", []string{"mapper"}, "what targets share knows no target"},
	{"targets/pdata", []string{"mapper", "targets/internal"}, "what targets share knows no target"},
	{"targets", []string{"mapper", "targets"}, "a target stands on the core"},
	{"config", []string{"mapper"}, "the configuration knows names and shapes, never what a target does"},
	{"fs/control", []string{"mapper"}, "the control language is spoken without FUSE, too"},
	{"fs/task", nil, "it looks at threads, whatever they wait for"},
	{"fs", []string{"mapper", "fs/control", "fs/task"}, "the edge calls devices and holds no storage logic"},
	{"cmd/internal/dmioctl", []string{"fs/control", "mapper"}, "it speaks to a mount through the control file"},
	{"cmd/internal/dmsetup", []string{"fs/control", "mapper"}, "it speaks to a mount through the control file"},
	{"cmd/internal/exec/seccomp", nil, "it answers system calls for whoever knows what to answer"},
	{"cmd/internal/exec/sandbox", []string{"cmd/internal/exec/seccomp"}, "it makes surroundings, and knows no devices"},
	{"cmd/internal/exec/parttable", []string{"mapper"}, "it is a format, of any disk"},
	{"cmd/internal/exec/blockdev", []string{"cmd/internal/exec/caller", "cmd/internal/exec/parttable", "fs/control", "mapper"}, "it is the ioctls, of any device"},
	{"cmd/internal/exec/loopdev", []string{"cmd/internal/exec/caller"}, "it is the ioctls, of any device"},
	{"cmd/internal/exec", []string{"cmd/internal/dmioctl", "fs/control", "fs/task", "mapper"}, "all state is in the mount, which it speaks to through the control file"},
	{"cmd/internal/mount", []string{"fs", "mapper"}, "it mounts what it is given"},
	{"cmd", []string{"cmd", "fs", "targets", "config", "mapper"}, "the program puts the rooms together"},
	{"dmfstest", nil, "it is for other modules, and starts the built program"},
	{"tests", []string{"cmd", "fs", "targets", "config", "mapper", "tests"}, "these tests need more than one room"},
}

func TestArrows(t *testing.T) {
	for _, f := range all(t) {
		if f.test {
			continue // tests may stand in front of the door; the rule for targets is below
		}
		i := slices.IndexFunc(arrows, func(a struct {
			room string
			may  []string
			why  string
		}) bool {
			return under(f.dir, a.room)
		})
		if i < 0 {
			t.Errorf("%s: package %s is in no room of docs/architecture.md; add it there and here", f.path, f.dir)
			continue
		}
		for _, path := range f.imports() {
			to, ours := strings.CutPrefix(path, module+"/")
			if ours && !under(to, append(arrows[i].may, arrows[i].room)...) {
				t.Errorf("%s imports %s; %s may import %v: %s", f.path, to, arrows[i].room, arrows[i].may, arrows[i].why)
			}
		}
	}
}

// family returns the target family that dir belongs to, or "".
func family(dir string) string {
	rest, ok := strings.CutPrefix(dir, "targets/")
	name, _, _ := strings.Cut(rest, "/")
	if !ok || name == "internal" || name == "pdata" {
		return ""
	}
	return name
}

func TestTargetsAreIndependent(t *testing.T) {
	for _, f := range all(t) {
		for _, path := range f.imports() {
			to := family(strings.TrimPrefix(path, module+"/"))
			if from := family(f.dir); from != "" && to != "" && from != to {
				t.Errorf("%s imports target %s: what two targets share belongs in targets/internal or targets/pdata, "+
					"so that each can be read and changed alone", f.path, to)
			}
		}
	}
}

func TestTheEdgeIsClosed(t *testing.T) {
	for _, f := range all(t) {
		for _, path := range f.imports() {
			if strings.HasPrefix(path, "github.com/hanwen/go-fuse") && f.dir != "fs" && !(f.test && under(f.dir, "tests")) {
				t.Errorf("%s imports go-fuse: only fs may, since another engine is to take its place", f.path)
			}
			if path == module+"/fs" && !under(f.dir, "cmd", "tests", "fs") {
				t.Errorf("%s imports fs: only cmd may, since nothing depends on how devices are shown", f.path)
			}
		}
	}
}

func TestCoreStandsOnLittle(t *testing.T) {
	for _, f := range all(t) {
		for _, path := range f.imports() {
			first, _, _ := strings.Cut(path, "/")
			std := !strings.Contains(first, ".")
			if f.dir == "mapper" && !f.test && !std && !strings.HasPrefix(path, "golang.org/x/sys/") {
				t.Errorf("%s imports %s: the core stands on the standard library and x/sys", f.path, path)
			}
		}
	}
}

func TestNoHiddenRegistration(t *testing.T) {
	for _, f := range all(t) {
		for _, i := range f.ast.Imports {
			if i.Name != nil && i.Name.Name == "_" && i.Path.Value != `"embed"` {
				t.Errorf("%s imports %s for its effects: what is registered is listed in targets.go, for all to see", f.path, i.Path.Value)
			}
		}
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: init: work that nobody called for cannot be tested or left out; write a function", at(fn))
			}
		}
	}
}

func TestPackageNames(t *testing.T) {
	for _, f := range all(t) {
		if slices.Contains([]string{"util", "utils", "common", "types", "helpers"}, f.ast.Name.Name) {
			t.Errorf("%s: package %s says nothing about what is in it", f.path, f.ast.Name.Name)
		}
	}
}

// longFiles are the files that may be longer than 500 lines.
var longFiles = map[string]string{ // path: reason
}

func TestFilesAreShort(t *testing.T) {
	const most = 500
	for _, f := range all(t) {
		if reason := longFiles[f.path]; f.lines > most && reason == "" {
			t.Errorf("%s has %d lines, want at most %d: a file is one idea that fits in a head", f.path, f.lines, most)
		} else if f.lines <= most && reason != "" {
			t.Errorf("%s has %d lines and needs no exception", f.path, f.lines)
		}
	}
}

func TestPackagesHaveComments(t *testing.T) {
	commented := make(map[string]bool)
	for _, f := range all(t) {
		commented[f.dir] = commented[f.dir] || f.ast.Doc != nil
	}
	for dir, ok := range commented {
		if !ok {
			t.Errorf("package %s has no comment that says what it is for", dir)
		}
	}
}

// TestExportedNamesHaveComments: methods are excused where their type is not exported.
func TestExportedNamesHaveComments(t *testing.T) {
	byDir := make(map[string][]*ast.File)
	for _, f := range all(t) {
		if f.test {
			continue
		}
		// Parsed again, since go/doc takes what is not exported out of the tree.
		tree, err := parser.ParseFile(fset, filepath.Join("..", "..", f.path), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		byDir[f.dir] = append(byDir[f.dir], tree)
	}
	for dir, trees := range byDir {
		p, err := doc.NewFromFiles(fset, trees, module+"/"+dir)
		if err != nil {
			t.Fatalf("%s: %v", dir, err)
		}
		uncommented := func(n ast.Node, text string, names ...string) {
			if strings.TrimSpace(text) == "" {
				t.Errorf("%s: %s has no comment: say units, bounds, who owns buffers, which errors", at(n), strings.Join(names, ", "))
			}
		}
		values := func(all []*doc.Value) {
			for _, v := range all {
				valuesHaveComments(v, uncommented)
			}
		}
		values(p.Consts)
		values(p.Vars)
		for _, f := range p.Funcs {
			uncommented(f.Decl, f.Doc, f.Name)
		}
		for _, typ := range p.Types {
			if !inGroupWithComment(typ) {
				uncommented(typ.Decl, typ.Doc, typ.Name)
			}
			values(typ.Consts)
			values(typ.Vars)
			for _, f := range append(typ.Funcs, typ.Methods...) {
				uncommented(f.Decl, f.Doc, typ.Name+": "+f.Name)
			}
		}
	}
}

// valuesHaveComments accepts a comment on the group, above a value, or behind it.
func valuesHaveComments(v *doc.Value, uncommented func(ast.Node, string, ...string)) {
	if v.Doc != "" {
		return
	}
	for _, s := range v.Decl.Specs {
		spec := s.(*ast.ValueSpec)
		if spec.Names[0].IsExported() {
			uncommented(spec, spec.Doc.Text()+spec.Comment.Text(), spec.Names[0].Name)
		}
	}
}

// inGroupWithComment reports whether the group that declares a type is commented, or the type itself is in it.
func inGroupWithComment(t *doc.Type) bool {
	for _, s := range t.Decl.Specs {
		if spec := s.(*ast.TypeSpec); spec.Name.Name == t.Name && spec.Doc.Text()+spec.Comment.Text() != "" {
			return true
		}
	}
	return t.Decl.Doc.Text() != ""
}
