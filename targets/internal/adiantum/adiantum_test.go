package adiantum

import (
	"bytes"
	"crypto/aes"
	"math/rand/v2"
	"testing"

	"golang.org/x/crypto/chacha20"
	//lint:ignore SA1019 as a judge: there is no other Poly1305 to be had from outside x/crypto
	"golang.org/x/crypto/poly1305"
)

func random(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// With 20 rounds it is the XChaCha20 of x/crypto.
func TestXChaCha(t *testing.T) {
	for seed := range uint64(20) {
		key, nonce := random(seed, KeySize), random(seed+100, TweakSize)
		clear(nonce[24:]) // the position
		k := &Key{}
		if err := k.Expand(key, 20, make([]byte, BlockKeySize)); err != nil {
			t.Fatal(err)
		}
		want, got := make([]byte, 1000), make([]byte, 1000)
		c, err := chacha20.NewUnauthenticatedCipher(key, nonce[:24])
		if err != nil {
			t.Fatal(err)
		}
		c.XORKeyStream(want, want)
		k.xchacha(got, nonce)
		if !bytes.Equal(got, want) {
			t.Fatalf("seed %d: %x, want %x", seed, got[:64], want[:64])
		}
	}
}

// It is the Poly1305 of x/crypto, of which the second half of the key is added last; at the edges of the modulus, too.
func TestPoly(t *testing.T) {
	for seed := range uint64(300) {
		key, text := random(seed, 16), random(seed+1000, int(seed%20+1)*blockSize)
		if seed%3 == 0 {
			text = bytes.Repeat([]byte{0xff}, len(text))
		}
		var k polyKey
		var p poly
		k.set(key)
		for i := 0; i < len(text); i += blockSize {
			n := load(text[i:])
			p.block(&k, n.lo, n.hi)
		}
		got := make([]byte, 16)
		p.sum().store(got)
		var want, whole [16]byte
		var full [32]byte
		copy(full[:], key)
		poly1305.Sum(&want, text, &full)
		if whole = [16]byte(got); whole != want {
			t.Fatalf("seed %d: %x, want %x", seed, whole, want)
		}
	}
}

// What is decrypted is what was encrypted, in place and not; that it is Adiantum the scenarios and the corpus show.
func TestInverse(t *testing.T) {
	block := make([]byte, BlockKeySize)
	k := &Key{}
	if err := k.Expand(random(1, KeySize), 12, block); err != nil {
		t.Fatal(err)
	}
	b, err := aes.NewCipher(block)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{16, 32, 512, 1024, 1040, 4096} {
		plain, tweak := random(uint64(n), n), random(2, TweakSize)
		dst := make([]byte, n)
		k.Encrypt(b, dst, plain, tweak)
		same := bytes.Clone(plain)
		k.Encrypt(b, same, same, tweak)
		if bytes.Equal(dst, plain) || !bytes.Equal(dst, same) {
			t.Errorf("%d bytes: in place differs from not in place", n)
		}
		k.Decrypt(b, dst, dst, tweak)
		if !bytes.Equal(dst, plain) {
			t.Errorf("%d bytes do not return", n)
		}
	}
	if err := k.Expand(make([]byte, 31), 12, block); err == nil {
		t.Error("a key of 31 bytes was taken")
	}
}

func BenchmarkEncrypt(b *testing.B) {
	k := &Key{rounds: 12}
	c, _ := aes.NewCipher(make([]byte, 32))
	sector, tweak := make([]byte, 4096), make([]byte, TweakSize)
	b.SetBytes(4096)
	b.ReportAllocs()
	for b.Loop() {
		k.Encrypt(c, sector, sector, tweak)
	}
}
