package sectorcipher

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"dmfs/mapper"
	"dmfs/mapper/secret"
)

const (
	// ccmSalt is how many bytes at the end of the key begin every nonce.
	ccmSalt = 3
	// ccmIV is how many bytes of IV follow them.
	ccmIV = 8
	// ccmLength is how many bytes of a block the length of the data takes, or the counter.
	ccmLength = aes.BlockSize - 1 - ccmSalt - ccmIV
)

// ccmScheme is AES-CCM with nonces as in RFC 4309. The IV is in the nonce and not authenticated once more.
func ccmScheme() *AEADScheme {
	return &AEADScheme{
		BlockSize: 1, IVSize: ccmIV,
		tags: func(n int) bool { return n == 8 || n == 12 || n == 16 },
		make: func(m *secret.Memory, key []byte, tagSize int) (AEAD, error) {
			if n := len(key) - ccmSalt; n != 16 && n != 24 && n != 32 {
				return nil, fmt.Errorf("%w: it does not take %d bytes", ErrKeySize, len(key))
			}
			b, err := aes.NewCipher(key[:len(key)-ccmSalt])
			if err != nil {
				return nil, err
			}
			if b, err = secret.Move(m, b); err != nil {
				return nil, err
			}
			salt, err := m.Alloc(ccmSalt)
			if err != nil {
				return nil, err
			}
			copy(salt, key[len(key)-ccmSalt:])
			return &ccm{b, salt, tagSize}, nil
		},
	}
}

// ccm is AES-CCM (NIST SP 800-38C).
type ccm struct {
	cipher.Block
	salt    []byte
	tagSize int
}

func (c *ccm) Seal(dst, src []byte, r Run) {
	u := c.newUnit()
	defer u.scratch.Free()
	n := len(src) / r.Unit
	for i := range n {
		unit, to := src[i*r.Unit:(i+1)*r.Unit], dst[i*r.Unit:(i+1)*r.Unit]
		u.begin(r.head(i, n), r.Unit)
		u.authenticate(unit)
		u.addStream(to, unit)
		copy(r.Tags[i*r.Stride:][:c.tagSize], u.tag())
	}
}

func (c *ccm) Open(dst, src []byte, r Run) int {
	u := c.newUnit()
	defer u.scratch.Free()
	n := len(src) / r.Unit
	for i := range n {
		unit, to := src[i*r.Unit:(i+1)*r.Unit], dst[i*r.Unit:(i+1)*r.Unit]
		u.begin(r.head(i, n), r.Unit)
		u.addStream(to, unit)
		u.authenticate(to)
		if subtle.ConstantTimeCompare(u.tag()[:c.tagSize], r.Tags[i*r.Stride:][:c.tagSize]) != 1 {
			return i
		}
	}
	return -1
}

// A ccmUnit is what one unit takes, one after the other.
type ccmUnit struct {
	c                    *ccm
	scratch              *mapper.Buffer
	mac, counter, stream []byte // blocks
}

func (c *ccm) newUnit() ccmUnit {
	const n = aes.BlockSize
	b := mapper.GetBuffer(3 * n)
	return ccmUnit{c, b, b.Data[:n], b.Data[n : 2*n], b.Data[2*n : 3*n]}
}

// begin authenticates the first block, which has the nonce and the length of the data, and the unit's number.
func (u *ccmUnit) begin(head []byte, size int) {
	const hasNumber = 0x40
	nonce := func(block []byte, flags byte) {
		block[0] = flags
		copy(block[1:], u.c.salt)
		copy(block[1+ccmSalt:], head[HeadNumber:])
	}
	nonce(u.counter, ccmLength-1)
	nonce(u.mac, hasNumber|byte(u.c.tagSize-2)/2<<3|ccmLength-1)
	binary.BigEndian.PutUint32(u.mac[aes.BlockSize-ccmLength:], uint32(size))
	u.c.Encrypt(u.mac, u.mac)
	u.mac[1] ^= HeadNumber // its length, in two bytes
	subtle.XORBytes(u.mac[2:], u.mac[2:], head[:HeadNumber])
	u.c.Encrypt(u.mac, u.mac)
}

// authenticate goes over the plain data.
func (u *ccmUnit) authenticate(data []byte) {
	for ; len(data) > 0; data = data[aes.BlockSize:] {
		subtle.XORBytes(u.mac, u.mac, data)
		u.c.Encrypt(u.mac, u.mac)
	}
}

// addStream encrypts, or decrypts.
func (u *ccmUnit) addStream(dst, src []byte) {
	for at := 0; at < len(src); at += aes.BlockSize {
		u.key(uint32(at/aes.BlockSize) + 1)
		subtle.XORBytes(dst[at:], src[at:at+aes.BlockSize], u.stream)
	}
}

// key makes block n of the key stream.
func (u *ccmUnit) key(n uint32) {
	binary.BigEndian.PutUint32(u.counter[aes.BlockSize-ccmLength:], n)
	u.c.Encrypt(u.stream, u.counter)
}

// tag returns the whole tag; it is good until the next unit begins.
func (u *ccmUnit) tag() []byte {
	u.key(0)
	subtle.XORBytes(u.mac, u.mac, u.stream)
	return u.mac
}
