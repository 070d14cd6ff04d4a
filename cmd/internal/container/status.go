package container

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/targets/crypt/luks"
)

// Exit statuses, which are cryptsetup's.
const (
	Done     = 0
	Failed   = 1 // wrong parameters, a malformed header, what is not supported
	Denied   = 2 // no key available with this passphrase; no permission
	NoMemory = 3
	NotThere = 4 // the disk, the mount or the device does not exist
	Occupied = 5 // the device exists already, or is in use
)

// A statusError is an error with an exit status of its own.
type statusError struct {
	status int
	err    error
}

func (e *statusError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *statusError) Unwrap() error { return e.err }

func failure(status int, format string, args ...any) error {
	return &statusError{status, fmt.Errorf(format, args...)}
}

// Status returns the exit status for what Open or Close returned.
func Status(err error) int {
	var own *statusError
	var argument *mapper.ArgError
	switch {
	case err == nil:
		return Done
	case errors.As(err, &own):
		return own.status
	case errors.As(err, &argument): // its errno is about what a table says, a cipher that is not there for one
		return Failed
	case errors.Is(err, luks.ErrPassphrase), errors.Is(err, fs.ErrPermission):
		return Denied
	case errors.Is(err, luks.ErrMemory), errors.Is(err, unix.ENOMEM):
		return NoMemory
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENOTBLK):
		return NotThere
	case errors.Is(err, unix.EEXIST), errors.Is(err, unix.EBUSY):
		return Occupied
	}
	return Failed
}
