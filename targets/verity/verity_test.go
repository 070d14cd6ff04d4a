package verity

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
	"dmfs/targets/internal/hashalg"
)

var ctx = context.Background()

// A shape is how a tree is made.
type shape struct {
	version              int
	dataBlock, hashBlock int // bytes
	blocks               int
	start                int // hash block
	algorithm            string
	salt                 string // hexadecimal digits
}

// An image is data and its tree, as in memory.
type image struct {
	shape
	data, hash []byte
	root       string
}

// newImage makes data by chance, with some blocks of zeroes, and its tree. It is written as the format is described, level by level.
func newImage(s shape) *image {
	im := &image{shape: s, data: make([]byte, s.blocks*s.dataBlock)}
	rnd := rand.NewChaCha8([32]byte{byte(s.blocks)})
	rnd.Read(im.data)
	for b := 5; b < s.blocks; b += 7 {
		clear(im.data[b*s.dataBlock:][:s.dataBlock])
	}
	salt, _ := hex.DecodeString(s.salt)
	maker, _ := hashalg.New(s.algorithm)
	digest := func(block []byte) []byte {
		h := maker()
		if s.version == 1 {
			h.Write(salt)
		}
		h.Write(block)
		if s.version == 0 {
			h.Write(salt)
		}
		return h.Sum(nil)
	}
	size := maker().Size()
	fan := 1
	for 2*fan*size <= s.hashBlock {
		fan *= 2
	}
	slot := size
	if s.version == 1 {
		slot = s.hashBlock / fan
	}
	var levels [][]byte // the lowest first
	for below, block := im.data, s.dataBlock; ; {
		var digests [][]byte
		for len(below) > 0 {
			digests = append(digests, digest(below[:block]))
			below = below[block:]
		}
		if len(digests) == 1 {
			im.root = hex.EncodeToString(digests[0])
			break
		}
		level := make([]byte, (len(digests)+fan-1)/fan*s.hashBlock)
		for i, d := range digests {
			copy(level[i/fan*s.hashBlock+i%fan*slot:], d)
		}
		levels = append(levels, level)
		below, block = level, s.hashBlock
	}
	im.hash = make([]byte, s.start*s.hashBlock)
	for _, level := range slices.Backward(levels) {
		im.hash = append(im.hash, level...)
	}
	return im
}

// disks returns the image as disks.
func (im *image) disks(t testing.TB) (data, hash *mappertest.Disk) {
	t.Helper()
	disk := func(name string, bytes []byte) *mappertest.Disk {
		d := mappertest.NewDisk(name, mapper.SectorsOf(int64(len(bytes)))+8)
		whole := bytes[:len(bytes)&^(mapper.SectorSize-1)]
		if len(whole) > 0 {
			err := d.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Count: mapper.SectorsOf(int64(len(whole))), Data: whole})
			if err != nil {
				t.Fatal(err)
			}
		}
		return d
	}
	return disk("1:1", im.data), disk("1:2", im.hash)
}

func (im *image) args(options ...string) []string {
	salt := im.salt
	if salt == "" {
		salt = "-"
	}
	list := []string{
		strconv.Itoa(im.version), "1:1", "1:2", strconv.Itoa(im.dataBlock), strconv.Itoa(im.hashBlock), strconv.Itoa(im.blocks),
		strconv.Itoa(im.start), im.algorithm, im.root, salt,
	}
	if len(options) > 0 {
		list = append(append(list, strconv.Itoa(len(options))), options...)
	}
	return list
}

func (im *image) spec(options ...string) mapper.Spec {
	return mapper.Spec{Len: mapper.SectorsOf(int64(len(im.data))), Type: "verity", Args: im.args(options...)}
}

// open makes the target.
func (im *image) open(t testing.TB, data, hash mapper.Disk, options ...string) (*target, *mappertest.Host) {
	t.Helper()
	h := mappertest.NewHost(data, hash)
	h.RO = true
	made, err := newTarget(ctx, h, im.spec(options...))
	if err != nil {
		t.Fatal(err)
	}
	return made.(*target), h
}

// read reads data blocks.
func (im *image) read(t *target, block, n int) ([]byte, error) {
	p := make([]byte, n*im.dataBlock)
	per := mapper.SectorsOf(int64(im.dataBlock))
	err := t.Submit(ctx, mapper.Request{Op: mapper.OpRead, Start: mapper.Sector(block) * per, Count: mapper.Sector(n) * per, Data: p})
	return p, err
}

