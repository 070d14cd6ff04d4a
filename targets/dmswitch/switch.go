package dmswitch

import (
	"context"
	"math/bits"
	"slices"
	"strconv"
	"sync"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// Type is the switch target.
var Type = mapper.Type{Name: "switch", Version: [3]int{1, 1, 0}, New: newTarget}

// maxPaths is how many paths the kernel takes.
const maxPaths = 262141

type target struct {
	length mapper.Sector
	region mapper.Sector // sectors in a region
	shift  int           // log2 of region, -1 if it is not a power of two
	paths  []path
	disks  []mapper.Disk // of the paths, each once
	table  *regionTable

	messages sync.Mutex // held by the one who writes table
}

// A path sends sector s of the segment to sector start+s of disk.
type path struct {
	disk  mapper.Disk
	start mapper.Sector
}

var (
	_ mapper.Areaser   = (*target)(nil)
	_ mapper.Tabler    = (*target)(nil)
	_ mapper.Hinter    = (*target)(nil)
	_ mapper.Messenger = (*target)(nil)
)

func newTarget(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
	var words [3]string // what is missing is wrong
	copy(words[:], s.Args)
	paths, ok := args.ScanUint32(words[0])
	if !ok || paths == 0 || paths > maxPaths {
		return nil, mapper.BadArg("Invalid number of paths", "%q: want a number from 1 to %d", words[0], maxPaths)
	}
	region, ok := args.ScanUint32(words[1])
	if !ok || region == 0 {
		return nil, mapper.BadArg("Invalid region size", "%q: want a number of sectors above 0", words[1])
	}
	if options, ok := args.ScanUint32(words[2]); !ok || options != 0 {
		return nil, mapper.BadArg("Invalid number of optional args", "%q: want 0, there are none", words[2])
	}
	pairs := s.Args[3:]
	if len(pairs) != 2*int(paths) {
		return nil, mapper.BadArg("Incorrect number of path arguments", "%d: want DISK OFFSET for each of %d paths", len(pairs), paths)
	}
	t := &target{length: s.Len, region: mapper.Sector(region), shift: -1}
	if region&(region-1) == 0 {
		t.shift = bits.TrailingZeros32(region)
	}
	for ; len(pairs) > 0; pairs = pairs[2:] {
		if err := t.openPath(ctx, h, pairs[0], pairs[1]); err != nil {
			return nil, err
		}
	}
	regions := uint64((s.Len + t.region - 1) / t.region)
	if t.table, ok = newRegionTable(regions, uint64(paths)); !ok {
		return nil, &mapper.ArgError{Reason: "Cannot allocate region table", Errno: noMemory,
			Detail: strconv.FormatUint(regions, 10) + " regions: choose a larger region size"}
	}
	return t, nil
}

func (t *target) openPath(ctx context.Context, h mapper.Host, name, offset string) error {
	disk, err := args.Open(ctx, h, name, "Device lookup failed")
	if err != nil {
		return err
	}
	start, ok := args.Uint64(offset)
	if !ok {
		return mapper.BadArg("Invalid device starting offset", "offset %q of path %d: want a number of sectors", offset, len(t.paths))
	}
	if block := disk.Limits().LogicalSectors(); t.region%block != 0 && t.region < t.length {
		return mapper.BadArg("Invalid region size", "%d sectors: want a multiple of the %d of a block of %s", t.region, block, mapper.DiskName(disk))
	}
	t.paths = append(t.paths, path{disk, mapper.Sector(start)})
	if !slices.Contains(t.disks, disk) {
		t.disks = append(t.disks, disk)
	}
	return nil
}

// Submit sends r, which lies within a region, down the region's path.
func (t *target) Submit(ctx context.Context, r mapper.Request) error {
	if r.Op == mapper.OpFlush {
		return t.flush(ctx, r)
	}
	p := &t.paths[t.table.path(t.regionOf(r.Start))]
	r.Start += p.start
	return p.disk.Submit(ctx, r)
}

func (t *target) regionOf(s mapper.Sector) uint64 {
	if t.shift >= 0 {
		return uint64(s >> t.shift)
	}
	return uint64(s / t.region)
}

// fanWidth bounds how many disks work on one flush at a time.
const fanWidth = 16

// flush sends r to every disk once.
func (t *target) flush(ctx context.Context, r mapper.Request) error {
	return mapper.FanOut(len(t.disks), fanWidth, func(i int) error { return t.disks[i].Submit(ctx, r) })
}

// Areas returns the range of each path.
func (t *target) Areas() []mapper.Area {
	areas := make([]mapper.Area, len(t.paths))
	for i, p := range t.paths {
		areas[i] = mapper.Area{Disk: p.disk, Start: p.start, Len: t.length}
	}
	return areas
}

// Hints asks for cuts at the borders of regions.
func (t *target) Hints(l *mapper.Limits) { l.Split, l.SplitDiscard = t.region, true }

// Table returns PATHS REGION 0 (DISK OFFSET)*.
func (t *target) Table(bool) []string {
	words := []string{strconv.Itoa(len(t.paths)), strconv.FormatUint(uint64(t.region), 10), "0"}
	for _, p := range t.paths {
		words = append(words, mapper.DiskName(p.disk), strconv.FormatUint(uint64(p.start), 10))
	}
	return words
}
