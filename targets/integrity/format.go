package integrity

import (
	"encoding/binary"
	"errors"
	"math/bits"

	"dmfs/mapper"
)

// A superblock is what the first 4 KiB of the metadata say. The layout is that of dm-integrity 1.10.0 (Linux 6.1), checked with images that the kernel and
// integritysetup 2.6 wrote. Little endian:
//
//	offset  size  field
//	0       8     "integrt\0"
//	8       1     version: 1; 2 with meta_device or recalculation; 3 with a bitmap; 4 with fix_padding; 5 with fix_hmac
//	9       1     log2 of the sectors of data between two runs of tags; 0 with meta_device
//	10      2     bytes of a tag
//	12      4     sections of the journal
//	16      8     data sectors
//	24      4     flags
//	28      1     log2 of the sectors of a block
//	29      1     log2 of the blocks of a bit of the bitmap
//	32      8     sector that is to be recalculated next
//	48      16    salt of fix_hmac
//
// With fix_hmac and journal_mac the last bytes of its first sector are a MAC of all before.
type superblock struct {
	version        uint8
	log2Interleave uint8
	tagSize        uint16 // bytes
	sections       uint32
	provided       uint64 // sectors
	flags          uint32
	log2Block      uint8 // sectors
	log2Bit        uint8 // blocks
	recalc         uint64
	salt           [saltSize]byte
}

const (
	magic        = "integrt\x00"
	superSectors = 8
	superBytes   = superSectors * mapper.SectorSize
	saltSize     = 16
	maxVersion   = 5

	flagJournalMAC  = 1
	flagRecalc      = 2
	flagDirtyBitmap = 4
	flagFixPadding  = 8
	flagFixHMAC     = 16
)

// decode reads a superblock, whose magic has been seen. b is superBytes long.
func decode(b []byte) superblock {
	le := binary.LittleEndian
	return superblock{
		version: b[8], log2Interleave: b[9], tagSize: le.Uint16(b[10:]), sections: le.Uint32(b[12:]), provided: le.Uint64(b[16:]),
		flags: le.Uint32(b[24:]), log2Block: b[28], log2Bit: b[29], recalc: le.Uint64(b[32:]), salt: [saltSize]byte(b[48:]),
	}
}

// encode writes s over b, of which it leaves what is no field.
func (s *superblock) encode(b []byte) {
	le := binary.LittleEndian
	copy(b, magic)
	b[8], b[9] = s.version, s.log2Interleave
	le.PutUint16(b[10:], s.tagSize)
	le.PutUint32(b[12:], s.sections)
	le.PutUint64(b[16:], s.provided)
	le.PutUint32(b[24:], s.flags)
	b[28], b[29] = s.log2Block, s.log2Bit
	le.PutUint64(b[32:], s.recalc)
	copy(b[48:], s.salt[:])
}

// setVersion sets the version that the fields ask for.
func (s *superblock) setVersion(mode byte, meta bool) {
	switch {
	case s.flags&flagFixHMAC != 0:
		s.version = 5
	case s.flags&flagFixPadding != 0:
		s.version = 4
	case mode == 'B' || s.flags&flagDirtyBitmap != 0:
		s.version = 3
	case meta || s.flags&flagRecalc != 0:
		s.version = 2
	default:
		s.version = 1
	}
}

// A geometry says where everything is. It follows from the superblock and the sizes of the disks. Where nothing else is said its numbers
// are sectors, counted from the start of the metadata.
type geometry struct {
	meta        bool // tags and journal are on a disk of their own
	start       uint64
	dataSectors uint64 // of the data disk
	metaSectors uint64 // of the disk with the metadata
	blockShift  uint8  // log2 of the sectors of a block
	tagSize     int    // bytes
	provided    uint64 // data sectors
	areaShift   uint8  // log2 of the data sectors of an area
	runSectors  uint64 // tags before each area
	initial     uint64 // superblock and journal
	bufferShift uint8  // log2 of the sectors of a buffer of tags

	sections       int
	entrySize      int // bytes of a journal entry
	sectionEntries int
	sectionSectors int

	bitShift      uint8 // log2 of the sectors of a bit of the bitmap
	bitmapSectors uint64
}

