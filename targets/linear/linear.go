package linear

import (
	"context"
	"strconv"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// Type is the linear target.
var Type = mapper.Type{Name: "linear", Version: [3]int{1, 4, 0}, Features: mapper.PassesTags, New: newTarget}

// target sends a segment to length sectors of disk, from start on.
type target struct {
	disk          mapper.Disk
	start, length mapper.Sector
}

var (
	_ mapper.Remapper = (*target)(nil)
	_ mapper.Areaser  = (*target)(nil)
	_ mapper.Tabler   = (*target)(nil)
)

func newTarget(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
	if len(s.Args) != 2 {
		return nil, mapper.BadArg("Invalid argument count", "%d arguments: want DISK OFFSET", len(s.Args))
	}
	start, ok := args.Uint64(s.Args[1])
	if !ok {
		return nil, mapper.BadArg("Invalid device sector", "offset %q: want a number of sectors", s.Args[1])
	}
	disk, err := args.Open(ctx, h, s.Args[0], "Device lookup failed")
	if err != nil {
		return nil, err
	}
	return &target{disk: disk, start: mapper.Sector(start), length: s.Len}, nil
}

// Submit passes r on, moved to its place on the disk.
func (t *target) Submit(ctx context.Context, r mapper.Request) error {
	r.Start += t.start
	return t.disk.Submit(ctx, r)
}

// Remap returns the sector of the disk that s is, and the rest of the segment as its run.
func (t *target) Remap(s mapper.Sector) (d mapper.Disk, at, run mapper.Sector) {
	return t.disk, t.start + s, t.length - s
}

// Areas returns the one range.
func (t *target) Areas() []mapper.Area {
	return []mapper.Area{{Disk: t.disk, Start: t.start, Len: t.length}}
}

// Table returns DISK OFFSET.
func (t *target) Table(bool) []string {
	return []string{mapper.DiskName(t.disk), strconv.FormatUint(uint64(t.start), 10)}
}
