// Package caller is what ioctls of all devices share: the memory of who calls them, and the errno that he gets.
package caller

import (
	"errors"

	"golang.org/x/sys/unix"
)

// A Memory is the caller's. What is not mapped there is EFAULT.
type Memory interface {
	Read(addr uint64, p []byte) unix.Errno
	Write(addr uint64, p []byte) unix.Errno
}

// Errno returns the errno that stands for err: 0 for none, EIO for one that has none.
func Errno(err error) unix.Errno {
	var n unix.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &n):
		return n
	}
	return unix.EIO
}
