package crypt

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// k16 is 16 bytes of key in digits.
const k16 = "00112233445566778899aabbccddeeff"

// other is another 16.
const other = "ffeeddccbbaa99887766554433221100"

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		name, args string
		len        mapper.Sector
	}{
		{"xts", "aes-xts-plain64 " + k16 + other + " 0 7:0 0 1 allow_discards", 512},
		{"xts, units of 4096 bytes", "aes-xts-plain64 " + k16 + other + k16 + other + " 8 7:0 8 3 allow_discards sector_size:4096 iv_large_sectors", 512},
		{"cbc with essiv, no discards", "aes-cbc-essiv:sha256 " + k16 + " 5 7:0 3", 301},
		{"several pieces", "aes-cbc-plain64 " + k16 + " 0 7:0 0", 2*splitSectors + 40},
		{"lmk, which looks at the data", "aes:64-cbc-lmk " + strings.Repeat(k16, 65) + " 0 7:0 1", 200},
		{"tcw, which whitens", "serpent-cbc-tcw " + k16 + other + k16 + other + " 1 7:0 0", 100},
		{"elephant, which mixes", "aes-cbc-elephant " + k16 + other + k16 + other + " 0 7:0 0", 100},
		{"no IV", "aes-ecb " + k16 + " 0 7:0 0", 100},
		{"nothing", "cipher_null-ecb - 0 7:0 0 1 allow_discards", 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			mappertest.TestTarget(t, &Type, mappertest.Setup{
				Disks: []mappertest.DiskSpec{{Name: "7:0", Sectors: c.len + 100}}, Len: c.len, Args: strings.Fields(c.args),
			})
		})
	}
	t.Run("encrypted ahead", func(t *testing.T) {
		const length = 2*aheadSectors + 40
		mappertest.TestTarget(t, &Type, mappertest.Setup{
			Disks: []mappertest.DiskSpec{{Name: "7:0", Sectors: length + 100, Limits: buffered}}, Len: length,
			Args: strings.Fields("aes-xts-plain64 " + k16 + other + " 0 7:0 0 1 allow_discards"),
		})
	})
}

// build makes a target of length sectors over a disk 7:0.
func build(t testing.TB, length mapper.Sector, args string, disks ...mapper.Disk) (*target, *mappertest.Host, error) {
	t.Helper()
	if disks == nil {
		disks = []mapper.Disk{mappertest.NewDisk("7:0", length+100)}
	}
	h := mappertest.NewHost(disks...)
	got, err := newTarget(context.Background(), h, mapper.Spec{Len: length, Args: strings.Fields(args)})
	if err != nil {
		return nil, h, err
	}
	t.Cleanup(func() { _ = got.(*target).Close() })
	return got.(*target), h, nil
}

// What the scenarios cannot compare with the kernel, since there it is otherwise.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		args, want string
		errno      unix.Errno
	}{
		{"aes-cbc-plain64 " + k16 + "0 0 7:0 0", badKey, unix.EINVAL},
		{"serpent:1073741824-cbc-plain64 " + k16 + " 0 7:0 0", "Bad cipher key count specification", unix.EINVAL}, // of no bytes each
		{"capi:xts(aes) " + k16 + k16 + " 0 7:0 0", "IV mechanism required", unix.EINVAL},
		{"aes-cbc-plain64 " + k16 + " 0 7:0 0 1 integrity:16", "Invalid feature arguments", unix.EINVAL},
		{"aes-cbc-plain64 " + k16 + " 0 7:0 0 1 sector_size:66048", "Invalid feature value for sector_size", unix.EINVAL},
		{"cast5-cbc-plain64 0011223344 0 7:0 0", badKey, unix.EINVAL},
		{"capi:adiantum(xchacha12,aes)-lmk " + strings.Repeat(k16, 2*64) + " 0 7:0 0", "Error creating IV", unix.EINVAL},
		{"capi:adiantum(xchacha12,aes)-tcw " + strings.Repeat(k16, 5) + " 0 7:0 0", "Error creating IV", unix.EINVAL},
		{"aes-cbc-plain64 :16:user:dmfs-no-such-key 0 7:0 0", badKey, unix.ENOKEY},
	} {
		_, _, err := build(t, 104, c.args)
		var arg *mapper.ArgError
		if !errors.As(err, &arg) || arg.Reason != c.want || mapper.Errno(err) != c.errno {
			t.Errorf("%s: got %v (%v), want %q (%v)", c.args, err, mapper.Errno(err), c.want, c.errno)
		}
	}
}

