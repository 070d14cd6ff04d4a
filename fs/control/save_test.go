package control_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"dmfs/fs/control"
	"dmfs/mapper"
	"dmfs/mapper/mappertest"
	"dmfs/targets"
)

var ctx = context.Background()

func newManager(t testing.TB, o mapper.Options) *mapper.Manager {
	registry := new(mapper.Registry)
	targets.Register(registry)
	o.Files = mappertest.NewFiles(mappertest.NewDisk("a.img", 1<<20), mappertest.NewDisk("bc.img", 1<<20))
	m := mapper.NewManager(registry, o)
	t.Cleanup(func() {
		if err := m.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return m
}

// run writes commands to a new session.
func run(m *mapper.Manager, commands string) error {
	bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := control.NewSession(m, control.Version{}).Write(bounded, []byte(commands))
	return err
}

// What Save prints makes the same again.
func TestSaveRestores(t *testing.T) {
	tests := []struct {
		name, commands string
		options        mapper.Options
		want           string // contained in what is saved
	}{
		{name: "nothing"},
		{name: "all kinds of state", commands: `
create plain 0 64 linear /x/a.img 8
create "q;u{o}t#e\"d \\" uuid="a b" minor=9 ro { 0 8 zero; 8 8 linear /x/bc.img 0 }
create bare notable
create loaded notable
load loaded ro 0 8 error
create both 0 8 zero
load both { 0 8 zero ; 8 8 error }
setgeometry both 1 2 3 4
suspend both
create upper 0 16 striped 2 8 plain 0 "q;u{o}t#e\"d \\" 0
`, want: "create upper minor=4 {\n0 16 striped 2 8 plain 0 \"q;u{o}t#e\\\"d \\\\\" 0\n}\n"},
		{name: "a suspended stack", commands: `
create low 0 8 linear /x/a.img 0
create mid 0 8 linear low 0
create top 0 8 linear mid 0
suspend top
suspend mid
suspend low
`, want: "suspend top\nsuspend mid\nsuspend low\n"},
		{name: "names that mean something else", options: mapper.Options{Disks: map[string]mapper.DiskConfig{"conf": {Path: "/x/a.img"}}}, commands: `
create 253:7 0 8 linear conf 0
create conf 0 8 zero
create up { 0 8 linear 253:0 0; 8 8 linear /dev/mapper/conf 0 }
`, want: "{\n0 8 linear /dev/mapper/253:7 0\n8 8 linear /dev/mapper/conf 0\n}"},
		{name: "made upside down", commands: `
create z notable
create a 0 8 linear z 0
create m 0 8 zero
load z 0 8 linear m 0
resume z
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, other := newManager(t, tt.options), newManager(t, tt.options)
			if err := run(m, tt.commands); err != nil {
				t.Fatalf("%v\n%s", err, m.Log().Text())
			}
			saved := control.Save(m)
			if !strings.Contains(saved, tt.want) {
				t.Errorf("saved\n%swant in it\n%s", saved, tt.want)
			}
			if err := run(other, saved); err != nil {
				t.Fatalf("restore: %v\n%s", err, saved)
			}
			if again := control.Save(other); again != saved {
				t.Errorf("saved\n%srestored\n%s", saved, again)
			}
		})
	}
}
