package raid

import (
	"encoding/binary"
	"errors"
	"fmt"

	"dmfs/mapper"
)

// The superblock of dm-raid, at the start of each metadata device, little endian, zeroes to the end of a logical block:
//
//	offset size  field
//	0x00   4     magic "DmRd"
//	0x04   4     compatible features: 1, what begins at 0x3c is there
//	0x08   4     members of the array
//	0x0c   4     position of this member
//	0x10   8     events, one more with each update
//	0x18   8     failed members, a bit each, of the first 64
//	0x20   8     disk_recovery_offset: sectors of this member that are rebuilt, all ones if all
//	0x28   8     array_resync_offset: sectors that are in sync, all ones if all
//	0x30   4 × 3 level, layout, sectors of a chunk
//	0x3c   4     flags: 1 reshaping, 2 backwards
//	0x40   8     reshape position, all ones if none
//	0x48   4 × 4 level, layout, sectors of a chunk after the reshape; members more than before
//	0x58   8     sectors of the array
//	0x60   8 × 2 data offset on this member, and after the reshape
//	0x70   8     sectors used of this member
//	0x78   8 × 3 failed members from 64 on
//	0x90   4     incompatible features: 0
//	0x1f0  8 × 2 ours, with a journal: "dmfs log", and a tag that the journal has, too; else zeroes
//
// Checked against the superblocks in tests/corpus, which Linux 6.1 wrote.
const (
	magic          = 0x64526d44 // "DmRd"
	featureV190    = 1
	superSize      = 0x94
	superBlock     = 4096 // bytes before the bitmap
	maxMembers     = 253
	failedWords    = 4
	flagReshape    = 1
	flagBackwards  = 2
	noPosition     = 1<<32 - 1  // of a member that a reshape removed, or is to add
	bitmapMagic    = 0x6d746962 // "bitm"
	bitmapVersion  = 4
	bitmapHeader   = 256 // bytes before the first bit
	bitmapMost     = 1 << 21
	stateStale     = 1 << 1
	stateIOError   = 1 << 2
	bitmapPageSize = 4096
)

// A superblock is what a member knows of the array.
type superblock struct {
	members, position      uint32
	events                 uint64
	failed                 [failedWords]uint64
	rebuilt, synced        mapper.Sector // done, or how far
	level, layout, chunk   uint32
	flags                  uint32
	reshape                mapper.Sector
	newLevel, newLayout    uint32
	newChunk               uint32
	delta                  int32
	array                  mapper.Sector
	offset, newOffset, dev mapper.Sector
	log                    uint64 // the tag of the journal, 0 if there is none: see stale.go
	old                    bool   // without the fields from 0x3c on
}

// le is the order of bytes in all that is on disk.
var le = binary.LittleEndian

// errNone says that there is no superblock.
var errNone = errors.New("no superblock")

// decodeSuper reads a superblock of at least superSize bytes. Numbers are checked against the table later.
func decodeSuper(b []byte) (s superblock, err error) {
	if len(b) < superSize || le.Uint32(b) != magic {
		return s, errNone
	}
	features := le.Uint32(b[4:])
	if features&^featureV190 != 0 {
		return s, fmt.Errorf("compatible features %#x: only 1 is known", features)
	}
	s = superblock{
		members: le.Uint32(b[8:]), position: le.Uint32(b[0xc:]), events: le.Uint64(b[0x10:]),
		rebuilt: mapper.Sector(le.Uint64(b[0x20:])), synced: mapper.Sector(le.Uint64(b[0x28:])),
		level: le.Uint32(b[0x30:]), layout: le.Uint32(b[0x34:]), chunk: le.Uint32(b[0x38:]),
		reshape: done,
	}
	s.failed[0] = le.Uint64(b[0x18:])
	if s.old = features == 0; s.old {
		s.newLevel, s.newLayout, s.newChunk = s.level, s.layout, s.chunk
		return s, nil
	}
	if f := le.Uint32(b[0x90:]); f != 0 {
		return s, fmt.Errorf("incompatible features %#x: none is known", f)
	}
	s.flags = le.Uint32(b[0x3c:])
	s.reshape = mapper.Sector(le.Uint64(b[0x40:]))
	s.newLevel, s.newLayout, s.newChunk = le.Uint32(b[0x48:]), le.Uint32(b[0x4c:]), le.Uint32(b[0x50:])
	s.delta = int32(le.Uint32(b[0x54:]))
	s.array = mapper.Sector(le.Uint64(b[0x58:]))
	s.offset, s.newOffset = mapper.Sector(le.Uint64(b[0x60:])), mapper.Sector(le.Uint64(b[0x68:]))
	s.dev = mapper.Sector(le.Uint64(b[0x70:]))
	for i := range failedWords - 1 {
		s.failed[i+1] = le.Uint64(b[0x78+8*i:])
	}
	if len(b) >= superAt+tagSize {
		s.log = tagIn(b[superAt:])
	}
	return s, nil
}

