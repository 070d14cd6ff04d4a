package crypt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// withTags returns limits of a disk that keeps so many bytes for each unit.
func withTags(size, unit int) mapper.Limits {
	l := mappertest.DefaultLimits
	l.LogicalBlock, l.PhysicalBlock, l.MinIO = unit, unit, unit
	l.MaxDiscard, l.MaxWriteZeroes = 0, 0
	l.Tags = mapper.TagFormat{Size: size, Unit: unit}
	return l
}

// A tagTest is a cipher that stores something beside each unit.
type tagTest struct {
	name, cipher string
	key          int // bytes
	tags, unit   int // bytes
	kind         string
}

var tagTests = []tagTest{
	{"gcm", "capi:gcm(aes)-random", 32, 28, 512, "aead"},
	{"gcm, IVs from numbers, 4096", "capi:gcm(aes)-plain64", 16, 16, 4096, "aead"},
	{"gcm, part of the tag", "capi:gcm(aes)-random", 24, 12 + 4, 2048, "aead"},
	{"chacha20-poly1305", "capi:rfc7539(chacha20,poly1305)-random", 32, 28, 4096, "aead"},
	{"ccm", "capi:rfc4309(ccm(aes))-random", 32 + 3, 24, 512, "aead"},
	{"ccm, IVs from numbers, part of the tag", "capi:rfc4309(ccm(aes))-plain64", 16 + 3, 8, 4096, "aead"},
	{"aegis128", "capi:aegis128-random", 16, 32, 512, "aead"},
	{"authenc xts", "capi:authenc(hmac(sha256),xts(aes))-random", 64 + 32, 48, 4096, "aead"},
	{"authenc cbc, part of the tag", "capi:authenc(hmac(sha512),cbc(aes))-plain64", 32 + 64, 20, 1024, "aead"},
	{"authenc essiv", "capi:authenc(hmac(sha512),cbc(aes))-essiv:sha256", 32 + 64, 64, 512, "aead"},
	{"authenc ctr", "capi:authenc(hmac(sha256),ctr(serpent))-random", 16 + 32, 48, 512, "aead"},
	{"authenc without IVs", "capi:authenc(hmac(sha256),ecb(aes))-random", 16 + 32, 32, 512, "aead"},
	{"random IVs alone", "aes-xts-random", 64, 16, 512, "none"},
}

func tagArgs(cipher string, key, tags, unit int, kind string) []string {
	digits := strings.Repeat(k16+other, key)[:2*key]
	return []string{cipher, digits, "8", "7:0", "16", "2", fmt.Sprintf("integrity:%d:%s", tags, kind), fmt.Sprintf("sector_size:%d", unit)}
}

func TestConformanceWithTags(t *testing.T) {
	for _, c := range tagTests {
		t.Run(c.name, func(t *testing.T) {
			const length = 320
			setup := mappertest.Setup{
				Disks: []mappertest.DiskSpec{{Name: "7:0", Sectors: length + 80, Limits: withTags(c.tags, c.unit)}},
				Len:   length, Args: tagArgs(c.cipher, c.key, c.tags, c.unit, c.kind),
			}
			// What was never written has no right tag, as on a disk whose tags were not made: write it once.
			setup.Prepare = func(ctx context.Context, disks map[string]mapper.Disk) error {
				d, err := newTarget(ctx, mappertest.NewHost(disks["7:0"]), mapper.Spec{Len: length, Args: setup.Args})
				if err != nil {
					return err
				}
				defer d.(*target).Close()
				if err := d.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Count: length, Data: make([]byte, mapper.Sector(length).Bytes())}); err != nil {
					return err
				}
				return d.Submit(ctx, mapper.Request{Op: mapper.OpFlush})
			}
			mappertest.TestTarget(t, &Type, setup)
		})
	}
}