// A key that was typed in the wrong place, or wrongly, is not told to whoever reads replies and logs.
func TestErrorsDoNotQuoteKeys(t *testing.T) {
	key := k16 + other
	for _, args := range []string{
		key + " 0 7:0 0 0",
		key + " aes-cbc-plain64 0 7:0 0",
		"aes-cbc-plain64 0 " + key + " 7:0 0",
		"aes-cbc-plain64 " + key + "x 0 7:0 0",
		"aes-cbc-plain64 " + key + "xx 0 7:0 0",
		"aes-cbc-plain64 " + key + key + key + " 0 7:0 0",
		"aes-cbc-plain64 " + k16 + " 0 7:0 " + key,
		"aes-cbc-plain64 " + k16 + " 0 7:0 0 " + key,
		"aes-cbc-plain64 " + k16 + " 0 7:0 0 1 " + key,
		"aes-cbc-plain64 " + k16 + " 0 7:0 0 1 sector_size:" + key,
		"aes:" + key + "-cbc-plain64 " + k16 + " 0 7:0 0",
		"capi:" + key + " " + k16 + " 0 7:0 0",
	} {
		_, h, err := build(t, 104, args)
		if err == nil {
			t.Errorf("%s was taken", args)
			continue
		}
		for _, text := range append([]string{err.Error()}, h.Log()...) {
			if strings.Contains(text, k16[:12]) || strings.Contains(text, other[:12]) {
				t.Errorf("%s: quoted: %s", args, text)
			}
		}
	}
}

func TestTableHidesKeys(t *testing.T) {
	d, _, err := build(t, 104, "aes-cbc-plain64 "+strings.ToUpper(k16)+" 7 7:0 1 1 same_cpu_crypt")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		show bool
		key  string
	}{{false, strings.Repeat("0", 32)}, {true, k16}} {
		want := []string{"aes-cbc-plain64", c.key, "7", "7:0", "1", "1", "same_cpu_crypt"}
		if got := d.Table(c.show); !slices.Equal(got, want) {
			t.Errorf("showing keys %v: %q, want %q", c.show, got, want)
		}
	}
}

func FuzzArgs(f *testing.F) {
	f.Add(uint64(104), "aes-xts-plain64 "+k16+k16+" 0 7:0 0 2 sector_size:4096 iv_large_sectors")
	f.Add(uint64(104), "aes:64-cbc-lmk "+strings.Repeat(k16, 65)+" 0 7:0 1")
	f.Add(uint64(104), "capi:essiv(cbc(aes),sha256)-plain64 "+k16+" 0 7:0 1 1 integrity:12:none")
	f.Add(uint64(104), "capi:authenc(hmac(sha256),xts(aes))-random "+strings.Repeat(k16, 4)+" 0 7:0 1 1 integrity:48:aead")
	f.Add(uint64(104), "capi:adiantum(xchacha20,serpent)-benbi "+k16+k16+" 0 7:0 1")
	f.Add(uint64(104), "cipher_null-cbc-tcw "+k16+k16+" 0 7:0 1")
	f.Add(uint64(104), "aes-cbc-plain :16:user:x 0 7:0 1")
	f.Fuzz(func(t *testing.T, length uint64, text string) {
		d, _, err := build(t, mapper.Sector(length), text)
		if err != nil {
			return
		}
		defer d.Close()
		again, _, err := build(t, mapper.Sector(length), strings.Join(d.Table(true), " "))
		if err != nil || !slices.Equal(again.Table(true), d.Table(true)) {
			t.Errorf("rebuilt from %q: %v", d.Table(true), err)
		}
	})
}

