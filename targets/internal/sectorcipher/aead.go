package sectorcipher

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"fmt"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	"dmfs/mapper"
	"dmfs/mapper/secret"
	"dmfs/targets/internal/aegis"
	"dmfs/targets/internal/hashalg"
)

// HeadNumber is how many bytes of a head are the number of the unit; the IV follows.
const HeadNumber = 8

// A Run is what goes with the data of a run of units.
type Run struct {
	Unit int // bytes of data

	// Heads is, for each unit, what is authenticated in front of the data: its number and its IV. They may be overwritten.
	Heads []byte
	// Tags has the tag of each unit at the beginning of Stride bytes.
	Tags   []byte
	Stride int
}

// head returns the head of unit i of n.
func (r *Run) head(i, n int) []byte {
	size := len(r.Heads) / n
	return r.Heads[i*size : (i+1)*size]
}

// An AEAD encrypts runs of units and makes a tag of each, by which a change is found. It may be called concurrently and does
// not allocate. dst is as long as src, and either the same memory or other memory.
type AEAD interface {
	Seal(dst, src []byte, r Run)
	// Open returns the first unit that is not what was sealed, -1 if there is none. Nothing in dst may be used then.
	Open(dst, src []byte, r Run) (bad int)
}

// An AEADScheme is authenticated encryption without a key.
type AEADScheme struct {
	Name      string // as in "gcm(aes)"
	BlockSize int    // bytes; 1 for a stream
	IVSize    int    // bytes; 0 if it takes none
	MACSize   int    // bytes at the end of the key that are for the MAC

	tags func(size int) bool
	make func(m *secret.Memory, key []byte, tagSize int) (AEAD, error)
}

// TakesTags reports whether tags may have so many bytes.
func (s *AEADScheme) TakesTags(size int) bool { return s.tags(size) }

// New returns the cipher for a key, which is not kept, and for tags of a size that TakesTags. What it has of the key is in m.
func (s *AEADScheme) New(m *secret.Memory, key []byte, tagSize int) (AEAD, error) {
	return s.make(m, key, tagSize)
}

// ParseAEAD reads a name of the kernel's crypto API. Errors wrap ErrUnknown.
func ParseAEAD(name string) (*AEADScheme, error) {
	var s *AEADScheme
	var err error
	switch {
	case name == "gcm(aes)":
		s = libraryScheme(func(n int) bool { return n == 16 || n == 24 || n == 32 }, newGCM, isGCMTag)
	case name == "rfc7539(chacha20,poly1305)":
		s = libraryScheme(func(n int) bool { return n == chacha20poly1305.KeySize }, newChaCha, func(n int) bool { return n == libraryTag })
	case name == "rfc4309(ccm(aes))":
		s = ccmScheme()
	case name == "aegis128":
		s = aegisScheme()
	case strings.HasPrefix(name, "authenc("):
		s, err = parseAuthenc(name, nil)
	case strings.HasPrefix(name, "essiv("):
		s, err = parseSalted(name)
	default:
		err = unknown(name)
	}
	if err != nil {
		return nil, err
	}
	s.Name = name
	return s, nil
}

// HasMAC reports whether name, of the form authenc(MAC,CIPHER), has a MAC that is known.
func HasMAC(name string) bool {
	mac, _, ok := strings.Cut(strings.TrimPrefix(name, "authenc("), ",")
	_, known := hashalg.MACSize(mac)
	return ok && known
}

// libraryTag is the longest tag in bytes, and the one that a library makes.
const libraryTag = 16

// libraryIV is the IV in bytes that a library takes.
const libraryIV = 12

func isGCMTag(n int) bool { return n == 4 || n == 8 || n >= 12 && n <= libraryTag }

