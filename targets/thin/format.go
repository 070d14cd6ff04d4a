package thin

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"dmfs/targets/pdata"
)

// The superblock is block 0 of the metadata, and a copy of it the root of a held metadata snapshot. Little endian.
//
//	offset  size
//	0x000      4  checksum, xor 160774
//	0x004      4  flags: 1 needs_check
//	0x008      8  number of this block
//	0x010     16  uuid: thin_restore writes one, nobody reads it, and it stays
//	0x020      8  magic 27022010
//	0x028      4  version 2
//	0x02c      4  time: counts snapshots
//	0x030      8  transaction id, the user's
//	0x038      8  block of the held metadata snapshot, 0 for none
//	0x040    128  space map of the data disk
//	0x0c0    128  space map of the metadata disk
//	0x140      8  root of the tree of thin devices: id -> root of its mappings; block -> data block << 24 | time
//	0x148      8  root of the tree of details: id -> deviceDetails
//	0x150      4  sectors of a data block
//	0x154      4  sectors of a metadata block, 8
//	0x158      8  metadata blocks
//	0x160  3 * 4  compatible, compatible for reading, incompatible features: none are known
//
// Taken from metadata that Linux 6.1 wrote (tests/images and the corpus: thin-fresh, thin-full) and from what thin_dump says of it.
const (
	superMagic     = 27022010
	superVersion   = 2
	flagNeedsCheck = 1
	detailsSize    = 24
	mappingSize    = 8
	timeBits       = 24
)

// superKind is that of the superblock and its copies.
var superKind = pdata.Kind{
	Name: "superblock", Xor: 160774, At: 8, Module: "thin metadata", Prefix: "sb_check",
	First: func(data []byte) error {
		if magic := binary.LittleEndian.Uint64(data[0x20:]); magic != superMagic {
			return fmt.Errorf("magic %d: wanted %d", magic, superMagic)
		}
		return nil
	},
}

// A superblock is what a transaction ends with.
type superblock struct {
	flags, version, time uint32
	uuid                 [16]byte
	transaction          uint64
	held                 pdata.Block
	data, meta           pdata.MapRoot
	mappings, details    pdata.Block
	blockSectors         uint32
	metaSectors          uint32
	metaBlocks           pdata.Block
	features             [3]uint32
}

// decodeSuper reads a block that superKind has verified.
func decodeSuper(p []byte) superblock {
	le := binary.LittleEndian
	s := superblock{
		flags: le.Uint32(p[0x4:]), version: le.Uint32(p[0x28:]), time: le.Uint32(p[0x2c:]),
		transaction: le.Uint64(p[0x30:]), held: pdata.Block(le.Uint64(p[0x38:])),
		data: pdata.DecodeMapRoot(p[0x40:]), meta: pdata.DecodeMapRoot(p[0xc0:]),
		mappings: pdata.Block(le.Uint64(p[0x140:])), details: pdata.Block(le.Uint64(p[0x148:])),
		blockSectors: le.Uint32(p[0x150:]), metaSectors: le.Uint32(p[0x154:]), metaBlocks: pdata.Block(le.Uint64(p[0x158:])),
	}
	copy(s.uuid[:], p[0x10:])
	for i := range s.features {
		s.features[i] = le.Uint32(p[0x160+4*i:])
	}
	return s
}

// encode writes s into p, a block. What is not of s stays.
func (s *superblock) encode(p []byte) {
	le := binary.LittleEndian
	le.PutUint32(p[0x4:], s.flags)
	copy(p[0x10:], s.uuid[:])
	le.PutUint64(p[0x20:], superMagic)
	le.PutUint32(p[0x28:], s.version)
	le.PutUint32(p[0x2c:], s.time)
	le.PutUint64(p[0x30:], s.transaction)
	le.PutUint64(p[0x38:], uint64(s.held))
	s.data.Put(p[0x40:])
	s.meta.Put(p[0xc0:])
	le.PutUint64(p[0x140:], uint64(s.mappings))
	le.PutUint64(p[0x148:], uint64(s.details))
	le.PutUint32(p[0x150:], s.blockSectors)
	le.PutUint32(p[0x154:], s.metaSectors)
	le.PutUint64(p[0x158:], uint64(s.metaBlocks))
	for i, f := range s.features {
		le.PutUint32(p[0x160+4*i:], f)
	}
}

var errFeatures = fmt.Errorf("could not access metadata due to unsupported optional features: %w", unix.EINVAL)

// check looks for what cannot be, on a metadata disk of so many blocks. The size of data blocks is compared with the table's, which is valid.
func (s *superblock) check(blocks pdata.Block) error {
	switch {
	case s.features[1] != 0 || s.features[2] != 0:
		return errFeatures
	case s.metaSectors != uint32(pdata.BlockSectors):
		return fmt.Errorf("metadata blocks of %d sectors, want %d", s.metaSectors, pdata.BlockSectors)
	case s.mappings >= blocks || s.details >= blocks || s.held >= blocks:
		return fmt.Errorf("roots past the end of the metadata disk")
	}
	return nil
}

// A details is what is kept of a thin device beside its mappings.
type details struct {
	mapped           uint64 // blocks
	transaction      uint64 // at its creation
	created, snapped uint32 // times
}

func decodeDetails(p []byte) details {
	le := binary.LittleEndian
	return details{le.Uint64(p), le.Uint64(p[8:]), le.Uint32(p[16:]), le.Uint32(p[20:])}
}

func (d details) encode() []byte {
	le := binary.LittleEndian
	p := le.AppendUint64(make([]byte, 0, detailsSize), d.mapped)
	p = le.AppendUint64(p, d.transaction)
	p = le.AppendUint32(p, d.created)
	return le.AppendUint32(p, d.snapped)
}

func encodeBlock(b pdata.Block) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(b)) }
func decodeBlock(p []byte) pdata.Block { return pdata.Block(binary.LittleEndian.Uint64(p)) }

// encodeMapping makes the value of a mapping.
func encodeMapping(b pdata.Block, time uint32) []byte {
	return binary.LittleEndian.AppendUint64(nil, uint64(b)<<timeBits|uint64(time)&(1<<timeBits-1))
}

func decodeMapping(p []byte) (b pdata.Block, time uint32) {
	v := binary.LittleEndian.Uint64(p)
	return pdata.Block(v >> timeBits), uint32(v & (1<<timeBits - 1))
}
