package sectorcipher

import (
	"errors"
	"fmt"
	"strings"

	"dmfs/mapper/secret"
)

// A Cipher encrypts runs of units. It may be called concurrently and does not allocate.
//
// src is a number of units of so many bytes, a multiple of the cipher's block; dst is as long, and either the same
// memory or other memory. ivs has an IV for each unit, one after the other, each as long as the next; a cipher that
// needs less uses the beginning. It may overwrite ivs.
type Cipher interface {
	Encrypt(dst, src []byte, unit int, ivs []byte)
	Decrypt(dst, src []byte, unit int, ivs []byte)
}

var (
	// ErrUnknown says that there is no such cipher, mode or hash.
	ErrUnknown = errors.New("unknown cipher")
	// ErrKeySize says that a key is too short or too long.
	ErrKeySize = errors.New("wrong key size")
)

// A Scheme is a cipher in a mode, without a key.
type Scheme struct {
	Name      string // as in "cbc(aes)"
	BlockSize int    // bytes; 1 for a stream
	IVSize    int    // bytes; 0 if it takes none

	make func(m *secret.Memory, key []byte) (Cipher, error)
}

// New returns the cipher for a key, which is not kept. What it has of the key is in m.
func (s *Scheme) New(m *secret.Memory, key []byte) (Cipher, error) { return s.make(m, key) }

// Parse reads a name of the kernel's crypto API. Errors wrap ErrUnknown.
func Parse(name string) (*Scheme, error) {
	template, rest, ok := strings.Cut(name, "(")
	inner, closed := strings.CutSuffix(rest, ")")
	if !ok || !closed {
		return nil, unknown(name)
	}
	var s *Scheme
	var err error
	switch template {
	case "essiv":
		s, err = parseESSIV(inner)
	case "adiantum":
		s, err = parseAdiantum(inner)
	default:
		s, err = parseMode(template, inner)
	}
	if err != nil {
		return nil, err
	}
	s.Name = name
	return s, nil
}

func unknown(what string) error { return fmt.Errorf("%w %.64q", ErrUnknown, what) }

// parseMode reads the parts of "cbc(aes)" and the like.
func parseMode(template, inner string) (*Scheme, error) {
	b, err := blockNamed(inner)
	if err != nil {
		return nil, err
	}
	m, ok := modes[template]
	const leastCounter = 4 // bytes of a block that counts, which cipher_null does not have
	if !ok || m.wide && b.size != wideBlock || m.stream && b.size < leastCounter {
		return nil, unknown(template + "(" + inner + ")")
	}
	s := &Scheme{BlockSize: b.size, IVSize: b.size}
	if m.stream {
		s.BlockSize = 1
	}
	if m.noIV {
		s.IVSize = 0
	}
	s.make = func(mem *secret.Memory, key []byte) (Cipher, error) { return m.make(b, mem, key) }
	return s, nil
}

// parseAdiantum reads the parts of "adiantum(xchacha12,aes)".
func parseAdiantum(inner string) (*Scheme, error) {
	stream, block, ok := strings.Cut(inner, ",")
	rounds := map[string]int{"xchacha12": 12, "xchacha20": 20}[stream]
	if !ok || rounds == 0 {
		return nil, unknown("adiantum(" + inner + ")")
	}
	b, err := blockNamed(block)
	if err != nil || b.size != wideBlock || !b.takes(32) {
		return nil, unknown("adiantum(" + inner + ")")
	}
	return &Scheme{BlockSize: wideBlock, IVSize: 32, make: func(m *secret.Memory, key []byte) (Cipher, error) {
		return newAdiantum(m, b, rounds, key)
	}}, nil
}

// parseESSIV reads the parts of "essiv(cbc(aes),sha256)".
func parseESSIV(inner string) (*Scheme, error) {
	i := strings.LastIndexByte(inner, ',')
	if i < 0 {
		return nil, unknown("essiv(" + inner + ")")
	}
	s, err := Parse(inner[:i])
	if err != nil {
		return nil, err
	}
	h, err := hashNamed(inner[i+1:])
	if err != nil {
		return nil, err
	}
	from := strings.LastIndexByte(inner[:i], '(') + 1
	b, err := blockNamed(strings.TrimRight(inner[from:i], ")"))
	if err != nil || b.size != s.IVSize || h.size < b.least || h.size > b.most {
		return nil, unknown("essiv(" + inner + ")")
	}
	return &Scheme{BlockSize: s.BlockSize, IVSize: s.IVSize, make: func(m *secret.Memory, key []byte) (Cipher, error) {
		c, err := s.make(m, key)
		if err != nil {
			return nil, err
		}
		salt, err := m.Alloc(h.size)
		if err != nil {
			return nil, err
		}
		h.sum(salt, key)
		salted, err := b.make(m, salt)
		if err != nil {
			return nil, err
		}
		return &essiv{c, salted, b.size}, nil
	}}, nil
}
