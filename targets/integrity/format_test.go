package integrity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

func TestSuperblock(t *testing.T) {
	s := superblock{version: 5, log2Interleave: 15, tagSize: 32, sections: 7, provided: 1 << 40, flags: 31, log2Block: 3, log2Bit: 12, recalc: 99, salt: [16]byte{1, 2, 3}}
	b := bytes.Repeat([]byte{0xee}, superBytes)
	s.encode(b)
	if got := decode(b); got != s {
		t.Errorf("decoded %+v, want %+v", got, s)
	}
	if b[511] != 0xee || string(b[:8]) != magic {
		t.Error("encode writes what is no field, or no magic")
	}
}

// Every field of a superblock is checked, with the kernel's words.
func TestSuperblockRefused(t *testing.T) {
	for _, c := range []struct {
		at     int
		value  byte
		reason string
	}{
		{8, 0, "Unknown version"}, {8, 6, "Unknown version"}, {8, 255, "Unknown version"},
		{9, 2, "Invalid interleave_sectors in the superblock"}, {9, 32, "Invalid interleave_sectors in the superblock"},
		{10, 5, "Tag size doesn't match the information in superblock"},
		{12, 0, "Corrupted superblock, journal_sections is 0"}, {14, 1, "The device is too small"}, {15, 255, "The device is too small"},
		{24, 1, "Journal mac mismatch"}, {24, 0x20, "Unknown version"}, {27, 0x80, "Unknown version"},
		{28, 1, "Block size doesn't match the information in superblock"},
	} {
		d := mappertest.NewDisk("1:1", 4096)
		args := strings.Fields("1:1 0 4 J 1 internal_hash:crc32c")
		open(t, 800, args, d).close()
		p := d.Peek(0, 8)
		p[c.at] = c.value
		if err := d.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Count: 8, Data: p}); err != nil {
			t.Fatal(err)
		}
		_, err := try(800, args, d)
		var arg *mapper.ArgError
		if !errors.As(err, &arg) || arg.Reason != c.reason {
			t.Errorf("byte %d is %d: %v, want %q", c.at, c.value, err, c.reason)
		}
	}
}

// Tags never reach into data, nor data into each other, in every geometry.
func TestPlaces(t *testing.T) {
	for _, interleave := range []string{"8", "64", "256", "1024"} {
		for _, options := range []string{"3 internal_hash:crc32c ", "4 fix_padding internal_hash:crc32c ", "4 fix_padding internal_hash:sha1 ", "4 block_size:4096 internal_hash:crc32c "} {
			d := mappertest.NewDisk("1:1", 1<<15)
			args := strings.Fields("1:1 8 - D " + options + "interleave_sectors:" + interleave + " buffer_sectors:4096")
			x := open(t, 400, args, d)
			g := &x.geometry
			owner := make(map[uint64]string)
			claim := func(sector uint64, who string) {
				if have := owner[sector]; have != "" && have != who {
					t.Fatalf("%q: sector %d is that of %s and of %s", args, sector, have, who)
				}
				owner[sector] = who
			}
			for s := uint64(0); s < g.provided; s++ {
				claim(g.dataSector(s), fmt.Sprint("data ", s))
				buffer, off := g.tagPlace(s >> g.blockShift << g.blockShift)
				for i := range g.tagSize {
					claim(g.start+g.initial+buffer<<g.bufferShift+uint64(off+i)/mapper.SectorSize, "tags")
				}
				if g.dataSector(s) >= uint64(d.Sectors()) || g.dataSector(s) < g.start+g.initial {
					t.Fatalf("%q: data sector %d is at %d", args, s, g.dataSector(s))
				}
			}
			x.close()
		}
	}
}