// FuzzKey has keys of any form: what is taken is what the table shows.
func FuzzKey(f *testing.F) {
	f.Add(k16)
	f.Add("-")
	f.Add(":16:user:x")
	f.Add(":4294967295:user:x")
	f.Add(":::")
	f.Fuzz(func(t *testing.T, key string) {
		h := mappertest.NewHost(mappertest.NewDisk("7:0", 200))
		got, err := newTarget(context.Background(), h, mapper.Spec{Len: 104, Args: []string{"blowfish-cbc-plain", key, "0", "7:0", "0"}})
		if err != nil {
			if len(key) > 8 && strings.Contains(err.Error(), key) && !strings.HasPrefix(key, ":") {
				t.Errorf("%v quotes the key", err)
			}
			return
		}
		d := got.(*target)
		defer d.Close()
		if text := d.Table(true)[1]; !strings.EqualFold(text, key) {
			t.Errorf("the key of the table is %q, the given one %q", text, key)
		}
	})
}

// FuzzMessage has messages of any form, suspended and not.
func FuzzMessage(f *testing.F) {
	f.Add(true, "key set "+k16)
	f.Add(true, "key wipe")
	f.Add(false, "key wipe")
	f.Fuzz(func(t *testing.T, suspended bool, text string) {
		d, _, err := build(t, 104, "aes-cbc-plain64 "+k16+" 0 7:0 0")
		if err != nil {
			t.Fatal(err)
		}
		if suspended {
			_ = d.PostSuspend(context.Background())
		}
		_, err = d.Message(context.Background(), strings.Fields(text))
		if !suspended && err == nil {
			t.Errorf("%q was taken while I/O may flow", text)
		}
		_ = d.Table(true)
	})
}

