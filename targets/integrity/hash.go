package integrity

import (
	"errors"
	"fmt"
	"hash"
	"strings"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/secret"
	"dmfs/targets/internal/hashalg"
)

// A hasher is a hash function, with a key or without. It may be used concurrently.
type hasher struct {
	size  int // bytes
	mac   *hashalg.MAC
	plain func() hash.Hash // without mac
}

// hasher returns the hash with its key. what is how the kernel calls it when it complains.
func (a *algorithm) hasher(memory *secret.Memory, what string) (*hasher, error) {
	refuse := func(reason string, errno unix.Errno) error {
		return &mapper.ArgError{Reason: reason, Detail: mapper.ShowArg(a.name), Errno: errno}
	}
	noKey := "Error setting " + what + " key"
	if strings.HasPrefix(a.name, "hmac(") {
		size, ok := hashalg.MACSize(a.name)
		if !ok {
			return nil, refuse("Invalid "+what, unix.ENOENT)
		}
		if !a.keyed {
			return nil, refuse(noKey, unix.ENOKEY)
		}
		mac, err := hashalg.NewMAC(memory, a.name, a.key)
		return &hasher{size: size, mac: mac}, err
	}
	plain, ok := hashalg.Any(a.name)
	if !ok {
		return nil, refuse("Invalid "+what, unix.ENOENT)
	}
	if a.keyed {
		var takes, fits bool
		plain, takes, fits = hashalg.Seeded(a.name, a.key)
		switch {
		case !takes:
			return nil, refuse(noKey, unix.ENOSYS)
		case !fits:
			return nil, refuse(noKey, unix.EINVAL)
		}
	}
	return &hasher{size: plain().Size(), plain: plain}, nil
}

// sum returns the hash of the parts, one after the other.
func (h *hasher) sum(parts ...[]byte) []byte {
	out := make([]byte, h.size)
	if h.mac != nil {
		h.mac.Sum(out, parts...)
		return out
	}
	state := h.plain()
	for _, p := range parts {
		state.Write(p) //nolint:errcheck // a hash takes everything
	}
	return state.Sum(out[:0])
}

// A tagger hashes, for one goroutine at a time.
type tagger struct {
	mac    *hashalg.MAC
	h      hash.Hash // without mac
	number [8]byte
	sum    []byte
}

func (t *target) newTagger() any {
	w := &tagger{mac: t.hash.mac, sum: make([]byte, t.hash.size)}
	if w.mac == nil {
		w.h = t.hash.plain()
	}
	return w
}

// sharedBytes is from what size on, in bytes, hashing is worth another processor.
const sharedBytes = 64 << 10

// tags computes the tags of the blocks of data, the first of which is at sector s. They are in out, as many as fit.
func (t *target) tags(out, data []byte, s uint64) {
	size, block := t.geometry.tagSize, mapper.SectorSize<<t.geometry.blockShift
	width := min(t.processors, len(data)/sharedBytes)
	if width <= 1 {
		t.someTags(out, data, s)
		return
	}
	n := len(data) / block
	each := (n + width - 1) / width
	_ = mapper.FanOut(width, width, func(i int) error { // it returns what the function returns
		from, to := min(i*each, n), min((i+1)*each, n)
		t.someTags(out[from*size:to*size], data[from*block:to*block], s+uint64(from)<<t.geometry.blockShift)
		return nil
	})
}

// someTags does so on this goroutine.
func (t *target) someTags(out, data []byte, s uint64) {
	w := t.taggers.Get().(*tagger)
	defer t.taggers.Put(w)
	size, block := t.geometry.tagSize, mapper.SectorSize<<t.geometry.blockShift
	for ; len(data) > 0; data = data[block:] {
		w.tag(out[:size], data[:block], s, t.salt)
		out = out[size:]
		s += 1 << t.geometry.blockShift
	}
}

// tag computes one tag. A hash that is longer is cut, one that is shorter is followed by zeroes.
func (w *tagger) tag(out, block []byte, s uint64, salt []byte) {
	le.PutUint64(w.number[:], s)
	if w.mac != nil {
		w.mac.Sum(w.sum, salt, w.number[:], block)
		clear(out[copy(out, w.sum):])
		return
	}
	w.h.Reset()
	if salt != nil {
		w.h.Write(salt) //nolint:errcheck // a hash takes everything
	}
	w.h.Write(w.number[:]) //nolint:errcheck // likewise
	w.h.Write(block)       //nolint:errcheck // likewise
	w.sum = w.h.Sum(w.sum[:0])
	clear(out[copy(out, w.sum):])
}

var errTooLong = errors.New("digest is too long")

// superMAC returns where a raw superblock has its MAC and what it is to be.
func (t *target) superMAC(raw []byte) (have, want []byte, err error) {
	const fields = 64 // bytes
	if fields+t.mac.size > mapper.SectorSize {
		return nil, nil, fmt.Errorf("%w: %d bytes", errTooLong, t.mac.size)
	}
	at := mapper.SectorSize - t.mac.size
	return raw[at:mapper.SectorSize], t.mac.sum(raw[:at]), nil
}
