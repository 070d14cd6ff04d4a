package verity

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"dmfs/mapper"
)

// A Superblock says how a tree was made. veritysetup writes it before the tree; neither the kernel nor this target reads it, since all of it is
// in the table line. Checked with images of veritysetup 2.6. Little-endian:
//
//	offset  size  field
//	0       8     signature "verity\0\0"
//	8       4     version of the superblock: 1
//	12      4     hash type: the VERSION of a table line, 0 or 1
//	16      16    UUID
//	32      32    name of the hash function, ends with a zero byte
//	64      4     data block, bytes
//	68      4     hash block, bytes
//	72      8     data blocks
//	80      2     bytes of salt
//	88      256   salt
type Superblock struct {
	HashType             uint32
	UUID                 [16]byte
	Algorithm            string
	DataBlock, HashBlock uint32 // bytes, powers of two
	Blocks               uint64 // data blocks
	Salt                 []byte
}

// SuperblockSize is the size of a superblock in bytes.
const SuperblockSize = 512

const (
	signature = "verity\x00\x00"
	maxSalt   = 256
)

// ErrNoSuperblock says that there is no superblock at that place.
var ErrNoSuperblock = errors.New("there is no verity superblock here")

// ParseSuperblock reads a superblock of SuperblockSize bytes. It does not keep b.
func ParseSuperblock(b []byte) (Superblock, error) {
	if len(b) < SuperblockSize || string(b[:8]) != signature {
		return Superblock{}, ErrNoSuperblock
	}
	le := binary.LittleEndian
	s := Superblock{
		HashType: le.Uint32(b[12:]), UUID: [16]byte(b[16:32]),
		DataBlock: le.Uint32(b[64:]), HashBlock: le.Uint32(b[68:]), Blocks: le.Uint64(b[72:]),
	}
	if v := le.Uint32(b[8:]); v != 1 {
		return s, fmt.Errorf("superblock of version %d: 1 is known", v)
	}
	if s.HashType > 1 {
		return s, fmt.Errorf("hash type %d: 0 and 1 are known", s.HashType)
	}
	name, _, ok := bytes.Cut(b[32:64], []byte{0})
	if s.Algorithm = string(name); !ok || !printable(name) {
		return s, fmt.Errorf("name of the hash function %q", name)
	}
	for _, block := range []uint32{s.DataBlock, s.HashBlock} {
		if block < mapper.SectorSize || block&(block-1) != 0 || block > largestBlock {
			return s, fmt.Errorf("block of %d bytes: want a power of two from %d to %d", block, mapper.SectorSize, largestBlock)
		}
	}
	if s.Blocks == 0 || s.Blocks > uint64(mapper.MaxSectors)/uint64(s.DataBlock) {
		return s, fmt.Errorf("%d data blocks", s.Blocks)
	}
	n := le.Uint16(b[80:])
	if n > maxSalt {
		return s, fmt.Errorf("salt of %d bytes: there is room for %d", n, maxSalt)
	}
	s.Salt = bytes.Clone(b[88 : 88+n])
	return s, nil
}

func printable(name []byte) bool {
	for _, c := range name {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(name) > 0
}

// Spec returns the table line for the data and the tree behind the superblock that is offset bytes into the hash disk. root is the root
// digest in hexadecimal digits, which no disk knows.
func (s Superblock) Spec(data, hash string, offset int64, root string) mapper.Spec {
	block := int64(s.HashBlock)
	start := (offset + SuperblockSize + block - 1) / block
	salt := "-"
	if len(s.Salt) > 0 {
		salt = hex.EncodeToString(s.Salt)
	}
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	return mapper.Spec{
		Len: mapper.Sector(s.Blocks) * mapper.SectorsOf(int64(s.DataBlock)), Type: Type.Name,
		Args: []string{
			number(uint64(s.HashType)), data, hash, number(uint64(s.DataBlock)), number(uint64(s.HashBlock)), number(s.Blocks),
			number(uint64(start)), s.Algorithm, root, salt,
		},
	}
}
