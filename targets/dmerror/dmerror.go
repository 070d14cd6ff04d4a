// Package dmerror is the error target: every read and write fails.
//
// # Use
//
// Marking what is not there: a bad range in the middle of a linear device, a missing disk of an LVM volume,
// a device that is to be taken from under its users (dmsetup remove -f puts this target in its place).
//
// # Table line
//
//	START LENGTH error
//
// Any arguments are taken and forgotten. As in
//
//	[devices.scratched]
//	table = """
//	0 1000 linear data 0
//	1000 8 error
//	1008 9000 linear data 1008
//	"""
//
// # Status and messages
//
// The status is empty. There are no messages.
//
// # Limits
//
// Discards are not supported.
//
// # Ordering and crashes
//
// Nothing is stored. A flush succeeds, as there is no completed write that it could have to make durable; this is
// what fsync on the kernel's target gives.
//
// # Differences from the kernel
//
// None known.
package dmerror

import (
	"context"

	"dmfs/mapper"
)

// Type is the error target.
var Type = mapper.Type{Name: "error", Version: [3]int{1, 5, 0}, Features: mapper.WildcardArgs, New: newTarget}

type target struct{}

func newTarget(context.Context, mapper.Host, mapper.Spec) (mapper.Target, error) {
	return target{}, nil
}

// Submit fails, except for a flush.
func (target) Submit(_ context.Context, r mapper.Request) error {
	if r.Op == mapper.OpFlush {
		return nil
	}
	return mapper.ErrIO
}
