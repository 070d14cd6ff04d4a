package raid

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"testing"

	"dmfs/mapper"
)

// What Linux 6.1 put on the members of raid10 arrays of mdadm --size=60 --chunk=4, of which the last row of chunks is full or not.
var linuxNear = []struct {
	members, copies int
	array           mapper.Sector
	sums            []string // the first bytes of the sha256 of each member
}{
	{5, 2, 296, []string{"13d31926adf8d9a3", "0420ca160ea312c2", "fe52e2ce096f97e5", "43cc7de3a535711c", "6444d6de61537d4d"}},
	{4, 3, 160, []string{"d6afdb55fdf3e4ed", "9bba45df54bec944", "1524c0a19725bed5", "5d51d1ef5b4a926d"}},
	{3, 2, 176, []string{"8af34634397e89d1", "7d681bdad41693ab", "fe4abc54be942a8b"}},
}

// A raid10 of near copies puts every sector where Linux does, and leaves alone what it leaves alone.
func TestNearAsLinux(t *testing.T) {
	for _, c := range linuxNear {
		const dev = 120
		s := setup(c.members, dev, c.array, "raid10 8", fmt.Sprintf("region_size 8 raid10_copies %d", c.copies), true)
		a := newArray(t, s, 1, true)
		var text []byte
		for i := int64(1); len(text) < len(a.want); i++ {
			text = append(strconv.AppendInt(text, i, 10), '\n')
		}
		copy(a.want, text)
		if err := submit(a.tg, mapper.Request{Op: mapper.OpWrite, Count: s.Len, Data: a.want}); err != nil {
			t.Fatal(err)
		}
		a.check()
		a.close()
		for m, want := range c.sums {
			b := make([]byte, mapper.Sector(dev).Bytes())
			if err := a.disks[fmt.Sprintf("7:%d", 2*m+1)].Submit(context.Background(), mapper.Request{Op: mapper.OpRead, Count: dev, Data: b}); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("%x", sha256.Sum256(b))[:len(want)]; got != want {
				t.Errorf("%d members, %d copies: member %d is %s, and Linux's %s", c.members, c.copies, m, got, want)
			}
		}
	}
}

// What the target md takes beyond dm-raid the target raid refuses, in the kernel's words.
func TestRaidRefusesWhatMDTakes(t *testing.T) {
	for _, c := range []struct {
		chunk, options string
		array          mapper.Sector
		reason         string
	}{
		{"8", "raid10_copies 2", 296, "Target length not divisible by number of data devices"},
		{"16", "region_size 8 raid10_copies 2", 320, "Region size is smaller than the chunk size"},
	} {
		s := setup(5, 128, c.array, "raid10 "+c.chunk, c.options, true)
		spec := mapper.Spec{Len: s.Len, Args: s.Args}
		err := parseAll(spec)
		var arg *mapper.ArgError
		if !errors.As(err, &arg) || arg.Reason != c.reason {
			t.Errorf("%s, %d sectors: %v, want %s", c.options, c.array, err, c.reason)
		}
		spec.Type = mdInner
		if err := parseAll(spec); err != nil {
			t.Errorf("%s, %d sectors of md: %v", c.options, c.array, err)
		}
	}
}

// parseAll looks at a line as far as it says something without its disks.
func parseAll(s mapper.Spec) error {
	c, err := parse(s, func(string) error { return nil })
	if err == nil {
		_, err = devSectors(c, s.Len)
	}
	return err
}

// A large raid6 of md has regions for a member, of which there are fewer than dm-raid would count.
func TestRegionsOfMD(t *testing.T) {
	const dev = 31250000896 // 16 TB
	s := setup(12, 128, dev*10, "raid6_ls 1024", "region_size 131072", true)
	spec := mapper.Spec{Len: s.Len, Args: s.Args}
	var arg *mapper.ArgError
	if err := parseAll(spec); !errors.As(err, &arg) || arg.Reason != "Unrecognised raid_type" {
		t.Errorf("%v: dm-raid has no such layout", err)
	}
	spec.Type = mdInner
	if err := parseAll(spec); err != nil {
		t.Error(err)
	}
	s = setup(12, 128, dev*10, "raid6_zr 1024", "region_size 131072", true)
	if err := parseAll(mapper.Spec{Len: s.Len, Args: s.Args}); !errors.As(err, &arg) || arg.Reason != "Supplied region size is too small" {
		t.Errorf("%v, want the kernel's reason", err)
	}
}
