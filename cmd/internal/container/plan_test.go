package container

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
	"dmfs/targets/crypt/luks"
)

// memory is a disk of so many sectors.
func memory(sectors int64, content []byte) *disk {
	b := make([]byte, sectors*mapper.SectorSize)
	copy(b, content)
	return &disk{ReaderAt: bytes.NewReader(b), name: "/x/a.img", size: int64(len(b))}
}

// headerDisk is a disk that nothing but a header is on.
var headerDisk = &disk{name: "/x/h.img", size: 64 * mapper.SectorSize}

// lines returns the tables of a plan as they are printed, and the uuids.
func lines(t *testing.T, p *plan, keys ...string) (tables, uuids []string) {
	t.Helper()
	var b bytes.Buffer
	if err := p.printText(&b, keys); err != nil {
		t.Fatal(err)
	}
	for _, d := range p.Devices {
		uuids = append(uuids, d.Name+":"+d.UUID)
	}
	return strings.Split(strings.TrimSpace(b.String()), "\n"), uuids
}

// The tables and uuids of the containers of the corpus are those that cryptsetup loaded. What the kernel adds to an integrity table, which is
// what its superblock says, is not loaded.
func TestCorpus(t *testing.T) {
	root := os.Getenv("DMFS_CORPUS")
	if root == "" {
		root = filepath.Join("..", "..", "..", "..", "shared", "corpus")
	}
	cases, err := filepath.Glob(filepath.Join(root, "luks*"))
	if err != nil || len(cases) == 0 {
		t.Skipf("needs the corpus: DMFS_CORPUS: %v", err)
	}
	fromSuperblock := []string{"journal_sectors:", "interleave_sectors:", "buffer_sectors:", "journal_watermark:", "commit_time:"}
	for _, dir := range cases {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			data := unpack(t, filepath.Join(dir, "disk0.img.zst"))
			h, err := luks.Read(data, data.size)
			if err != nil {
				t.Fatal(err)
			}
			p, err := planLUKS(h, data, data, "l", false, activation{})
			if err != nil {
				t.Fatal(err)
			}
			got, uuids := lines(t, p, "KEY")
			slices.Sort(got)
			text, err := os.ReadFile(filepath.Join(dir, "table"))
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(text)) {
				w := strings.Fields(strings.NewReplacer("98:0", data.name, "254:0", "l_dif").Replace(line))
				if w[3] == "crypt" {
					w[5] = "KEY"
				} else {
					w = slices.DeleteFunc(w, func(word string) bool {
						return slices.ContainsFunc(fromSuperblock, func(p string) bool { return strings.HasPrefix(word, p) })
					})
					w[8] = "2"
				}
				want = append(want, strings.Join(w, " "))
			}
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("tables\n got %q\nwant %q", got, want)
			}
			text, err = os.ReadFile(filepath.Join(dir, "uuid"))
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(uuids)
			if want := strings.Fields(string(text)); !slices.Equal(uuids, want) {
				t.Errorf("uuids %q, want %q", uuids, want)
			}
		})
	}
}

