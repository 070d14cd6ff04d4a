package args

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// What the kernel takes was tried in Linux 6.1: linear for Uint64, the stripe count for Uint32, the blocks of thin-pool for LongUint64.
func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		s              string
		as64, as32     bool
		want64, want32 uint64
	}{
		{s: "5", as64: true, want64: 5, as32: true, want32: 5},
		{s: "007", as64: true, want64: 7, as32: true, want32: 7},
		{s: "+5", as32: true, want32: 5},
		{s: " 5", as64: true, want64: 5},
		{s: "5\n", as32: true, want32: 5},
		{s: "4294967295", as64: true, want64: 4294967295, as32: true, want32: 4294967295},
		{s: "4294967296", as64: true, want64: 4294967296},
		{s: "18446744073709551615", as64: true, want64: 18446744073709551615},
		{s: "18446744073709551616"},
		{s: "99999999999999999999999999"},
		{s: ""}, {s: " "}, {s: "+"}, {s: "-"}, {s: "-5"}, {s: "+-5"}, {s: "++5"}, {s: "0x10"}, {s: "5 "}, {s: "5a"}, {s: "1e1"}, {s: "٣"},
	} {
		if n, ok := Uint64(c.s); ok != c.as64 || ok && n != c.want64 {
			t.Errorf("Uint64(%q) = %d, %v; want %d, %v", c.s, n, ok, c.want64, c.as64)
		}
		scans := c.as64 && c.want64 <= math.MaxUint32
		if n, ok := ScanUint32(c.s); ok != scans || ok && uint64(n) != c.want64 {
			t.Errorf("ScanUint32(%q) = %d, %v; want %d, %v", c.s, n, ok, c.want64, scans)
		}
		if n, ok := Uint32(c.s); ok != c.as32 || ok && uint64(n) != c.want32 {
			t.Errorf("Uint32(%q) = %d, %v; want %d, %v", c.s, n, ok, c.want32, c.as32)
		}
		long := c.as32 || c.as64 && c.s[0] != ' '
		if n, ok := LongUint64(c.s); ok != long || ok && n != max(c.want32, c.want64) {
			t.Errorf("LongUint64(%q) = %d, %v; want %d, %v", c.s, n, ok, max(c.want32, c.want64), long)
		}
	}
}

func TestOpenKeepsReasonErrnoAndCause(t *testing.T) {
	_, err := Open(context.Background(), &mappertest.Host{}, "/dev/nosuch", "Device lookup failed")
	var arg *mapper.ArgError
	if !errors.As(err, &arg) || arg.Reason != "Device lookup failed" || !errors.Is(err, mapper.ErrNoDevice) {
		t.Errorf("got %v, want an ArgError that wraps ErrNoDevice", err)
	}
	if got := mapper.Errno(err); got != unix.ENODEV {
		t.Errorf("errno %v, want ENODEV", got)
	}
}

func TestOpenInvalidKeepsReasonAndCause(t *testing.T) {
	_, err := OpenInvalid(context.Background(), &mappertest.Host{}, "/dev/nosuch", "Couldn't get striped device")
	var arg *mapper.ArgError
	if !errors.As(err, &arg) || arg.Reason != "Couldn't get striped device" || !errors.Is(err, mapper.ErrNoDevice) {
		t.Errorf("got %v, want an ArgError that wraps ErrNoDevice", err)
	}
	if got := mapper.Errno(err); got != unix.EINVAL {
		t.Errorf("errno %v, want EINVAL", got)
	}
}

func TestDetailNamesTheDiskOnce(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{mapper.ErrBusy, "a.img: device or resource busy"},
		{fmt.Errorf("open a.img: %w", unix.EACCES), "open a.img: permission denied"},
	} {
		if got := detail("a.img", c.err); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// A key that stands where a disk is expected is not told; a file with a digest in its name is.
func TestDetailNamesNoKey(t *testing.T) {
	const key = "00112233445566778899aabbccddeeffFFEEDDCCBBAA99887766554433221100"
	for _, name := range []string{key, "/srv/images/" + key} {
		got := detail(name, fmt.Errorf("open %s: %w", name, unix.ENOENT))
		if want := "a word with 64 hexadecimal digits: no such file or directory"; got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if got := detail("sha256:"+key, unix.ENOENT); got != "sha256:"+key+": no such file or directory" {
		t.Errorf("a digest: %q", got)
	}
}
