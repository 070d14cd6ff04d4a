package inject

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

func TestRefusals(t *testing.T) {
	for _, c := range []struct{ args, reason, detail string }{
		{"", "Invalid argument count", ""},
		{"7:0 x", "Invalid device sector", ""},
		{"7:1 0", "Device lookup failed", ""},
		{"7:0 0 seed=x", "Invalid seed", ""},
		{"7:0 0 nosuch", badRule, "want error, stall, lost"},
		{"7:0 0 op=read", badRule, `"op=read"`},
		{"7:0 0 error colour=red", badRule, `error has no "colour"`},
		{"7:0 0 error by=+8", badRule, `error has no "by"`},
		{"7:0 0 error nth=1 nth=2", badRule, "nth is given twice"},
		{"7:0 0 error nth=0", badRule, "nth=0: want a number above 0"},
		{"7:0 0 error nth=1 p=0.5", badRule, "at most one of nth, every and p"},
		{"7:0 0 error p=0", badRule, "p=0"}, {"7:0 0 error p=1.1", badRule, "p=1.1"}, {"7:0 0 error p=NaN", badRule, "p=NaN"},
		{"7:0 0 error op=erase", badRule, "op=erase"}, {"7:0 0 error op=", badRule, "op="},
		{"7:0 0 error errno=EPERM", badRule, "errno=EPERM"},
		{"7:0 0 error sectors=5", badRule, "START+COUNT"}, {"7:0 0 error sectors=5+0", badRule, "START+COUNT"},
		{"7:0 0 error op=flush sectors=5+1", badRule, "a flush touches none"},
		{"7:0 0 lost op=read", badRule, "op=read: it has write+discard+flush only"},
		{"7:0 0 torn op=flush", badRule, "it has write only"},
		{"7:0 0 misdirect", badRule, "want by="}, {"7:0 0 misdirect by=8", badRule, "+SECTORS"}, {"7:0 0 misdirect by=+0", badRule, "+SECTORS"},
		{"7:4 0 misdirect by=+4", badRule, "a multiple of the logical block, 8 sectors"},
		{"7:0 0 corrupt bits=0", badRule, "1 to 4096"}, {"7:0 0 corrupt bits=4097", badRule, "1 to 4096"},
		{"7:0 0 torn unit=8", badRule, "power of two"}, {"7:0 0 torn unit=100", badRule, "power of two"}, {"7:0 0 torn unit=2097152", badRule, "power of two"},
		{"7:0 0 stall time=5", badRule, "a duration"}, {"7:0 0 stall time=-5s", badRule, "a duration"}, {"7:0 0 stall time=25h", badRule, "a duration"},
		{"7:0 0" + strings.Repeat(" lost", maxRules+1), "Too many rules", ""},
	} {
		coarse := mappertest.NewDisk("7:4", 64)
		coarse.SetLimits(mapper.Limits{LogicalBlock: 4096})
		h := mappertest.NewHost(mappertest.NewDisk("7:0", 64), coarse)
		_, err := newTarget(context.Background(), h, mapper.Spec{Len: 64, Args: strings.Fields(c.args)})
		var arg *mapper.ArgError
		if !errors.As(err, &arg) || arg.Reason != c.reason || !strings.Contains(arg.Detail, c.detail) {
			t.Errorf("%q: got %v, want %s: %s", c.args, err, c.reason, c.detail)
		}
	}
	b := newBench(t, "")
	for _, words := range []string{"", "hello", "arm", "arm nosuch", "arm lost lost", "arm error nth=x", "disarm", "disarm x", "disarm 1", "release all", "list all", "counters clear"} {
		if reply, err := b.Message(context.Background(), strings.Fields(words)); err == nil {
			t.Errorf("message %q: %q", words, reply)
		}
	}
}

func FuzzArgs(f *testing.F) {
	for _, s := range []string{
		"", "seed=1 error", "error op=read+write nth=5 errno=ENOSPC stall time=1s every=2 lost count=3", "misdirect by=-8 p=0.5",
		"corrupt bits=7 sectors=1+2 torn unit=64 errno=EIO",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words, err := mapper.SplitArgs(line)
		if err != nil {
			return
		}
		h := mappertest.NewHost(mappertest.NewDisk("7:0", 64))
		got, err := newTarget(context.Background(), h, mapper.Spec{Len: 64, Args: append([]string{"7:0", "0"}, words...)})
		if err != nil {
			return
		}
		table := got.(*target).Table(true)
		split, err := mapper.SplitArgs(strings.Join(table, " "))
		if err != nil || !slices.Equal(split, table) {
			t.Fatalf("the table %q cannot be read back", table)
		}
		again, err := newTarget(context.Background(), h, mapper.Spec{Len: 64, Args: table})
		if err != nil || !slices.Equal(again.(*target).Table(true), table) {
			t.Fatalf("rebuilt from %q: %v", table, err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // so that stalls end
		for _, op := range []mapper.Op{mapper.OpRead, mapper.OpWrite} {
			_ = again.Submit(ctx, mapper.Request{Op: op, Start: 8, Count: 8, Data: make([]byte, 4096)})
		}
	})
}

func FuzzMessage(f *testing.F) {
	for _, s := range []string{"arm error nth=1", "disarm all", "disarm 1", "release", "list", "counters reset"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		b := newBench(t, "lost nth=1")
		_, _ = b.Message(context.Background(), strings.Fields(line))
		if _, err := b.Status(context.Background(), false); err != nil {
			t.Error(err)
		}
	})
}
