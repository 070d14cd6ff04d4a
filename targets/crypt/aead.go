package crypt

import (
	"fmt"
	"strings"

	"dmfs/targets/internal/secret"
	"dmfs/targets/internal/sectorcipher"
)

// An aead is what a table line is checked for of authenticated encryption, which is not supported: so that what the kernel
// refuses for another reason is refused for that one.
type aead struct {
	name    string
	iv      int // bytes
	sizes   []int
	macSize int                  // bytes of the key that are for the MAC, behind that of the cipher
	inner   *sectorcipher.Scheme // what authenc encrypts with; nil for others
}

// macs are the hashes of authenc(hmac(HASH),CIPHER), with their sizes in bytes.
var macs = map[string]int{"md5": 16, "sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}

func parseAEAD(name string) (*aead, error) {
	switch name {
	case "gcm(aes)":
		return &aead{name: name, iv: 12, sizes: []int{16, 24, 32}}, nil
	case "rfc7539(chacha20,poly1305)":
		return &aead{name: name, iv: 12, sizes: []int{32}}, nil
	}
	rest, ok := strings.CutPrefix(name, "authenc(hmac(")
	hash, inner, found := strings.Cut(rest, "),")
	inner, closed := strings.CutSuffix(inner, ")")
	size := macs[hash]
	if !ok || !found || !closed || size == 0 {
		return nil, fmt.Errorf("%w %.64q", sectorcipher.ErrUnknown, name)
	}
	s, err := sectorcipher.Parse(inner)
	if err != nil {
		return nil, err
	}
	return &aead{name: name, iv: s.IVSize, macSize: size, inner: s}, nil
}

func (a *aead) ivSize() int {
	if a == nil {
		return 0
	}
	return a.iv
}

// check refuses keys of the wrong size.
func (a *aead) check(key []byte) error {
	if a.inner == nil {
		for _, n := range a.sizes {
			if n == len(key) {
				return nil
			}
		}
		return fmt.Errorf("%w: %s does not take %d bytes", sectorcipher.ErrKeySize, a.name, len(key))
	}
	if len(key) < a.macSize {
		return fmt.Errorf("%w: the MAC alone takes %d bytes", sectorcipher.ErrKeySize, a.macSize)
	}
	var m secret.Memory
	defer m.Release()
	_, err := a.inner.New(&m, key[:len(key)-a.macSize])
	return err
}
