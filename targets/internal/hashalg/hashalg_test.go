package hashalg

import (
	"encoding/hex"
	"testing"
)

// The digests of "abc", as published with the functions and as `openssl dgst` and b2sum print them.
func TestKnown(t *testing.T) {
	for name, want := range map[string]string{
		"crc32":       "d09865ca", // neither end inverted, as the kernel has it
		"crc32c":      "b73f4b36",
		"xxhash64":    "990977adf52cbc44",
		"md4":         "a448017aaf21d8525fc10ae87aa6729d",
		"md5":         "900150983cd24fb0d6963f7d28e17f72",
		"sha1":        "a9993e364706816aba3e25717850c26c9cd0d89d",
		"sha224":      "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7",
		"sha256":      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"sha384":      "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
		"sha512":      "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
		"sha3-224":    "e642824c3f8cf24ad09234ee7d3c766fc9a3a5168d0c94ad73b46fdf",
		"sha3-256":    "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532",
		"sha3-384":    "ec01498288516fc926459f58e2c6ad8df9b473cb0fc08c2596da7cf0e49be4b298d88cea927ac7f539f1edf228376d25",
		"sha3-512":    "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0",
		"wp512":       "4e2448a4c6f486bb16b6562c73b4020bf3043e3a731bce721ae1b303d97e6d4c7181eebdb6c57e277d0e34957114cbd6c797fc9d95d8b582d225292076d4eef5",
		"wp384":       "4e2448a4c6f486bb16b6562c73b4020bf3043e3a731bce721ae1b303d97e6d4c7181eebdb6c57e277d0e34957114cbd6",
		"wp256":       "4e2448a4c6f486bb16b6562c73b4020bf3043e3a731bce721ae1b303d97e6d4c",
		"rmd160":      "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc",
		"blake2b-512": "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d17d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923",
		"blake2b-256": "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319",
		"blake2b-384": "6f56a82c8e7ef526dfe182eb5212f7db9df1317e57815dbda46083fc30f54ee6c66ba83be64b302d7cba6ce15bb556f4",
		"blake2b-160": "384264f676f39536840523f284921cdc68b6846b",
		"blake2s-256": "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982",
	} {
		maker, ok := New(name)
		if !ok {
			t.Errorf("there is no %s", name)
			continue
		}
		h := maker()
		h.Write([]byte("abc"))
		if got := hex.EncodeToString(h.Sum(nil)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if len(makers) != 23 {
		t.Errorf("%d functions, and 23 known digests", len(makers))
	}
	if _, ok := New("nosuch"); ok {
		t.Error("a function of any name is there")
	}
}

// The vectors of XXH64 for longer input, and input that comes in pieces.
func TestXX(t *testing.T) {
	text := []byte("Nobody inspects the spammish repetition, and nobody expects more than thirty-two bytes.")
	maker, _ := New("xxhash64")
	whole := maker()
	whole.Write(text[:39])
	if got := hex.EncodeToString(whole.Sum(nil)); got != "f18b378a3ca8cefb" {
		t.Errorf("of 39 bytes: %s", got)
	}
	want := func(n int) string {
		h := maker()
		h.Write(text[:n])
		return hex.EncodeToString(h.Sum(nil))
	}
	for n := range text {
		for cut := range n {
			h := maker()
			h.Write(text[:cut])
			h.Write(text[cut:n])
			if got := hex.EncodeToString(h.Sum(nil)); got != want(n) {
				t.Fatalf("%d bytes cut at %d: %s, want %s", n, cut, got, want(n))
			}
		}
	}
}

// A seed is what the kernel takes for the key of a checksum.
func TestSeeded(t *testing.T) {
	for name, seed := range map[string][]byte{"crc32": make([]byte, 4), "crc32c": {255, 255, 255, 255}, "xxhash64": make([]byte, 8)} {
		plain, _ := New(name)
		seeded, ok, fits := Seeded(name, seed)
		if !ok || !fits {
			t.Fatalf("%s takes no seed of %d bytes", name, len(seed))
		}
		a, b := plain(), seeded()
		a.Write([]byte("abc"))
		b.Write([]byte("abc"))
		if string(a.Sum(nil)) != string(b.Sum(nil)) {
			t.Errorf("%s with its own seed differs", name)
		}
		if _, ok, fits := Seeded(name, seed[1:]); !ok || fits {
			t.Errorf("%s takes a seed that is too short", name)
		}
	}
	if _, ok, _ := Seeded("sha256", nil); ok {
		t.Error("sha256 takes a seed")
	}
}
