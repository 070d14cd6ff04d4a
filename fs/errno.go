package fs

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// errno returns what the kernel is told of err. This is the one place where errors become errno.
func errno(err error) unix.Errno {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return unix.EINTR
	}
	return mapper.Errno(err)
}