func unpack(t *testing.T, path string) *disk {
	t.Helper()
	packed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	b, err := d.DecodeAll(packed, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &disk{ReaderAt: bytes.NewReader(b), name: "/x/disk0.img", size: int64(len(b))}
}

// Segments follow each other in the device, wherever they are on the disk.
func TestSegments(t *testing.T) {
	h := &luks.Header{Version: 2, UUID: "0-1", Segments: []luks.Segment{
		{Type: "crypt", Offset: 40, Size: 16, Cipher: "aes-xts-plain64", SectorSize: 4096, IVTweak: 8},
		{Type: "linear", Offset: 16, Size: 8},
		{Type: "crypt", Offset: 80, Cipher: "cipher_null-ecb", SectorSize: 512},
	}}
	all := activation{AllowDiscards: true, SameCPU: true, SubmitFromCPUs: true, NoReadQueue: true, NoWriteQueue: true}
	p, err := planLUKS(h, memory(100, nil), headerDisk, "n", true, all)
	if err != nil {
		t.Fatal(err)
	}
	const options = "allow_discards same_cpu_crypt submit_from_crypt_cpus no_read_workqueue no_write_workqueue"
	want := []string{
		"n: 0 16 crypt aes-xts-plain64 00 8 /x/a.img 40 6 " + options + " sector_size:4096",
		"n: 16 8 linear /x/a.img 16",
		"n: 24 20 crypt cipher_null-ecb - 0 /x/a.img 80 5 " + options,
	}
	if got, uuids := lines(t, p, "00"); !slices.Equal(got, want) || uuids[0] != "n:CRYPT-LUKS2-01-n" || !p.Devices[0].ReadOnly {
		t.Errorf("%q %q\nwant %q", got, uuids, want)
	}
	for _, c := range []struct {
		segment luks.Segment
		sectors int64
		status  int
		want    string
	}{
		{luks.Segment{Type: "crypt", Offset: 100, Cipher: "aes-xts-plain64", SectorSize: 512}, 100, NotThere, "is it the disk of this header"},
		{luks.Segment{Type: "crypt", Offset: 1 << 60, Size: 1 << 60, Cipher: "aes-xts-plain64", SectorSize: 512}, 100, NotThere, "is it the disk of this header"},
		{luks.Segment{Type: "linear", Offset: 90, Size: 11}, 100, NotThere, "is it the disk of this header"},
		{luks.Segment{Type: "crypt", Offset: 8, Cipher: "aes-xts-plain64", SectorSize: 4096}, 100, Failed, "cut the disk to a multiple"},
		{luks.Segment{Type: "crypt", Offset: 8, Cipher: "aes-xts-plain64", SectorSize: 1536}, 100, Failed, "1536"},
		{luks.Segment{Type: "crypt", Offset: 8, Cipher: "aes-xts-plain64", SectorSize: 8192}, 100, Failed, "8192"},
	} {
		_, err := planLUKS(&luks.Header{Version: 2, Segments: []luks.Segment{c.segment}}, memory(c.sectors, nil), headerDisk, "n", false, activation{})
		if Status(err) != c.status || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: status %d, %v; want %d, %q", c.segment, Status(err), err, c.status, c.want)
		}
	}
}

