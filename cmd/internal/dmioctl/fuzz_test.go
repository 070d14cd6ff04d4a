package dmioctl

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"dmfs/mapper"
	"dmfs/targets"
	"dmfs/tests/ioctls"
)

// A guard is a mount that looks at the commands that it is given.
type guard struct {
	Mount
	t *testing.T
}

var (
	lawful  = regexp.MustCompile(`^(query|targets|wait|on new create|on "?(name=|uuid=|minor=))`)
	segment = regexp.MustCompile(`^ \d+ \d+ `)
)

func (g guard) Do(ctx context.Context, command string) (string, error) {
	lines := strings.Split(command, "\n")
	if !lawful.MatchString(command) {
		g.t.Errorf("the command %q", command)
	}
	if len(lines) > 1 {
		if !strings.HasSuffix(lines[0], " {") || lines[len(lines)-1] != " }" {
			g.t.Errorf("a command of several lines is no load: %q", command)
		}
		for _, l := range lines[1 : len(lines)-1] {
			if !segment.MatchString(l) {
				g.t.Errorf("the line %q", l)
			}
		}
	}
	return g.Mount.Do(ctx, strings.Clone(command))
}

// Random buffers do not make it panic, nor say anything to the mount that is not of the kind of commands that ioctls are; and what
// is answered is within the caller's buffer.
func FuzzHandle(f *testing.F) {
	text, err := os.ReadFile("testdata/ioctls.golden")
	if err != nil {
		f.Fatal(err)
	}
	calls, err := ioctls.Parse(string(text))
	if err != nil {
		f.Fatal(err)
	}
	for i, c := range calls {
		if len(c.Before) < 4<<10 {
			f.Add(uint8(c.Nr), c.Before, uint8(calls[(i+1)%len(calls)].Nr))
		}
	}
	f.Fuzz(func(t *testing.T, nr uint8, buf []byte, then uint8) {
		core := newCore(mapper.Options{Major: 254, Files: noFiles{}})
		defer core.m.Close(context.Background()) //nolint:errcheck // nothing was written
		for _, c := range []string{"create low uuid=U 0 2048 zero", "create top uuid=U-top 0 8 linear low 0", "create hidden 0 8 zero"} {
			if _, err := core.Do(context.Background(), c); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond) // waits would take for ever
		defer cancel()
		s := New(guard{core, t}, plain{254})
		given := slices.Clone(buf)
		for _, n := range []uint8{nr % 20, then % 20} {
			r, errno := s.Handle(ctx, int(n), given)
			if !slices.Equal(given, buf) {
				t.Fatal("the caller's buffer was changed")
			}
			if len(r.Data) > len(buf) || errno != 0 && len(r.Data) > versionLen {
				t.Errorf("%d bytes for %d, errno %d", len(r.Data), len(buf), errno)
			}
		}
		if core.m.ByName("hidden") == nil {
			t.Error("what is hidden was removed or renamed")
		}
	})
}

// FuzzWords has any parameters arrive at the target as the words that the kernel would split them into.
func FuzzWords(f *testing.F) {
	for _, s := range []string{"", "a b", "  a\\ b\tc\\", "\"a b\" # x", "} ; {", "{\\}", "a\xa0b\x0bc", "\\\" \\\\", "a\\\nb", "\n}\nremove_all\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.IndexByte(s, 0) >= 0 || len(s) > 1<<10 {
			return
		}
		var got []string
		registry := &mapper.Registry{}
		targets.Register(registry)
		registry.Register(&mapper.Type{Name: "spy", New: func(_ context.Context, _ mapper.Host, s mapper.Spec) (mapper.Target, error) {
			got = s.Args
			return nil, mapper.ErrInvalid
		}})
		core := coreMount{mapper.NewManager(registry, mapper.Options{})}
		if _, err := core.Do(context.Background(), "create a notable"); err != nil {
			t.Fatal(err)
		}
		b := request(2048, "a")
		order.PutUint32(b[atTargets:], 1)
		order.PutUint64(b[headerLen+specLength:], 8)
		copy(b[headerLen+specType:], "spy")
		copy(b[headerLen+specLen:], s)
		_, errno := New(guard{core, t}, plain{253}).Handle(context.Background(), nrLoad, b)
		want := splitWords([]byte(s))
		if errno == 0 || slices.ContainsFunc(want, func(w string) bool { return strings.Contains(w, "\n") }) {
			return
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q arrived as %q, want %q", s, got, want)
		}
		var escaped []string
		for _, w := range want {
			escaped = append(escaped, escape(w))
		}
		if again := splitWords([]byte(strings.Join(escaped, " "))); !slices.Equal(again, want) {
			t.Errorf("%q was escaped to %q", want, escaped)
		}
	})
}