// encode writes s to b, a logical block.
func (s *superblock) encode(b []byte) {
	clear(b)
	le.PutUint32(b, magic)
	le.PutUint32(b[4:], featureV190)
	le.PutUint32(b[8:], s.members)
	le.PutUint32(b[0xc:], s.position)
	le.PutUint64(b[0x10:], s.events)
	le.PutUint64(b[0x18:], s.failed[0])
	le.PutUint64(b[0x20:], uint64(s.rebuilt))
	le.PutUint64(b[0x28:], uint64(s.synced))
	le.PutUint32(b[0x30:], s.level)
	le.PutUint32(b[0x34:], s.layout)
	le.PutUint32(b[0x38:], s.chunk)
	le.PutUint32(b[0x3c:], s.flags)
	le.PutUint64(b[0x40:], uint64(s.reshape))
	le.PutUint32(b[0x48:], s.newLevel)
	le.PutUint32(b[0x4c:], s.newLayout)
	le.PutUint32(b[0x50:], s.newChunk)
	le.PutUint32(b[0x54:], uint32(s.delta))
	le.PutUint64(b[0x58:], uint64(s.array))
	le.PutUint64(b[0x60:], uint64(s.offset))
	le.PutUint64(b[0x68:], uint64(s.newOffset))
	le.PutUint64(b[0x70:], uint64(s.dev))
	for i := range failedWords - 1 {
		le.PutUint64(b[0x78+8*i:], s.failed[i+1])
	}
	putTag(b[superAt:], s.log)
}

// hasFailed reports whether s says that member m failed.
func (s *superblock) hasFailed(m int) bool { return s.failed[m/64]>>(m%64)&1 != 0 }

func (s *superblock) setFailed(m int, failed bool) {
	if failed {
		s.failed[m/64] |= 1 << (m % 64)
	} else {
		s.failed[m/64] &^= 1 << (m % 64)
	}
}

// The header of the write-intent bitmap, 4096 bytes into each metadata device, little endian. Bits begin at byte 256, the
// lowest first: 1 says that the region may differ from its redundancy. Bits after the last region are 1 as md leaves them.
//
//	offset size  field
//	0x00   4     magic "bitm"
//	0x04   4     version 4
//	0x08   16    uuid: zeroes
//	0x18   8     events of the array when it was written
//	0x20   8     events of the array when bits were last cleared
//	0x28   8     sectors that it describes
//	0x30   4     state: 2 stale, 4 write error
//	0x34   4     bytes of a region
//	0x38   4     seconds of the daemon's sleep
//	0x3c   4     KiB of write-behind
type bitmapSuper struct {
	events, cleared uint64
	sectors         mapper.Sector
	state           uint32
	regionBytes     uint32
	sleep           uint32
	behind          uint32
}

func decodeBitmap(b []byte) (s bitmapSuper, err error) {
	if len(b) < bitmapHeader || le.Uint32(b) != bitmapMagic {
		return s, errNone
	}
	if v := le.Uint32(b[4:]); v < 3 || v > 5 {
		return s, fmt.Errorf("version %d of the bitmap: want 3 to 5", v)
	}
	s = bitmapSuper{
		events: le.Uint64(b[0x18:]), cleared: le.Uint64(b[0x20:]), sectors: mapper.Sector(le.Uint64(b[0x28:])),
		state: le.Uint32(b[0x30:]), regionBytes: le.Uint32(b[0x34:]), sleep: le.Uint32(b[0x38:]), behind: le.Uint32(b[0x3c:]),
	}
	if s.regionBytes < mapper.SectorSize || s.regionBytes&(s.regionBytes-1) != 0 {
		return s, fmt.Errorf("a region of %d bytes: want a power of two from 512 on", s.regionBytes)
	}
	return s, nil
}

// encode writes s to b, of bitmapHeader bytes.
func (s *bitmapSuper) encode(b []byte) {
	clear(b[:bitmapHeader])
	le.PutUint32(b, bitmapMagic)
	le.PutUint32(b[4:], bitmapVersion)
	le.PutUint64(b[0x18:], s.events)
	le.PutUint64(b[0x20:], s.cleared)
	le.PutUint64(b[0x28:], uint64(s.sectors))
	le.PutUint32(b[0x30:], s.state)
	le.PutUint32(b[0x34:], s.regionBytes)
	le.PutUint32(b[0x38:], s.sleep)
	le.PutUint32(b[0x3c:], s.behind)
}

// counts reports whether the bits tell of an array with so many sectors to sync, whose superblock has those events.
func (s *bitmapSuper) counts(sectors mapper.Sector, events uint64) bool {
	return s.sectors == sectors && s.events >= events && s.state&(stateStale|stateIOError) == 0
}

// setBits sets all bits of a bitmap, of which image has the header, too.
func setBits(image []byte) {
	for i := bitmapHeader; i < len(image); i++ {
		image[i] = 0xff
	}
}
