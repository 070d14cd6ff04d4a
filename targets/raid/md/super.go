package md

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"dmfs/mapper"
)

// Done is the offset of a resync or of a rebuild that is complete.
const Done = ^mapper.Sector(0)

// Roles that are no place in an array.
const (
	Spare   = 0xffff
	Failed  = 0xfffe
	Journal = 0xfffd
)

// Linear is the level of arrays whose members follow each other.
const Linear = -1

// A Super is what the superblock of a member says. Sectors count from the start of the member, unless said otherwise.
type Super struct {
	Version   string        // "0.90", "1.0", "1.1", "1.2"
	At        mapper.Sector // of the superblock
	Array     [16]byte      // its identity
	Disk      [16]byte      // that of the member; zeroes in 0.90
	Name      string
	Level     int
	Layout    uint32
	Chunk     mapper.Sector // 0 for raid1
	Members   int           // places in the array
	Dev       mapper.Sector // sectors used of each member; 0 if all that are there
	Data      mapper.Sector // where the data begin
	Size      mapper.Sector // of the data
	Number    int           // of the disk
	Role      int           // place in the array, or Spare, Failed, Journal
	Events    uint64
	Resync    mapper.Sector // in sync up to there; Done if clean
	Recovered mapper.Sector // of this member; Done if all
	Bitmap    mapper.Sector // where its header is; 0 if there is none
	Mostly    bool          // to be read last
	features  uint32
	raw       []byte
}

// ErrNone says that there is no superblock.
var ErrNone = errors.New("no superblock of a Linux software RAID")

const (
	magic   = 0xa92b4efc
	oldSize = 4096 // bytes of a superblock 0.90
	newSize = 256  // bytes of one of version 1, before the roles
	newMost = 4096 // bytes of one of version 1 at most
	mostOld = 27   // disks in 0.90
	mostNew = (newMost - newSize) / 2
)

// Features of version 1.
const (
	hasBitmap     = 1
	hasRecovery   = 2
	reshapes      = 4
	hasBadBlocks  = 8
	replaces      = 16
	backwards     = 32
	newOffset     = 64
	recoversBits  = 128
	clustered     = 256
	hasJournal    = 512
	hasPPL        = 1024
	hasPPLs       = 2048
	raid0Layout   = 4096
	knownFeatures = hasBitmap | hasRecovery | raid0Layout
)

// unsupported are features that arrays are refused for, with the cure.
var unsupported = []struct {
	bit  uint32
	what string
}{
	{reshapes | backwards | newOffset, "is being reshaped: let Linux finish that"},
	{hasBadBlocks, "has bad blocks on record: see mdadm --examine-badblocks, and let Linux repair it"},
	{replaces, "has a member that is being replaced: let Linux finish that"},
	{recoversBits, "has a rebuild that a bitmap records: let Linux finish that"},
	{clustered, "belongs to a cluster"},
	{hasJournal, "has a journal: take it away with mdadm --fail and --remove, and then write resync to md/consistency_policy of the array in /sys/block"},
	{hasPPL | hasPPLs, "has a partial parity log: take it away with mdadm --grow --consistency-policy=resync"},
}

var le = binary.LittleEndian

// places returns where superblocks of each version are on a disk of that many sectors.
func places(sectors mapper.Sector) map[string]mapper.Sector {
	list := map[string]mapper.Sector{"1.1": 0, "1.2": 8}
	if sectors >= 24 {
		list["1.0"] = (sectors - 16) &^ 7
	}
	if sectors >= 256 {
		list["0.90"] = sectors&^127 - 128
	}
	return list
}

// Read reads the superblock of a disk of size bytes. It returns ErrNone if there is none. A superblock that is damaged, that says that it lies
// elsewhere, or of an array that cannot be mapped is an error that says so.
func Read(r io.ReaderAt, size int64) (*Super, error) {
	at := places(mapper.SectorsOf(size))
	var damaged error
	for _, version := range []string{"1.1", "1.2", "1.0", "0.90"} {
		sector, ok := at[version]
		b := make([]byte, newMost)
		if !ok || sector.Bytes()+int64(len(b)) > size {
			continue
		}
		if _, err := r.ReadAt(b, sector.Bytes()); err != nil {
			return nil, fmt.Errorf("sector %d, where a superblock may be: %w", sector, err)
		}
		if le.Uint32(b) != magic {
			continue
		}
		s, err := decode(version, sector, b)
		if err == nil {
			err = s.check(mapper.SectorsOf(size))
		}
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, errElsewhere) {
			return nil, fmt.Errorf("superblock %s at sector %d: %w", version, sector, err)
		}
		damaged = fmt.Errorf("superblock %s at sector %d: %w", version, sector, err)
	}
	if damaged != nil {
		return nil, damaged
	}
	return nil, ErrNone
}

