package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lockDir is where cryptsetup keeps its locks, of which root alone can know.
const lockDir = "/run/cryptsetup"

// lockReencryption takes the lock that cryptsetup has while it works on a reencryption, so that tables are made of a state that stays until they are
// loaded. Where there are no locks, or none that can be seen, there is nothing to take. release gives it back.
//
// cryptsetup removes the file of a lock that it gives back. So a file that was locked counts only if it is still there.
func lockReencryption(dir, uuid string) (release func(), err error) {
	const tries = 16 // of those who give it back meanwhile
	if strings.ContainsRune(uuid, '/') {
		return nil, fmt.Errorf("UUID %.40q is no name of a lock", uuid)
	}
	path := filepath.Join(dir, "LN_LUKS2-reencryption-"+uuid)
	for range tries {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
		if err != nil {
			return func() {}, nil
		}
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
		case errors.Is(err, unix.EWOULDBLOCK):
			f.Close() //nolint:errcheck // nothing was written through it
			return nil, failure(Occupied, "cryptsetup is at work on its reencryption: wait for that, or stop it")
		case err != nil:
			f.Close() //nolint:errcheck // nothing was written through it
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if isAt(f, path) {
			return func() {
				os.Remove(path) //nolint:errcheck // whoever comes next takes what is there
				f.Close()       //nolint:errcheck // nothing was written through it
			}, nil
		}
		f.Close() //nolint:errcheck // nothing was written through it
	}
	return nil, failure(Occupied, "others take and give back %s all the time", path)
}

// isAt reports whether path still leads to f.
func isAt(f *os.File, path string) bool {
	ours, err1 := f.Stat()
	there, err2 := os.Lstat(path)
	return err1 == nil && err2 == nil && os.SameFile(ours, there)
}