// Whatever is changed, in the data, in what is stored beside it, or by moving both, is found and named; other units are well.
func TestTagsFindChanges(t *testing.T) {
	for _, c := range tagTests {
		if c.kind != "aead" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			disk := mappertest.NewDisk("7:0", 256)
			disk.SetLimits(withTags(c.tags, c.unit))
			d, h, err := build(t, 64, strings.Join(tagArgs(c.cipher, c.key, c.tags, c.unit, c.kind), " "), disk)
			if err != nil {
				t.Fatal(err)
			}
			units := mapper.SectorsOf(int64(c.unit))
			plain := make([]byte, 64*512)
			mappertest.Stamp(plain, 0, 1)
			if err := d.Submit(t.Context(), mapper.Request{Op: mapper.OpWrite, Count: 64, Data: plain}); err != nil {
				t.Fatal(err)
			}
			below := mapper.Request{Op: mapper.OpRead, Start: 16, Count: 64, Data: make([]byte, 64*512), Tags: make([]byte, 64/int(units)*c.tags)}
			if err := disk.Submit(t.Context(), below); err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(below.Data, plain[:16]) {
				t.Error("what was written is on the disk as it was")
			}
			change := func(what string, f func(data, tags []byte)) {
				w := below
				w.Op, w.Data, w.Tags = mapper.OpWrite, bytes.Clone(below.Data), bytes.Clone(below.Tags)
				f(w.Data[c.unit:2*c.unit], w.Tags[c.tags:2*c.tags])
				if err := disk.Submit(t.Context(), w); err != nil {
					t.Fatal(err)
				}
				r := mapper.Request{Op: mapper.OpRead, Count: 64, Data: make([]byte, 64*512)}
				if err := d.Submit(t.Context(), r); !errors.Is(err, mapper.ErrProtection) {
					t.Fatalf("%s: %v", what, err)
				}
				if log := h.Log(); !strings.HasSuffix(log[len(log)-1], fmt.Sprintf("7:0: INTEGRITY AEAD ERROR, sector %d", units)) {
					t.Errorf("%s: the log says %q", what, log)
				}
				rest := r.Slice(2*units, 64-2*units)
				if err := d.Submit(t.Context(), rest); err != nil || !bytes.Equal(rest.Data, plain[rest.Start.Bytes():]) {
					t.Errorf("%s: the units after it: %v", what, err)
				}
			}
			change("data", func(data, _ []byte) { data[len(data)-1] ^= 1 })
			for i := range c.tags {
				if d.aead.IVSize == 0 && i >= d.authSize() {
					break
				}
				change(fmt.Sprintf("byte %d beside the data", i), func(_, tags []byte) { tags[i] ^= 0x80 })
			}
			change("another unit", func(data, tags []byte) {
				copy(data, below.Data[2*c.unit:3*c.unit])
				copy(tags, below.Tags[2*c.tags:3*c.tags])
			})
		})
	}
}

// Random IVs are, so that what is written twice is stored in two ways.
func TestRandomIVs(t *testing.T) {
	for _, c := range tagTests {
		if !strings.HasSuffix(c.cipher, "-random") || strings.Contains(c.cipher, "ecb") {
			continue
		}
		disk := mappertest.NewDisk("7:0", 256)
		disk.SetLimits(withTags(c.tags, c.unit))
		d, _, err := build(t, 64, strings.Join(tagArgs(c.cipher, c.key, c.tags, c.unit, c.kind), " "), disk)
		if err != nil {
			t.Fatal(err)
		}
		var seen [][]byte
		for range 2 {
			if err := d.Submit(t.Context(), mapper.Request{Op: mapper.OpWrite, Count: 16, Data: make([]byte, 16*512)}); err != nil {
				t.Fatal(err)
			}
			for s := mapper.Sector(16); s < 32; s += mapper.SectorsOf(int64(c.unit)) {
				p := disk.Peek(s, 1)
				if slices.ContainsFunc(seen, func(q []byte) bool { return bytes.Equal(p, q) }) {
					t.Errorf("%s: sector %d holds what was there before", c.name, s)
				}
				seen = append(seen, p)
			}
		}
	}
}

