package crypt

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/targets/internal/sectorcipher"
)

// What is stored beside each unit, tagSize bytes of it: the tag of an authenticated cipher, then the IV if it is random.

// needsTags reports whether something must be stored beside each unit.
func (l *line) needsTags() bool { return l.aead != nil || l.randomIV }

// authSize returns how many bytes of tagSize are the cipher's tag. It is negative if an IV alone takes more.
func (l *line) authSize() int {
	switch {
	case l.aead == nil:
		return 0
	case l.randomIV:
		return l.tagSize - l.ivSize
	}
	return l.tagSize
}

// checkTags refuses a disk that does not keep what must be stored, as the kernel does and in its order.
func (l *line) checkTags(disk mapper.Disk) error {
	if !l.needsTags() {
		return nil
	}
	have := disk.Limits().Tags
	ivs := 0
	if l.randomIV {
		ivs = l.ivSize
	}
	switch {
	case have == mapper.TagFormat{}:
		return mapper.BadArg("Integrity profile not supported.",
			"authenticated encryption and random IVs need an integrity device below, without internal_hash, to keep tags on")
	case have.Size != l.tagSize:
		return mapper.BadArg("Integrity profile tag size mismatch.", "tags of %d bytes on a device that keeps %d: want integrity:%d:KIND", l.tagSize, have.Size, have.Size)
	case have.Unit != l.sectorSize:
		return mapper.BadArg("Integrity profile sector size mismatch.", "units of %d bytes on a device with %d: want sector_size:%d", l.sectorSize, have.Unit, have.Unit)
	case l.aead != nil && !l.aead.TakesTags(l.authSize()):
		return mapper.BadArg("Integrity AEAD auth tag size is not supported.",
			"%s makes no tags of %d bytes: %d are kept, of which the IV takes %d", l.aead.Name, l.authSize(), have.Size, ivs)
	case l.aead == nil && ivs != have.Size:
		return mapper.BadArg("Not enough space for integrity tag in the profile.", "the IV takes %d bytes, and %d are kept", ivs, have.Size)
	}
	return nil
}

// parseAEAD reads the name of an authenticated cipher.
func parseAEAD(name string) (*sectorcipher.AEADScheme, error) {
	s, err := sectorcipher.ParseAEAD(name)
	if err != nil {
		return nil, &mapper.ArgError{Reason: "Error allocating crypto tfm", Detail: "no such authenticated cipher here; the manual lists them", Errno: unix.ENOENT}
	}
	return s, nil
}

// checkMAC refuses authenc(MAC,CIPHER) without a MAC, which the kernel looks for first.
func checkMAC(name string) error {
	if sectorcipher.HasMAC(name) {
		return nil
	}
	return &mapper.ArgError{Reason: "Invalid AEAD cipher spec", Detail: "want authenc(hmac(HASH),CIPHER), with a hash that the manual lists", Errno: unix.ENOMEM}
}

// readTagged is a read whose units have something stored beside them. r is the disk's, first the number of its first unit for
// IVs, and sector where it begins in the segment.
func (t *target) readTagged(ctx context.Context, r mapper.Request, first, sector uint64) error {
	tags := mapper.GetBuffer(len(r.Data) / t.sectorSize * t.tagSize)
	defer tags.Free()
	clear(tags.Data)
	r.Tags = tags.Data
	if err := t.disk.Submit(ctx, r); err != nil {
		return err
	}
	k := t.keyed.Load()
	if k == nil {
		return errNoKey
	}
	if k.aead == nil {
		ivs := t.ivs(len(r.Data))
		defer ivs.Free()
		copy(ivs.Data, r.Tags)
		k.turns(&t.line, first, false, r.Data, r.Data, ivs.Data)
		return nil
	}
	heads := t.heads(len(r.Data), sector)
	defer heads.Free()
	t.eachIV(heads.Data, func(i int, iv []byte) {
		if t.randomIV {
			copy(iv, r.Tags[i*t.tagSize+t.authSize():])
		}
	})
	if !t.randomIV {
		t.fillHeads(k, heads.Data, first)
	}
	if bad := k.aead.Open(r.Data, r.Data, t.run(heads.Data, r.Tags)); bad >= 0 {
		clear(r.Data) // what it was decrypted to is nobody's
		if t.logged.Allow() {
			t.host.Logf("%s: INTEGRITY AEAD ERROR, sector %d", mapper.KernelName(t.disk), sector+uint64(bad)<<t.unitSectorsShift)
		}
		return mapper.ErrProtection
	}
	return nil
}

