package disk

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// What can be no disk is refused without opening it.
func TestIdentify(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := unix.Mkfifo(at("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if err := os.WriteFile(at("file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"link": "file", "dangling": "none", "ring": "ring"} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		path string
		want unix.Errno // 0: it may be a disk
		says string
	}{
		{at("file"), 0, ""},
		{at("link"), 0, ""},
		{dir, unix.ENOTBLK, "a directory"},
		{at("fifo"), unix.ENOTBLK, "a FIFO"},
		{at("socket"), unix.ENOTBLK, "a socket"},
		{"/dev/full", unix.ENOTBLK, "a character device"},
		{at("none"), unix.ENOENT, ""},
		{at("dangling"), unix.ENOENT, ""},
		{at("ring"), unix.ELOOP, ""},
		{at("file/x"), unix.ENOTDIR, ""},
		{"/" + strings.Repeat("n", 300), unix.ENAMETOOLONG, ""},
		{at("nul\x00"), unix.EINVAL, ""},
	} {
		_, err := Opener{}.Identify(tt.path)
		if tt.want == 0 && err != nil || tt.want != 0 && (!errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("Identify(%q): %v, want %v, %q", tt.path, err, tt.want, tt.says)
		}
		if _, openErr := (Opener{}).Open(ctx, mapper.DiskConfig{Path: tt.path}); (openErr == nil) != (tt.want == 0) {
			t.Errorf("Open(%q): %v", tt.path, openErr)
		}
	}
	a, _ := Opener{}.Identify(at("file"))
	b, _ := Opener{}.Identify(at("link"))
	if a != b {
		t.Errorf("a file is %v, and %v by a link", a, b)
	}
}

// A part of a sector at the end does not count, and a path is quoted for tables.
func TestSizeAndName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b.img")
	for size, want := range map[int]mapper.Sector{0: 0, 511: 0, 512: 1, 1535: 2} {
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		d := open(t, mapper.DiskConfig{Path: path})
		if d.Sectors() != want {
			t.Errorf("%d bytes are %d sectors, want %d", size, d.Sectors(), want)
		}
		if d.DiskName() != `"`+path+`"` || d.Path() != path || d.KernelName() != "a b.img" {
			t.Errorf("called %s, %s, %s", d.DiskName(), d.Path(), d.KernelName())
		}
	}
}

// A read-only disk is read and flushed, and not written.
func TestReadOnlyDisk(t *testing.T) {
	path := image(t, 8)
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	d := open(t, mapper.DiskConfig{Path: path, ReadOnly: true})
	data := make([]byte, 512)
	for op, ok := range map[mapper.Op]bool{mapper.OpRead: true, mapper.OpWrite: false, mapper.OpWriteZeroes: false, mapper.OpDiscard: false} {
		r := mapper.Request{Op: op, Count: 1}
		if op <= mapper.OpWrite {
			r.Data = data
		}
		if err := d.Submit(ctx, r); (err == nil) != ok {
			t.Errorf("%s: %v", op, err)
		}
	}
	if err := d.Submit(ctx, mapper.Request{Op: mapper.OpFlush}); err != nil {
		t.Errorf("flush: %v", err)
	}
	if !d.Limits().ReadOnly {
		t.Error("the limits do not say so")
	}
}

// A URI is its own identity, in whatever spelling, and what is no URI of ours is refused without a look at files.
func TestIdentifyURI(t *testing.T) {
	a, err := Opener{}.Identify("nbd://H:10809/x")
	b, err2 := Opener{}.Identify("nbd://h/x")
	c, err3 := Opener{}.Identify("nbd://h/y")
	if err != nil || err2 != nil || err3 != nil || a != b || a == c || a.URI != "nbd://h/x" {
		t.Errorf("%+v %+v %+v (%v %v %v)", a, b, c, err, err2, err3)
	}
	for _, bad := range []string{"nbds://h/x", "http://h/x", "file:///x"} {
		if _, err := (Opener{}).Identify(bad); !errors.Is(err, unix.EINVAL) {
			t.Errorf("%s: %v", bad, err)
		}
		if _, err := (Opener{}).Open(ctx, mapper.DiskConfig{Path: bad}); !errors.Is(err, unix.EINVAL) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