const (
	// journalHead is how many sectors of a section hold its entries; the data follow.
	journalHead = 8
	// journalData is how many bytes of a sector of the journal are not the commit id.
	journalData = mapper.SectorSize - 8
	// macBytes is how much of a sector of entries belongs to the MAC of the section.
	macBytes = 8
	// maxTag is the largest tag in bytes, which a byte counts in the kernel's block layer.
	maxTag = 255
	// maxBlock is the largest block in sectors.
	maxBlock = 8

	minInterleave, maxInterleave = 3, 31 // log2
	// maxJournal bounds the journal, which is kept in memory, in sectors.
	maxJournal = 1 << 21
)

var errSmall = errors.New("the device is too small")

// setJournal computes how the journal is divided.
func (g *geometry) setJournal(s *superblock) {
	g.sections = int(s.sections)
	g.entrySize = (8 + 8<<g.blockShift + g.tagSize + 7) &^ 7
	space := journalData
	if s.flags&flagJournalMAC != 0 {
		space -= macBytes
	}
	g.sectionEntries = space / g.entrySize * journalHead
	g.sectionSectors = g.sectionEntries<<g.blockShift + journalHead
}

// place computes where things are if provided sectors are to fit.
func (g *geometry) place(s *superblock) error {
	g.setJournal(s)
	g.initial = superSectors + uint64(g.sectionSectors)*uint64(g.sections)
	const padding = 8 // sectors
	if g.initial+padding >= g.metaSectors || g.initial > 1<<32-1 {
		return errSmall
	}
	if g.meta {
		tags := g.provided >> g.blockShift
		if tags > 1<<54 {
			return errSmall
		}
		buffer := uint64(mapper.SectorSize) << g.bufferShift
		size := (tags*uint64(g.tagSize) + buffer - 1) / buffer << g.bufferShift
		if g.initial+size > g.metaSectors {
			return errSmall
		}
		g.areaShift, g.runSectors = 0, 1
		return nil
	}
	pad := uint64(mapper.SectorSize) << 8 // what the kernel once took for 8 sectors
	if s.flags&flagFixPadding != 0 {
		pad = padding * mapper.SectorSize
	}
	g.areaShift = s.log2Interleave
	run := uint64(g.tagSize) << (s.log2Interleave - g.blockShift)
	g.runSectors = (run + pad - 1) / pad * pad / mapper.SectorSize
	if g.runSectors == 0 || g.provided == 0 || g.provided>>g.areaShift > 1<<62/(g.runSectors+1<<g.areaShift) {
		return errSmall
	}
	if last := g.dataSector(g.provided - 1); last < g.start || last >= g.metaSectors {
		return errSmall
	}
	return nil
}

// provide finds how many data sectors fit.
func (g *geometry) provide(s *superblock) {
	if g.meta {
		g.provided = g.dataSectors >> g.blockShift << g.blockShift
		return
	}
	g.provided = 0
	for bit := bits.Len64(g.metaSectors) - 1; bit >= 3; bit-- {
		before := g.provided
		g.provided |= 1 << bit
		if g.place(s) != nil {
			g.provided = before
		}
	}
}

// dataSector returns where data sector s is on the data disk.
func (g *geometry) dataSector(s uint64) uint64 {
	if g.meta {
		return s
	}
	area := s >> g.areaShift
	return g.start + g.initial + (area+1)*g.runSectors + s
}

// tagPlace returns the buffer of tags that has the tag of data sector s, and where in it that begins, in bytes.
func (g *geometry) tagPlace(s uint64) (buffer uint64, off int) {
	area, in := uint64(0), s
	if !g.meta {
		area, in = s>>g.areaShift, s&(1<<g.areaShift-1)
		buffer = (area<<g.areaShift + area*g.runSectors) >> g.bufferShift
	}
	at := in >> g.blockShift * uint64(g.tagSize)
	size := uint64(mapper.SectorSize) << g.bufferShift
	return buffer + at/size, int(at % size)
}

