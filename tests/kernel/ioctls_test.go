package kernel

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"dmfs/tests/ioctls"
)

var ioctlGolden = filepath.Join("..", "..", "cmd", "internal", "dmioctl", "testdata", "ioctls.golden")

// The golden of calls, which package dmioctl is compared with, is what the kernel does. With -golden it is recorded.
func TestGoldensOfIoctls(t *testing.T) {
	g := boot(t)
	probe, err := g.Call(ioctls.Probe())
	if err != nil {
		t.Fatal(err)
	}
	got, err := g.Call(ioctls.Calls(ioctls.Major(probe)))
	if err != nil {
		t.Fatal(err)
	}
	if *golden {
		head := fmt.Sprintf("Linux %s (user-mode-linux) carried out %d calls. `make golden` records them anew.", g.Release, len(got))
		if err := os.WriteFile(ioctlGolden, []byte(ioctls.Format(head, got)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(ioctlGolden)
	if err != nil {
		t.Fatal(err)
	}
	want, err := ioctls.Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d calls, the golden has %d", len(got), len(want))
	}
	for i, c := range got {
		w := want[i]
		if c.Errno != w.Errno || !bytes.Equal(c.Before, w.Before) || !bytes.Equal(c.After, w.After) {
			t.Errorf("call %d, %s: %d %s\nthe golden has %d %s; if it is another kernel, `make golden` records it", i, c.What,
				c.Errno, ioctls.Pack(c.After), w.Errno, ioctls.Pack(w.After))
		}
	}
}
