package mapper

import "fmt"

// A Sector is a position or a count in units of 512 bytes, whatever the disk's block size.
type Sector uint64

// SectorShift is log2 of the bytes in a Sector.
const SectorShift = 9

// SectorSize is the number of bytes in a Sector.
const SectorSize = 1 << SectorShift

// MaxSectors bounds the length of a device: its size in bytes fits a signed 64-bit number,
// as the kernel demands ("too large device").
const MaxSectors Sector = 1<<(63-SectorShift) - 1

// Bytes returns s in bytes. s is at most MaxSectors.
func (s Sector) Bytes() int64 { return int64(s) << SectorShift }

// SectorsOf returns how many whole sectors fit in n bytes, n >= 0.
func SectorsOf(n int64) Sector { return Sector(n) >> SectorShift }

// An Op says what a Request does.
type Op uint8

// The operations of the block layer that reach a target.
const (
	OpRead        Op = iota // fill Data
	OpWrite                 // store Data
	OpFlush                 // make durable what completed before
	OpDiscard               // the contents are no longer needed; what a read gives after is undefined
	OpWriteZeroes           // reads give zeroes after; space may be freed unless FlagNoUnmap is set
)

// String returns the operation's name as error messages show it.
func (op Op) String() string {
	switch op {
	case OpRead:
		return "read"
	case OpWrite:
		return "write"
	case OpFlush:
		return "flush"
	case OpDiscard:
		return "discard"
	case OpWriteZeroes:
		return "write-zeroes"
	}
	return fmt.Sprintf("op %d", uint8(op))
}

// Flags modify an operation.
type Flags uint8

const (
	// FlagFUA asks for a write that is durable when Submit returns.
	FlagFUA Flags = 1 << iota
	// FlagNoUnmap asks OpWriteZeroes to keep the space allocated.
	FlagNoUnmap
	// FlagShared says of OpFlush that other disks lead to the same storage: what one of them acknowledged, a flush by
	// another makes durable. So a disk that has forgotten writes does not refuse it for their sake.
	FlagShared
)

// A Request is one block I/O, the kernel's bio. It is passed by value: whoever receives one
// edits its own copy and passes that on.
type Request struct {
	Op    Op
	Flags Flags
	Start Sector // first sector, counted from the start of whoever receives the request
	Count Sector // in sectors; 0 for OpFlush only
	Data  []byte // Count.Bytes() long for OpRead and OpWrite, nil otherwise
	Tags  []byte // what a disk whose Limits have Tags keeps beside Data, as long as they say; nil from whoever has none. Lent as Data is
}

// End returns the first sector after r.
func (r Request) End() Sector { return r.Start + r.Count }

// Slice returns the n sectors that begin from sectors into r. Data and Tags are shared, not copied.
func (r Request) Slice(from, n Sector) Request {
	if r.Tags != nil {
		size, count := Sector(len(r.Tags)), r.Count
		first, end := from*size/count, (from+n)*size/count
		r.Tags = r.Tags[first:end:end]
	}
	r.Start += from
	r.Count = n
	if r.Data != nil {
		r.Data = r.Data[from.Bytes() : from.Bytes()+n.Bytes() : from.Bytes()+n.Bytes()]
	}
	return r
}
