package raid

import (
	"errors"
	"hash/crc32"

	"dmfs/mapper"
)

// The journal of an array with parity is a chain of blocks of 4096 bytes, little endian. A meta block is followed by the blocks that it describes, and
// those by the next meta block, whose sequence number is one more. It begins like this:
//
//	offset size  field
//	0x00   4     magic 0x6433c509
//	0x04   4     checksum of the block, with zeroes here
//	0x08   1     version 1
//	0x0c   4     bytes used of the block
//	0x10   8     sequence number
//	0x18   8     position of the block in the journal, in sectors
//
// Its last 16 bytes are "dmfs log" and a tag of 8 if the array has metadata devices (stale.go); the kernel leaves zeroes there, and does not look.
//
// Payloads begin at byte 32, each of one kind. Locations are in sectors:
//
//	data     2 type 0   2 flags   4 sectors, 8        8 sector of the array         4 checksum
//	parity   2 type 1   2 flags   4 sectors, 8 or 16  8 sector of each member       4 checksum of P, of raid6 4 of Q
//	flush    2 type 2   2 flags   4 bytes that follow 8 sector of each member, for each stripe
//
// Checksums are CRC-32C of 4096 bytes, begun with that of the array's uuid, which dm-raid leaves as zeroes. The kernel's include/uapi/linux/raid/md_p.h
// describes the blocks; they were checked against those that Linux 6.1 writes (journalformat_test.go) and by having it open ours.
const (
	journalMagic   = 0x6433c509
	journalVersion = 1
	journalBlock   = 4096
	journalLeast   = 8192 // sectors of a journal
	metaHeader     = 32
	dataPayload    = 20
	parityPayload  = 16 // and 4 for each block
	flushPayload   = 8  // and 8 for each stripe

	kindData   = 0
	kindParity = 1
	kindFlush  = 2
)

// blockSectors is a block of the journal, and a page of a stripe, in sectors.
const blockSectors mapper.Sector = 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crcFrom goes on with a CRC-32C that is inverted neither at the beginning nor at the end, as the kernel's is.
func crcFrom(crc uint32, p []byte) uint32 { return ^crc32.Update(^crc, castagnoli, p) }

// journalSeed is what checksums begin with: that of a uuid of zeroes.
var journalSeed = crcFrom(^uint32(0), make([]byte, 16))

// blockSum returns the checksum of a block.
func blockSum(p []byte) uint32 { return crcFrom(journalSeed, p) }

// A payload is what a meta block says of one or two blocks, or of stripes that are on the members.
type payload struct {
	kind    uint16
	at      mapper.Sector   // of the array if data, of each member if parity
	sums    []uint32        // by block
	stripes []mapper.Sector // that were flushed
}

// A metaBlock is a decoded meta block.
type metaBlock struct {
	seq      uint64
	position mapper.Sector
	tag      uint64 // 0 if there is none
	payloads []payload
}

// blocks returns how many blocks follow m.
func (m *metaBlock) blocks() (n int) {
	for i := range m.payloads {
		n += len(m.payloads[i].sums)
	}
	return n
}

var errNotMeta = errors.New("not a meta block of the journal")

// decodeMeta reads a meta block. Locations are checked by whoever knows the array.
func decodeMeta(b []byte) (m metaBlock, err error) {
	if len(b) != journalBlock || le.Uint32(b) != journalMagic || b[8] != journalVersion {
		return m, errNotMeta
	}
	var zero [4]byte
	sum := crcFrom(crcFrom(crcFrom(journalSeed, b[:4]), zero[:]), b[8:])
	used := int(le.Uint32(b[0xc:]))
	if sum != le.Uint32(b[4:]) || used < metaHeader || used > journalBlock {
		return m, errNotMeta
	}
	m.seq, m.position = le.Uint64(b[0x10:]), mapper.Sector(le.Uint64(b[0x18:]))
	if used <= metaAt {
		m.tag = tagIn(b[metaAt:])
	}
	for rest := b[metaHeader:used]; len(rest) > 0; {
		p, size := decodePayload(rest)
		if size == 0 {
			return m, errNotMeta
		}
		m.payloads = append(m.payloads, p)
		rest = rest[size:]
	}
	return m, nil
}

// decodePayload reads the payload that b begins with; size is how many bytes it takes, 0 if there is none.
func decodePayload(b []byte) (p payload, size int) {
	if len(b) < flushPayload {
		return p, 0
	}
	p.kind = le.Uint16(b)
	n := int(le.Uint32(b[4:]))
	switch p.kind {
	case kindFlush:
		if n%8 != 0 || n > len(b)-flushPayload {
			return p, 0
		}
		for i := flushPayload; i < flushPayload+n; i += 8 {
			p.stripes = append(p.stripes, mapper.Sector(le.Uint64(b[i:])))
		}
		return p, flushPayload + n
	case kindData, kindParity:
		blocks := n / int(blockSectors)
		size = parityPayload + 4*blocks
		if n%int(blockSectors) != 0 || blocks < 1 || blocks > 1+int(p.kind) || size > len(b) {
			return p, 0
		}
		p.at = mapper.Sector(le.Uint64(b[8:]))
		for i := range blocks {
			p.sums = append(p.sums, le.Uint32(b[parityPayload+4*i:]))
		}
		return p, size
	}
	return p, 0
}

// A metaWriter fills a meta block.
type metaWriter struct {
	b    []byte
	used int
}

// begin makes b, a block, an empty meta block. Payloads go up to metaAt.
func (w *metaWriter) begin(b []byte, seq uint64, position mapper.Sector, tag uint64) {
	clear(b)
	le.PutUint32(b, journalMagic)
	b[8] = journalVersion
	le.PutUint64(b[0x10:], seq)
	le.PutUint64(b[0x18:], uint64(position))
	putTag(b[metaAt:], tag)
	w.b, w.used = b, metaHeader
}

// add appends a payload of data or parity. There is room for it.
func (w *metaWriter) add(kind uint16, at mapper.Sector, sums ...uint32) {
	b := w.b[w.used:]
	le.PutUint16(b, kind)
	le.PutUint32(b[4:], uint32(len(sums))*uint32(blockSectors))
	le.PutUint64(b[8:], uint64(at))
	for i, sum := range sums {
		le.PutUint32(b[parityPayload+4*i:], sum)
	}
	w.used += parityPayload + 4*len(sums)
}

// end seals the block.
func (w *metaWriter) end() {
	le.PutUint32(w.b[0xc:], uint32(w.used))
	le.PutUint32(w.b[4:], 0)
	le.PutUint32(w.b[4:], blockSum(w.b))
}
