package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dmfs/mapper"
)

const sample = `[disks]
data = "data.img"
fast = { path = "/srv/fast.img", direct = true, readonly = true }

[devices.top]
uuid = "U-1"
readonly = true
table = """
0 100 linear vol0 0
100 50 linear /dev/mapper/vol1 0
150 10 linear /mnt/dm/vol2 0
160 10 linear other.img 0
"""

[devices.vol2]
table = '0 10 linear data 0'

[devices.vol1]
table = "0 50 linear vol2 0"

[devices.vol0]
table = "# first\n0 60 linear data 0\n\n60 40 linear fast 0\n"
`

func TestParse(t *testing.T) {
	c, err := Parse("/etc/dmfs.toml", []byte(sample), "/mnt/dm")
	if err != nil {
		t.Fatal(err)
	}
	wantDisks := map[string]mapper.DiskConfig{
		"data": {Path: "/etc/data.img"},
		"fast": {Path: "/srv/fast.img", Direct: true, ReadOnly: true},
	}
	if fmt.Sprint(c.Disks) != fmt.Sprint(wantDisks) {
		t.Errorf("disks: got %v, want %v", c.Disks, wantDisks)
	}
	var names []string
	for _, d := range c.Devices {
		names = append(names, d.Name)
	}
	if want := []string{"vol0", "vol2", "vol1", "top"}; !slices.Equal(names, want) {
		t.Errorf("order: got %v, want %v", names, want)
	}
	top := c.Devices[3]
	if want := []string{"vol0", "vol1", "vol2"}; !slices.Equal(top.Uses, want) {
		t.Errorf("top uses: got %v, want %v", top.Uses, want)
	}
	if top.UUID != "U-1" || !top.ReadOnly || top.Minor != -1 || len(top.Table) != 4 {
		t.Errorf("top: got %+v", top.NewDevice)
	}
	if got := c.Devices[0].Table[1].String(); got != "60 40 linear fast 0" {
		t.Errorf("vol0: second segment %q", got)
	}
}

// Locate finds the line of a segment in each form of string that TOML has.
func TestLocate(t *testing.T) {
	text := "[devices]\n" + // 1
		"a.table = \"\"\"\n" + // 2
		"0 1 zero\n" + // 3: segment 0
		"# a comment\n" + // 4
		"\n" + // 5
		"1 1 \\\n" + // 6: segment 1, folded
		"   zero\n" + // 7
		"2 1 zero\"\"\"\n" + // 8: segment 2
		"[devices.b]\n" + // 9
		"table = '''0 1 zero\n" + // 10: segment 0
		"1 1 zero'''\n" + // 11: segment 1
		"[devices.c]\n" + // 12
		`table = "0 1 zero\n1 1 zero"` + "\n" + // 13
		"[devices.d]\n" + // 14
		"table = '''\r\n" + // 15
		"0 1 zero\r\n" + // 16
		"'''\n" // 17
	c, err := Parse("x.toml", []byte(text), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		device  string
		segment int
		line    int
	}{
		{"a", 0, 3}, {"a", 1, 6}, {"a", 2, 8}, {"b", 0, 10}, {"b", 1, 11}, {"c", 1, 13}, {"d", 0, 16},
	} {
		cause := &mapper.SegmentError{Index: tt.segment, Spec: mapper.Spec{Len: 1, Type: "zero"}, Err: errors.New("cause")}
		got := c.Locate(fmt.Errorf("load: %w", cause), tt.device).Error()
		want := fmt.Sprintf("x.toml:%d: device %s: load: segment %d (0+1 zero): cause", tt.line, tt.device, tt.segment)
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if got := c.Locate(errors.New("cause"), "b").Error(); got != "x.toml:9: device b: cause" {
		t.Errorf("without segment: %s", got)
	}
	if c.Locate(nil, "b") != nil {
		t.Error("Locate(nil) is an error")
	}
}

func TestKeys(t *testing.T) {
	c, err := Parse("/etc/dmfs.toml", []byte("certificates = ['a.pem', '/b.pem']\n[keys]\nfile = 'k'\npipe = { fd = 7 }\n"), "")
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]mapper.KeyConfig{"file": {Path: "/etc/k"}, "pipe": {FD: 7}}; fmt.Sprint(c.Keys) != fmt.Sprint(want) {
		t.Errorf("keys: got %v, want %v", c.Keys, want)
	}
	if want := []string{"/etc/a.pem", "/b.pem"}; !slices.Equal(c.Certificates, want) {
		t.Errorf("certificates: got %v, want %v", c.Certificates, want)
	}
}

