// Package zero reads as zeroes and forgets what is written.
//
// # Use
//
// A place holder; the origin of a sparse device (a snapshot over zero allocates only what is written); tests.
//
// # Table line
//
//	START LENGTH zero
//
// As in
//
//	[devices.nothing]
//	table = "0 2147483648 zero"
//
// # Status and messages
//
// The status is empty. There are no messages.
//
// # Limits
//
// Discards are not supported. Write-zeroes of any size succeeds at once. The whole segment is a hole.
//
// # Ordering and crashes
//
// Nothing is stored, so nothing can be lost.
//
// # Differences from the kernel
//
// The kernel's target does not know write-zeroes, so there the block layer writes pages of zeroes for it, with the same result.
package zero

import (
	"context"

	"dmfs/mapper"
)

// Type is the zero target.
var Type = mapper.Type{Name: "zero", Version: [3]int{1, 1, 0}, New: newTarget}

type target struct{}

var (
	_ mapper.Hinter   = target{}
	_ mapper.Extenter = target{}
)

func newTarget(_ context.Context, _ mapper.Host, s mapper.Spec) (mapper.Target, error) {
	if len(s.Args) != 0 {
		return nil, mapper.BadArg("No arguments required", "%d arguments: want none", len(s.Args))
	}
	return target{}, nil
}

// Submit fills what is read with zeroes and drops what is written.
func (target) Submit(_ context.Context, r mapper.Request) error {
	switch r.Op {
	case mapper.OpRead:
		clear(r.Data)
	case mapper.OpWrite, mapper.OpWriteZeroes, mapper.OpFlush:
	default:
		return mapper.ErrNotSupported
	}
	return nil
}

// Hints allows write-zeroes of any size.
func (target) Hints(l *mapper.Limits) { l.MaxWriteZeroes = mapper.MaxSectors }

// Extent says that everything is a hole.
func (target) Extent(_ context.Context, _, max mapper.Sector) (run mapper.Sector, data bool, err error) {
	return max, false, nil
}
