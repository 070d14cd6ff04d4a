package mount

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const mountinfo = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:30 / /mnt/a rw,nosuid,nodev - fuse.dmfs /etc/with\040blank.toml rw,user_id=1000,group_id=100
31 22 0:31 / /mnt/b\040c\011d\134e rw - fuse.dmfs dmfs rw,user_id=0,group_id=0,allow_other
32 22 0:32 / /mnt/stacked rw - fuse.dmfs lower rw,user_id=1000,group_id=100
33 32 0:33 / /mnt/stacked rw - fuse.dmfs upper rw,user_id=1000,group_id=100
34 22 0:34 / /srv/x rw - fuse.dmfs hidden rw,user_id=1000,group_id=100
35 22 0:35 / /srv rw - tmpfs tmpfs rw
36 22 0:36 / /home/ssh rw - fuse.sshfs host: rw,user_id=1000,group_id=100
37 22 0:37 / /mnt/inner rw - tmpfs tmpfs rw
38 37 0:38 / /mnt/inner/dm rw - fuse.dmfs dmfs rw,user_id=1000,group_id=100
39 37 0:39 / /mnt/inner rw - tmpfs covers rw
`

// Of stacked mounts the topmost counts, and mounts that no path leads to do not.
func TestOwn(t *testing.T) {
	mounts, err := parseMounts(strings.NewReader(mountinfo))
	if err != nil {
		t.Fatal(err)
	}
	for uid, want := range map[int][]string{
		0:    {"/mnt/a", "/mnt/b c\td\\e", "/mnt/stacked"},
		1000: {"/mnt/a", "/mnt/stacked"},
		7:    nil,
	} {
		if got := own(mounts, uid); !slices.Equal(got, want) {
			t.Errorf("uid %d: got %q, want %q", uid, got, want)
		}
	}
	if got := mounts[1]; got.Source != "/etc/with blank.toml" || got.UserID != 1000 || got.GroupID != 100 || got.Device != "0:30" {
		t.Errorf("got %+v", got)
	}
	if visible(mounts, mounts[3]) || !visible(mounts, mounts[4]) {
		t.Error("of two stacked mounts the lower one is taken for visible, or the upper is not")
	}
}

func TestParseMountsErrors(t *testing.T) {
	for _, line := range []string{"", "1 2 3", "x 1 0:1 / / rw - a b c", "1 2 0:1 / / rw shared:1", "1 2 0:1 / / rw - a"} {
		if _, err := parseMount(line); err == nil {
			t.Errorf("%q: no error", line)
		}
	}
}

func FuzzMounts(f *testing.F) {
	f.Add(mountinfo)
	f.Add("1 1 0:1 / / rw - fuse.dmfs a rw\n2 1 0:1 / /\\777\\08 rw - a b c")
	f.Fuzz(func(_ *testing.T, text string) {
		mounts, err := parseMounts(strings.NewReader(text))
		if err == nil && len(mounts) < 100 {
			own(mounts, 0)
		}
	})
}

// resolve does not enter the last component, which may be a stale mount.
func TestResolve(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Mkdir(dir+"/real", 0o755),
		os.Symlink("real", dir+"/link"),
		os.Symlink(dir+"/link", dir+"/far"),
		os.Symlink("loop", dir+"/loop"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	for point, want := range map[string]string{
		"real":         dir + "/real",
		"link/":        dir + "/real",
		"far":          dir + "/real",
		"./far/../new": dir + "/new",
		dir + "/far/x": dir + "/real/x",
		"/":            "/",
	} {
		if got, err := resolve(point); got != want || err != nil {
			t.Errorf("%s: got %s, %v, want %s", point, got, err, want)
		}
	}
	for _, point := range []string{"", "loop"} {
		if got, err := resolve(point); err == nil {
			t.Errorf("%q: got %s", point, got)
		}
	}
}
