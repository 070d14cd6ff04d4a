package logwrites

import (
	"encoding/binary"
	"fmt"
)

// The log is a super block and then entries, each in one log sector and, but for discards, followed by its data. All numbers are little
// endian; sectors here are log sectors, of the size that the super block says. After the kernel's
// Documentation/admin-guide/device-mapper/log-writes.rst; checked by the scenarios and images that the oracle (Linux 6.1) and
// QEMU's blklogwrites wrote.
//
//	super block, at 0                       entry
//	 0  8  magic                             0  8  sector       first sector of the device
//	 8  8  version, 1                        8  8  nr_sectors   its data follows, unless it is a discard
//	16  8  nr_entries                       16  8  flags        see the constants
//	24  4  sectorsize   bytes               24  8  data_len     bytes of a mark
//	                                        32     mark         up to the end of the sector
const (
	magic   = 0x6a736677736872
	version = 1

	superSize = 28 // bytes
	entrySize = 32 // bytes
)

// Flags of an entry.
const (
	FlagFlush    = 1 << 0
	FlagFUA      = 1 << 1
	FlagDiscard  = 1 << 2
	FlagMark     = 1 << 3
	FlagMetadata = 1 << 4

	knownFlags = FlagFlush | FlagFUA | FlagDiscard | FlagMark | FlagMetadata
)

// EndMark is the mark that closes a log.
const EndMark = "dm-log-writes-end"

// A Super is the super block of a log.
type Super struct {
	Entries    uint64
	SectorSize int // bytes, a power of two, 512 to 65536
}

// MinSuper is how many bytes DecodeSuper needs.
const MinSuper = superSize

// Encode writes s to the beginning of b, which is one log sector, and clears the rest.
func (s Super) Encode(b []byte) {
	clear(b)
	binary.LittleEndian.PutUint64(b, magic)
	binary.LittleEndian.PutUint64(b[8:], version)
	binary.LittleEndian.PutUint64(b[16:], s.Entries)
	binary.LittleEndian.PutUint32(b[24:], uint32(s.SectorSize))
}

// DecodeSuper reads a super block from the first MinSuper bytes of a log.
func DecodeSuper(b []byte) (Super, error) {
	if len(b) < superSize {
		return Super{}, fmt.Errorf("%d bytes are too few for a log", len(b))
	}
	if m := binary.LittleEndian.Uint64(b); m != magic {
		return Super{}, fmt.Errorf("no log: it begins with %#x, want %#x", m, uint64(magic))
	}
	if v := binary.LittleEndian.Uint64(b[8:]); v != version {
		return Super{}, fmt.Errorf("log version %d, want %d", v, version)
	}
	size := binary.LittleEndian.Uint32(b[24:])
	if size < 512 || size > 65536 || size&(size-1) != 0 {
		return Super{}, fmt.Errorf("sector size %d, want a power of two from 512 to 65536", size)
	}
	return Super{Entries: binary.LittleEndian.Uint64(b[16:]), SectorSize: int(size)}, nil
}

// An Entry is one entry of a log, without its data. Sector and Count are in log sectors.
type Entry struct {
	Sector, Count uint64
	Flags         uint64
	Mark          string // of an entry with FlagMark
}

// HasData reports whether the data of e follows it in the log.
func (e Entry) HasData() bool { return e.Flags&FlagDiscard == 0 && e.Count > 0 }

// Encode writes e to b, which is one log sector. e.Mark is at most MaxMark(len(b)) long.
func (e Entry) Encode(b []byte) {
	clear(b)
	binary.LittleEndian.PutUint64(b, e.Sector)
	binary.LittleEndian.PutUint64(b[8:], e.Count)
	binary.LittleEndian.PutUint64(b[16:], e.Flags)
	binary.LittleEndian.PutUint64(b[24:], uint64(len(e.Mark)))
	copy(b[entrySize:], e.Mark)
}

// MaxMark returns how many bytes a mark may have in a log with sectors of that size.
func MaxMark(sectorSize int) int { return sectorSize - entrySize }

// DecodeEntry reads an entry from one log sector. Nothing is promised of Sector and Count.
func DecodeEntry(b []byte) (Entry, error) {
	if len(b) < entrySize {
		return Entry{}, fmt.Errorf("%d bytes are too few for an entry", len(b))
	}
	e := Entry{
		Sector: binary.LittleEndian.Uint64(b), Count: binary.LittleEndian.Uint64(b[8:]), Flags: binary.LittleEndian.Uint64(b[16:]),
	}
	n := binary.LittleEndian.Uint64(b[24:])
	switch {
	case e.Flags&^uint64(knownFlags) != 0:
		return e, fmt.Errorf("unknown flags %#x", e.Flags&^uint64(knownFlags))
	case n > uint64(len(b)-entrySize):
		return e, fmt.Errorf("a mark of %d bytes in a sector of %d", n, len(b))
	case n > 0 && e.Flags&FlagMark == 0:
		return e, fmt.Errorf("%d bytes of a mark without the flag of one", n)
	}
	e.Mark = string(b[entrySize : entrySize+n])
	return e, nil
}
