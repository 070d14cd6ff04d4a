package parttable

import (
	"encoding/binary"
	"errors"

	"dmfs/mapper"
)

// Layout of sector 0, and of the sectors that describe logical partitions. Source: the UEFI specification 2.10, section 5.2.1, and what the kernel reads.
//
//	offset  size  field                        of an entry: offset  size  field
//	446     16    entry of partition 1                       0       1     boot indicator, 00 or 80
//	462     16    entry of partition 2                       4       1     type
//	478     16    entry of partition 3                       8       4     first block
//	494     16    entry of partition 4                       12      4     blocks
//	510     2     55 AA
const (
	entriesAt = 446
	entryLen  = 16
	entryN    = 4
	signAt    = 510
)

// Types of entries.
const (
	typeProtective = 0xee
	typeExtended   = 0x05
	typeExtendedLB = 0x0f // likewise, in blocks
	typeExtendedLX = 0x85 // Linux's own
)

// An entry is one of sector 0. Its numbers are in logical blocks.
type entry struct {
	boot, kind byte
	start, n   uint64
}

func entryOf(sector []byte, i int) entry {
	p := sector[entriesAt+i*entryLen:][:entryLen]
	return entry{p[0], p[4], uint64(binary.LittleEndian.Uint32(p[8:])), uint64(binary.LittleEndian.Uint32(p[12:]))}
}

func (e entry) extended() bool {
	return e.kind == typeExtended || e.kind == typeExtendedLB || e.kind == typeExtendedLX
}

func signed(sector []byte) bool { return sector[signAt] == 0x55 && sector[signAt+1] == 0xaa }

// protective reports whether sector 0 says that the disk has a GPT.
func protective(first []byte) bool {
	for i := range entryN {
		if e := entryOf(first, i); e.kind == typeProtective && e.start == 1 {
			return true
		}
	}
	return false
}

// mbr returns the partitions of a table that begins in sector 0.
func (d disk) mbr(first []byte) ([]Partition, error) {
	for i := range entryN {
		switch e := entryOf(first, i); {
		case e.boot&^0x80 != 0: // it is a boot sector with something else in it
			return nil, ErrNone
		case e.kind == typeProtective:
			return nil, malformed("entry %d of sector 0 says GPT and begins at block %d: want 1", i+1, e.start)
		}
	}
	var list, logical []Partition
	for i := range entryN {
		e := entryOf(first, i)
		if e.n == 0 {
			continue
		}
		p := Partition{uint32(i + 1), mapper.Sector(e.start) * d.unit(), mapper.Sector(e.n) * d.unit()}
		if e.extended() {
			var err error
			if logical, err = d.logical(logical, p.Start, p.Len); err != nil {
				return nil, err
			}
			// There is room for a boot loader, and none for somebody who takes it for a partition like others.
			const bootSectors = 2
			p.Len = min(p.Len, max(bootSectors, d.unit()))
		}
		list = append(list, p)
	}
	return append(list, logical...), nil
}

// firstLogical is the number of the first logical partition.
const firstLogical = entryN + 1

// logical appends the partitions in an extended one to list. It is a chain of sectors like sector 0: an entry for a
// partition, counted from the sector, and one for the next link, counted from the start of the whole.
func (d disk) logical(list []Partition, start, n mapper.Sector) ([]Partition, error) {
	const most = 100 // links one after the other without a partition
	at, long := start, n
	for empty := 0; empty < most; empty++ {
		sector, err := d.read(at)
		var bad FormatError
		switch {
		case errors.As(err, &bad):
			return list, nil // the chain leaves the disk: what it had before counts
		case err != nil:
			return nil, err
		case !signed(sector):
			return list, nil
		}
		next := entry{}
		for i := range entryN {
			e := entryOf(sector, i)
			p := Partition{uint32(firstLogical + len(list)), at + mapper.Sector(e.start)*d.unit(), mapper.Sector(e.n) * d.unit()}
			switch {
			case e.n == 0:
				continue
			case e.extended():
				if next.n == 0 {
					next = e
				}
				continue
			case i >= 2 && (p.Start-at+p.Len > long || p.Start < start || p.Start+p.Len > start+n):
				continue // the third and the fourth are rubbish more often than not
			}
			if list = append(list, p); p.Number == MaxPartitions {
				return list, nil
			}
			empty = 0
		}
		if next.n == 0 {
			return list, nil
		}
		at, long = start+mapper.Sector(next.start)*d.unit(), mapper.Sector(next.n)*d.unit()
	}
	return list, nil
}
