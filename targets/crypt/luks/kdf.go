package luks

import (
	"context"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strings"

	"golang.org/x/crypto/argon2"

	"dmfs/targets/internal/hashalg"
)

// Bounds of Argon2. The memory is cryptsetup's own bound.
const (
	mostArgonMemory  = 4 << 20 // KiB
	mostArgonThreads = 255     // as many as the library takes; cryptsetup makes slots with at most 4
)

// ErrMemory says that a key derivation takes more memory than there is.
var ErrMemory = errors.New("not enough memory")

// inHeaders are hash functions that headers call by other names than tables.
var inHeaders = map[string]string{"ripemd160": "rmd160", "whirlpool": "wp512"}

// hashNamed returns what makes the hash function that headers call name, in upper case sometimes.
func hashNamed(name string) (func() hash.Hash, error) {
	lower := strings.ToLower(name)
	if other, ok := inHeaders[lower]; ok {
		lower = other
	}
	maker, ok := hashalg.New(lower)
	if !ok {
		return nil, fmt.Errorf("hash function %.32q: there is none of that name here", name)
	}
	return maker, nil
}

// A kdf derives the key of a slot from a passphrase.
type kdf struct {
	kind       string // "pbkdf2", "argon2i", "argon2id"
	salt       []byte
	hash       string // of pbkdf2
	iterations uint64 // of pbkdf2
	time       uint64 // of argon2: passes
	memory     uint64 // of argon2: KiB
	threads    uint64 // of argon2
}

// derive fills out. available is how many bytes of memory there are, 0 if that is not known.
func (k *kdf) derive(ctx context.Context, out, passphrase []byte, available uint64) error {
	if k.kind == "pbkdf2" {
		return pbkdf2(ctx, out, passphrase, k.salt, k.hash, k.iterations)
	}
	if available != 0 && k.memory<<10 > available {
		return fmt.Errorf("%w: %s with %d MiB, of which %d MiB are free", ErrMemory, k.kind, k.memory>>10, available>>20)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	argon := argon2.IDKey
	if k.kind == "argon2i" {
		argon = argon2.Key
	}
	key := argon(passphrase, k.salt, uint32(k.time), uint32(k.memory), uint8(k.threads), uint32(len(out)))
	copy(out, key)
	clear(key)
	return nil
}

// check refuses what cannot be derived.
func (k *kdf) check() error {
	switch k.kind {
	case "pbkdf2":
		if _, err := hashNamed(k.hash); err != nil {
			return err
		}
		if k.iterations == 0 || k.iterations > mostUint32 {
			return fmt.Errorf("pbkdf2 with %d iterations: want 1 to %d", k.iterations, uint64(mostUint32))
		}
	case "argon2i", "argon2id":
		switch {
		case k.time == 0 || k.time > mostUint32:
			return fmt.Errorf("%s with %d passes: want 1 to %d", k.kind, k.time, uint64(mostUint32))
		case k.threads == 0 || k.threads > mostArgonThreads:
			return fmt.Errorf("%s with %d threads: want 1 to %d", k.kind, k.threads, mostArgonThreads)
		case k.memory < 8*k.threads || k.memory > mostArgonMemory:
			return fmt.Errorf("%s with %d KiB of memory: want 8 for each thread, and at most %d", k.kind, k.memory, mostArgonMemory)
		}
	default:
		return fmt.Errorf("key derivation %.32q: pbkdf2, argon2i and argon2id are known", k.kind)
	}
	return nil
}

const mostUint32 = 1<<32 - 1

// pbkdf2 is PBKDF2 of RFC 8018 with HMAC. The standard library's does not stop for ctx, and a header may ask for 2^32 rounds.
func pbkdf2(ctx context.Context, out, passphrase, salt []byte, hashName string, iterations uint64) error {
	maker, err := hashNamed(hashName)
	if err != nil {
		return err
	}
	const between = 1 << 14 // rounds from one look at ctx to the next
	mac := hmac.New(maker, passphrase)
	u, sum := make([]byte, 0, mac.Size()), make([]byte, mac.Size())
	defer func() { clear(u[:cap(u)]); clear(sum); mac.Reset() }()
	for block := uint32(1); len(out) > 0; block++ {
		mac.Reset()
		mac.Write(salt)                                      //nolint:errcheck // a hash takes everything
		mac.Write(binary.BigEndian.AppendUint32(nil, block)) //nolint:errcheck // a hash takes everything
		u = mac.Sum(u[:0])
		copy(sum, u)
		for n := uint64(1); n < iterations; n++ {
			if n%between == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			mac.Reset()
			mac.Write(u) //nolint:errcheck // a hash takes everything
			u = mac.Sum(u[:0])
			for i := range sum {
				sum[i] ^= u[i]
			}
		}
		out = out[copy(out, sum):]
	}
	return ctx.Err()
}

// merge joins the stripes of split key material, of len(key) bytes each, to the key that was split. Between stripes the hash spreads
// each bit over the whole.
func merge(ctx context.Context, key, split []byte, stripes int, hashName string) error {
	maker, err := hashNamed(hashName)
	if err != nil {
		return err
	}
	h, n := maker(), len(key)
	sum := make([]byte, 0, h.Size())
	defer func() { clear(sum[:cap(sum)]) }()
	clear(key)
	for i := range stripes {
		for j := range key {
			key[j] ^= split[i*n+j]
		}
		if i == stripes-1 {
			break
		}
		for block, at := uint32(0), 0; at < n; block, at = block+1, at+h.Size() {
			h.Reset()
			h.Write(binary.BigEndian.AppendUint32(nil, block)) //nolint:errcheck // a hash takes everything
			h.Write(key[at:min(at+h.Size(), n)])               //nolint:errcheck // a hash takes everything
			sum = h.Sum(sum[:0])
			copy(key[at:], sum)
		}
	}
	return ctx.Err()
}
