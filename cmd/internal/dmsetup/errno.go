package dmsetup

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// errnoTexts are the C library's words for the errors that a device mapper call may give.
var errnoTexts = map[unix.Errno]string{
	unix.EPERM:     "Operation not permitted",
	unix.ENOENT:    "No such file or directory",
	unix.EINTR:     "Interrupted system call",
	unix.EIO:       "Input/output error",
	unix.ENXIO:     "No such device or address",
	unix.E2BIG:     "Argument list too long",
	unix.EAGAIN:    "Resource temporarily unavailable",
	unix.ENOMEM:    "Cannot allocate memory",
	unix.EACCES:    "Permission denied",
	unix.EBUSY:     "Device or resource busy",
	unix.EEXIST:    "File exists",
	unix.ENODEV:    "No such device",
	unix.ENOTDIR:   "Not a directory",
	unix.EISDIR:    "Is a directory",
	unix.EINVAL:    "Invalid argument",
	unix.ENOTTY:    "Inappropriate ioctl for device",
	unix.EFBIG:     "File too large",
	unix.ENOSPC:    "No space left on device",
	unix.EROFS:     "Read-only file system",
	unix.EDOM:      "Numerical argument out of domain",
	unix.ERANGE:    "Numerical result out of range",
	unix.ELOOP:     "Too many levels of symbolic links",
	unix.ENODATA:   "No data available",
	unix.EOVERFLOW: "Value too large for defined data type",
	unix.EILSEQ:    "Invalid or incomplete multibyte or wide character",
	unix.EBADMSG:   "Bad message",
	unix.ENOTSUP:   "Operation not supported",
	unix.ETIMEDOUT: "Connection timed out",
	unix.ENOTCONN:  "Transport endpoint is not connected",
	unix.ENOKEY:    "Required key not available",
	unix.EUCLEAN:   "Structure needs cleaning",
}

// strerror returns the C library's text for err; an errno it does not know in Go's words, capitalised, and
// an error without errno in its own.
func strerror(err error) string {
	var n unix.Errno
	if !errors.As(err, &n) {
		return err.Error()
	}
	if text := errnoTexts[n]; text != "" {
		return text
	}
	text := n.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}
