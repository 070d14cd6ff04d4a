package raid

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
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
		writtenAsLinux(t, setup(c.members, dev, c.array, "raid10 8", fmt.Sprintf("region_size 8 raid10_copies %d", c.copies), true), dev, c.sums)
	}
}

// writtenAsLinux writes the numbers from 1 on, a line each, to all of an array, and compares its members.
func writtenAsLinux(t *testing.T, s mappertest.Setup, dev mapper.Sector, sums []string) {
	t.Helper()
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
	for m, want := range sums {
		b := make([]byte, dev.Bytes())
		if err := a.disks[fmt.Sprintf("7:%d", 2*m+1)].Submit(context.Background(), mapper.Request{Op: mapper.OpRead, Count: dev, Data: b}); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(b))[:len(want)]; got != want {
			t.Errorf("%v: member %d is %s, and Linux's %s", s.Args, m, got, want)
		}
	}
}

// What Linux 6.1 put on the members of raid6 arrays of mdadm --size=60 --chunk=4, in layouts that dm-raid has no word for.
var linuxParity = []struct {
	typ  string
	sums []string
}{
	{"raid6_la", []string{"55f517963d47293c", "6e6e94971ecc7b6f", "f556ee831e1c59d7", "bf98813348091f8b", "b3134302229ee95d"}},
	{"raid6_ra", []string{"f29fbda56100e4b3", "4763247d6b966849", "5c7b3267d11f9347", "6c22dd0a4844fba9", "144471ce301933bf"}},
	{"raid6_ls", []string{"51d130671e3273de", "43113f1411dd5a7c", "e09dbe6eec55c007", "99b256078c12f428", "6f6676cc06912ea8"}},
	{"raid6_rs", []string{"1e456d1f38af74e6", "5cccd614a31d582a", "2f6def75629253a9", "b88aae589bc1965c", "d3230d141f0e8988"}},
	{"raid6_0", []string{"bf80dcb1129df336", "4ef2d7855941460a", "0ce7d16fdb104a3d", "370a4b2b2bab05cf", "9cc95797bf8ce4ae"}},
	{"raid6_0_6", []string{"bf80dcb1129df336", "0ce7d16fdb104a3d", "370a4b2b2bab05cf", "9cc95797bf8ce4ae", "4ef2d7855941460a"}},
}

// A raid6 of md puts every sector where Linux does, in each layout that mdadm makes.
func TestParityAsLinux(t *testing.T) {
	for _, c := range linuxParity {
		writtenAsLinux(t, setup(5, 120, 360, c.typ+" 8", "region_size 8", true), 120, c.sums)
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
