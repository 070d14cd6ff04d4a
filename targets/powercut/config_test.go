package powercut

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
	for _, c := range []struct{ args, want string }{
		{"", "Invalid argument count"}, {"7:0", "Invalid argument count"}, {"7:0 x", "Invalid device sector"},
		{"7:0 0 1", "Invalid feature count"}, {"7:0 0 1 seed", "Invalid feature"}, {"7:0 0 2 seed x", "Invalid seed"},
		{"7:0 0 2 sed 1", "Invalid feature"}, {"7:0 0 4 seed 1 seed 1", "Invalid feature"},
		{"7:0 0 2 cache_sectors 0", "Invalid cache_sectors"}, {"7:0 0 2 cache_sectors 16777217", "Invalid cache_sectors"},
		{"7:0 0 4 cache_sectors 7 sector_size 4096", "Invalid cache_sectors"},
		{"7:0 0 2 sector_size 513", "Invalid sector_size"}, {"7:0 0 2 sector_size 8192", "Invalid sector_size"},
		{"7:0 0 2 supply a,b", "Invalid supply"}, {"7:1 0", "Device lookup failed"},
		{"7:4 0 2 sector_size 512", "Invalid sector_size"},
	} {
		coarse := mappertest.NewDisk("7:4", 8)
		coarse.SetLimits(mapper.Limits{LogicalBlock: 4096})
		_, err := NewType().New(context.Background(), mappertest.NewHost(mappertest.NewDisk("7:0", 8), coarse), mapper.Spec{Len: 8, Args: strings.Fields(c.args)})
		var arg *mapper.ArgError
		if !errors.As(err, &arg) || arg.Reason != c.want {
			t.Errorf("%q: got %v, want %q", c.args, err, c.want)
		}
	}
	b := newBench(t, NewType())
	for _, words := range []string{
		"", "hello", "cut now", "cut seed=x", "cut seed=1 seed=2", "cut keep=some", "cut after=0", "cut op=write", "cut after=1 op=erase",
		"disarm all", "restore it", "counters all", "counters reset reset",
	} {
		if reply, err := b.Message(context.Background(), strings.Fields(words)); err == nil {
			t.Errorf("message %q: %q", words, reply)
		}
	}
	if b.supply.off {
		t.Error("a message that was refused has cut the power")
	}
}

func FuzzArgs(f *testing.F) {
	for _, s := range []string{"7:0 0", "7:0 0 2 seed 1", "7:0 8 8 seed 1 cache_sectors 100 sector_size 4096 supply x", "7:0 0 2 supply \"a b\""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		typ := NewType()
		host := mappertest.NewHost(mappertest.NewDisk("7:0", 64))
		got, err := typ.New(context.Background(), host, mapper.Spec{Len: 8, Args: strings.Fields(line)})
		if err != nil {
			return
		}
		defer got.(*target).Close()
		words := got.(*target).Table(true)
		again, err := typ.New(context.Background(), host, mapper.Spec{Len: 8, Args: words})
		if err != nil {
			t.Fatalf("rebuilt from %q: %v", words, err)
		}
		defer again.(*target).Close()
		if other := again.(*target).Table(true); !slices.Equal(words, other) {
			t.Errorf("rebuilt from %q: %q", words, other)
		}
	})
}

func FuzzMessage(f *testing.F) {
	for _, s := range []string{"cut", "cut seed=1 keep=torn", "cut after=3 op=write", "disarm", "restore", "counters reset"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		b := newBench(t, NewType())
		b.write(0, 8, 1)
		b.Message(context.Background(), strings.Fields(line))
		b.do(mapper.OpWrite, 0, 4, 8, 2)
		b.do(mapper.OpFlush, 0, 0, 0, 0)
	})
}
