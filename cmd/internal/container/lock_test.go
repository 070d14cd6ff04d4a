package container

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The lock of a reencryption is one for all, is gone when it is given back, and is not missed where there is none.
func TestLockReencryption(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "LN_LUKS2-reencryption-0-1")
	release, err := lockReencryption(dir, "0-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockReencryption(dir, "0-1"); Status(err) != Occupied {
		t.Errorf("taken twice: %v", err)
	}
	other, err := lockReencryption(dir, "0-2")
	if err != nil {
		t.Errorf("that of another: %v", err)
	} else {
		other()
	}
	release()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("its file is left: %v", err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := lockReencryption(dir, "0-1"); Status(err) != Occupied {
		t.Errorf("taken from another: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if release, err = lockReencryption(dir, "0-1"); err != nil {
		t.Errorf("whose file is gone, and who has given it back by that: %v", err)
	} else {
		release()
	}
	if _, err = lockReencryption(dir, "x/../../victim"); err == nil {
		t.Error("a UUID that is a way to another file")
	}
	if release, err = lockReencryption(filepath.Join(dir, "missing"), "0-1"); err != nil {
		t.Errorf("without locks: %v", err)
	} else {
		release()
	}
}