var shapes = []shape{
	{1, 4096, 4096, 300, 1, "sha256", "00ff00ff"},
	{0, 4096, 4096, 300, 0, "sha1", "0123456789abcdef"},
	{1, 1024, 512, 700, 3, "sha512", ""},
	{0, 512, 1024, 100, 2, "sha256", "aa"},
	{1, 4096, 4096, 1, 0, "sha256", "aa"},
	{1, 512, 4096, 129, 7, "blake2b-256", "bb"},
	{0, 512, 512, 2000, 1, "md5", ""},
	{1, 65536, 512, 20, 1, "sha224", "cc"},
}

func (s shape) String() string { return fmt.Sprintf("%+v", struct{ shape }{s}) }

// What is as the tree says is read, in pieces of any size, again, with every option.
func TestReads(t *testing.T) {
	for _, s := range shapes {
		im := newImage(s)
		for _, options := range [][]string{nil, {"check_at_most_once"}, {"ignore_zero_blocks"}, {"ignore_corruption", "check_at_most_once", "ignore_zero_blocks"}} {
			data, hash := im.disks(t)
			v, _ := im.open(t, data, hash, options...)
			v.cache.limit = 3 // so that blocks are thrown out and read again
			for range 2 {
				for at := 0; at < s.blocks; {
					n := min(1+rand.IntN(64), s.blocks-at)
					got, err := im.read(v, at, n)
					if want := im.data[at*s.dataBlock:][:n*s.dataBlock]; err != nil || !bytes.Equal(got, want) {
						t.Fatalf("%v %v: blocks %d+%d: %v", s, options, at, n, err)
					}
					at += n
				}
			}
			if status, _ := v.Status(ctx, false); status != "V" {
				t.Errorf("%v: status %s", s, status)
			}
			if len(v.cache.ring) > 3 || len(v.cache.blocks) != len(v.cache.ring) {
				t.Errorf("%v: the cache holds %d and %d blocks, of 3", s, len(v.cache.ring), len(v.cache.blocks))
			}
		}
	}
}

// flip flips a bit of a disk.
func flip(t *testing.T, d *mappertest.Disk, bit int) {
	t.Helper()
	at := mapper.Sector(bit / 8 / mapper.SectorSize)
	p := make([]byte, mapper.SectorSize)
	r := mapper.Request{Op: mapper.OpRead, Start: at, Count: 1, Data: p}
	if err := d.Submit(ctx, r); err != nil {
		t.Fatal(err)
	}
	p[bit/8%mapper.SectorSize] ^= 1 << (bit % 8)
	r.Op = mapper.OpWrite
	if err := d.Submit(ctx, r); err != nil {
		t.Fatal(err)
	}
}

// Flipped bits of the data, by chance, are found, in their block and in no other; so are those of the tree. TestEveryFlipIsFound tries each of small images.
func TestFlips(t *testing.T) {
	const seed = 1
	rnd := rand.New(rand.NewPCG(seed, 0))
	found := 0
	for _, s := range shapes {
		im := newImage(s)
		data, hash := im.disks(t)
		for i := range 40 {
			bit := rnd.IntN(len(im.data) * 8)
			flip(t, data, bit)
			v, _ := im.open(t, data, hash)
			bad := bit / 8 / s.dataBlock
			for _, b := range []int{bad - 1, bad, bad + 1} {
				if b < 0 || b >= s.blocks {
					continue
				}
				if _, err := im.read(v, b, 1); errors.Is(err, mapper.ErrIO) != (b == bad) {
					t.Fatalf("%v: bit %d of block %d, block %d: %v", s, bit, bad, b, err)
				}
			}
			found++
			flip(t, data, bit)

			if tree := len(im.hash) - s.start*s.hashBlock; tree > 0 {
				bit = s.start*s.hashBlock*8 + rnd.IntN(tree*8)
				flip(t, hash, bit)
				v, _ := im.open(t, data, hash)
				failed := false
				for b := range s.blocks {
					got, err := im.read(v, b, 1)
					failed = failed || err != nil
					if err == nil && !bytes.Equal(got, im.data[b*s.dataBlock:][:s.dataBlock]) {
						t.Fatalf("%v: wrong data", s)
					}
				}
				if !failed {
					t.Fatalf("%v: flip %d of the tree, bit %d, was not found", s, i, bit)
				}
				found++
				flip(t, hash, bit)
			}
		}
		other := *im
		if other.salt != "" {
			other.salt = "dd" + other.salt[2:]
			v, _ := other.open(t, data, hash)
			if _, err := im.read(v, 0, 1); err == nil {
				t.Errorf("%v: another salt was not found", s)
			}
			found++
		}
	}
	t.Logf("%d flips, all found", found)
}

