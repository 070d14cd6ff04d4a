package sectorcipher

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"testing"

	judge "golang.org/x/crypto/xts"

	"dmfs/mapper/secret"
)

func random(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

func newCipher(t testing.TB, name string, key []byte) (*Scheme, Cipher) {
	t.Helper()
	m := new(secret.Memory)
	t.Cleanup(m.Release)
	s, err := Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.New(m, key)
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

// Each mode does what the standard library, x/crypto or the published vector says.
func TestModes(t *testing.T) {
	key, iv, plain := random(1, 32), random(2, 16), random(3, 512)
	b, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	double := random(4, 64)
	x, err := judge.NewCipher(aes.NewCipher, double)
	if err != nil {
		t.Fatal(err)
	}
	const sector = 0x123456789a
	sectorIV := binary.LittleEndian.AppendUint64(nil, sector)
	for _, c := range []struct {
		name    string
		key, iv []byte
		want    func(dst []byte)
	}{
		{"cbc(aes)", key, iv, func(dst []byte) { cipher.NewCBCEncrypter(b, iv).CryptBlocks(dst, plain) }},
		{"ctr(aes)", key, iv, func(dst []byte) { cipher.NewCTR(b, iv).XORKeyStream(dst, plain) }},
		{"ctr(aes)", key, bytes.Repeat([]byte{0xff}, 16), func(dst []byte) { // the counter begins anew
			cipher.NewCTR(b, bytes.Repeat([]byte{0xff}, 16)).XORKeyStream(dst, plain)
		}},
		{"xts(aes)", double, append(sectorIV, make([]byte, 8)...), func(dst []byte) { x.Encrypt(dst, plain, sector) }},
	} {
		_, s := newCipher(t, c.name, c.key)
		want, got := make([]byte, len(plain)), make([]byte, len(plain))
		c.want(want)
		s.Encrypt(got, plain, len(plain), bytes.Clone(c.iv))
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %x, want %x", c.name, got[:32], want[:32])
		}
	}
}

// The vector LRW-32-AES 1 of the draft of IEEE 1619.
func TestLRWVector(t *testing.T) {
	key, _ := hex.DecodeString("4562ac25f828176d4c268414b5680185258e2a05e73e9d03ee5a830ccc094c87")
	iv, _ := hex.DecodeString("00000000000000000000000000000001")
	_, c := newCipher(t, "lrw(aes)", key)
	got := []byte("0123456789ABCDEF")
	c.Encrypt(got, got, 16, iv)
	if want := "f1b273cd65a3df5fe95d489254634eb8"; hex.EncodeToString(got) != want {
		t.Errorf("%x, want %s", got, want)
	}
}

// In every scheme a run is its units one by one, in place is as not in place, and what is decrypted is what was encrypted. LRW at
// the numbers where the counter carries far is as at any.
func TestRuns(t *testing.T) {
	for _, c := range []struct {
		name string
		key  int
	}{
		{"ecb(aes)", 16}, {"cbc(aes)", 24}, {"ctr(aes)", 32}, {"xts(aes)", 64}, {"lrw(aes)", 48}, {"essiv(cbc(aes),sha256)", 16},
		{"cbc(serpent)", 32}, {"xts(twofish)", 64}, {"xts(camellia)", 32}, {"cbc(blowfish)", 56}, {"cbc(cast5)", 11}, {"cbc(des3_ede)", 24},
		{"ctr(blowfish)", 8}, {"cbc(des)", 8}, {"ecb(cipher_null)", 0}, {"adiantum(xchacha12,aes)", 32}, {"essiv(cbc(blowfish),sha384)", 48},
	} {
		s, b := newCipher(t, c.name, random(5, c.key))
		const unit, n = 512, 5
		plain, ivs := random(6, n*unit), random(7, n*s.IVSize)
		if s.IVSize == 16 {
			copy(ivs, bytes.Repeat([]byte{0xff}, 15)) // the highest of numbers, nearly
			ivs[15] = 0xf0
		}
		whole, single := make([]byte, len(plain)), bytes.Clone(plain)
		b.Encrypt(whole, plain, unit, bytes.Clone(ivs))
		for i := range n {
			p := single[i*unit : (i+1)*unit]
			b.Encrypt(p, p, unit, bytes.Clone(ivs[i*s.IVSize:(i+1)*s.IVSize]))
		}
		if !bytes.Equal(whole, single) {
			t.Errorf("%s: a run is not its units, or in place differs", c.name)
		}
		if c.key > 0 && bytes.Equal(whole[:64], plain[:64]) {
			t.Errorf("%s does not encrypt", c.name)
		}
		b.Decrypt(single, whole, unit, bytes.Clone(ivs))
		b.Decrypt(whole, whole, unit, bytes.Clone(ivs))
		if !bytes.Equal(whole, plain) || !bytes.Equal(single, plain) {
			t.Errorf("%s: does not decrypt what it encrypted", c.name)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, name := range []string{
		"", "aes", "cbc", "cbc(", "cbc()", "cbc(aes", "cbc(aes))", "cbc(cbc(aes))", "xts(blowfish)", "lrw(des)", "essiv(cbc(aes))", "essiv(cbc(aes),sha512)",
		"essiv(cbc(aes),nosuch)", "essiv(ecb(aes),sha256)", "adiantum(xchacha12)", "adiantum(xchacha8,aes)", "adiantum(xchacha12,des)", "(aes)", "essiv(,)",
		"ctr(cipher_null)",
	} {
		if _, err := Parse(name); !errors.Is(err, ErrUnknown) {
			t.Errorf("Parse(%q): %v, want ErrUnknown", name, err)
		}
	}
	for _, c := range []struct {
		name string
		size int
	}{
		{"cbc(aes)", 15}, {"xts(aes)", 33}, {"xts(aes)", 16}, {"lrw(aes)", 16}, {"lrw(aes)", 8}, {"adiantum(xchacha12,aes)", 31},
		{"cbc(cast5)", 10}, {"ecb(cipher_null)", 1}, {"essiv(cbc(aes),sha1)", 16}, {"cbc(serpent)", 33},
	} {
		s, err := Parse(c.name)
		if err != nil {
			t.Fatal(err)
		}
		var m secret.Memory
		if _, err := s.New(&m, make([]byte, c.size)); !errors.Is(err, ErrKeySize) {
			t.Errorf("%s with %d bytes: %v, want ErrKeySize", c.name, c.size, err)
		}
		m.Release()
	}
}

func FuzzParse(f *testing.F) {
	f.Add("essiv(cbc(aes),sha256)", []byte("0123456789abcdef"))
	f.Add("adiantum(xchacha12,aes)", []byte("0123456789abcdef0123456789abcdef"))
	f.Fuzz(func(t *testing.T, name string, key []byte) {
		s, err := Parse(name)
		if err != nil {
			return
		}
		var m secret.Memory
		defer m.Release()
		c, err := s.New(&m, key)
		if err != nil {
			return
		}
		p := make([]byte, 512)
		c.Encrypt(p, p, len(p), make([]byte, s.IVSize))
		c.Decrypt(p, p, len(p), make([]byte, s.IVSize))
		if !bytes.Equal(p, make([]byte, len(p))) {
			t.Errorf("%s does not decrypt what it encrypted", name)
		}
	})
}
