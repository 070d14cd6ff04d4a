package sectorcipher

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"fmt"

	//lint:ignore SA1019 disks that are encrypted with it exist
	"golang.org/x/crypto/blowfish"
	//lint:ignore SA1019 disks that are encrypted with it exist
	"golang.org/x/crypto/cast5"
	//lint:ignore SA1019 disks that are encrypted with it exist
	"golang.org/x/crypto/twofish"

	"dmfs/mapper/secret"
	"dmfs/targets/internal/camellia"
	"dmfs/targets/internal/serpent"
)

// wideBlock is the block in bytes that XTS, LRW and Adiantum need.
const wideBlock = 16

// A block is a block cipher.
type block struct {
	name              string
	size              int // of the block, bytes
	least, most, step int // keys are least bytes, or step more, and so on, up to most
	new               func(key []byte) (cipher.Block, error)
}

// take returns f as a function for any cipher.
func take[T cipher.Block](f func(key []byte) (T, error)) func([]byte) (cipher.Block, error) {
	return func(key []byte) (cipher.Block, error) {
		b, err := f(key)
		return b, err
	}
}

var blocks = []block{
	{"aes", 16, 16, 32, 8, aes.NewCipher},
	{"serpent", 16, 0, 32, 1, take(serpent.NewCipher)},
	{"twofish", 16, 16, 32, 8, take(twofish.NewCipher)},
	{"camellia", 16, 16, 32, 8, take(camellia.NewCipher)},
	{"blowfish", 8, 4, 56, 1, take(blowfish.NewCipher)},
	{"cast5", 8, 5, 16, 1, newCAST5},
	{"des", 8, 8, 8, 1, des.NewCipher},
	{"des3_ede", 8, 24, 24, 1, des.NewTripleDESCipher},
	{"cipher_null", 1, 0, 0, 1, func([]byte) (cipher.Block, error) { return new(null), nil }},
}

func blockNamed(name string) (*block, error) {
	for i := range blocks {
		if blocks[i].name == name {
			return &blocks[i], nil
		}
	}
	return nil, unknown(name)
}

// takes reports whether b takes keys of n bytes.
func (b *block) takes(n int) bool { return n >= b.least && n <= b.most && (n-b.least)%b.step == 0 }

// make returns the cipher for a key, with all that is secret of it in m.
func (b *block) make(m *secret.Memory, key []byte) (cipher.Block, error) {
	if !b.takes(len(key)) {
		return nil, fmt.Errorf("%w: %s does not take %d bytes", ErrKeySize, b.name, len(key))
	}
	c, err := b.new(key)
	if err != nil {
		return nil, err
	}
	return secret.Move(m, c)
}

// newCAST5 is CAST-128 with keys of 11 to 16 bytes, of which shorter ones count as if zeroes followed. Up to 10 bytes it would have 12 rounds.
func newCAST5(key []byte) (cipher.Block, error) {
	if len(key) <= 10 {
		return nil, fmt.Errorf("%w: cast5 with %d bytes has 12 rounds, which is not supported here: want 11 to 16", ErrKeySize, len(key))
	}
	var full [cast5.KeySize]byte
	copy(full[:], key)
	defer clear(full[:])
	return cast5.NewCipher(full[:])
}

// null is the kernel's cipher_null, which changes nothing.
type null struct{ _ byte }

func (*null) BlockSize() int          { return 1 }
func (*null) Encrypt(dst, src []byte) { dst[0] = src[0] }
func (*null) Decrypt(dst, src []byte) { dst[0] = src[0] }