// What the kernel says of devices that do not keep what is needed, in its words.
func TestTagRefusals(t *testing.T) {
	for _, c := range []struct {
		cipher        string
		key           int
		tags, unit    int // of the table
		kind          string
		have, haveFor int // of the disk; 0 if it keeps none
		want          string
		errno         unix.Errno
	}{
		{"capi:gcm(aes)-random", 32, 28, 512, "aead", 0, 0, "Integrity profile not supported.", unix.EINVAL},
		{"capi:gcm(aes)-random", 32, 27, 512, "aead", 28, 512, "Integrity profile tag size mismatch.", unix.EINVAL},
		{"capi:gcm(aes)-random", 32, 28, 4096, "aead", 28, 512, "Integrity profile sector size mismatch.", unix.EINVAL},
		{"capi:gcm(aes)-plain64", 32, 28, 512, "aead", 28, 512, "Integrity AEAD auth tag size is not supported.", unix.EINVAL},
		{"capi:gcm(aes)-random", 32, 11, 512, "aead", 11, 512, "Integrity AEAD auth tag size is not supported.", unix.EINVAL},
		{"capi:gcm(aes)-benbi", 32, 28, 512, "aead", 28, 512, "Integrity AEAD auth tag size is not supported.", unix.EINVAL},
		{"capi:gcm(aes)-eboiv", 32, 28, 512, "aead", 28, 512, "Error creating IV", unix.EINVAL},
		{"capi:gcm(aes)-elephant", 32, 28, 512, "aead", 28, 512, "Error creating IV", unix.EINVAL},
		{"capi:gcm(aes)-tcw", 32, 28, 512, "aead", 28, 512, badKey, unix.EINVAL},
		{"capi:gcm(aes)-lmk", 32, 28, 512, "aead", 28, 512, "Error creating IV", unix.EINVAL},
		{"capi:rfc7539(chacha20,poly1305)-random", 16, 28, 512, "aead", 28, 512, badKey, unix.EINVAL},
		{"capi:aegis128-random", 32, 32, 512, "aead", 32, 512, badKey, unix.EINVAL},
		{"capi:authenc(hmac(sha256),xts(aes))-random", 32, 28, 512, "aead", 28, 512, badKey, unix.EINVAL},
		{"capi:authenc(hmac(sha256),xts(aes))-random", 31, 28, 512, "aead", 28, 512, badKey, unix.EINVAL},
		{"capi:authenc(hmac(nosuch),xts(aes))-random", 96, 28, 512, "aead", 28, 512, "Invalid AEAD cipher spec", unix.ENOMEM},
		{"capi:authenc(hmac(sha256)-random", 96, 28, 512, "aead", 28, 512, "Invalid AEAD cipher spec", unix.ENOMEM},
		{"capi:authenc(hmac(sha256),nosuch(aes))-random", 96, 28, 512, "aead", 28, 512, "Error allocating crypto tfm", unix.ENOENT},
		{"capi:essiv(authenc(hmac(sha256),cbc(aes)),none)-random", 48, 48, 512, "aead", 48, 512, "Error allocating crypto tfm", unix.ENOENT},
		{"capi:nosuch(aes)-random", 32, 28, 512, "aead", 28, 512, "Error allocating crypto tfm", unix.ENOENT},
		{"capi:ccm(aes)-random", 32, 28, 512, "aead", 28, 512, "Error allocating crypto tfm", unix.ENOENT},
		{"aes-xts-random", 32, 28, 512, "none", 28, 512, "Not enough space for integrity tag in the profile.", unix.EINVAL},
		{"aes-gcm-random", 32, 28, 512, "aead", 28, 512, "Bad cipher specification", unix.EINVAL},
	} {
		disk := mappertest.NewDisk("7:0", 256)
		if c.have != 0 {
			disk.SetLimits(withTags(c.have, c.haveFor))
		}
		_, _, err := build(t, 64, strings.Join(tagArgs(c.cipher, c.key, c.tags, c.unit, c.kind), " "), disk)
		var arg *mapper.ArgError
		if !errors.As(err, &arg) || arg.Reason != c.want || mapper.Errno(err) != c.errno {
			t.Errorf("%s, tags of %d on a device with %d: got %v (%v), want %q (%v)", c.cipher, c.tags, c.have, err, mapper.Errno(err), c.want, c.errno)
		}
	}
}

// A kept is a disk that holds one request, and costs nothing.
type kept struct {
	mappertest.Null
	limits     mapper.Limits
	data, tags []byte
}

func newKept(tags, unit int, sectors mapper.Sector) *kept {
	l := withTags(tags, unit)
	return &kept{mappertest.Null{Name: "7:0", Size: 8192}, l, make([]byte, sectors.Bytes()), make([]byte, l.Tags.Len(sectors))}
}

func (d *kept) Limits() mapper.Limits { return d.limits }

func (d *kept) Submit(_ context.Context, r mapper.Request) error {
	if r.Op == mapper.OpWrite {
		copy(d.data, r.Data)
		copy(d.tags, r.Tags)
	} else {
		copy(r.Data, d.data)
		copy(r.Tags, d.tags)
	}
	return nil
}

func TestTagsDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector drops pooled buffers at random")
	}
	for _, c := range tagTests {
		const sectors = 64
		d, _, err := build(t, 2048, strings.Join(tagArgs(c.cipher, c.key, c.tags, c.unit, c.kind), " "), newKept(c.tags, c.unit, sectors))
		if err != nil {
			t.Fatal(err)
		}
		for _, op := range []mapper.Op{mapper.OpWrite, mapper.OpRead} {
			r := mapper.Request{Op: op, Start: 16, Count: sectors, Data: make([]byte, sectors*512)}
			n := testing.AllocsPerRun(100, func() {
				if err := d.Submit(context.Background(), r); err != nil {
					t.Fatal(err)
				}
			})
			if n != 0 {
				t.Errorf("%s: %v allocations for a %s, want none", c.name, n, op)
			}
		}
	}
}

func BenchmarkTags(b *testing.B) {
	for _, c := range tagTests {
		const sectors = 1024
		d, _, err := build(b, 4096, strings.Join(tagArgs(c.cipher, c.key, c.tags, c.unit, c.kind), " "), newKept(c.tags, c.unit, sectors))
		if err != nil {
			b.Fatal(err)
		}
		for _, op := range []mapper.Op{mapper.OpWrite, mapper.OpRead} {
			b.Run(fmt.Sprintf("%s/%s/512k", strings.ReplaceAll(c.name, ", ", "-"), op), func(b *testing.B) {
				r := mapper.Request{Op: op, Count: sectors, Data: make([]byte, sectors*512)}
				b.SetBytes(sectors * 512)
				b.ReportAllocs()
				for b.Loop() {
					if err := d.Submit(context.Background(), r); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