func TestMistakes(t *testing.T) {
	long := strings.Repeat("n", 128)
	for _, tt := range []struct{ name, text, want string }{
		{"unknown table", "[disk]\na = 'b'", `x:1: unknown key "disk": want [disks], [devices.NAME], [keys] or certificates`},
		{"keys is no table", "keys = 'k'", "x:1: keys: want a table, found a string"},
		{"key of the wrong type", "[keys]\nk = 3", "x:2: key k: want a path or { fd = NUMBER }, found an integer"},
		{"key with an unknown key", "[keys]\nk = { file = 'f' }", "x:2: key k: want a path or { fd = NUMBER }"},
		{"key with two sources", "[keys]\nk = { fd = 3, path = 'f' }", "x:2: key k: want a path or { fd = NUMBER }"},
		{"key from standard input", "[keys]\nk = { fd = 0 }", "x:2: key k: fd: 0 is no descriptor for keys: want 3 or more"},
		{"key from one descriptor twice", "[keys]\na = { fd = 3 }\nb = { fd = 3 }", "x:3: key b: fd: key a is read from descriptor 3"},
		{"key without a name", "[keys]\n'a b' = 'f'", "x:2: key a b: a table could not name it"},
		{"empty path of a key", "[keys]\nk = ''", "x:2: key k: the path is empty"},
		{"certificates is no list", "certificates = 'a.pem'", "x:1: certificates: want a list of files, found a string"},
		{"certificate is no path", "certificates = [3]", "x:1: a file: certificates: want a string, found an integer"},
		{"unknown key of a disk", "[disks]\na = { path = 'p',\n spath = 1 }", `x:3: disk a: unknown key "spath": want path, direct or readonly`},
		{"unknown key of a device", "[devices.d]\ntable = '0 1 zero'\nread_only = true", `x:3: device d: unknown key "read_only"`},
		{"disks is no table", "disks = 3", "x:1: disks: want a table, found an integer"},
		{"device is no table", "[devices]\nd = '0 1 zero'", "x:2: device d: want a table, found a string"},
		{"wrong type of path", "[disks]\na = { path = 3 }", "x:2: disk a: path: want a string, found an integer"},
		{"wrong type of disk", "[disks]\na = 3", "x:2: disk a: want a path or { path = … }, found an integer"},
		{"wrong type of direct", "[disks.a]\npath = 'p'\ndirect = 'yes'", "x:3: disk a: direct: want true or false, found a string"},
		{"wrong type of table", "[devices.d]\ntable = ['0 1 zero']", "x:2: device d: table: want a string, found an array"},
		{"missing path", "[disks]\na = { direct = true }", "x:2: disk a: path is missing"},
		{"empty path", "[disks]\n\na = ''", "x:3: disk a: the path is empty"},
		{"syntax", "[disks]\na = \n", "x:2: "},
		{"duplicate key", "[disks]\na = 'b'\na = 'c'", "x:3: "},
		{"device control", "[devices.control]\ntable='0 1 zero'", `x:1: device "control": invalid device name`},
		{"device .dm", "[devices.'.dm']\ntable='0 1 zero'", `x:1: device ".dm": invalid device name`},
		{"device ..", "[devices.'..']\ntable='0 1 zero'", `x:1: device "..": invalid device name`},
		{"device without name", "[devices.'']\ntable='0 1 zero'", `device "": invalid device name: it is empty`},
		{"device with slash", "[devices.'a/b']\ntable='0 1 zero'", `x:1: device "a/b": invalid device name`},
		{"device with newline", "[devices.\"a\\nb\"]\ntable='0 1 zero'", `x:1: device "a\nb": invalid device name`},
		{"device name too long", "[devices." + long + "]\ntable='0 1 zero'", "invalid device name: 128 bytes, want at most 127"},
		{"uuid too long", "[devices.d]\nuuid = '" + long + "n'\ntable='0 1 zero'", "x:2: device d: invalid uuid: 129 bytes, want at most 128"},
		{"uuid twice", "[devices.d]\nuuid='u'\ntable='0 1 zero'\n[devices.e]\ntable='0 1 zero'\nuuid='u'", `x:6: device e: uuid "u" is that of device d`},
		{"no table", "\n[devices.d]\nuuid = 'u'", "x:2: device d: table is missing"},
		{"empty table", "[devices.d]\ntable = \"\"\"\n# nothing\n\"\"\"", "x:2: device d: the table is empty"},
		{"short line", "[devices.d]\ntable = \"\"\"\n0 1 zero\n1 1\n\"\"\"", "x:4: device d: incomplete table line"},
		{"no number", "[devices.d]\ntable = \"\"\"\nx 1 zero\"\"\"", `x:3: device d: start: not a number of sectors: "x"`},
		{"gap at the start", "[devices.d]\ntable = '1 1 zero'", "x:2: device d: segment 0 (1+1 zero): gap: the first segment starts at 0"},
		{"gap", "[devices.d]\ntable = \"\"\"\n0 1 zero\n2 1 zero\"\"\"", "x:4: device d: segment 1 (2+1 zero): gap: starts at 2, the segment before ends at 1"},
		{"overlap", "[devices.d]\ntable = \"\"\"\n0 2 zero\n1 1 zero\"\"\"", "x:4: device d: segment 1 (1+1 zero): overlap: starts at 1"},
		{"no length", "[devices.d]\ntable = '0 0 zero'", "segment 0 (0+0 zero): zero-length target"},
		{"too large", "[devices.d]\ntable = '0 18446744073709551615 zero'", "too large device"},
		{"disk named as a device", "[devices.d]\ntable = '0 1 zero'\n[disks]\nd = 'p'", `x:4: "d" names a disk and a device`},
		{"disk named as a number", "[disks]\n'7:0' = 'p'", "a table would take this name for a MAJOR:MINOR"},
		{"disk named as a path", "[disks]\n'./x' = 'p'", "a table would take it for a path"},
		{"itself", "[devices.d]\ntable = '0 1 linear d 0'", "x:2: device d: segment 0 (0+1 linear): devices in a ring: d → d"},
		{"ring", "[devices.a]\ntable='0 1 linear b 0'\n[devices.b]\ntable='0 1 linear /dev/mapper/c 0'\n[devices.c]\ntable=\"\"\"\n0 1 zero\n1 1 linear /m/a 0\"\"\"",
			"x:8: device c: segment 1 (1+1 linear): devices in a ring: a → b → c → a"},
		{"nesting", "a = " + strings.Repeat("[", 1000), "nested more than 32 deep"},
		{"dotted", strings.Repeat("a.", 1000) + "a = 1", "nested more than 32 deep"},
		{"bytes", "[disks]\n# \xff", "x:2: invalid UTF-8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("x", []byte(tt.text), "/m")
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.HasPrefix(err.Error(), tt.want) && !(tt.want[:2] != "x:" && strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			var at *Error
			if !errors.As(err, &at) {
				t.Errorf("%T is no *Error", err)
			}
		})
	}
}