// A container that is being reencrypted has the size that cryptsetup gives it, whatever its segments leave of the disk; what is kept of a segment in
// the header is read from there.
func TestReencryptedSegments(t *testing.T) {
	plan := func(direction string, shift mapper.Sector, final mapper.Sector, segments ...luks.Segment) (*plan, error) {
		for i := range segments {
			segments[i].Cipher, segments[i].SectorSize = "aes-xts-plain64", 512
		}
		r := &luks.Reencryption{Direction: direction, Shift: shift, Final: luks.Segment{Offset: final}}
		return planLUKS(&luks.Header{Version: 2, UUID: "0-1", Segments: segments, Reencryption: r}, memory(100, nil), headerDisk, "n", true, activation{})
	}
	for _, c := range []struct {
		direction    string
		shift, final mapper.Sector
		segments     []luks.Segment
		want         []string
		refusal      string
	}{
		{"backward", 8, 24, []luks.Segment{{Type: "crypt", Offset: 16}}, []string{"n: 0 76 crypt aes-xts-plain64 k0 0 /x/a.img 16"}, ""},
		{"backward", 8, 24, []luks.Segment{{Type: "crypt", Offset: 16, Size: 40}, {Type: "crypt", Offset: 64, Key: 1, IVTweak: 40}},
			[]string{"n: 0 40 crypt aes-xts-plain64 k0 0 /x/a.img 16", "n: 40 36 crypt aes-xts-plain64 k1 40 /x/a.img 64"}, ""},
		{"forward", 20, 0, []luks.Segment{{Type: "linear", Offset: 0, Size: 8}, {Type: "crypt", Offset: 28, IVTweak: 8}},
			[]string{"n: 0 8 linear /x/a.img 0", "n: 8 72 crypt aes-xts-plain64 k0 8 /x/a.img 28"}, ""},
		{"forward", 0, 0, []luks.Segment{{Type: "crypt", Offset: 60, Size: 4, OnHeader: true, Key: 1}, {Type: "crypt", Offset: 4, IVTweak: 4}},
			[]string{"n: 0 4 crypt aes-xts-plain64 k1 0 /x/h.img 60", "n: 4 96 crypt aes-xts-plain64 k0 4 /x/a.img 4"}, ""},
		{"forward", 0, 0, []luks.Segment{{Type: "crypt", Offset: 60, Size: 5, OnHeader: true}}, nil, "/x/h.img has 64 sectors"},
		{"forward", 90, 20, []luks.Segment{{Type: "crypt", Offset: 20}}, nil, "is it the disk of this header"},
		{"backward", 0, 20, []luks.Segment{{Type: "crypt", Offset: 20, Size: 80}, {Type: "crypt", Offset: 0}}, nil, "is it the disk of this header"},
		{"backward", 0, 8, []luks.Segment{{Type: "crypt", Offset: 20}}, nil, "is it the disk of this header"},
	} {
		p, err := plan(c.direction, c.shift, c.final, c.segments...)
		if c.refusal != "" {
			if err == nil || !strings.Contains(err.Error(), c.refusal) {
				t.Errorf("%+v: %v, want %q", c.segments, err, c.refusal)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", c.segments, err)
			continue
		}
		if got, _ := lines(t, p, "k0", "k1"); !slices.Equal(got, c.want) {
			t.Errorf("%q\nwant %q", got, c.want)
		}
	}
}

// superblock is that of an integrity device.
func superblock(tag uint16, sectors uint64, shift byte) []byte {
	b := make([]byte, mapper.SectorSize)
	copy(b, "integrt\x00\x03")
	binary.LittleEndian.PutUint16(b[10:], tag)
	binary.LittleEndian.PutUint64(b[16:], sectors)
	b[28] = shift
	return b
}

// Authenticated segments have the names and tags that the kernel has for them.
func TestIntegrity(t *testing.T) {
	for _, c := range []struct {
		cipher, kind string
		tag          int
		want         string
	}{
		{"aes-xts-plain64", "hmac(sha256)", 32, "capi:authenc(hmac(sha256),xts(aes))-plain64 KEY 0 n_dif 0 2 integrity:32:aead sector_size:4096"},
		{"aes-xts-random", "hmac(sha512)", 80, "capi:authenc(hmac(sha512),xts(aes))-random KEY 0 n_dif 0 2 integrity:80:aead sector_size:4096"},
		{"aes-cbc-essiv:sha256", "hmac(sha1)", 20, "capi:authenc(hmac(sha1),cbc(aes))-essiv:sha256 KEY 0 n_dif 0 2 integrity:20:aead sector_size:4096"},
		{"aes-gcm-random", "aead", 28, "capi:gcm(aes)-random KEY 0 n_dif 0 2 integrity:28:aead sector_size:4096"},
		{"aes-ccm-random", "aead", 24, "capi:rfc4309(ccm(aes))-random KEY 0 n_dif 0 2 integrity:24:aead sector_size:4096"},
		{"chacha20-random", "poly1305", 28, "capi:rfc7539(chacha20,poly1305)-random KEY 0 n_dif 0 2 integrity:28:aead sector_size:4096"},
		{"aegis128-random", "aead", 32, "capi:aegis128-random KEY 0 n_dif 0 2 integrity:32:aead sector_size:4096"},
		{"aes-xts-random", "none", 16, "capi:xts(aes)-random KEY 0 n_dif 0 2 integrity:16:none sector_size:4096"},
	} {
		s := luks.Segment{Type: "crypt", Cipher: c.cipher, SectorSize: 4096, Integrity: &luks.Integrity{Type: c.kind, JournalEncryption: "none", JournalIntegrity: "none"}}
		h := &luks.Header{Version: 2, Segments: []luks.Segment{s}}
		p, err := planLUKS(h, memory(1000, superblock(uint16(c.tag), 800, 3)), headerDisk, "n", false, activation{NoJournal: true})
		if err != nil {
			t.Errorf("%s, %s: %v", c.cipher, c.kind, err)
			continue
		}
		got, _ := lines(t, p, "KEY")
		if got[1] != "n: 0 800 crypt "+c.want || !strings.Contains(got[0], " D 2 block_size:4096 fix_padding") {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	good := luks.Segment{Type: "crypt", Cipher: "aes-gcm-random", SectorSize: 4096, Integrity: &luks.Integrity{Type: "aead", JournalEncryption: "none", JournalIntegrity: "none"}}
	change := func(f func(s *luks.Segment)) luks.Segment {
		s, i := good, *good.Integrity
		s.Integrity = &i
		f(&s)
		return s
	}
	for _, c := range []struct {
		segment luks.Segment
		super   []byte
		flags   activation
		want    string
	}{
		{good, nil, activation{}, "no integrity superblock"},
		{good, superblock(27, 800, 3), activation{}, "tags of 27 bytes"},
		{good, superblock(28, 1001, 3), activation{}, "1001 sectors"},
		{good, superblock(28, 0, 3), activation{}, "0 sectors"},
		{good, superblock(28, 800, 200), activation{}, "blocks of"},
		{good, superblock(28, 800, 3), activation{AllowDiscards: true}, "discards are not possible"},
		{change(func(s *luks.Segment) { s.Integrity.Type = "crc32" }), superblock(28, 800, 3), activation{}, `"crc32"`},
		{change(func(s *luks.Segment) { s.Integrity.JournalIntegrity = "hmac(sha256)" }), superblock(28, 800, 3), activation{}, "its journal"},
		{change(func(s *luks.Segment) { s.Integrity.Type, s.Integrity.KeySize = "hmac(sha256)", 16 }), superblock(28, 800, 3), activation{}, "key of 16 bytes"},
		{change(func(s *luks.Segment) { s.Cipher = "aes" }), superblock(16, 800, 3), activation{}, "CIPHER-MODE-IV"},
		{change(func(s *luks.Segment) { s.Size = 700 }), superblock(28, 800, 3), activation{}, "its integrity device has 800"},
	} {
		h := &luks.Header{Version: 2, Segments: []luks.Segment{c.segment}}
		if _, err := planLUKS(h, memory(1000, c.super), headerDisk, "n", false, c.flags); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// The command has the key where it belongs.
func TestJoin(t *testing.T) {
	key, _ := hex.DecodeString("00ff10")
	s, err := join([]part{{text: "a "}, {key: key}, {text: " b\n"}})
	if err != nil || string(s.Bytes) != "a 00ff10 b\n" {
		t.Errorf("%q, %v", s.Bytes, err)
	}
	s.Release()
	if s, err = join([]part{{text: "a "}, {}}); err != nil || string(s.Bytes) != "a -" {
		t.Errorf("%q, %v", s.Bytes, err)
	}
	s.Release()
}

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0}, {errors.New("x"), 1}, {luks.ErrPassphrase, 2}, {os.ErrPermission, 2}, {unix.ENOMEM, 3}, {luks.ErrMemory, 3}, {os.ErrNotExist, 4}, {unix.ENXIO, 4},
		{unix.EEXIST, 5}, {unix.EBUSY, 5}, {failure(Failed, "no: %w", os.ErrNotExist), 1},
		// No such cipher, in a key slot and in the mount; and no such mount.
		{fmt.Errorf("key slot 0: %w", &mapper.ArgError{Reason: "x", Errno: unix.ENOENT}), 1}, {explain("c", unix.ENOENT), 1},
		{explain("c", &os.PathError{Op: "open", Path: "x", Err: unix.ENOENT}), 4}, {explain("c", unix.ENODEV), 4},
	} {
		if got := Status(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}

// A disk of sectors is read by bytes: any offset and length gives what is there, and past the end io.EOF.
func TestSectorReader(t *testing.T) {
	d := mappertest.NewDisk("d", 16)
	content := make([]byte, d.Sectors().Bytes())
	for i := range content {
		content[i] = byte(i>>9) ^ byte(i)
	}
	if err := d.Submit(context.Background(), mapper.Request{Op: mapper.OpWrite, Count: 16, Data: content}); err != nil {
		t.Fatal(err)
	}
	r := sectorReader{context.Background(), d}
	want := bytes.NewReader(content)
	for _, c := range []struct{ off, n int }{{0, 1}, {0, 512}, {511, 2}, {100, 5000}, {8191, 1}, {8191, 2}, {8192, 1}, {9000, 1}, {0, 8192}, {8000, 4096}} {
		got, expected := make([]byte, c.n), make([]byte, c.n)
		n1, err1 := r.ReadAt(got, int64(c.off))
		n2, err2 := want.ReadAt(expected, int64(c.off))
		if n1 != n2 || err1 != err2 || !bytes.Equal(got, expected) {
			t.Errorf("%d bytes at %d: %d, %v, want %d, %v", c.n, c.off, n1, err1, n2, err2)
		}
	}
}