// What becomes of corruption is for the options to say; each is logged in the kernel's words.
func TestOnError(t *testing.T) {
	im := newImage(shapes[0])
	for _, c := range []struct {
		option     string
		bad, after bool // reading the bad block, and a good one after it, fails
	}{{"", true, false}, {"ignore_corruption", false, false}, {"restart_on_corruption", true, true}, {"panic_on_corruption", true, true}} {
		data, hash := im.disks(t)
		flip(t, data, 3*4096*8)
		var options []string
		if c.option != "" {
			options = []string{c.option}
		}
		v, h := im.open(t, data, hash, options...)
		if _, err := im.read(v, 3, 1); (err != nil) != c.bad {
			t.Errorf("%s: bad block: %v", c.option, err)
		}
		if _, err := im.read(v, 4, 1); (err != nil) != c.after {
			t.Errorf("%s: good block after it: %v", c.option, err)
		}
		if status, _ := v.Status(ctx, false); status != "C" {
			t.Errorf("%s: status %s", c.option, status)
		}
		if log := h.Log(); len(log) == 0 || log[0] != "1:1: data block 3 is corrupted" {
			t.Errorf("%s: log %q", c.option, log)
		}
	}
}

// The log has a bound.
func TestLogIsBounded(t *testing.T) {
	im := newImage(shapes[0])
	im.root = strings.Repeat("00", 32)
	data, hash := im.disks(t)
	v, h := im.open(t, data, hash)
	for range 300 {
		if _, err := im.read(v, 0, 1); err == nil {
			t.Fatal("a wrong root was not found")
		}
	}
	if n := len(h.Log()); n != maxLogged+1 {
		t.Errorf("%d lines, want %d and one that says so", n, maxLogged)
	}
}

// A block that is known to be zeroes is zeroes whatever the disk holds; one that was checked is not checked again.
func TestZeroAndOnce(t *testing.T) {
	im := newImage(shapes[0])
	data, hash := im.disks(t)
	v, _ := im.open(t, data, hash, "ignore_zero_blocks")
	flip(t, data, 5*4096*8)
	if got, err := im.read(v, 5, 1); err != nil || !bytes.Equal(got, make([]byte, 4096)) {
		t.Errorf("a block of zeroes: %v", err)
	}
	v, _ = im.open(t, data, hash, "check_at_most_once")
	if _, err := im.read(v, 5, 1); err == nil {
		t.Error("a bad block was taken for checked")
	}
	if _, err := im.read(v, 6, 1); err != nil {
		t.Fatal(err)
	}
	flip(t, data, 6*4096*8)
	if _, err := im.read(v, 6, 1); err != nil {
		t.Errorf("a block that was checked was checked again: %v", err)
	}
}

// Many read at the same time, with a cache that is too small.
func TestConcurrency(t *testing.T) {
	im := newImage(shapes[6])
	data, hash := im.disks(t)
	v, _ := im.open(t, data, hash)
	v.cache.limit = 5
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				at := rand.IntN(im.blocks)
				n := min(1+rand.IntN(300), im.blocks-at)
				got, err := im.read(v, at, n)
				if err != nil || !bytes.Equal(got, im.data[at*im.dataBlock:][:n*im.dataBlock]) {
					t.Errorf("blocks %d+%d: %v", at, n, err)
				}
			}
		})
	}
	all.Wait()
}

// What is not a read is refused or has nothing to do, and what a disk below says is passed on.
func TestOtherRequests(t *testing.T) {
	im := newImage(shapes[0])
	data, hash := im.disks(t)
	v, _ := im.open(t, data, mappertest.NewFaulty(hash))
	if err := v.Submit(ctx, mapper.Request{Op: mapper.OpFlush}); err != nil {
		t.Error(err)
	}
	for _, op := range []mapper.Op{mapper.OpWrite, mapper.OpDiscard, mapper.OpWriteZeroes} {
		if err := v.Submit(ctx, mapper.Request{Op: op, Count: 8, Data: make([]byte, 4096)}); !errors.Is(err, mapper.ErrReadOnly) {
			t.Errorf("%v: %v", op, err)
		}
	}
	if data.Counts().Writes != 1 || hash.Counts().Writes != 1 {
		t.Error("a disk was written to")
	}
}

