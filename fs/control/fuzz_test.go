package control_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"dmfs/fs/control"
	"dmfs/mapper"
)

// seeds are commands of every kind, to begin with.
var seeds = []string{
	"create a uuid=U minor=3 0 8 zero\ncreate b { 0 8 linear a 0; 8 8 error }\n",
	"create a notable\nload a ro 0 8 zero\nresume a\nsuspend a noflush nolockfs\nrename a b\nsetuuid b U\nsetgeometry b 1 2 3 4\n",
	"create a 0 64 striped 2 8 x/a.img 0 x/bc.img 8\nmessage a 0 x y\nremove a force deferred\nremove_all\n",
	"concise a,,,rw,0 8 zero;b\\,c,U,4,ro,0 8 error,8 8 zero;\n",
	"query name=a table status\ntargets\nversion\nflush\nclear a\n# x\n\"q\\\"\" { \"}\n",
	"on new create a uuid=U notable\non minor=0 load { 0 8 zero }\non uuid=U inactive resume\non name=a message room=9 0 @stats_list\non name=a rename b\n",
	"create \"a b\" 0 8 linear \"/x/a.img\" 0\ncreate 1:2 0 8 zero\ncreate c 0 8 linear /dev/mapper/1:2 0\nsuspend c\nsuspend 1:2\n",
}

// Random bytes neither panic nor hang, and what Save prints of what they made makes the same again.
func FuzzSession(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s), uint8(7))
	}
	f.Fuzz(func(t *testing.T, data []byte, size uint8) {
		if len(data) > 1<<14 || strings.Contains(string(data), "wait") { // for ever
			return
		}
		m, other := newManager(t, mapper.Options{}), newManager(t, mapper.Options{})
		bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		s := control.NewSession(m, control.Version{})
		for rest := data; len(rest) > 0; {
			part := rest[:min(len(rest), 1+int(size))]
			rest = rest[len(part):]
			if _, err := s.Write(bounded, part); err != nil {
				if reply, _ := s.Reply(); !strings.HasPrefix(reply, "error: ") || !strings.HasSuffix(reply, "\n") {
					t.Errorf("%v, and the reply is %q", err, reply)
				}
			}
		}
		s.Abandon()
		saved := control.Save(m)
		if err := run(other, saved); err != nil {
			t.Fatalf("restore: %v\n%s", err, saved)
		}
		if again := control.Save(other); again != saved {
			t.Errorf("saved\n%srestored\n%s", saved, again)
		}
	})
}

// A specification is parsed or refused; what is parsed holds together.
func FuzzConcise(f *testing.F) {
	for _, s := range []string{
		"a,,,rw,0 8 zero", "a,U,4,ro,0 8 error,8 8 zero;b,,,,0 8 zero;", `a\,b\;c,,,rw,0 8 linear "x\\y" 0`, ";;", ",,,,", `\`, `a,,,,"`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		devices, err := control.ParseConcise(spec)
		if err != nil {
			return
		}
		if len(devices) == 0 || len(devices) > strings.Count(spec, ";")+1 {
			t.Errorf("%d devices", len(devices))
		}
		for _, d := range devices {
			if d.Minor < -1 || d.Minor > 1<<20-1 || d.NoTable || len(d.Table) > len(spec) {
				t.Errorf("device %+v", d)
			}
		}
	})
}
