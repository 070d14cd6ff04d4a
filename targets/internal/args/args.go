// Package args reads the arguments of table lines as kernel targets do, so that the same lines are
// taken and the same lines are refused.
//
// Kernel targets read numbers in ways that differ in what they let pass:
//
//   - sscanf(s, "%llu%c"): blanks may come first, then digits, then nothing. [Uint64]
//   - sscanf(s, "%u%c"): the same, and 32 bits. [ScanUint32]
//   - kstrtouint(s, 10): an optional plus, digits, an optional newline, and 32 bits. [Uint32]
//   - kstrtoull(s, 10): the same, and 64 bits. [LongUint64]
//
// All are decimal ("010" is ten, "0x10" is refused). They differ from the kernel at one point: its sscanf
// drops the bits that do not fit ("18446744073709551616" is 0 there); here such a number is
// refused, since a table that silently means another sector destroys data.
package args

import (
	"context"
	"errors"
	"math"
	"strings"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// Uint64 reads s as sscanf(s, "%llu%c") == 1 does.
func Uint64(s string) (n uint64, ok bool) {
	return digits(strings.TrimLeft(s, " \t\n\v\f\r"), math.MaxUint64)
}

// ScanUint32 reads s as sscanf(s, "%u%c") == 1 does, and so what the kernel's dm_read_arg reads.
func ScanUint32(s string) (n uint32, ok bool) {
	v, ok := digits(strings.TrimLeft(s, " \t\n\v\f\r"), math.MaxUint32)
	return uint32(v), ok
}

// Uint32 reads s as kstrtouint(s, 10) does.
func Uint32(s string) (n uint32, ok bool) {
	v, ok := signed(s, math.MaxUint32)
	return uint32(v), ok
}

// LongUint64 reads s as kstrtoull(s, 10) does.
func LongUint64(s string) (n uint64, ok bool) { return signed(s, math.MaxUint64) }

// signed reads a number that may have a plus before it and a newline behind it.
func signed(s string, most uint64) (n uint64, ok bool) {
	return digits(strings.TrimSuffix(strings.TrimPrefix(s, "+"), "\n"), most)
}

// digits reads a decimal number of at least one digit, at most most, and nothing else.
func digits(s string, most uint64) (n uint64, ok bool) {
	for i := range len(s) {
		c := s[i] - '0'
		if c > 9 || n > (most-uint64(c))/10 {
			return 0, false
		}
		n = n*10 + uint64(c)
	}
	return n, s != ""
}

// Open opens the disk called name through h. If that fails the table is refused with reason, the kernel's
// words of the target that asks, and with the errno of the failure, as in "Device lookup failed (-ENODEV)".
// errors.Is finds the cause.
func Open(ctx context.Context, h mapper.Host, name, reason string) (mapper.Disk, error) {
	d, err := h.Open(ctx, name)
	if err != nil {
		return nil, &openError{mapper.ArgError{Reason: reason, Detail: detail(name, err), Errno: mapper.Errno(err)}, err}
	}
	return d, nil
}

// OpenInvalid does as Open for the targets of which the kernel's forget the errno and say EINVAL.
func OpenInvalid(ctx context.Context, h mapper.Host, name, reason string) (mapper.Disk, error) {
	d, err := h.Open(ctx, name)
	if err != nil {
		return nil, &openError{mapper.ArgError{Reason: reason, Detail: detail(name, err), Errno: unix.EINVAL}, err}
	}
	return d, nil
}

// detail names the disk and the cause, once each, but no disk whose name may be a key in the wrong place.
func detail(name string, err error) string {
	if file := name[strings.LastIndexByte(name, '/')+1:]; mapper.MayBeKey(file) && strings.Trim(file, "0123456789abcdefABCDEF") == "" {
		return mapper.ShowArg(file) + ": " + mapper.Errno(err).Error()
	}
	var arg *mapper.ArgError
	if errors.As(err, &arg) && arg.Detail != "" {
		return arg.Detail
	}
	if text := err.Error(); strings.Contains(text, name) && name != "" {
		return text
	}
	return mapper.QuoteArg(name) + ": " + err.Error()
}

// An openError is an ArgError that remembers what went wrong below.
type openError struct {
	arg   mapper.ArgError
	cause error
}

func (e *openError) Error() string   { return e.arg.Error() }
func (e *openError) Unwrap() []error { return []error{&e.arg, e.cause} }
