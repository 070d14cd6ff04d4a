package mappertest

import (
	"encoding/binary"
	"fmt"

	"dmfs/mapper"
)

// A stamped sector consists of 32 records of 16 bytes, little endian:
//
//	0  8  sector, in the upper 56 bits; the number of the record in the lower 8
//	8  8  serial of the write, xor stampMagic
//
// so that a sector that was moved, torn, shifted or mixed from two writes is told from a whole one.
const (
	stampRecord = 16
	stampMagic  = 0x646d66735374616d // so that no stamped sector is all zeroes
)

// Stamp fills buf, a whole number of sectors, with data that says which sector it is, counted from first, and which
// write put it there.
func Stamp(buf []byte, first mapper.Sector, serial uint64) {
	for ; len(buf) > 0; buf, first = buf[mapper.SectorSize:], first+1 {
		for off := 0; off < mapper.SectorSize; off += stampRecord {
			a, b := stampAt(first, off, serial)
			binary.LittleEndian.PutUint64(buf[off:], a)
			binary.LittleEndian.PutUint64(buf[off+8:], b)
		}
	}
}

// stampAt returns the record at off bytes in sector s.
func stampAt(s mapper.Sector, off int, serial uint64) (a, b uint64) {
	return uint64(s)<<8 | uint64(off)/stampRecord, serial ^ stampMagic
}

// hasStamp reports whether a sector of data is the one that Stamp makes.
func hasStamp(sector []byte, s mapper.Sector, serial uint64) bool {
	for off := 0; off < mapper.SectorSize; off += stampRecord {
		a, b := stampAt(s, off, serial)
		if binary.LittleEndian.Uint64(sector[off:]) != a || binary.LittleEndian.Uint64(sector[off+8:]) != b {
			return false
		}
	}
	return true
}

// Stamped returns n sectors of stamped data.
func Stamped(first, n mapper.Sector, serial uint64) []byte {
	buf := make([]byte, n.Bytes())
	Stamp(buf, first, serial)
	return buf
}

// CheckStamp returns nil if buf is what Stamp(buf, first, serial) makes it, else an error that says
// what the first wrong sector holds, such as "sector 812 holds 300 of write 41, want 812 of write 50".
func CheckStamp(buf []byte, first mapper.Sector, serial uint64) error {
	for ; len(buf) > 0; buf, first = buf[mapper.SectorSize:], first+1 {
		if !hasStamp(buf, first, serial) {
			return fmt.Errorf("sector %d holds %s, want %d of write %d", first, Describe(buf[:mapper.SectorSize]), first, serial)
		}
	}
	return nil
}

// CheckZero returns nil if buf is all zeroes, else an error that says what the first other sector holds.
func CheckZero(buf []byte, first mapper.Sector) error {
	for off := 0; off < len(buf); off += mapper.SectorSize {
		if sector := buf[off:][:mapper.SectorSize]; !allZero(sector) {
			return fmt.Errorf("sector %d holds %s, want zeroes", first+mapper.SectorsOf(int64(off)), Describe(sector))
		}
	}
	return nil
}

// ReadStamp returns what a sector of data says about itself; ok is false if it was not stamped or is not whole.
func ReadStamp(sector []byte) (s mapper.Sector, serial uint64, ok bool) {
	s = mapper.Sector(binary.LittleEndian.Uint64(sector) >> 8)
	serial = binary.LittleEndian.Uint64(sector[8:]) ^ stampMagic
	if !hasStamp(sector, s, serial) {
		return 0, 0, false
	}
	return s, serial, true
}

// Describe says in words what a sector of data holds.
func Describe(sector []byte) string {
	if s, serial, ok := ReadStamp(sector); ok {
		return fmt.Sprintf("%d of write %d", s, serial)
	}
	if allZero(sector) {
		return "zeroes"
	}
	for _, b := range sector {
		if b != sector[0] {
			return fmt.Sprintf("% x... (no whole stamp)", sector[:stampRecord])
		}
	}
	return fmt.Sprintf("nothing but %#02x", sector[0])
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
