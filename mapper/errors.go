package mapper

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// A statusError is one of the block layer's few errors; it knows its errno.
type statusError struct {
	text  string
	errno unix.Errno
}

func (e *statusError) Error() string { return e.text }

// Unwrap makes errors.Is(err, unix.EIO) and Errno work.
func (e *statusError) Unwrap() error { return e.errno }

// Errors of the data path. Anything else that a target returns counts as ErrIO.
var (
	ErrIO           error = &statusError{"I/O error", unix.EIO}
	ErrMedium       error = &statusError{"medium error", unix.ENODATA}
	ErrProtection   error = &statusError{"authentication failed", unix.EILSEQ}
	ErrNoSpace      error = &statusError{"no space", unix.ENOSPC}
	ErrNotSupported error = &statusError{"operation not supported", unix.EOPNOTSUPP}
	ErrTimeout      error = &statusError{"timed out", unix.ETIMEDOUT}
	ErrReadOnly     error = &statusError{"device is read-only", unix.EPERM}
	// ErrInterrupted: whoever waited was told to stop, by a signal.
	ErrInterrupted error = &statusError{"interrupted", unix.EINTR}
	// ErrRequeue: the request had no effect; the core submits it to the next table.
	ErrRequeue error = &statusError{"requeue", unix.EIO}
)

// Interrupted reports whether err says that I/O was given up, which is nobody's failure.
func Interrupted(err error) bool {
	for _, cause := range []error{ErrRequeue, ErrInterrupted, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}

// DiskFailed reports whether err speaks against the disk: a caller who did not wait, or an operation that it does not know, does not.
func DiskFailed(err error) bool { return !Interrupted(err) && !errors.Is(err, ErrNotSupported) }

// Errors of control operations.
var (
	ErrNotFound error = &statusError{"no such mapped device", unix.ENXIO}
	ErrNoDevice error = &statusError{"Device lookup failed", unix.ENODEV}
	ErrBusy     error = &statusError{"device or resource busy", unix.EBUSY}
	ErrInvalid  error = &statusError{"invalid argument", unix.EINVAL}
	// ErrClosed: the device was removed while the caller held on to it.
	ErrClosed error = &statusError{"the device is gone", unix.ENXIO}
)

// An ArgError refuses an argument of a table line, a message or a command. Reason is what the kernel
// says in its log, word for word where the kernel has a sentence for it; Detail names the
// argument and what was expected, and is shown to people only. Reason is empty where the kernel refuses without a word.
type ArgError struct {
	Reason string
	Detail string
	Errno  unix.Errno // 0 means EINVAL
}

// Error returns reason and detail.
func (e *ArgError) Error() string {
	if e.Reason == "" || e.Detail == "" {
		return e.Reason + e.Detail
	}
	return e.Reason + ": " + e.Detail
}

// Unwrap returns the errno.
func (e *ArgError) Unwrap() error {
	if e.Errno == 0 {
		return unix.EINVAL
	}
	return e.Errno
}

// BadArg returns an ArgError with errno EINVAL.
func BadArg(reason, detail string, args ...any) error {
	return &ArgError{Reason: reason, Detail: fmt.Sprintf(detail, args...)}
}

// An Error is an I/O error with where it happened. The core adds it once, at the lowest mapped
// device that saw the error.
type Error struct {
	Device string // name
	Type   string // of the target
	Op     Op
	Start  Sector // of the device
	Count  Sector
	Err    error
}

// Error returns "DEVICE: TYPE: OP of N sectors at START: cause".
func (e *Error) Error() string {
	if e.Op == OpFlush {
		return fmt.Sprintf("%s: %s: flush: %v", e.Device, e.Type, e.Err)
	}
	return fmt.Sprintf("%s: %s: %s of %d sectors at %d: %v", e.Device, e.Type, e.Op, e.Count, e.Start, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errno returns the errno that stands for err: 0 for nil, EIO for an error that names none.
func Errno(err error) unix.Errno {
	if err == nil {
		return 0
	}
	var n unix.Errno
	if errors.As(err, &n) {
		return n
	}
	return unix.EIO
}

// A SegmentError says which line of a table was refused.
type SegmentError struct {
	Index int  // of the segment, from 0
	Spec  Spec // without its arguments
	Err   error
}

// Error returns "segment INDEX (START+LEN TYPE): cause".
func (e *SegmentError) Error() string {
	return fmt.Sprintf("segment %d (%d+%d %s): %v", e.Index, e.Spec.Start, e.Spec.Len, e.Spec.shownType(), e.Err)
}

// Unwrap returns the cause.
func (e *SegmentError) Unwrap() error { return e.Err }