func newGCM(m *secret.Memory, key []byte) (cipher.AEAD, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	if b, err = secret.Move(m, b); err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

func newChaCha(_ *secret.Memory, key []byte) (cipher.AEAD, error) { return chacha20poly1305.New(key) }

// libraryScheme is one that a library has.
func libraryScheme(takes func(n int) bool, make func(m *secret.Memory, key []byte) (cipher.AEAD, error), tags func(int) bool) *AEADScheme {
	return &AEADScheme{
		BlockSize: 1, IVSize: libraryIV, tags: tags,
		make: func(m *secret.Memory, key []byte, tagSize int) (AEAD, error) {
			if !takes(len(key)) {
				return nil, fmt.Errorf("%w: it does not take %d bytes", ErrKeySize, len(key))
			}
			c, err := make(m, key)
			if err != nil {
				return nil, err
			}
			if c, err = secret.Move(m, c); err != nil {
				return nil, err
			}
			return &library{c, tagSize}, nil
		},
	}
}

// library is an AEAD of a library, which takes a unit at a time with its tag behind it.
type library struct {
	cipher.AEAD
	tagSize int
}

func (c *library) Seal(dst, src []byte, r Run) {
	buf := mapper.GetBuffer(r.Unit + libraryTag)
	defer buf.Free()
	n := len(src) / r.Unit
	for i := range n {
		head := r.head(i, n)
		unit := src[i*r.Unit : (i+1)*r.Unit]
		out := c.AEAD.Seal(buf.Data[:0], head[HeadNumber:], unit, head)
		copy(dst[i*r.Unit:], out[:r.Unit])
		copy(r.Tags[i*r.Stride:][:c.tagSize], out[r.Unit:])
	}
}

func (c *library) Open(dst, src []byte, r Run) int {
	buf := mapper.GetBuffer(r.Unit + libraryTag)
	defer buf.Free()
	n := len(src) / r.Unit
	for i := range n {
		unit, to := src[i*r.Unit:(i+1)*r.Unit], dst[i*r.Unit:(i+1)*r.Unit]
		if !c.openUnit(to, unit, r.Tags[i*r.Stride:][:c.tagSize], r.head(i, n), buf.Data) {
			return i
		}
	}
	return -1
}

// openUnit opens one unit; buf has room for it and a tag.
func (c *library) openUnit(dst, src, tag, head, buf []byte) bool {
	if len(tag) == libraryTag {
		sealed := append(append(buf[:0], src...), tag...)
		_, err := c.AEAD.Open(dst[:0], head[HeadNumber:], sealed, head)
		return err == nil
	}
	// A library takes no part of a tag. To encrypt is to add a key stream, so that twice gives what there was, and the whole tag.
	plain := c.AEAD.Seal(buf[:0], head[HeadNumber:], src, head)[:len(src)]
	again := mapper.GetBuffer(len(src) + libraryTag)
	defer again.Free()
	sealed := c.AEAD.Seal(again.Data[:0], head[HeadNumber:], plain, head)
	if subtle.ConstantTimeCompare(sealed[len(src):][:len(tag)], tag) != 1 {
		return false
	}
	copy(dst, plain)
	return true
}

// aegisScheme is AEGIS-128.
func aegisScheme() *AEADScheme {
	return &AEADScheme{
		BlockSize: 1, IVSize: aegis.IVSize,
		tags: func(n int) bool { return n >= aegis.TagSize/2 && n <= aegis.TagSize },
		make: func(m *secret.Memory, key []byte, tagSize int) (AEAD, error) {
			if len(key) != aegis.KeySize {
				return nil, fmt.Errorf("%w: aegis128 does not take %d bytes", ErrKeySize, len(key))
			}
			own, err := m.Alloc(len(key))
			if err != nil {
				return nil, err
			}
			copy(own, key)
			return &aegis128{own, tagSize}, nil
		},
	}
}

// aegis128 is AEGIS-128.
type aegis128 struct {
	key     []byte
	tagSize int
}

func (c *aegis128) Seal(dst, src []byte, r Run) {
	n := len(src) / r.Unit
	for i := range n {
		head := r.head(i, n)
		aegis.Seal(dst[i*r.Unit:(i+1)*r.Unit], src[i*r.Unit:(i+1)*r.Unit], c.key, head[HeadNumber:], head, r.Tags[i*r.Stride:][:c.tagSize])
	}
}

func (c *aegis128) Open(dst, src []byte, r Run) int {
	n := len(src) / r.Unit
	for i := range n {
		head := r.head(i, n)
		if !aegis.Open(dst[i*r.Unit:(i+1)*r.Unit], src[i*r.Unit:(i+1)*r.Unit], c.key, head[HeadNumber:], head, r.Tags[i*r.Stride:][:c.tagSize]) {
			return i
		}
	}
	return -1
}