// format makes the superblock of a disk that has none.
func (g *geometry) format(l *line) (s superblock, err error) {
	s = superblock{tagSize: uint16(g.tagSize), log2Block: g.blockShift}
	if l.mac.given {
		s.flags |= flagJournalMAC
	}
	g.setJournal(&s)
	sections := max(1, l.journalSectors/uint32(g.sectionSectors))
	if l.fixHMAC && (l.hash.given || l.mac.given) {
		s.flags |= flagFixHMAC
		s.salt = l.salt
	}
	if !g.meta {
		if l.fixPadding {
			s.flags |= flagFixPadding
		}
		s.sections = sections
		interleave := l.interleave
		if interleave == 0 {
			interleave = defaultInterleave
		}
		s.log2Interleave = uint8(min(max(bits.Len32(interleave)-1, minInterleave), maxInterleave))
		g.provide(&s)
		if g.provided == 0 {
			return s, errSmall
		}
	} else {
		g.provide(&s)
		if g.provided == 0 {
			return s, errSmall
		}
		for ; ; g.bufferShift-- {
			s.sections = 0
			for bit := bits.Len32(sections) - 1; bit >= 0; bit-- {
				before := s.sections
				if s.sections |= 1 << bit; s.sections > sections || g.place(&s) != nil {
					s.sections = before
				}
			}
			if s.sections != 0 {
				break
			}
			if g.bufferShift <= 3 {
				return s, errSmall
			}
		}
	}
	s.provided = g.provided
	s.setVersion(l.mode, g.meta)
	return s, nil
}

// check compares a superblock with what the table line says, in the kernel's order.
func (s *superblock) check(l *line, g *geometry) error {
	switch {
	case s.version == 0 || s.version > maxVersion:
		return mapper.BadArg("Unknown version", "version %d of the superblock: 1 to %d are known", s.version, maxVersion)
	case int(s.tagSize) != g.tagSize:
		return mapper.BadArg("Tag size doesn't match the information in superblock", "%d: the disk was formatted with tags of %d bytes", g.tagSize, s.tagSize)
	case s.log2Block != g.blockShift:
		return mapper.BadArg("Block size doesn't match the information in superblock", "%d: the disk was formatted with log2 %d",
			mapper.SectorSize<<g.blockShift, s.log2Block)
	case s.sections == 0:
		return mapper.BadArg("Corrupted superblock, journal_sections is 0", "")
	case !g.meta && (s.log2Interleave < minInterleave || s.log2Interleave > maxInterleave), g.meta && s.log2Interleave != 0:
		return mapper.BadArg("Invalid interleave_sectors in the superblock", "log2 %d; with meta_device it is 0, without at least %d", s.log2Interleave, minInterleave)
	case s.flags&flagJournalMAC != 0 != (l.mac.given):
		return mapper.BadArg("Journal mac mismatch", "flags %#x in the superblock: journal_mac is to be given if the disk was formatted with it", s.flags)
	case s.flags&^(flagJournalMAC|flagRecalc|flagDirtyBitmap|flagFixPadding|flagFixHMAC) != 0:
		return mapper.BadArg("Unknown version", "flags %#x in the superblock are not known", s.flags)
	}
	return nil
}

// settle computes all from a superblock that was checked.
func (g *geometry) settle(s *superblock, l *line) error {
	g.provide(s)
	if g.provided == 0 {
		return mapper.BadArg("The device is too small", "%d sectors with a journal of %d sections", g.metaSectors, s.sections)
	}
	for err := g.place(s); err != nil; err = g.place(s) {
		if !g.meta || g.bufferShift <= 3 {
			return mapper.BadArg("The device is too small", "%d sectors with a journal of %d sections", g.metaSectors, s.sections)
		}
		g.bufferShift--
	}
	journal := uint64(g.sectionSectors) * uint64(g.sections)
	if journal > maxJournal {
		return &mapper.ArgError{Reason: "Journal doesn't fit into memory", Detail: "it has more than 1 GiB", Errno: enomem}
	}
	g.bitShift = max(l.bitShift, g.blockShift)
	room := min(journal<<(mapper.SectorShift+3), 1<<32-1)
	for room < (g.provided+1<<g.bitShift-1)>>g.bitShift {
		g.bitShift++
	}
	const perBlock = bitmapBlock * mapper.SectorSize * 8
	nbits := (g.provided + 1<<g.bitShift - 1) >> g.bitShift
	g.bitmapSectors = (nbits + perBlock - 1) / perBlock * bitmapBlock
	if !g.meta { // buffers that areas are not aligned to would reach into the data
		g.bufferShift = min(g.bufferShift, uint8(bits.TrailingZeros64(g.runSectors)), g.areaShift)
	}
	return nil
}
