package crypt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/md5"
	"crypto/subtle"
	"encoding"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"math/bits"
	"sync"

	"dmfs/mapper"
	"dmfs/mapper/secret"
	"dmfs/targets/internal/sectorcipher"
)

// elephantIV is eboiv and BitLocker's diffuser, from Ferguson, "AES-CBC + Elephant diffuser" (Microsoft, 2006). A key of its own
// makes 32 bytes from the position, which are added to the sector; then two diffusers mix it.
type elephantIV struct {
	*eboivIV
	sector cipher.Block
}

const maxElephantKey = 32 // bytes

func (l *line) newElephant(m *secret.Memory, key []byte, c sectorcipher.Cipher) (ivMode, error) {
	v, err := l.newEboiv(c)
	if err != nil {
		return nil, err
	}
	b, err := aes.NewCipher(key[len(key)-l.extra:])
	if err != nil {
		return nil, ivError(err)
	}
	if b, err = secret.Move(m, b); err != nil {
		return nil, ivError(err)
	}
	return &elephantIV{v, b}, nil
}

func (v *elephantIV) before(encrypt bool, data, _ []byte, n numbers) {
	if encrypt {
		v.addKeys(data, n)
		v.diffuse(true, data)
	}
}

func (v *elephantIV) after(encrypt bool, data, _ []byte, n numbers) {
	if !encrypt {
		v.diffuse(false, data)
		v.addKeys(data, n)
	}
}

// addKeys adds to each unit its sector key, over and over.
func (v *elephantIV) addKeys(data []byte, n numbers) {
	const keyBytes = 2 * aes.BlockSize
	buf := mapper.GetBuffer(keyBytes)
	defer buf.Free()
	key := buf.Data
	for i, unit := 0, int(v.unit); i*unit < len(data); i++ {
		clear(key)
		binary.LittleEndian.PutUint64(key, n.at(i)*v.unit)
		copy(key[aes.BlockSize:], key[:aes.BlockSize])
		key[keyBytes-1] = 0x80
		v.sector.Encrypt(key, key[:aes.BlockSize])
		v.sector.Encrypt(key[aes.BlockSize:], key[aes.BlockSize:])
		for p := data[i*unit : (i+1)*unit]; len(p) > 0; p = p[keyBytes:] {
			subtle.XORBytes(p, p, key)
		}
	}
	clear(key)
}

// diffuse gives each unit to both diffusers, as words in little endian.
func (v *elephantIV) diffuse(encrypt bool, data []byte) {
	var all [maxUnit / 4]uint32
	for unit := int(v.unit); len(data) > 0; data = data[unit:] {
		d := all[:unit/4]
		for i := range d {
			d[i] = binary.LittleEndian.Uint32(data[4*i:])
		}
		if encrypt {
			diffuseAEncrypt(d)
			diffuseBEncrypt(d)
		} else {
			diffuseBDecrypt(d)
			diffuseADecrypt(d)
		}
		for i := range d {
			binary.LittleEndian.PutUint32(data[4*i:], d[i])
		}
	}
	clear(all[:])
}

// Rotations and cycles of the diffusers A and B. The words of a unit are a power of two, and follow each other in a ring.
var (
	rotateA = [4]int{9, 0, 13, 0}
	rotateB = [4]int{0, 10, 0, 25}
)

const (
	cyclesA = 5
	cyclesB = 3
)

func diffuseADecrypt(d []uint32) {
	n := len(d)
	for range cyclesA {
		for i := range d {
			d[i] += d[(i+n-2)&(n-1)] ^ bits.RotateLeft32(d[(i+n-5)&(n-1)], rotateA[i%4])
		}
	}
}

func diffuseAEncrypt(d []uint32) {
	n := len(d)
	for range cyclesA {
		for i := n - 1; i >= 0; i-- {
			d[i] -= d[(i+n-2)&(n-1)] ^ bits.RotateLeft32(d[(i+n-5)&(n-1)], rotateA[i%4])
		}
	}
}

func diffuseBDecrypt(d []uint32) {
	n := len(d)
	for range cyclesB {
		for i := range d {
			d[i] += d[(i+2)&(n-1)] ^ bits.RotateLeft32(d[(i+5)&(n-1)], rotateB[i%4])
		}
	}
}

func diffuseBEncrypt(d []uint32) {
	n := len(d)
	for range cyclesB {
		for i := n - 1; i >= 0; i-- {
			d[i] -= d[(i+2)&(n-1)] ^ bits.RotateLeft32(d[(i+5)&(n-1)], rotateB[i%4])
		}
	}
}

// lmkIV is the IV of loop-AES: a hash of the sector but for its first block, and of its number. So the data must be decrypted
// before the IV is known; the cipher gets zeroes, and the IV is added to the first block after.
type lmkIV struct {
	size int    // of an IV, bytes
	seed []byte // nil, or 64 bytes
	md5s sync.Pool
}

const (
	lmkSeed = 64 // bytes, of which 16 are from the key
	mostLMK = md5.Size
)

// An md5State is MD5 whose state can be had.
type md5State interface {
	hash.Hash
	encoding.BinaryAppender
}

// An lmkScratch is what one caller needs.
type lmkScratch struct {
	md5   md5State
	tail  [16]byte
	state []byte
}

