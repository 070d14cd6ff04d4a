package striped

import (
	"context"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// Type is the striped target.
var Type = mapper.Type{Name: "striped", Version: [3]int{1, 6, 0}, Features: mapper.PassesTags, New: newTarget}

// eventErrors is how many failures of a disk raise an event, as in the kernel (its threshold is the next).
const eventErrors = 14

type target struct {
	host    mapper.Host
	length  mapper.Sector // of the segment
	chunk   mapper.Sector // sectors in a chunk
	shift   int           // log2 of chunk, -1 if it is not a power of two
	stripes []stripe
	disks   []mapper.Disk // of the stripes, each once
}

// A stripe is a range of a disk that begins at start.
type stripe struct {
	disk     mapper.Disk
	start    mapper.Sector
	failures atomic.Int32 // of the disk, up to a little more than eventErrors
}

var (
	_ mapper.Remapper = (*target)(nil)
	_ mapper.Areaser  = (*target)(nil)
	_ mapper.Tabler   = (*target)(nil)
	_ mapper.Statuser = (*target)(nil)
	_ mapper.Hinter   = (*target)(nil)
)

func newTarget(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
	t, err := parse(s)
	if err != nil {
		return nil, err
	}
	t.host = h
	for i := range t.stripes {
		if err := t.openStripe(ctx, i, s.Args[2+2*i], s.Args[3+2*i]); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// parse checks the shape of a table line. It allocates no more than the line has arguments.
func parse(s mapper.Spec) (*target, error) {
	if len(s.Args) < 2 {
		return nil, mapper.BadArg("Not enough arguments", "%d arguments: want STRIPES CHUNK (DISK OFFSET)*", len(s.Args))
	}
	stripes, ok := args.Uint32(s.Args[0])
	if !ok || stripes == 0 {
		return nil, mapper.BadArg("Invalid stripe count", "%q: want a number above 0", s.Args[0])
	}
	chunk, ok := args.Uint32(s.Args[1])
	if !ok || chunk == 0 {
		return nil, mapper.BadArg("Invalid chunk_size", "%q: want a number of sectors above 0", s.Args[1])
	}
	if s.Len%mapper.Sector(stripes) != 0 {
		return nil, mapper.BadArg("Target length not divisible by number of stripes", "%d sectors, %d stripes", s.Len, stripes)
	}
	if width := s.Len / mapper.Sector(stripes); width%mapper.Sector(chunk) != 0 {
		return nil, mapper.BadArg("Target length not divisible by chunk size",
			"each stripe gets %d sectors, a chunk has %d", width, chunk)
	}
	if uint64(len(s.Args)) != 2+2*uint64(stripes) {
		return nil, mapper.BadArg("Not enough destinations specified",
			"%d arguments follow, want DISK OFFSET for each of %d stripes", len(s.Args)-2, stripes)
	}
	t := &target{length: s.Len, chunk: mapper.Sector(chunk), shift: -1, stripes: make([]stripe, stripes)}
	if chunk&(chunk-1) == 0 {
		t.shift = bits.TrailingZeros32(chunk)
	}
	return t, nil
}

// badStripe is the kernel's reason for everything that is wrong with a DISK OFFSET pair.
const badStripe = "Couldn't parse stripe destination"

func (t *target) openStripe(ctx context.Context, i int, name, offset string) error {
	start, ok := args.Uint64(offset)
	if !ok {
		return mapper.BadArg(badStripe, "offset %q of stripe %d: want a number of sectors", offset, i)
	}
	disk, err := args.Open(ctx, t.host, name, badStripe)
	if err != nil {
		return err
	}
	if block := disk.Limits().LogicalSectors(); t.chunk%block != 0 {
		return mapper.BadArg("Invalid chunk_size", "%d sectors: want a multiple of the %d of a block of %s",
			t.chunk, block, mapper.DiskName(disk))
	}
	t.stripes[i].disk, t.stripes[i].start = disk, mapper.Sector(start)
	if !slices.Contains(t.disks, disk) {
		t.disks = append(t.disks, disk)
	}
	return nil
}

// Submit sends r to the disk that holds its chunk; what has no data may span chunks.
func (t *target) Submit(ctx context.Context, r mapper.Request) error {
	switch r.Op {
	case mapper.OpRead, mapper.OpWrite:
		var i int
		i, r.Start = t.place(r.Start)
		return t.count(i, t.stripes[i].disk.Submit(ctx, r))
	case mapper.OpFlush:
		return t.flush(ctx, r)
	}
	return t.spread(ctx, r)
}

// place returns the stripe that holds sector s of the segment, and which sector of its disk that is.
func (t *target) place(s mapper.Sector) (i int, at mapper.Sector) {
	chunk, off := t.chunkOf(s)
	row, i := chunk/mapper.Sector(len(t.stripes)), int(chunk%mapper.Sector(len(t.stripes)))
	return i, t.stripes[i].start + t.sectors(row) + off
}

// chunkOf returns the chunk of the segment that holds s, and where in the chunk s is.
func (t *target) chunkOf(s mapper.Sector) (chunk, off mapper.Sector) {
	if t.shift >= 0 {
		return s >> t.shift, s & (t.chunk - 1)
	}
	return s / t.chunk, s % t.chunk
}

// sectors returns the length of n chunks.
func (t *target) sectors(n mapper.Sector) mapper.Sector {
	if t.shift >= 0 {
		return n << t.shift
	}
	return n * t.chunk
}

// before returns how many sectors of stripe i belong to the first s sectors of the segment.
func (t *target) before(i int, s mapper.Sector) mapper.Sector {
	chunk, off := t.chunkOf(s)
	row, last := chunk/mapper.Sector(len(t.stripes)), int(chunk%mapper.Sector(len(t.stripes)))
	switch {
	case i < last:
		return t.sectors(row + 1)
	case i == last:
		return t.sectors(row) + off
	}
	return t.sectors(row)
}

// Remap returns where s lives, to the end of its chunk; of a single stripe to the end of the segment.
func (t *target) Remap(s mapper.Sector) (d mapper.Disk, at, run mapper.Sector) {
	i, at := t.place(s)
	if len(t.stripes) == 1 {
		return t.stripes[0].disk, at, t.length - s
	}
	_, off := t.chunkOf(s)
	return t.stripes[i].disk, at, t.chunk - off
}

// count notes the outcome of an I/O of stripe i and returns it.
func (t *target) count(i int, err error) error {
	if err != nil {
		t.failed(t.stripes[i].disk, err)
	}
	return err
}

// failed counts a failure of d against all its stripes. Whoever waits for events is woken until
// the disk is known to be bad.
func (t *target) failed(d mapper.Disk, err error) {
	if !mapper.DiskFailed(err) {
		return
	}
	news := false
	for i := range t.stripes {
		if s := &t.stripes[i]; s.disk == d && s.failures.Load() <= eventErrors {
			news = s.failures.Add(1) <= eventErrors || news
		}
	}
	if news {
		t.host.Event()
	}
}

// Areas returns the range of each stripe.
func (t *target) Areas() []mapper.Area {
	areas := make([]mapper.Area, len(t.stripes))
	for i := range t.stripes {
		s := &t.stripes[i]
		areas[i] = mapper.Area{Disk: s.disk, Start: s.start, Len: t.length / mapper.Sector(len(t.stripes))}
	}
	return areas
}

// Hints asks for cuts at chunk borders and recommends chunks. Discards need every disk to support them.
func (t *target) Hints(l *mapper.Limits) {
	if len(t.stripes) > 1 {
		l.Split = t.chunk
	}
	for _, d := range t.disks {
		if d.Limits().MaxDiscard == 0 {
			l.MaxDiscard = 0
		}
	}
	l.MinIO = max(int(t.chunk.Bytes()), l.PhysicalBlock)
	l.OptIO = int(t.chunk.Bytes()) * len(t.stripes)
}

// Table returns STRIPES CHUNK (DISK OFFSET)*.
func (t *target) Table(bool) []string {
	words := []string{strconv.Itoa(len(t.stripes)), strconv.FormatUint(uint64(t.chunk), 10)}
	for i := range t.stripes {
		s := &t.stripes[i]
		words = append(words, mapper.DiskName(s.disk), strconv.FormatUint(uint64(s.start), 10))
	}
	return words
}

// Status returns STRIPES DISK* 1 HEALTH.
func (t *target) Status(context.Context, bool) (string, error) {
	words := []string{strconv.Itoa(len(t.stripes))}
	health := make([]byte, len(t.stripes))
	for i := range t.stripes {
		words = append(words, mapper.DiskName(t.stripes[i].disk))
		health[i] = 'A'
		if t.stripes[i].failures.Load() > 0 {
			health[i] = 'D'
		}
	}
	return strings.Join(append(words, "1", string(health)), " "), nil
}
