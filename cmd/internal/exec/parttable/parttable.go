package parttable

import (
	"errors"
	"fmt"
	"io"

	"dmfs/mapper"
)

// MaxPartitions is how many partitions a disk can have: numbers go from 1 to this.
const MaxPartitions = 255

// A Partition is a part of a disk. Start and Len are in sectors of 512 bytes, whatever the disk's blocks are; Len is at least 1.
type Partition struct {
	Number     uint32
	Start, Len mapper.Sector
}

// ErrNone is that a disk has no partition table that is known here.
var ErrNone = errors.New("no partition table")

// A FormatError is what is wrong with a partition table. A disk that has such a one has no partitions.
type FormatError string

// Error implements error.
func (e FormatError) Error() string { return string(e) }

func malformed(format string, args ...any) error { return FormatError(fmt.Sprintf(format, args...)) }

// A disk is what is read, in logical blocks.
type disk struct {
	r       io.ReaderAt
	block   int64 // bytes
	sectors mapper.Sector
}

// unit is a logical block in sectors.
func (d disk) unit() mapper.Sector { return mapper.SectorsOf(d.block) }

// last returns the number of the last whole logical block.
func (d disk) last() uint64 { return uint64(d.sectors/d.unit()) - 1 }

// read reads the sector at s.
func (d disk) read(s mapper.Sector) ([]byte, error) {
	p := make([]byte, mapper.SectorSize)
	if s >= d.sectors {
		return nil, malformed("sector %d is beyond the disk's end at %d", s, d.sectors)
	}
	if _, err := d.r.ReadAt(p, s.Bytes()); err != nil {
		return nil, fmt.Errorf("sector %d: %w", s, err)
	}
	return p, nil
}

// Read returns the partitions of a disk of so many sectors with logical blocks of so many bytes, a power of two from 512 on, in the order of the table. An
// error is ErrNone, a FormatError, or wraps the reader's.
func Read(r io.ReaderAt, sectors mapper.Sector, block int) ([]Partition, error) {
	if block < mapper.SectorSize || block&(block-1) != 0 {
		return nil, fmt.Errorf("blocks of %d bytes: want a power of two from %d on", block, mapper.SectorSize)
	}
	d := disk{r, int64(block), sectors}
	if sectors < d.unit() {
		return nil, ErrNone
	}
	first, err := d.read(0)
	if err != nil {
		return nil, err
	}
	if !signed(first) {
		return nil, ErrNone
	}
	list, err := []Partition(nil), error(nil)
	if protective(first) {
		list, err = d.gpt()
	} else {
		list, err = d.mbr(first)
	}
	if err != nil {
		return nil, err
	}
	return d.bounded(list), nil
}

// bounded returns the partitions as far as they are on the disk: what begins beyond its end is left out, what ends there is cut.
func (d disk) bounded(list []Partition) []Partition {
	kept := list[:0]
	for _, p := range list {
		if p.Start >= d.sectors || p.Len == 0 {
			continue
		}
		p.Len = min(p.Len, d.sectors-p.Start)
		kept = append(kept, p)
	}
	return kept
}
