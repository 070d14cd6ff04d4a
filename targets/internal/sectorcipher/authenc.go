package sectorcipher

import (
	"crypto/cipher"
	"crypto/subtle"
	"fmt"
	"strings"

	"dmfs/mapper"
	"dmfs/mapper/secret"
	"dmfs/targets/internal/hashalg"
)

// A salt is what ESSIV makes of a key.
type salt struct {
	digest *digest
	block  *block
}

// parseAuthenc reads authenc(MAC,CIPHER). salted, if not nil, encrypts the IVs.
func parseAuthenc(name string, salted *salt) (*AEADScheme, error) {
	inner, closed := strings.CutSuffix(strings.TrimPrefix(name, "authenc("), ")")
	mac, cipherName, ok := strings.Cut(inner, ",")
	macSize, known := hashalg.MACSize(mac)
	if !closed || !ok || !known {
		return nil, unknown(name)
	}
	s, err := Parse(cipherName)
	if err != nil {
		return nil, err
	}
	build := func(m *secret.Memory, key []byte) (Cipher, error) {
		if len(key) < macSize {
			return nil, fmt.Errorf("%w: the MAC alone takes %d bytes", ErrKeySize, macSize)
		}
		return s.New(m, key[:len(key)-macSize])
	}
	return &AEADScheme{
		BlockSize: s.BlockSize, IVSize: s.IVSize, MACSize: macSize,
		tags: func(n int) bool { return n > 0 && n <= macSize },
		make: func(m *secret.Memory, key []byte, tagSize int) (AEAD, error) {
			inner, err := build(m, key)
			if err != nil {
				return nil, err
			}
			c := &authenc{cipher: inner, ivSize: s.IVSize, tagSize: tagSize}
			if c.mac, err = hashalg.NewMAC(m, mac, key[len(key)-macSize:]); err != nil || salted == nil {
				return c, err
			}
			c.salted, err = salted.make(m, key)
			return c, err
		},
	}, nil
}

// parseSalted reads essiv(authenc(MAC,MODE(BLOCK)),HASH).
func parseSalted(name string) (*AEADScheme, error) {
	inner, closed := strings.CutSuffix(strings.TrimPrefix(name, "essiv("), ")")
	i := strings.LastIndexByte(inner, ',')
	if !closed || i < 0 || !strings.HasPrefix(inner, "authenc(") {
		return nil, unknown(name)
	}
	d, err := hashNamed(inner[i+1:])
	if err != nil {
		return nil, err
	}
	from := strings.LastIndexByte(inner[:i], '(') + 1
	b, err := blockNamed(strings.TrimRight(inner[from:i], ")"))
	if err != nil {
		return nil, err
	}
	s, err := parseAuthenc(inner[:i], &salt{d, b})
	if err != nil || b.size != s.IVSize || !b.takes(d.size) {
		return nil, unknown(name)
	}
	return s, nil
}

// make returns the cipher for IVs: its key is the hash of the whole key.
func (s *salt) make(m *secret.Memory, key []byte) (cipher.Block, error) {
	sum, err := m.Alloc(s.digest.size)
	if err != nil {
		return nil, err
	}
	s.digest.sum(sum, key)
	return s.block.make(m, sum)
}

// authenc encrypts, then makes a MAC of the head and of what came out.
type authenc struct {
	cipher          Cipher
	mac             *hashalg.MAC
	salted          cipher.Block // nil: IVs are used as they are
	ivSize, tagSize int          // bytes
}

// ivs returns a copy of the IVs of the heads, nil if there are none.
func (c *authenc) ivs(r Run, n int) *mapper.Buffer {
	if c.ivSize == 0 {
		return nil
	}
	buf := mapper.GetBuffer(n * c.ivSize)
	for i := range n {
		iv := r.head(i, n)[HeadNumber:]
		if c.salted != nil {
			c.salted.Encrypt(iv, iv)
		}
		copy(buf.Data[i*c.ivSize:(i+1)*c.ivSize], iv)
	}
	return buf
}

func (c *authenc) Seal(dst, src []byte, r Run) {
	n := len(src) / r.Unit
	if buf := c.ivs(r, n); buf != nil {
		c.cipher.Encrypt(dst, src, r.Unit, buf.Data)
		buf.Free()
	} else {
		c.cipher.Encrypt(dst, src, r.Unit, nil)
	}
	for i := range n {
		c.mac.Sum(r.Tags[i*r.Stride:][:c.tagSize], r.head(i, n), dst[i*r.Unit:(i+1)*r.Unit])
	}
}

func (c *authenc) Open(dst, src []byte, r Run) int {
	n := len(src) / r.Unit
	buf := c.ivs(r, n)
	if buf != nil {
		defer buf.Free()
	}
	want := mapper.GetBuffer(c.tagSize)
	defer want.Free()
	for i := range n {
		c.mac.Sum(want.Data, r.head(i, n), src[i*r.Unit:(i+1)*r.Unit])
		if subtle.ConstantTimeCompare(want.Data, r.Tags[i*r.Stride:][:c.tagSize]) != 1 {
			return i
		}
	}
	if buf == nil {
		c.cipher.Decrypt(dst, src, r.Unit, nil)
	} else {
		c.cipher.Decrypt(dst, src, r.Unit, buf.Data)
	}
	return -1
}
