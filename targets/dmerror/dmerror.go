// Package dmerror is the error target: every read and write fails.
//
// # Use
//
// Marking what is not there: a bad range in the middle of a linear device, a missing disk of an LVM volume,
// a device that is to be taken from under its users (dmsetup remove -f puts this target in its place).
//
// # Table line
//
//	START LENGTH error [DISK OFFSET]
//
// With DISK and OFFSET the device has the limits of that part of the disk, its blocks above all, and the table holds the disk; no I/O reaches it. Other
// numbers of arguments than two are taken and forgotten. No arguments are shown in listings. As in
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
// Discards are not supported. Otherwise those of DISK, or none.
//
// # Ordering and crashes
//
// Nothing is stored. A flush succeeds, as there is no completed write that it could have to make durable; this is
// what fsync on the kernel's target gives.
//
// # Differences from the kernel
//
// DISK OFFSET is that of Linux 6.7 and later, compared with 6.12 by hand; 6.1 takes and forgets two arguments as any. A discard fails as not supported, as
// in 6.1; later kernels fail it as other I/O.
package dmerror

import (
	"context"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// Type is the error target.
var Type = mapper.Type{Name: "error", Version: [3]int{1, 5, 0}, Features: mapper.Wildcard, New: newTarget}

// target has at most one area: what its limits come from.
type target struct{ areas []mapper.Area }

var (
	_ mapper.Areaser = (*target)(nil)
	_ mapper.Hinter  = (*target)(nil)
)

func newTarget(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
	if len(s.Args) != 2 {
		return &target{}, nil
	}
	start, ok := args.Uint64(s.Args[1])
	if !ok {
		return nil, mapper.BadArg("Invalid device sector", "offset %q: want a number of sectors", s.Args[1])
	}
	disk, err := args.Open(ctx, h, s.Args[0], "Device lookup failed")
	if err != nil {
		return nil, err
	}
	return &target{areas: []mapper.Area{{Disk: disk, Start: mapper.Sector(start), Len: s.Len}}}, nil
}

// Submit fails, except for a flush.
func (*target) Submit(_ context.Context, r mapper.Request) error {
	if r.Op == mapper.OpFlush {
		return nil
	}
	return mapper.ErrIO
}

// Areas returns the part of the disk that was named, if any.
func (t *target) Areas() []mapper.Area { return t.areas }

// Hints takes discards away.
func (*target) Hints(l *mapper.Limits) { l.MaxDiscard = 0 }