// All mistakes are told, in the order of the file, up to a bound.
func TestManyMistakes(t *testing.T) {
	var b strings.Builder
	for i := range 30 {
		fmt.Fprintf(&b, "[devices.d%d]\ntable = ''\n", i)
	}
	_, err := Parse("x", []byte(b.String()), "")
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxErrors {
		t.Fatalf("%d lines, want %d", len(lines), maxErrors)
	}
	for i, l := range lines {
		if want := fmt.Sprintf("x:%d: device d%d: ", 2*i+2, i); !strings.HasPrefix(l, want) {
			t.Errorf("got %s, want %s…", l, want)
		}
	}
}

// A word is a device only where it could not mean something else.
func TestUses(t *testing.T) {
	text := `
[disks]
d = "d.img"
[devices.0]
table = "0 1 linear d 0"
[devices.a]
table = "0 1 linear /dev/mapper/0 0"
[devices.b]
table = "0 1 linear mnt/a 0"
[devices.c]
table = "0 1 linear /elsewhere/a 0"
`
	c, err := Parse("/etc/x", []byte(text), "/etc/mnt/")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"0": "[]", "a": "[0]", "b": "[a]", "c": "[]"}
	for _, d := range c.Devices {
		if got := fmt.Sprint(d.Uses); got != want[d.Name] {
			t.Errorf("%s uses %s, want %s", d.Name, got, want[d.Name])
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c.toml")
	if err := os.WriteFile(path, []byte("[disks]\na = 'a.img'\nn = 'nbd://host/x'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path, "")
	if err != nil {
		t.Fatal(err)
	}
	if c.Disks["a"].Path != filepath.Join(dir, "a.img") || c.Disks["n"].Path != "nbd://host/x" || c.Dir != dir {
		t.Errorf("got %+v", c)
	}
	if _, err := Load(dir, ""); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("a directory: %v", err)
	}
	if _, err := Load(filepath.Join(dir, "none"), ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := Parse("x", make([]byte, MaxBytes+1), ""); err == nil || !strings.Contains(err.Error(), "larger than 16 MiB") {
		t.Errorf("a large file: %v", err)
	}
}

// FuzzConfig shows that no text makes the parser panic, and that mistakes have a place in the file.
func FuzzConfig(f *testing.F) {
	f.Add(sample)
	f.Add("[devices.a]\ntable = \"\"\"\\\n 0 1 zero\"\"\"\"\"")
	f.Add("[disks]\n'' = 3\n\"\\u0000\" = ''")
	f.Add("devices.a.table = '''\n0 1 linear b 0'''\ndevices.b.table = '0 1 linear a 0'")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse("x", []byte(text), "/m")
		if err == nil {
			for _, d := range c.Devices {
				for i, s := range d.Table {
					var at *Error
					err := c.Locate(&mapper.SegmentError{Index: i, Spec: s, Err: errors.New("x")}, d.Name)
					if !errors.As(err, &at) || at.Line < 1 || at.Line > 1+strings.Count(text, "\n") {
						t.Fatalf("segment %d of %q: %v", i, d.Name, err)
					}
				}
			}
			return
		}
		var at *Error
		if !errors.As(err, &at) {
			t.Fatalf("%T is no *Error: %v", err, err)
		}
	})
}
