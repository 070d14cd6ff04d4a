package mount

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Who holds a mount is told from /proc and /sys; files of the same name on another mount are not counted.
func TestHolders(t *testing.T) {
	root := t.TempDir()
	file := func(name, text string) {
		t.Helper()
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(name, target string) {
		t.Helper()
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
	}
	file("proc/10/comm", "dd\n")
	link("proc/10/cwd", "/mnt/dm2")
	link("proc/10/fd/3", "/mnt/dm/vol0")
	file("proc/10/fdinfo/3", "pos:\t0\nmnt_id:\t30\n")
	link("proc/10/fd/4", "/mnt/dm/vol0")
	file("proc/10/fdinfo/4", "mnt_id:\t30\n")
	file("proc/11/comm", "bash\n")
	link("proc/11/cwd", "/mnt/dm")
	file("proc/12/comm", "elsewhere\n")
	link("proc/12/fd/3", "/mnt/dm/vol0")
	file("proc/12/fdinfo/3", "mnt_id:\t99\n")
	file("proc/13/comm", "mapper\n")
	file("proc/13/maps", "7f00-7f01 rw-s 0 00:2d 2 /mnt/dm/vol 1\n7f01-7f02 rw-p 0 08:01 3 /lib/x\n7f03-7f04 rw-p 0 00:00 0\n")
	file("proc/self/comm", "not a number\n")
	file("sys/block/loop0/loop/backing_file", "/mnt/dm/vol0\n")
	file("sys/block/loop1/loop/backing_file", "/mnt/dm2/vol0\n")
	m := Mount{ID: 30, Point: "/mnt/dm", Device: "0:45"}
	s := system{
		proc: filepath.Join(root, "proc"), sys: filepath.Join(root, "sys"),
		mounts: []Mount{
			m,
			{ID: 40, Parent: 30, Point: "/mnt/dm/vol0", Source: "/dev/sda", Type: "ext4"},
			{ID: 41, Parent: 1, Point: "/media", Source: "/dev/loop0", Type: "ext4"},
		},
	}
	got := append(s.mountHolders(m), s.loopHolders(m)...)
	got = append(got, s.processHolders(m)...)
	want := []string{
		"/dev/sda (ext4) is mounted on /mnt/dm/vol0",
		"/dev/loop0 is attached to /mnt/dm/vol0, and mounted on /media",
		"pid 10 (dd) has /mnt/dm/vol0 open",
		"pid 11 (bash) has its working directory in /mnt/dm",
		"pid 13 (mapper) has /mnt/dm/vol 1 mapped",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
