package dmioctl

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/targets"
	"dmfs/tests/ioctls"
)

// differences are the calls whose outcome is meant to differ from the kernel's.
var differences = map[string]string{
	"an end of line in a path":              "EINVAL for ENODEV: the control file has no way to write such a word",
	"what is measured":                      "EINVAL: nothing is measured",
	"on itself":                             "a table that would make a ring is refused when it is loaded",
	"what is left of them":                  "the ring, which the kernel counts as opened",
	"cleared":                               "likewise",
	`geometry "18446744073709551616 1 1 0"`: "a number that does not fit is refused, the kernel takes its rest",
	"a message to no table":                 "ENXIO for success: the kernel's ioctl returns 2, and has done nothing",
}

// TestGoldens carries out the calls that the kernel has, and compares every byte of what becomes of the callers' buffers.
func TestGoldens(t *testing.T) {
	text, err := os.ReadFile("testdata/ioctls.golden")
	if err != nil {
		t.Fatal(err)
	}
	calls, err := ioctls.Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	major := majorOf(calls)
	m := mapper.NewManager(registryOf(t, calls), mapper.Options{Major: major, Files: noFiles{}})
	defer m.Close(context.Background()) //nolint:errcheck // nothing was written
	s := New(coreMount{m}, plain{major})
	differ := make(map[string]bool)
	for i, c := range calls {
		got, errno := play(s, c)
		if errno == c.Errno && bytes.Equal(got, c.After) {
			continue
		}
		differ[c.What] = true
		if differences[c.What] == "" {
			t.Errorf("call %d, %s (%d): errno %d, the kernel's %d; %s", i, c.What, c.Nr, errno, c.Errno, firstDifference(got, c.After))
		}
	}
	for what := range differences {
		if !differ[what] {
			t.Errorf("%s does not differ from the kernel", what)
		}
	}
}

// play returns what becomes of the caller's buffer, and the errno.
func play(s *Server, c ioctls.Call) ([]byte, unix.Errno) {
	buf := bytes.Clone(c.Before)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) // the kernel did not wait
	defer cancel()
	r, errno := s.Handle(ctx, c.Nr, c.Before)
	if r.Secure {
		// The whole buffer is to be wiped. The kernel leaves what it does not look at.
		wiped := len(buf)
		if handlers[c.Nr].noData {
			wiped = minimumLen
		}
		clear(buf[:wiped])
	}
	copy(buf, r.Data)
	return buf, errno
}

func firstDifference(got, want []byte) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			at := i &^ 3
			end := min(at+64, len(got), len(want))
			return fmt.Sprintf("from byte %d on\n%x\nthe kernel's\n%x", at, got[at:end], want[at:end])
		}
	}
	return "the buffers are the same"
}

// majorOf returns the major number that the recording kernel's devices have.
func majorOf(calls []ioctls.Call) uint32 {
	for _, c := range calls {
		if c.What == "create" {
			major, _ := decodeDev(order.Uint64(c.After[atDev:]))
			return major
		}
	}
	return 0
}

// registryOf returns the target types that the recording kernel has, in its order and with its versions; those that there are here
// work.
func registryOf(t *testing.T, calls []ioctls.Call) *mapper.Registry {
	ours, theirs := &mapper.Registry{}, &mapper.Registry{}
	targets.Register(ours)
	for _, c := range calls {
		if c.What != "target types" {
			continue
		}
		var list []*mapper.Type
		for at := headerLen; ; {
			entry := c.After[at:]
			typ := mapper.Type{Name: cString(entry[targetEntry:])}
			if have := ours.Lookup(typ.Name); have != nil {
				typ = *have
			}
			for i := range typ.Version {
				typ.Version[i] = int(order.Uint32(entry[4+4*i:]))
			}
			list = append(list, &typ)
			next := int(order.Uint32(entry))
			if next == 0 {
				break
			}
			at += next
		}
		for i := len(list) - 1; i >= 0; i-- {
			theirs.Register(list[i])
		}
		return theirs
	}
	t.Fatal("no list of target types")
	return nil
}