// integritysetup reads what is formatted here as what the kernel formats, and what it formats is opened here.
func TestIntegritysetup(t *testing.T) {
	tool, err := exec.LookPath("integritysetup")
	if err != nil {
		t.Skip("no integritysetup: install the package cryptsetup-bin")
	}
	for options, want := range map[string][]string{
		"- J 2 internal_hash:sha256 fix_padding":                          {"superblock_version 4", "integrity_tag_size 32", "sector_size 512", "flags fix_padding", "log2_interleave_sectors 15"},
		"4 B 3 internal_hash:crc32c sectors_per_bit:256 block_size:4096":  {"superblock_version 3", "sector_size 4096", "log2_blocks_per_bitmap 5"},
		"4 J 3 internal_hash:crc32c journal_mac:hmac(sha256):00 fix_hmac": {"superblock_version 5", "have_journal_mac", "fix_hmac"},
	} {
		d := mappertest.NewDisk("1:1", 8192)
		x := open(t, 800, append([]string{"1:1", "0"}, strings.Fields(options)...), d)
		provided := x.geometry.provided
		x.close()
		file := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(file, d.Peek(0, 8192), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(tool, "dump", file).CombinedOutput()
		for _, line := range append(want, fmt.Sprint("provided_data_sectors ", provided)) {
			if err != nil || !strings.Contains(string(out), line) {
				t.Errorf("%s: dump says %s, %v; want %q", options, out, err, line)
			}
		}
	}
}

// A journal that does not verify makes the device fail and is left alone, as is a superblock.
func TestDamagedJournal(t *testing.T) {
	kernelImages(t, func(args []string, image []byte) {
		if args[3] != "J" {
			return
		}
		for _, at := range []int{superBytes + 8, superBytes + 504, superBytes + 9*512 + 3, superBytes + 9*512 + 505} {
			damaged := bytes.Clone(image)
			damaged[at] ^= 0x10
			d := diskOf(t, damaged)
			x, err := try(800, args, d)
			if err != nil {
				t.Errorf("%q: byte %d: %v", args, at, err)
				continue
			}
			for s := mapper.Sector(0); s < 800; s += 8 {
				p, err := x.read(s, 8)
				if err == nil || x.failure() == nil {
					continue
				}
				if errno := mapper.Errno(err); errno != unix.EIO && errno != unix.EILSEQ {
					t.Errorf("%q: byte %d: %v (%d bytes)", args, at, err, len(p))
				}
			}
			broken := x.failure() != nil
			x.close()
			if broken && !bytes.Equal(d.Peek(0, d.Sectors()), damaged) {
				t.Errorf("%q: byte %d: a device that failed has written", args, at)
			}
		}
	})
}

// The wrong key for the superblock is refused; so is one for the journal, which then is not touched.
func TestWrongKey(t *testing.T) {
	d := mappertest.NewDisk("1:1", 4096)
	line := func(key string) []string {
		return strings.Fields("1:1 0 4 J 3 internal_hash:crc32c journal_mac:hmac(sha256):" + key + " fix_hmac")
	}
	x := open(t, 800, line("00"), d)
	if err := x.write(0, 8, 1); err != nil {
		t.Fatal(err)
	}
	x.close()
	if _, err := try(800, line("01"), d); mapper.Errno(err) != unix.EILSEQ {
		t.Errorf("another key: %v", err)
	}
}

// FuzzFormat opens superblocks and journals, or bitmaps, by chance. Nothing panics, and nothing is written outside of the places of the device.
func FuzzFormat(f *testing.F) {
	f.Add([]byte("integrt\x00\x01\x0f\x04\x00\x01\x00\x00\x00"), byte(0), []byte{0, 0, 0, 0}, uint16(0))
	f.Add(bytes.Repeat([]byte{0x11}, 64), byte(3), []byte{0x22, 0x22, 0xff}, uint16(4104))
	lines := []string{
		"1:1 0 4 J 1 internal_hash:crc32c", "1:1 0 4 B 2 internal_hash:crc32c sectors_per_bit:8", "1:1 0 4 D 1 internal_hash:crc32c", "1:1 0 4 J 0", "1:1 0 4 R 0",
		"1:1 0 4 J 2 meta_device:1:2 internal_hash:crc32c", "1:1 0 4 J 1 journal_mac:sha1", "1:1 0 4 J 1 journal_crypt:ctr(aes):" + key16,
	}
	f.Fuzz(func(t *testing.T, super []byte, which byte, patch []byte, at uint16) {
		args := strings.Fields(lines[int(which)%len(lines)])
		a, b := mappertest.NewDisk("1:1", 2048), mappertest.NewDisk("1:2", 512)
		if x, err := try(64, args, a, b); err == nil {
			x.close()
		}
		meta := a
		if strings.Contains(lines[int(which)%len(lines)], "1:2") {
			meta = b
		}
		p := meta.Peek(0, meta.Sectors())
		if len(super) > 8 {
			copy(p[8:superBytes], super[8:])
		}
		copy(p[int(at)%(len(p)-1):], patch)
		if err := meta.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Count: meta.Sectors(), Data: p}); err != nil {
			t.Fatal(err)
		}
		x, err := try(64, args, a, b)
		if err != nil {
			return
		}
		_, _ = x.read(0, 64)
		_ = x.write(0, 64, 1)
		_ = x.Submit(ctx, mapper.Request{Op: mapper.OpFlush})
		x.PreSuspend(false)
		_ = x.PostSuspend(ctx)
		x.Close()
		for _, d := range []*mappertest.Disk{a, b} {
			if err := d.Broken(); err != nil {
				t.Error(err)
			}
		}
	})
}

// FuzzArgs gives New arguments by chance. What it takes is echoed so that it is taken again, as the same.
func FuzzArgs(f *testing.F) {
	for _, line := range crashLines {
		f.Add("1:1 " + line)
	}
	f.Add("1:1 0 - D 3 internal_hash:crc32:00112233 bitmap_flush_interval:4294967295 sectors_per_bit:18446744073709551615")
	f.Fuzz(func(t *testing.T, text string) {
		words, err := mapper.SplitArgs(text)
		if err != nil {
			return
		}
		disks := func() []mapper.Disk {
			return []mapper.Disk{mappertest.NewDisk("1:1", 4096), mappertest.NewDisk("1:2", 1024)}
		}
		made, err := newTarget(context.Background(), mappertest.NewHost(disks()...), mapper.Spec{Len: 8, Args: words})
		var arg *mapper.ArgError
		if err != nil {
			if !errors.As(err, &arg) || arg.Reason == "" {
				t.Fatalf("%q: %v: want a reason", words, err)
			}
			return
		}
		x := made.(*target)
		defer x.Close()
		table := x.Table(true)
		again, err := newTarget(context.Background(), mappertest.NewHost(disks()...), mapper.Spec{Len: 8, Args: table})
		if err != nil {
			t.Fatalf("%q: its own table %q is refused: %v", words, table, err)
		}
		defer again.(*target).Close()
		if got := again.(*target).Table(true); !reflect.DeepEqual(got, table) {
			t.Fatalf("%q: %q, and from that %q", words, table, got)
		}
	})
}
