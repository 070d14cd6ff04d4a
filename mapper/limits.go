package mapper

import "slices"

// Limits are facts about an instance, stacked from the disks below and adjusted by Hints.
// The zero value is a disk without any restriction, without discard and without a cache.
type Limits struct {
	LogicalBlock  int // bytes, a power of two >= 512; requests are aligned to it; 0 means 512
	PhysicalBlock int // bytes, a power of two >= LogicalBlock; 0 means LogicalBlock
	MinIO         int // bytes, preferred smallest request; 0 means LogicalBlock
	OptIO         int // bytes, preferred request; 0 means unknown

	// Split, if not 0, is in sectors of the segment: no request crosses a multiple of it.
	Split Sector
	// SplitDiscard says whether Split also applies to OpDiscard and OpWriteZeroes.
	SplitDiscard bool

	DiscardGranularity Sector // sectors
	MaxDiscard         Sector // sectors; 0: discard unsupported
	MaxWriteZeroes     Sector // sectors; 0: the core writes buffers of zeroes

	VolatileCache bool // OpFlush does something
	ReadOnly      bool

	// Buffered: a write is a copy into memory of the system, one at a time. So a large one costs no more in pieces,
	// one after the other, and no less when two halves of it are sent at the same time.
	Buffered bool

	Tags TagFormat // what the disk keeps beside the data
}

// A TagFormat says what a disk keeps for whoever stands on it: Size bytes with each Unit bytes of data. The zero value is
// a disk that keeps nothing. A request is of whole units then: LogicalBlock is no smaller.
type TagFormat struct{ Size, Unit int }

// Len returns how many bytes of tags go with n sectors, in whole units.
func (f TagFormat) Len(n Sector) int {
	if f.Unit == 0 {
		return 0
	}
	return int(n.Bytes()) / f.Unit * f.Size
}

// alike returns the format that all have, else that of a disk that keeps nothing.
func alike(formats []TagFormat) TagFormat {
	if len(formats) == 0 || slices.ContainsFunc(formats, func(f TagFormat) bool { return f != formats[0] }) {
		return TagFormat{}
	}
	return formats[0]
}

// Normal returns l with the defaults of zero fields filled in.
func (l Limits) Normal() Limits {
	if l.LogicalBlock == 0 {
		l.LogicalBlock = SectorSize
	}
	l.PhysicalBlock = max(l.PhysicalBlock, l.LogicalBlock)
	l.MinIO = max(l.MinIO, l.PhysicalBlock)
	return l
}

// LogicalSectors returns the logical block size in sectors.
func (l Limits) LogicalSectors() Sector {
	return Sector(max(l.LogicalBlock, SectorSize)) >> SectorShift
}

// Stack returns the limits of something that stands on disks with limits l and below, as the
// kernel stacks queue limits: the coarsest block sizes, the smallest bounds. Split is a
// property of a segment and does not stack; nor do Tags and Buffered, which not every target passes on.
func (l Limits) Stack(below Limits) Limits {
	l, below = l.Normal(), below.Normal()
	l.LogicalBlock = max(l.LogicalBlock, below.LogicalBlock)
	l.PhysicalBlock = max(l.PhysicalBlock, below.PhysicalBlock)
	l.MinIO = max(l.MinIO, below.MinIO)
	l.OptIO = lcm(l.OptIO, below.OptIO)
	l.DiscardGranularity = max(l.DiscardGranularity, below.DiscardGranularity)
	l.MaxDiscard = min(l.MaxDiscard, below.MaxDiscard) // all parts discard, or the whole does not
	l.MaxWriteZeroes = min(l.MaxWriteZeroes, below.MaxWriteZeroes)
	l.VolatileCache = l.VolatileCache || below.VolatileCache
	l.ReadOnly = l.ReadOnly || below.ReadOnly
	l.Tags, l.Buffered = TagFormat{}, false
	return l
}

func lcm(a, b int) int {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	x, y := a, b
	for y != 0 {
		x, y = y, x%y
	}
	const most = 1 << 30 // an optimal I/O size beyond this helps nobody
	if v := a / x * b; v > 0 && v <= most {
		return v
	}
	return max(a, b)
}
