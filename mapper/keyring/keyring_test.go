package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

func alloc(n int) ([]byte, error) { return make([]byte, n), nil }

// write makes a file in a directory of its own.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFiles(t *testing.T) {
	path := write(t, "secret\n")
	long := write(t, strings.Repeat("x", MaxKey+1))
	r, err := New(map[string]mapper.KeyConfig{
		"a": {Path: path}, "long": {Path: long}, "most": {Path: write(t, strings.Repeat("x", MaxKey))}, "gone": {Path: path + "-not"}, "dir": {Path: filepath.Dir(path)},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, kind := range []string{"user", "logon"} {
		if got, err := r.Key(kind, "a", alloc); err != nil || string(got) != "secret\n" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if got, err := r.Key("user", "most", alloc); err != nil || len(got) != MaxKey {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	for name, want := range map[string]unix.Errno{"long": unix.E2BIG, "gone": unix.ENOENT, "dir": unix.EISDIR} {
		if _, err := r.Key("user", name, alloc); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	full := errors.New("full")
	if _, err := r.Key("user", "a", func(int) ([]byte, error) { return nil, full }); !errors.Is(err, full) {
		t.Errorf("no memory: %v", err)
	}
	// It is read when it is asked for.
	if err := os.WriteFile(path, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Key("user", "a", alloc); err != nil || string(got) != "another" {
		t.Errorf("got %q, %v", got, err)
	}
}

// A descriptor is read once, and its key can be had as often as wanted.
func TestDescriptors(t *testing.T) {
	var p [2]int
	if err := unix.Pipe(p[:]); err != nil { // without close-on-exec, as if inherited
		t.Fatal(err)
	}
	if _, err := unix.Write(p[1], []byte("from a pipe")); err != nil {
		t.Fatal(err)
	}
	unix.Close(p[1])
	r, err := New(map[string]mapper.KeyConfig{"k": {FD: p[0]}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 2 {
		if got, err := r.Key("user", "k", alloc); err != nil || string(got) != "from a pipe" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if _, err := unix.FcntlInt(uintptr(p[0]), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("the descriptor is open still: %v", err)
	}
}

// Descriptors that are not there, or that are the program's own, are refused and left alone.
func TestWrongDescriptors(t *testing.T) {
	own, err := os.Open(write(t, "not a key"))
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	for _, fd := range []int{int(own.Fd()), 1 << 20} {
		if _, err := New(map[string]mapper.KeyConfig{"k": {FD: fd}}, nil); !errors.Is(err, unix.EBADF) {
			t.Errorf("descriptor %d: %v, want EBADF", fd, err)
		}
	}
	if _, err := own.Stat(); err != nil {
		t.Errorf("a descriptor of the program's own was touched: %v", err)
	}
}

func TestCertificates(t *testing.T) {
	block := func(kind, text string) string {
		return "-----BEGIN " + kind + "-----\n" + text + "\n-----END " + kind + "-----\n"
	}
	r, err := New(nil, []string{write(t, "note\n"+block("CERTIFICATE", "YQ==")+block("CERTIFICATE", "Yg==")), write(t, "\x30\x00")})
	if err != nil {
		t.Fatal(err)
	}
	if got := bytes.Join(r.Trusted(), []byte(",")); string(got) != "a,b,\x30\x00" {
		t.Errorf("got %q", got)
	}
	for _, text := range []string{block("PRIVATE KEY", "YQ=="), strings.Repeat("x", maxCertificates+1)} {
		if _, err := New(nil, []string{write(t, text)}); err == nil {
			t.Errorf("%.30q: taken", text)
		}
	}
	if _, err := New(nil, []string{"/nowhere/x.pem"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// What is not in the configuration is looked for in the keyrings of the process; what only the kernel can read is told so.
func TestKernelKeyrings(t *testing.T) {
	name := fmt.Sprintf("dmfs:test-%d", unix.Getpid())
	id, err := unix.AddKey("user", name, []byte("ring"), unix.KEY_SPEC_PROCESS_KEYRING)
	if err != nil {
		t.Skipf("no keyring: %v", err)
	}
	defer unix.KeyctlInt(unix.KEYCTL_INVALIDATE, id, 0, 0, 0)
	r, err := New(map[string]mapper.KeyConfig{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := r.Key("user", name, alloc); err != nil || string(got) != "ring" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := r.Key("user", name+"-not", alloc); !errors.Is(err, unix.ENOKEY) {
		t.Errorf("a key that is not there: %v, want ENOKEY", err)
	}
	logon, err := unix.AddKey("logon", name, []byte("ring"), unix.KEY_SPEC_PROCESS_KEYRING)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.KeyctlInt(unix.KEYCTL_INVALIDATE, logon, 0, 0, 0)
	if _, err := r.Key("logon", name, alloc); !errors.Is(err, unix.EOPNOTSUPP) || !strings.Contains(err.Error(), "keyctl add user") {
		t.Errorf("a logon key: %v, want EOPNOTSUPP and the cure", err)
	}
}

// A key that was added is there until it is taken back; of two the later counts, and the configuration before both.
func TestHeldKeys(t *testing.T) {
	r, err := New(map[string]mapper.KeyConfig{"mine": {Path: write(t, "configured")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	hold := func(name, key string) func() {
		release, err := r.Hold("logon", name, len(key), func(p []byte) error { copy(p, key); return nil })
		if err != nil {
			t.Fatal(err)
		}
		return release
	}
	want := func(name, want string) {
		t.Helper()
		if got, err := r.Key("logon", name, alloc); string(got) != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	first, second := hold("dmfs:held", "first"), hold("dmfs:held", "second")
	defer hold("mine", "added")()
	want("mine", "configured")
	want("dmfs:held", "second")
	if _, err := r.Key("user", "dmfs:held", alloc); err == nil {
		t.Error("a key of another type")
	}
	second()
	want("dmfs:held", "first")
	first()
	want("dmfs:held", "")
	full := errors.New("full")
	if _, err := r.Hold("logon", "x", 4, func([]byte) error { return full }); !errors.Is(err, full) {
		t.Errorf("a key that cannot be written: %v", err)
	}
	want("x", "")
	for _, n := range []int{0, -1, MaxKey + 1} {
		if _, err := r.Hold("logon", "x", n, func([]byte) error { return nil }); !errors.Is(err, unix.EINVAL) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}
