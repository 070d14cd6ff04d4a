package mirror

import (
	"encoding/binary"
	"math/bits"

	"dmfs/mapper"
)

// The disk log, as drivers/md/dm-log.c of Linux 6.1 writes it; all numbers little-endian. Checked by the cases mirror-disklog and
// lvm-mirror of the corpus and by the scenarios mirror-log*, whose goldens have the hash of the log disk.
//
//	offset  size  field
//	     0     4  magic 0x4d695272
//	     4     4  version, 2; 1 is the same on a little-endian machine
//	     8     8  nr_regions: regions that the bitset is about
//	  1024     *  bitset: bit i is set if region i is clean; whole words of 64 bits, unused bits clear
const (
	logMagic     = 0x4d695272
	logVersion   = 2
	headerBytes  = 16
	bitsetSector = mapper.Sector(2)
	wordBits     = 64
)

// A header is the beginning of a disk log.
type header struct {
	magic, version uint32
	regions        uint64
}

func decodeHeader(p []byte) header {
	return header{
		magic:   binary.LittleEndian.Uint32(p),
		version: binary.LittleEndian.Uint32(p[4:]),
		regions: binary.LittleEndian.Uint64(p[8:]),
	}
}

func (h header) encode(p []byte) {
	binary.LittleEndian.PutUint32(p, h.magic)
	binary.LittleEndian.PutUint32(p[4:], h.version)
	binary.LittleEndian.PutUint64(p[8:], h.regions)
}

// A bitset has a bit for each region, in whole words, as it lies on disk.
type bitset []byte

// bitsetBytes returns how long a bitset for n regions is.
func bitsetBytes(n int) int { return (n + wordBits - 1) / wordBits * (wordBits / 8) }

func (b bitset) get(i int) bool { return b[i/8]&(1<<(i%8)) != 0 }
func (b bitset) set(i int)      { b[i/8] |= 1 << (i % 8) }
func (b bitset) clear(i int)    { b[i/8] &^= 1 << (i % 8) }

// put gives the bits of [from, to) the value v.
func (b bitset) put(from, to int, v bool) {
	for i := from; i < to; i++ {
		if i%8 == 0 && to-i >= 8 {
			b[i/8] = 0
			if v {
				b[i/8] = 0xff
			}
			i += 7
			continue
		}
		if v {
			b.set(i)
		} else {
			b.clear(i)
		}
	}
}

// count returns how many bits are set.
func (b bitset) count() (n int) {
	for i := 0; i < len(b); i += 8 {
		n += bits.OnesCount64(binary.LittleEndian.Uint64(b[i:]))
	}
	return n
}

// nextClear returns the first of the bits [from, n) that is clear, n if none is.
func (b bitset) nextClear(from, n int) int {
	for i := from; i < n; {
		word := ^binary.LittleEndian.Uint64(b[i/wordBits*8:]) >> (i % wordBits)
		if word != 0 {
			return min(n, i+bits.TrailingZeros64(word))
		}
		i += wordBits - i%wordBits
	}
	return n
}

// restore makes of the image of a disk log, as it was read, what it is from a resume on: about n regions, those that it does not know
// clean if mode is syncNever. It returns whether it could be understood; if not, no region is clean.
func restore(image []byte, n int, mode syncMode) (ok bool) {
	h := decodeHeader(image)
	if mode != syncIfNeeded || h.magic != logMagic {
		h = header{magic: logMagic, version: logVersion}
	}
	if h.version == 1 {
		h.version = logVersion
	}
	ok = h.version == logVersion
	if !ok {
		h.regions = 0
	}
	clean := bitset(image[bitsetSector.Bytes():][:bitsetBytes(n)])
	if h.regions < uint64(n) {
		clean.put(int(h.regions), n, mode == syncNever)
	}
	clean.put(n, len(clean)*8, false)
	h.regions = uint64(n)
	h.encode(image)
	return ok
}
