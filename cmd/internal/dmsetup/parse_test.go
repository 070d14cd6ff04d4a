package dmsetup

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseOptions(t *testing.T) {
	for _, tt := range []struct{ args, operands, want, err string }{
		{args: "ls", operands: "ls"},
		{args: "-vvf ls", operands: "ls", want: "verbose=2 force=1"},
		{args: "ls -oa,b --opt=c", operands: "ls", want: "options=2"},
		{args: "a -- -v", operands: "a -v"},
		{args: "a -", operands: "a -"},
		{args: "--area", want: "area=1"},
		{args: "--tab=", want: "table=1"},
		{args: "--reg", err: "option '--reg' is ambiguous; possibilities: '--region' '--regions' '--regionid'"},
		{args: "--bogus", err: "unrecognized option '--bogus'"},
		{args: "--tree=1", err: "option '--tree' doesn't allow an argument"},
		{args: "--uuid", err: "option '--uuid' requires an argument"},
		{args: "-vu", err: "option requires an argument -- 'u'"},
		{args: "-vZ", err: "invalid option -- 'Z'"},
	} {
		opts, operands, err := parseOptions(strings.Fields(tt.args), longOptions)
		if tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("%s: %v", tt.args, err)
			}
			continue
		}
		if err != nil || strings.Join(operands, " ") != tt.operands {
			t.Errorf("%s: %q, %v", tt.args, operands, err)
		}
		for _, w := range strings.Fields(tt.want) {
			name, n, _ := strings.Cut(w, "=")
			if opts.count[name] != leadingInt(n) {
				t.Errorf("%s: %s given %d times", tt.args, name, opts.count[name])
			}
		}
	}
}

func TestLeadingInt(t *testing.T) {
	for s, want := range map[string]int{"": 0, "x": 0, "12": 12, " 7z": 7, "-3": -3, "+4": 4, "--1": 0, "99999999999999999999": 1<<63 - 1} {
		if got := leadingInt(s); got != want {
			t.Errorf("%q: %d, want %d", s, got, want)
		}
	}
}

func TestLeadingUint(t *testing.T) {
	for _, tt := range []struct {
		s    string
		n    uint64
		rest string
		ok   bool
	}{
		{"12 x", 12, " x", true}, {"  8zero", 8, "zero", true}, {"-1", 1<<64 - 1, "", true}, {"x", 0, "x", false}, {"", 0, "", false},
		{"99999999999999999999999", 1<<64 - 1, "", true},
	} {
		if n, rest, ok := leadingUint(tt.s); n != tt.n || rest != tt.rest || ok != tt.ok {
			t.Errorf("%q: %d, %q, %v", tt.s, n, rest, ok)
		}
	}
}

func TestStrerror(t *testing.T) {
	for err, want := range map[error]string{
		unix.ENXIO:                  "No such device or address",
		&refusal{errno: unix.EBUSY}: "Device or resource busy",
		&refusal{errno: unix.ENOLINK, reason: "why"}: "Link has been severed",
	} {
		if got := strerror(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

func TestMangle(t *testing.T) {
	for _, tt := range []struct {
		mode     mangleMode
		in, want string
		err      string
	}{
		{mangleAuto, "a#+-.:=@_Z0", "a#+-.:=@_Z0", ""},
		{mangleAuto, "a b*", `a\x20b\x2a`, ""},
		{mangleAuto, `a\x20b`, `a\x20b`, ""},
		{mangleAuto, `a\x20b c`, "", "mixed mangled and unmangled"},
		{mangleAuto, `a\b`, `a\x5cb`, ""},
		{mangleAuto, "ü", `\xc3\xbc`, ""},
		{mangleAuto, strings.Repeat(" ", 32), "", "too long"},
		{mangleHex, `a\x20b`, `a\x5cx20b`, ""},
		{mangleNone, "a b", "a b", ""},
	} {
		got, err := tt.mode.mangle("name", tt.in, maxName)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: %v", tt.in, err)
			}
			continue
		}
		if got != tt.want || err != nil {
			t.Errorf("%q: %q, %v; want %q", tt.in, got, err, tt.want)
		}
	}
}

// What hex mode mangles is plain and comes back.
func FuzzMangle(f *testing.F) {
	f.Add("a b")
	f.Add(`a\x20b`)
	f.Add("\\x5cx20\xff")
	f.Fuzz(func(t *testing.T, s string) {
		stored, err := mangleHex.mangle("name", s, 4*len(s))
		if err != nil {
			t.Fatal(err)
		}
		if raw, _ := census(stored); raw {
			t.Errorf("%q has bytes to mangle", stored)
		}
		if back, err := mangleHex.unmangle("name", stored); back != s || err != nil {
			t.Errorf("%q came back as %q, %v", s, back, err)
		}
		if stored, err := mangleAuto.mangle("name", s, 4*len(s)); err == nil {
			if raw, _ := census(stored); raw {
				t.Errorf("auto left bytes to mangle in %q", stored)
			}
		}
	})
}

// A description of escaped fields parses to these fields, and nothing panics.
func FuzzConcise(f *testing.F) {
	f.Add("n", "u", "0 8 zero", "c1,,,,0 8 zero,8 8 error;c2,,,ro,0 1 zero")
	f.Add(`a\,;`, " ", ",", `\`)
	f.Fuzz(func(t *testing.T, name, uuid, table, text string) {
		for rest := text; rest != ""; {
			var err error
			if _, rest, err = nextConcise(rest); err != nil {
				break
			}
		}
		trim := func(s string) string { return strings.Trim(s, " \t\n") }
		name, uuid, table = trim(name), trim(uuid), trim(table)
		if table == "" {
			table = "x"
		}
		line := escapeConcise(name) + "," + escapeConcise(uuid) + ",7,rw," + escapeConcise(table) + ";rest"
		entry, rest, err := nextConcise(line)
		want := conciseEntry{name, uuid, "7", "rw", table}
		if err != nil || entry != want || rest != "rest" {
			t.Errorf("%q: %q, %q, %v", line, entry, rest, err)
		}
	})
}

// Parsing a selection never panics, and what parses can be evaluated.
func FuzzSelection(f *testing.F) {
	for _, s := range []string{"name=a", "!(minor>1 && name=~x)||uuid='q'", "a=b # (", "minor>=1.5,major!=0", "name=~[a-z]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseSelection(s)
		if err != nil {
			if _, ok := err.(*selError); !ok {
				t.Errorf("%T", err)
			}
			return
		}
		if _, err := n.matches(func(*field) (cell, error) { return cell{"a", 1}, nil }); err != nil {
			t.Error(err)
		}
	})
}

func TestSelectionDepth(t *testing.T) {
	deep := strings.Repeat("(", maxSelDepth+1) + "minor=1" + strings.Repeat(")", maxSelDepth+1)
	if _, err := parseSelection(deep); err == nil {
		t.Error("no bound")
	}
	if _, err := parseSelection(deep[1 : len(deep)-1]); err != nil {
		t.Error(err)
	}
}

func TestSplitName(t *testing.T) {
	for name, want := range map[string]nameParts{
		"vg-lv":           {subsystemLVM, "vg", "lv", ""},
		"v--g-l--v-tdata": {subsystemLVM, "v-g", "l-v", "tdata"},
		"vg":              {subsystemLVM, "vg", "", ""},
		"":                {Subsystem: subsystemLVM},
	} {
		if got := splitName(subsystemLVM, name); got != want {
			t.Errorf("%q: %+v", name, got)
		}
	}
}
