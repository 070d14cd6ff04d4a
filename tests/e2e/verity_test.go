package e2e

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
)

// An image of veritysetup is opened by its superblock, on two disks and on one, and a flipped bit in it cannot be read.
func TestVerity(t *testing.T) {
	requireTool(t, "veritysetup")
	b := newBench(t)
	b.mount("")
	data := random(256<<10, 1)
	for name, c := range map[string]struct {
		hash    string
		options []string
	}{
		"two":  {"hash.img", []string{"--hash=sha512", "--salt=00ff"}},
		"one":  {"data.img", []string{"--hash-offset=262144", "--format=0", "--hash=sha1", "--salt=-"}},
		"fine": {"hash.img", []string{"--data-block-size=512", "--hash-block-size=1024"}},
	} {
		must(t, os.WriteFile(b.path("data.img"), data, 0o600))
		must(t, os.WriteFile(b.path("hash.img"), nil, 0o600))
		made := b.run("veritysetup", append([]string{"format", "--data-blocks=" + map[bool]string{true: "512", false: "64"}[name == "fine"],
			b.path("data.img"), b.path(c.hash)}, c.options...)...)
		_, rest, _ := strings.Cut(made, "Root hash:")
		root := strings.Fields(rest)[0]
		args := []string{"verity-table"}
		if c.hash == "data.img" {
			args = append(args, "--hash-offset", "262144")
		}
		table := b.run(program, append(args, b.path("data.img"), b.path(c.hash), root)...)
		b.run(program, "create", "--readonly", name, "--table", strings.TrimSpace(table))
		got, err := os.ReadFile(b.mnt + "/" + name)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%s: %d bytes, %v; want what was formatted", name, len(got), err)
		}
		f, err := os.OpenFile(b.path("data.img"), os.O_RDWR, 0)
		must(t, err)
		_, err = f.WriteAt([]byte{data[70000] ^ 4}, 70000)
		must(t, errors.Join(err, f.Close()))
		f, err = os.Open(b.mnt + "/" + name)
		must(t, err)
		if _, err := f.ReadAt(make([]byte, 512), 69632); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: a flipped bit was read: %v", name, err)
		}
		if _, err := f.ReadAt(make([]byte, 4096), 0); err != nil {
			t.Errorf("%s: another block: %v", name, err)
		}
		must(t, f.Close())
		if status := b.run(program, "status", name); !strings.HasSuffix(strings.TrimSpace(status), "verity C") {
			t.Errorf("%s: status %q", name, status)
		}
		b.run(program, "remove", name)
	}
	b.fails(1, "no verity superblock", program, "verity-table", b.path("data.img"), b.path("data.img"), "00")
	b.fails(1, "3: want DATA HASH ROOT"[2:], program, "verity-table", b.path("data.img"))
}