func (l *line) newLMK(m *secret.Memory, key []byte) (ivMode, error) {
	if l.sectorSize != mapper.SectorSize {
		return nil, badIV("lmk needs units of %d bytes", mapper.SectorSize)
	}
	if l.ivSize > mostLMK {
		return nil, badIV("lmk makes IVs of at most %d bytes, the cipher wants %d", mostLMK, l.ivSize)
	}
	v := &lmkIV{size: l.ivSize}
	v.md5s.New = func() any {
		h, _ := md5.New().(md5State) // it is one; its documentation says so
		return &lmkScratch{md5: h}
	}
	if l.keyParts == l.keys {
		return v, nil
	}
	var err error
	if v.seed, err = m.Alloc(lmkSeed); err != nil {
		return nil, ivError(err)
	}
	size := l.keySize / l.keyParts
	copy(v.seed[:md5.Size], key[l.keys*size:])
	return v, nil
}

func (v *lmkIV) fill(ivs []byte, _ int, _ numbers) { clear(ivs) }

func (v *lmkIV) before(encrypt bool, data, ivs []byte, n numbers) {
	if encrypt {
		v.hash(data, ivs, n)
	}
}

func (v *lmkIV) after(encrypt bool, data, ivs []byte, n numbers) {
	if encrypt {
		return
	}
	v.hash(data, ivs, n)
	for i := 0; i*v.size < len(ivs); i++ {
		p := data[i*mapper.SectorSize:]
		subtle.XORBytes(p, p[:v.size], ivs[i*v.size:])
	}
}

// hash writes the IVs of plain sectors: the state of MD5, which is not finished.
func (v *lmkIV) hash(data, ivs []byte, n numbers) {
	s, _ := v.md5s.Get().(*lmkScratch)
	defer v.md5s.Put(s)
	for i := 0; i*v.size < len(ivs); i++ {
		sector := data[i*mapper.SectorSize:][:mapper.SectorSize]
		at := n.at(i)
		binary.LittleEndian.PutUint64(s.tail[:], at&(1<<56-1)|1<<63)
		binary.LittleEndian.PutUint64(s.tail[8:], 4024) // what a whole loop-AES sector would count
		s.md5.Reset()
		s.md5.Write(v.seed)                          //nolint:errcheck // a hash takes everything
		s.md5.Write(sector[16:])                     //nolint:errcheck // a hash takes everything
		s.md5.Write(s.tail[:])                       //nolint:errcheck // a hash takes everything
		s.state, _ = s.md5.AppendBinary(s.state[:0]) // it does not fail
		for j := range 4 {
			const header = 4 // the state begins with the four letters md5\x01 and has its words in big endian
			word := binary.BigEndian.Uint32(s.state[header+4*j:])
			binary.LittleEndian.PutUint32(s.tail[4*j:], word)
		}
		copy(ivs[i*v.size:(i+1)*v.size], s.tail[:])
	}
	s.md5.Reset()
}

// tcwIV is the IV of TrueCrypt's CBC: the number is added to a part of the key, and the encrypted sector is whitened with another.
type tcwIV struct {
	size            int // of an IV, bytes
	seed, whitening []byte
}

const tcwWhitening = 16 // bytes

func (l *line) newTCW(m *secret.Memory, key []byte) (ivMode, error) {
	switch {
	case l.sectorSize != mapper.SectorSize:
		return nil, badIV("tcw needs units of %d bytes", mapper.SectorSize)
	case l.keySize <= l.extra:
		return nil, badIV("tcw needs %d bytes behind the key of the cipher", l.extra)
	case l.ivSize > 16:
		return nil, badIV("tcw makes IVs of at most 16 bytes, the cipher wants %d", l.ivSize)
	}
	p, err := m.Alloc(l.extra)
	if err != nil {
		return nil, ivError(err)
	}
	copy(p, key[l.keySize-l.extra:])
	return &tcwIV{size: l.ivSize, seed: p[:l.ivSize], whitening: p[l.ivSize:]}, nil
}

func (v *tcwIV) fill(ivs []byte, size int, n numbers) {
	for i := 0; i*size < len(ivs); i++ {
		iv := ivs[i*size : (i+1)*size]
		for j := range iv {
			iv[j] = v.seed[j] ^ byte(n.at(i)>>(j%8*8))
		}
	}
}

func (v *tcwIV) before(encrypt bool, data, _ []byte, n numbers) {
	if !encrypt {
		v.whiten(data, n)
	}
}

// after leaves no IVs in the buffer: that of number 0 is a part of the key.
func (v *tcwIV) after(encrypt bool, data, ivs []byte, n numbers) {
	clear(ivs)
	if encrypt {
		v.whiten(data, n)
	}
}

// whiten adds 8 bytes to each sector, over and over: the checksums of the whitening and the number.
func (v *tcwIV) whiten(data []byte, n numbers) {
	for i := 0; i*mapper.SectorSize < len(data); i++ {
		at := n.at(i)
		lo := binary.LittleEndian.Uint64(v.whitening) ^ at
		hi := binary.LittleEndian.Uint64(v.whitening[8:]) ^ at
		mask := uint64(crc(uint32(lo))^crc(uint32(hi>>32))) | uint64(crc(uint32(lo>>32))^crc(uint32(hi)))<<32
		sector := data[i*mapper.SectorSize:][:mapper.SectorSize]
		for j := 0; j < len(sector); j += 8 {
			binary.LittleEndian.PutUint64(sector[j:], binary.LittleEndian.Uint64(sector[j:])^mask)
		}
	}
}

// crc is CRC-32 of the four bytes of x, begun with 0 and not inverted at the end.
func crc(x uint32) uint32 {
	for range 4 {
		x = crc32.IEEETable[byte(x)] ^ x>>8
	}
	return x
}
