package crypt

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"dmfs/mapper"
	"dmfs/mapper/secret"
	"dmfs/targets/internal/sectorcipher"
)

// numbers are the numbers of the units of a run, from which IVs are made. Sectors behind 2^64-1 begin at 0 again, within a run, too.
type numbers struct {
	first uint64 // sector
	step  uint64 // sectors
	shift int    // log2 of the sectors that count one
}

// at returns the number of unit i of the run.
func (n numbers) at(i int) uint64 { return (n.first + uint64(i)*n.step) >> n.shift }

// An ivMode makes IVs. It may be called concurrently and does not allocate.
type ivMode interface {
	// fill writes the IVs of a run, each of size bytes.
	fill(ivs []byte, size int, n numbers)
}

// A dataMode is an IV mode that looks at the data or changes it. Both methods are called for a run of units, with their IVs,
// before and after the cipher's turn.
type dataMode interface {
	ivMode
	before(encrypt bool, data, ivs []byte, n numbers)
	after(encrypt bool, data, ivs []byte, n numbers)
}

// ivModes are the names of all IV modes.
var ivModes = []string{"plain", "plain64", "plain64be", "essiv", "benbi", "null", "eboiv", "elephant", "lmk", "tcw", "random"}

// dataIVs are those that need the cipher alone or change what it encrypts.
var dataIVs = []string{"eboiv", "elephant", "lmk", "tcw"}

// parseIV finds out what an IV mode needs.
func (l *line) parseIV(h mapper.Host, mode string) error {
	if l.aead != nil {
		l.ivSize = l.aead.IVSize
	} else {
		l.ivSize = l.scheme.IVSize
	}
	if l.ivSize == 0 {
		if mode != "" {
			h.Logf("Selected cipher does not support IVs")
		}
		return nil
	}
	const leastIV = 8 // a sector number fits
	l.ivSize = max(l.ivSize, leastIV)
	switch mode {
	case "":
		return mapper.BadArg("IV mechanism required", "as in capi:xts(aes)-plain64")
	case "elephant":
		l.keyParts, l.extra = 2, l.keySize/2
		if l.extra > maxElephantKey {
			return mapper.BadArg("Unknown error", "elephant takes half of the key, at most %d bytes, not %d", maxElephantKey, l.extra)
		}
	case "lmk":
		if l.keySize%l.keyParts != 0 { // a seed follows the keys
			l.keyParts++
			l.extra = l.keySize / l.keyParts
		}
	case "tcw":
		l.keyParts += 2
		l.extra = l.ivSize + tcwWhitening
	}
	if !slices.Contains(ivModes, mode) {
		return mapper.BadArg("Invalid IV mode", "want one of %s", ivModes)
	}
	l.ivMode, l.randomIV = mode, mode == "random"
	return nil
}

// badIV refuses a combination of cipher, key and IV mode.
func badIV(detail string, args ...any) error {
	return mapper.BadArg("Error creating IV", detail, args...)
}

// newIV makes the IV mode for a key, of which c is the first cipher. What it has of the key is in m.
func (l *line) newIV(m *secret.Memory, key []byte, c sectorcipher.Cipher) (ivMode, error) {
	if l.aead != nil && slices.Contains(dataIVs, l.ivMode) {
		return nil, badIV("%s is not for authenticated encryption", l.ivMode)
	}
	switch l.ivMode {
	case "plain":
		return plainIV{mask: 1<<32 - 1}, nil
	case "plain64", "essiv":
		return plainIV{mask: 1<<64 - 1}, nil
	case "plain64be":
		return plain64beIV{}, nil
	case "null":
		return plainIV{}, nil
	case "benbi":
		return benbiIV{mapper.SectorShift - (bits.Len(uint(l.blockSize())) - 1)}, nil
	case "eboiv":
		return l.newEboiv(c)
	case "elephant":
		return l.newElephant(m, key, c)
	case "lmk":
		return l.newLMK(m, key)
	case "tcw":
		return l.newTCW(m, key)
	}
	return nil, nil
}

// plainIV is the number, little endian, of which the mask leaves 32 bits, all or none.
type plainIV struct{ mask uint64 }

func (v plainIV) fill(ivs []byte, size int, n numbers) {
	clear(ivs)
	for i := 0; i*size < len(ivs); i++ {
		binary.LittleEndian.PutUint64(ivs[i*size:], n.at(i)&v.mask)
	}
}

// plain64beIV is the number, big endian, at the end.
type plain64beIV struct{}

func (plain64beIV) fill(ivs []byte, size int, n numbers) {
	clear(ivs)
	for i := 0; i*size < len(ivs); i++ {
		binary.BigEndian.PutUint64(ivs[(i+1)*size-8:], n.at(i))
	}
}

// benbiIV is the number of the first cipher block, from 1, big endian, at the end.
type benbiIV struct{ shift int } // log2 of the blocks in a sector

func (v benbiIV) fill(ivs []byte, size int, n numbers) {
	clear(ivs)
	for i := 0; i*size < len(ivs); i++ {
		binary.BigEndian.PutUint64(ivs[(i+1)*size-8:], n.at(i)<<v.shift+1)
	}
}

// eboivIV is the position in bytes, encrypted.
type eboivIV struct {
	c    sectorcipher.Cipher
	unit uint64 // bytes
}

func (l *line) newEboiv(c sectorcipher.Cipher) (*eboivIV, error) {
	if l.blockSize() != l.ivSize {
		return nil, badIV("eboiv needs a cipher whose block is as long as its IV")
	}
	return &eboivIV{c, uint64(l.sectorSize)}, nil
}

// fill has the cipher encrypt a block of zeroes for each unit, with the position as its IV.
func (v *eboivIV) fill(ivs []byte, size int, n numbers) {
	buf := mapper.GetBuffer(len(ivs))
	defer buf.Free()
	clear(buf.Data)
	for i := 0; i*size < len(ivs); i++ {
		binary.LittleEndian.PutUint64(buf.Data[i*size:], n.at(i)*v.unit)
	}
	clear(ivs)
	v.c.Encrypt(ivs, ivs, size, buf.Data)
}

// ivError is what is said of an IV mode that cannot take its part of the key.
func ivError(err error) error {
	return &mapper.ArgError{Reason: "Error initialising IV", Detail: fmt.Sprint(err)}
}