// writeTagged is a write whose units have something stored beside them, as readTagged. r.Data is encrypted into another buffer.
func (t *target) writeTagged(ctx context.Context, k *keyed, r mapper.Request, first, sector uint64) error {
	plain := r.Data
	buf := mapper.GetBuffer(len(plain))
	defer buf.Free()
	tags := mapper.GetBuffer(len(plain) / t.sectorSize * t.tagSize)
	defer tags.Free()
	clear(tags.Data)
	r.Data, r.Tags = buf.Data, tags.Data
	if k.aead == nil {
		if _, err := rand.Read(r.Tags); err != nil {
			return fmt.Errorf("%w: random IVs: %w", mapper.ErrIO, err)
		}
		ivs := t.ivs(len(plain))
		defer ivs.Free()
		copy(ivs.Data, r.Tags)
		k.turns(&t.line, first, true, r.Data, plain, ivs.Data)
		return t.disk.Submit(ctx, r)
	}
	heads := t.heads(len(plain), sector)
	defer heads.Free()
	if err := t.freshIVs(k, heads.Data, r.Tags, first); err != nil {
		return err
	}
	k.aead.Seal(r.Data, plain, t.run(heads.Data, r.Tags))
	return t.disk.Submit(ctx, r)
}

// freshIVs puts the IVs of units to be written into their heads, and beside the tags if they are random.
func (t *target) freshIVs(k *keyed, heads, tags []byte, first uint64) error {
	if !t.randomIV {
		t.fillHeads(k, heads, first)
		return nil
	}
	ivs := t.ivs(len(tags) / t.tagSize * t.sectorSize)
	defer ivs.Free()
	if _, err := rand.Read(ivs.Data); err != nil {
		return fmt.Errorf("%w: random IVs: %w", mapper.ErrIO, err)
	}
	t.eachIV(heads, func(i int, iv []byte) {
		copy(iv, ivs.Data[i*t.ivSize:])
		copy(tags[i*t.tagSize+t.authSize():], iv)
	})
	return nil
}

// run returns what goes with the data of a run.
func (l *line) run(heads, tags []byte) sectorcipher.Run {
	return sectorcipher.Run{Unit: l.sectorSize, Heads: heads, Tags: tags, Stride: l.tagSize}
}

// heads returns a buffer with the heads of so many bytes of data, which begin at sector of the segment. The IVs are left out.
func (l *line) heads(bytes int, sector uint64) *mapper.Buffer {
	size := sectorcipher.HeadNumber + l.ivSize
	buf := mapper.GetBuffer(bytes / l.sectorSize * size)
	for i := range bytes / l.sectorSize {
		binary.LittleEndian.PutUint64(buf.Data[i*size:], sector+uint64(i)<<l.unitSectorsShift)
	}
	return buf
}

// eachIV calls f with the place of each IV in heads.
func (l *line) eachIV(heads []byte, f func(i int, iv []byte)) {
	size := sectorcipher.HeadNumber + l.ivSize
	for i := 0; i*size < len(heads); i++ {
		f(i, heads[i*size+sectorcipher.HeadNumber:(i+1)*size])
	}
}

// fillHeads puts IVs that are made from the numbers of units into their heads.
func (l *line) fillHeads(k *keyed, heads []byte, first uint64) {
	if k.iv == nil {
		return
	}
	ivs := l.ivs(len(heads) / (sectorcipher.HeadNumber + l.ivSize) * l.sectorSize)
	defer ivs.Free()
	k.iv.fill(ivs.Data, l.ivSize, l.numbers(first))
	l.eachIV(heads, func(i int, iv []byte) { copy(iv, ivs.Data[i*l.ivSize:]) })
}