func TestMessages(t *testing.T) {
	ctx := context.Background()
	d, _, err := build(t, 104, "aes-cbc-plain64 "+k16+" 0 7:0 0")
	if err != nil {
		t.Fatal(err)
	}
	_ = d.PostSuspend(ctx)
	say := func(text string) error {
		_, err := d.Message(ctx, strings.Fields(text))
		return err
	}
	if err := say("key wipe"); err != nil {
		t.Fatal(err)
	}
	if err := d.PreResume(ctx); mapper.Errno(err) != unix.EAGAIN {
		t.Errorf("resume without a key: %v, want EAGAIN", err)
	}
	if got := d.Table(true)[1]; got != strings.Repeat("0", 32) {
		t.Errorf("a wiped key shows as %s", got)
	}
	if err := d.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Count: 1, Data: make([]byte, 512)}); mapper.Errno(err) != unix.EIO {
		t.Errorf("a write without a key: %v, want EIO", err)
	}
	for _, bad := range []string{"key set 00", "key set " + k16 + "00", "key set", "key", "key wipe now", "lock wipe"} {
		if err := say(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if err := say("KEY SET " + other); err != nil || d.Table(true)[1] != other {
		t.Errorf("another key: %v, and the table shows %s", err, d.Table(true)[1])
	}
	if err := say("key set " + strings.Repeat("zz", 16)); err == nil || d.PreResume(ctx) == nil {
		t.Error("after a key that is none the old one is in use; the kernel has none then")
	}
}

// A key of the keyring is read, and told by its name.
func TestKeyring(t *testing.T) {
	raw, err := hex.DecodeString(k16)
	if err != nil {
		t.Fatal(err)
	}
	disk := mappertest.NewDisk("7:0", 200)
	plain, _, err := build(t, 104, "aes-cbc-plain64 "+k16+" 0 7:0 0", disk)
	if err != nil {
		t.Fatal(err)
	}
	h := mappertest.NewHost(disk)
	h.KeyRing.ByName = map[string][]byte{"user:mine": raw, "logon:a:b": raw}
	for _, name := range []string{"user:mine", "logon:a:b"} {
		ring, err := newTarget(t.Context(), h, mapper.Spec{Len: 104, Args: []string{"aes-cbc-plain64", ":16:" + name, "0", "7:0", "0"}})
		if err != nil {
			t.Fatal(err)
		}
		defer ring.(*target).Close()
		for _, show := range []bool{false, true} {
			if got := ring.(*target).Table(show)[1]; got != ":16:"+name {
				t.Errorf("the table shows %s", got)
			}
		}
		want, got := mappertest.Stamped(0, 8, 1), make([]byte, 8*512)
		if err := plain.Submit(t.Context(), mapper.Request{Op: mapper.OpWrite, Count: 8, Data: bytes.Clone(want)}); err != nil {
			t.Fatal(err)
		}
		if err := ring.Submit(t.Context(), mapper.Request{Op: mapper.OpRead, Count: 8, Data: got}); err != nil || !bytes.Equal(got, want) {
			t.Errorf("the key of the keyring does not decrypt what the same key encrypted: %v", err)
		}
	}
	for key, want := range map[string]unix.Errno{":32:user:mine": unix.EINVAL, ":16:user:other": unix.ENOKEY, ":16:other:mine": unix.EINVAL, ":16:user:": unix.EINVAL} {
		_, err := newTarget(t.Context(), h, mapper.Spec{Len: 104, Args: []string{"aes-cbc-plain64", key, "0", "7:0", "0"}})
		if mapper.Errno(err) != want {
			t.Errorf("%s: %v, want %v", key, err, want)
		}
	}
}

// fastTests are the ciphers of which speed and allocations are watched.
var fastTests = []struct{ name, args string }{
	{"xts", "aes-xts-plain64 " + k16 + other + k16 + other + " 0 7:0 0"},
	{"xts-4096", "aes-xts-plain64 " + k16 + other + k16 + other + " 0 7:0 0 2 sector_size:4096 iv_large_sectors"},
	{"cbc-essiv", "aes-cbc-essiv:sha256 " + k16 + other + " 0 7:0 0"},
	{"ctr", "aes-ctr-plain64 " + k16 + other + " 0 7:0 0"},
	{"lrw", "aes-lrw-benbi " + k16 + other + " 0 7:0 0"},
	{"eboiv", "aes-cbc-eboiv " + k16 + " 0 7:0 0"},
	{"elephant", "aes-cbc-elephant " + k16 + other + " 0 7:0 0"},
	{"lmk", "aes:64-cbc-lmk " + strings.Repeat(k16, 65) + " 0 7:0 0"},
	{"tcw", "aes-cbc-tcw " + strings.Repeat(k16, 3) + " 0 7:0 0"},
	{"serpent", "serpent-xts-plain64 " + k16 + other + k16 + other + " 0 7:0 0"},
	{"twofish", "twofish-xts-plain64 " + k16 + other + k16 + other + " 0 7:0 0"},
	{"camellia", "camellia-xts-plain64 " + k16 + other + k16 + other + " 0 7:0 0"},
	{"adiantum", "capi:adiantum(xchacha12,aes)-plain64 " + k16 + other + " 0 7:0 0 1 sector_size:4096"},
}

func TestSubmitDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector drops pooled buffers at random")
	}
	ctx := context.Background()
	for _, c := range fastTests {
		d, _, err := build(t, 2048, c.args, mappertest.Null{Name: "7:0", Size: 4096})
		if err != nil {
			t.Fatal(err)
		}
		for _, op := range []mapper.Op{mapper.OpRead, mapper.OpWrite} {
			r := mapper.Request{Op: op, Start: 16, Count: 64, Data: make([]byte, 64*512)}
			if n := testing.AllocsPerRun(100, func() { _ = d.Submit(ctx, r) }); n != 0 {
				t.Errorf("%s: %v allocations for a %s, want none", c.name, n, op)
			}
		}
	}
}

func BenchmarkSubmit(b *testing.B) {
	ctx := context.Background()
	for _, c := range fastTests {
		d, _, err := build(b, 4096, c.args, mappertest.Null{Name: "7:0", Size: 8192})
		if err != nil {
			b.Fatal(err)
		}
		for _, sectors := range []mapper.Sector{8, 1024} {
			for _, op := range []mapper.Op{mapper.OpRead, mapper.OpWrite} {
				b.Run(fmt.Sprintf("%s/%s/%dk", c.name, op, sectors/2), func(b *testing.B) {
					r := mapper.Request{Op: op, Count: sectors, Data: make([]byte, sectors.Bytes())}
					b.SetBytes(sectors.Bytes())
					b.ReportAllocs()
					for b.Loop() {
						_ = d.Submit(ctx, r)
					}
				})
			}
		}
	}
}
