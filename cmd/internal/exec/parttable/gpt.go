package parttable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"dmfs/mapper"
)

// Layout of the header, at block 1, and of an entry. Source: the UEFI specification 2.10, sections 5.3.2 and 5.3.3. Numbers are little endian, those of
// places count logical blocks.
//
//	header: offset  size  field                     entry: offset  size  field
//	        0       8     "EFI PART"                       0       16    type, zeroes if it is unused
//	        12      4     length of the header             16      16    its own id
//	        16      4     CRC-32 of the header             32      8     first block
//	        24      8     block that it is in              40      8     last block
//	        32      8     block of the other one           48      8     attributes
//	        40      8     first block for partitions       56      72    name
//	        48      8     last block for partitions
//	        72      8     block of the entries
//	        80      4     number of entries
//	        84      4     length of an entry
//	        88      4     CRC-32 of the entries
const (
	gptMagic     = "EFI PART"
	headerLen    = 92
	gptEntryLen  = 128
	typeLen      = 16
	maxEntries   = 4 << 20 / gptEntryLen // of which all count for the sum, and as many as a disk can have partitions for those
	sumOfHeader  = 16
	primaryBlock = 1
)

// A header is what counts of one.
type header struct {
	entries uint64 // block
	n       uint32
	sum     uint32
}

// gpt returns the partitions of the table at block 1.
func (d disk) gpt() ([]Partition, error) {
	h, err := d.header()
	if err != nil {
		return nil, err
	}
	table := make([]byte, min(h.n, MaxPartitions)*gptEntryLen)
	sum := crc32.NewIEEE()
	entries := io.TeeReader(io.NewSectionReader(d.r, int64(h.entries)*d.block, int64(h.n)*gptEntryLen), sum)
	if _, err = io.ReadFull(entries, table); err == nil {
		_, err = io.Copy(io.Discard, entries)
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return nil, malformed("GPT: the entries at block %d end with the disk", h.entries)
	case err != nil:
		return nil, fmt.Errorf("GPT: the entries at block %d: %w", h.entries, err)
	case sum.Sum32() != h.sum:
		return nil, malformed("GPT: the entries have the sum %08x: want %08x", sum.Sum32(), h.sum)
	}
	var list []Partition
	for i := range len(table) / gptEntryLen {
		p := table[i*gptEntryLen:]
		first, last := binary.LittleEndian.Uint64(p[32:]), binary.LittleEndian.Uint64(p[40:])
		if bytes.Equal(p[:typeLen], make([]byte, typeLen)) || first > last || last > d.last() {
			continue
		}
		list = append(list, Partition{uint32(i + 1), mapper.Sector(first) * d.unit(), mapper.Sector(last-first+1) * d.unit()})
	}
	return list, nil
}

// header reads the header at block 1 and checks it.
func (d disk) header() (header, error) {
	if d.last() < primaryBlock {
		return header{}, malformed("GPT: the disk ends at block %d, before its header", d.last())
	}
	p := make([]byte, d.block)
	if _, err := d.r.ReadAt(p, primaryBlock*d.block); err != nil {
		return header{}, fmt.Errorf("GPT: block %d: %w", primaryBlock, err)
	}
	word := func(at int) uint32 { return binary.LittleEndian.Uint32(p[at:]) }
	long := func(at int) uint64 { return binary.LittleEndian.Uint64(p[at:]) }
	size, sum := word(12), word(sumOfHeader)
	switch {
	case string(p[:len(gptMagic)]) != gptMagic:
		return header{}, malformed("GPT: block %d is no header", primaryBlock)
	case size < headerLen || int64(size) > d.block:
		return header{}, malformed("GPT: a header of %d bytes: want %d to %d", size, headerLen, d.block)
	}
	clear(p[sumOfHeader:][:4])
	h := header{entries: long(72), n: word(80), sum: word(88)}
	first, last := long(40), long(48)
	switch have := crc32.ChecksumIEEE(p[:size]); {
	case have != sum:
		return header{}, malformed("GPT: the header has the sum %08x: want %08x", have, sum)
	case long(24) != primaryBlock:
		return header{}, malformed("GPT: the header at block %d says that it is at %d", primaryBlock, long(24))
	case first > d.last() || last > d.last() || last < first:
		return header{}, malformed("GPT: partitions from block %d to %d of a disk that ends at %d", first, last, d.last())
	case word(84) != gptEntryLen:
		return header{}, malformed("GPT: entries of %d bytes: want %d", word(84), gptEntryLen)
	case h.n == 0 || h.n > maxEntries:
		return header{}, malformed("GPT: %d entries: want 1 to %d", h.n, maxEntries)
	case h.entries > d.last():
		return header{}, malformed("GPT: the entries at block %d begin beyond the disk's end at %d", h.entries, d.last())
	}
	return h, nil
}