// errElsewhere says that a superblock lies at another place than it says, so that it may be one of something else: a disk in a partition, or
// of another size.
var errElsewhere = errors.New("it says that it lies elsewhere: is the disk whole?")

func decode(version string, at mapper.Sector, b []byte) (*Super, error) {
	s := &Super{Version: version, At: at, raw: b, Recovered: Done}
	if version == "0.90" {
		return s, s.decodeOld()
	}
	return s, s.decodeNew()
}

func (s *Super) decodeNew() error {
	b := s.raw
	disks := le.Uint32(b[220:])
	switch {
	case le.Uint32(b[4:]) != 1:
		return fmt.Errorf("version %d: 0 and 1 are known", le.Uint32(b[4:]))
	case disks > mostNew:
		return fmt.Errorf("it lists %d disks: at most %d fit", disks, mostNew)
	case s.sumNew() != le.Uint32(b[216:]):
		return fmt.Errorf("checksum %08x, and it has %08x: it is damaged", s.sumNew(), le.Uint32(b[216:]))
	case mapper.Sector(le.Uint64(b[144:])) != s.At:
		return errElsewhere
	}
	s.raw = b[:newSize+2*disks]
	s.features = le.Uint32(b[8:])
	copy(s.Array[:], b[16:])
	copy(s.Disk[:], b[168:])
	name, _, _ := strings.Cut(string(b[32:64]), "\x00")
	s.Name = name
	s.Level, s.Layout = int(int32(le.Uint32(b[72:]))), le.Uint32(b[76:])
	s.Dev, s.Chunk = mapper.Sector(le.Uint64(b[80:])), mapper.Sector(le.Uint32(b[88:]))
	if s.Level == 0 && s.features&raid0Layout == 0 {
		s.Layout = 0
	}
	s.Members = int(le.Uint32(b[92:]))
	s.Data, s.Size = mapper.Sector(le.Uint64(b[128:])), mapper.Sector(le.Uint64(b[136:]))
	s.Number, s.Role = int(le.Uint32(b[160:])), Spare
	if s.Number < int(disks) {
		s.Role = int(le.Uint16(b[newSize+2*s.Number:]))
	}
	s.Mostly = b[184]&1 != 0
	s.Events, s.Resync = le.Uint64(b[200:]), mapper.Sector(le.Uint64(b[208:]))
	if s.features&hasRecovery != 0 {
		s.Recovered = mapper.Sector(le.Uint64(b[152:]))
	}
	if s.features&hasBitmap != 0 {
		s.Bitmap = s.At + mapper.Sector(int64(int32(le.Uint32(b[96:])))) // modulo 2^64; checked later
	}
	return nil
}

// sumNew computes the checksum of a superblock of version 1.
func (s *Super) sumNew() uint32 {
	b := s.raw[:min(len(s.raw), newSize+2*int(min(le.Uint32(s.raw[220:]), mostNew)))]
	sum, at := uint64(0), 0
	for ; at+4 <= len(b); at += 4 {
		if at != 216 {
			sum += uint64(le.Uint32(b[at:]))
		}
	}
	if at < len(b) {
		sum += uint64(le.Uint16(b[at:]))
	}
	return uint32(sum) + uint32(sum>>32)
}

// word returns word i of a superblock 0.90.
func (s *Super) word(i int) uint32 { return le.Uint32(s.raw[4*i:]) }

func (s *Super) putWord(i int, v uint32) { le.PutUint32(s.raw[4*i:], v) }

// States of a disk in 0.90.
const (
	diskFailed  = 1
	diskActive  = 2
	diskSync    = 4
	diskRemoved = 8
	diskMostly  = 0x200
)

// States of an array in 0.90.
const (
	oldClean  = 1
	oldBitmap = 0x100
)

const (
	firstDisk = 128 // word of the first descriptor
	diskWords = 32
	thisDisk  = firstDisk + mostOld*diskWords
)

