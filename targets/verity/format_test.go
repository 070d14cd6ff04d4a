package verity

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// super returns a superblock as veritysetup writes it.
func super() []byte {
	b := make([]byte, SuperblockSize)
	copy(b, signature)
	le := binary.LittleEndian
	le.PutUint32(b[8:], 1)
	le.PutUint32(b[12:], 1)
	copy(b[32:], "sha256")
	le.PutUint32(b[64:], 4096)
	le.PutUint32(b[68:], 4096)
	le.PutUint64(b[72:], 256)
	le.PutUint16(b[80:], 2)
	copy(b[88:], "\x01\xab")
	return b
}

func TestSuperblock(t *testing.T) {
	s, err := ParseSuperblock(super())
	if err != nil {
		t.Fatal(err)
	}
	for offset, start := range map[int64]string{0: "1", 1 << 20: "257", 4096 - 512: "1", 4096 - 511: "2"} {
		spec := s.Spec("d", "h", offset, "00")
		if got, want := spec.String(), "0 2048 verity 1 d h 4096 4096 256 "+start+" sha256 00 01ab"; got != want {
			t.Errorf("at %d: %q, want %q", offset, got, want)
		}
	}
	for what, change := range map[string]func(b []byte){
		"version 2":          func(b []byte) { b[8] = 2 },
		"hash type 2":        func(b []byte) { b[12] = 2 },
		"name":               func(b []byte) { b[33] = '\n' },
		"block of 4097":      func(b []byte) { b[64] = 1 },
		"block of 0":         func(b []byte) { clear(b[68:72]) },
		"0 data blocks":      func(b []byte) { clear(b[72:80]) },
		"salt of 258":        func(b []byte) { b[81] = 1 },
		"no verity":          func(b []byte) { b[0] = 0 },
		"data blocks":        func(b []byte) { b[79] = 0x80 },
		"name of the hash f": func(b []byte) { copy(b[32:64], strings.Repeat("x", 32)) },
	} {
		b := super()
		change(b)
		if _, err := ParseSuperblock(b); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := ParseSuperblock(super()[:100]); !errors.Is(err, ErrNoSuperblock) {
		t.Errorf("a part of one: %v", err)
	}
}

func FuzzSuperblock(f *testing.F) {
	f.Add(super(), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, offset int64) {
		s, err := ParseSuperblock(b)
		if err != nil || offset < 0 || offset > 1<<60 {
			return
		}
		// What it makes is a table line: New may refuse it, and nothing else.
		spec := s.Spec("1:1", "1:2", offset, "00")
		again, err := mapper.ParseTable(spec.String())
		if err != nil || len(again) != 1 || again[0].String() != spec.String() {
			t.Fatalf("%q is no table line: %v", spec, err)
		}
		h := mappertest.NewHost(mappertest.NewDisk("1:1", 64), mappertest.NewDisk("1:2", 64))
		h.RO = true
		newTarget(ctx, h, spec)
	})
}