func TestConformance(t *testing.T) {
	im := newImage(shape{1, 4096, 512, 100, 1, "sha256", "00ff"})
	fill := func(d mapper.Disk, data []byte) error {
		return d.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Count: mapper.SectorsOf(int64(len(data))), Data: data})
	}
	mappertest.TestTarget(t, &Type, mappertest.Setup{
		Disks:   []mappertest.DiskSpec{{Name: "1:1", Sectors: 1000}, {Name: "1:2", Sectors: 1000}},
		Len:     mapper.SectorsOf(int64(len(im.data))),
		Args:    im.args(),
		Kind:    mappertest.ReadsOnly,
		Content: im.data,
		Prepare: func(_ context.Context, disks map[string]mapper.Disk) error {
			return errors.Join(fill(disks["1:1"], im.data), fill(disks["1:2"], im.hash))
		},
	})
}

// The table says what was loaded, and makes an equal target.
func TestTable(t *testing.T) {
	im := newImage(shapes[0])
	data, hash := im.disks(t)
	options := []string{"try_verify_in_tasklet", "check_at_most_once", "IGNORE_CORRUPTION", "ignore_zero_blocks"}
	v, h := im.open(t, data, hash, options...)
	want := im.args("ignore_corruption", "ignore_zero_blocks", "check_at_most_once", "try_verify_in_tasklet")
	if got := v.Table(false); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	s := im.spec()
	s.Args = v.Table(false)
	again, err := newTarget(ctx, h, s)
	if err != nil || !slices.Equal(again.(*target).Table(false), want) {
		t.Errorf("made from its own table: %v", err)
	}
}

func FuzzArgs(f *testing.F) {
	im := newImage(shape{1, 512, 512, 40, 1, "sha256", "aa"})
	f.Add(uint64(40), strings.Join(im.args(), " "))
	f.Add(uint64(40), strings.Join(im.args("ignore_corruption", "check_at_most_once"), " "))
	f.Add(uint64(1)<<60, "0 1:1 1:2 512 512 18446744073709551615 18446744073709551615 sha1 00 -")
	f.Add(uint64(1), "1 1:1 1:2 65536 65536 1152921504606846976 0 md5 d41d8cd98f00b204e9800998ecf8427e - 99")
	f.Fuzz(func(t *testing.T, length uint64, line string) {
		data, hash := im.disks(t)
		h := mappertest.NewHost(data, hash)
		h.RO = true
		made, err := newTarget(ctx, h, mapper.Spec{Len: mapper.Sector(length), Type: "verity", Args: strings.Fields(line)})
		if err != nil {
			return
		}
		v := made.(*target)
		if v.tree.end > uint64(hash.Sectors()) {
			t.Fatalf("%q: the tree ends at block %d of a disk of %d sectors", line, v.tree.end, hash.Sectors())
		}
		for _, a := range v.Areas() {
			if a.Start+a.Len < a.Start {
				t.Fatalf("%q: area %d+%d", line, a.Start, a.Len)
			}
		}
	})
}

func BenchmarkRead(b *testing.B) {
	im := newImage(shape{1, 4096, 4096, 4096, 0, "sha256", "00ff"})
	for _, c := range []struct {
		name    string
		options []string
	}{{"verified", nil}, {"once", []string{"check_at_most_once"}}} {
		data, hash := im.disks(b)
		v, _ := im.open(b, data, hash, c.options...)
		p := make([]byte, 1<<20)
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r := mapper.Request{Op: mapper.OpRead, Start: mapper.Sector(i%16) * 2048, Count: 2048, Data: p}
				if err := v.Submit(ctx, r); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(c.name+"/4k", func(b *testing.B) {
			b.SetBytes(4096)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r := mapper.Request{Op: mapper.OpRead, Start: mapper.Sector(i%4096) * 8, Count: 8, Data: p[:4096]}
				if err := v.Submit(ctx, r); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(c.name+"/4k-parallel", func(b *testing.B) {
			b.SetBytes(4096)
			b.RunParallel(func(pb *testing.PB) {
				p := make([]byte, 4096)
				for i := 0; pb.Next(); i++ {
					r := mapper.Request{Op: mapper.OpRead, Start: mapper.Sector(i%4096) * 8, Count: 8, Data: p}
					if err := v.Submit(ctx, r); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