func (s *Super) decodeOld() error {
	if s.word(1) != 0 || s.word(2) != 90 {
		return fmt.Errorf("version %d.%d: 0.90 is known, and 0.91 is that of an array that is being reshaped", s.word(1), s.word(2))
	}
	if s.sumOld() != s.word(38) {
		return fmt.Errorf("checksum %08x, and it has %08x: it is damaged", s.sumOld(), s.word(38))
	}
	for i, w := range []int{5, 13, 14, 15} {
		le.PutUint32(s.Array[4*i:], s.word(w))
	}
	s.Level, s.Layout = int(int32(s.word(7))), s.word(64)
	s.Dev, s.Size = 2*mapper.Sector(s.word(8)), s.At
	if s.Level < 1 {
		s.Dev, s.Layout = 0, 0 // the size is that of the smallest
	}
	s.Members, s.Chunk = int(s.word(10)), mapper.SectorsOf(int64(s.word(65)))
	s.Number, s.Role = int(s.word(thisDisk)), s.roleOld(thisDisk)
	s.Mostly = s.word(thisDisk+4)&diskMostly != 0
	s.Events = uint64(s.word(40))<<32 | uint64(s.word(39))
	checkpoint := uint64(s.word(42))<<32 | uint64(s.word(41))
	switch {
	case s.word(33)&oldClean != 0:
		s.Resync = Done
	case checkpoint == s.Events:
		s.Resync = mapper.Sector(s.word(43))
	}
	if s.word(33)&oldBitmap != 0 {
		s.Bitmap = s.At + mapper.SectorsOf(oldSize)
	}
	return nil
}

// roleOld returns what the descriptor at a word says of its disk.
func (s *Super) roleOld(at int) int {
	switch state := s.word(at + 4); {
	case state&diskFailed != 0:
		return Failed
	case state&diskSync != 0 && state&diskRemoved == 0:
		return int(s.word(at + 3))
	}
	return Spare
}

// sumOld computes the checksum of a superblock 0.90.
func (s *Super) sumOld() uint32 {
	sum := uint64(0)
	for i := range oldSize / 4 {
		if i != 38 {
			sum += uint64(s.word(i))
		}
	}
	return uint32(sum) + uint32(sum>>32)
}

// check refuses what cannot be: on a disk of that many sectors, and by the rules of the level.
func (s *Super) check(sectors mapper.Sector) error {
	const mostMembers = 253 // of the target raid
	for _, f := range unsupported {
		if s.features&f.bit != 0 {
			return fmt.Errorf("the array %s", f.what)
		}
	}
	if f := s.features &^ knownFeatures; f != 0 {
		return fmt.Errorf("features %#x, of which nothing is known", f)
	}
	switch s.Level {
	case Linear, 0, 1, 4, 5, 6, 10:
	default:
		return fmt.Errorf("level %d: linear, 0, 1, 4, 5, 6 and 10 are known", s.Level)
	}
	least := map[int]int{1: 1, 4: 2, 5: 2, 6: 4, 10: 2}[s.Level]
	switch {
	case s.Members < max(least, 1) || s.Members > mostMembers:
		return fmt.Errorf("%d members: want %d to %d", s.Members, max(least, 1), mostMembers)
	case s.Role >= s.Members && s.Role < Journal:
		return fmt.Errorf("it is member %d of %d", s.Role, s.Members)
	case s.Chunk == 0 && s.Level != 1 && s.Level != Linear:
		return errors.New("chunks of no length")
	case s.Chunk&(s.Chunk-1) != 0 && s.Level > 1:
		return fmt.Errorf("chunks of %d sectors: want a power of two", s.Chunk)
	case s.Data > sectors || s.Size > sectors-s.Data || s.Dev > s.Size:
		return fmt.Errorf("it says that %d sectors of data begin at %d, %d of them in use, and the disk has %d: is it whole?", s.Size, s.Data, s.Dev, sectors)
	case s.Dev == 0 && s.Level > 0:
		return errors.New("members of no length")
	case s.inData(s.At, mapper.SectorsOf(newMost)):
		return errors.New("the superblock lies in the data")
	case s.Bitmap != 0 && (s.Bitmap >= sectors || s.Level < 1 || s.inData(s.Bitmap, 1)):
		return fmt.Errorf("a bitmap at sector %d, which is in the data or beyond the disk", s.Bitmap)
	}
	return nil
}

// inData reports whether n sectors from at on reach into the data that are in use.
func (s *Super) inData(at, n mapper.Sector) bool {
	used := s.Dev
	if used == 0 {
		used = s.Size
	}
	return at < s.Data+used && at+n > s.Data
}

// Present says which places of the array have a disk that has not failed, as far as this member knows.
func (s *Super) Present() []bool {
	list := make([]bool, s.Members)
	note := func(role int) {
		if role < len(list) {
			list[role] = true
		}
	}
	if s.Version == "0.90" {
		for i := range mostOld {
			note(s.roleOld(firstDisk + i*diskWords))
		}
		return list
	}
	for at := newSize; at+2 <= len(s.raw); at += 2 {
		note(int(le.Uint16(s.raw[at:])))
	}
	return list
}
