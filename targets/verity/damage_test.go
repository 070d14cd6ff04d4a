package verity

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
	"dmfs/targets/internal/rs"
)

// A small image, of which every bit can be tried, and one whose tree has several levels.
var smallShapes = []shape{
	{1, 512, 512, 17, 1, "sha256", "00ff"},
	{0, 512, 512, 26, 0, "sha1", "a5"},
	{1, 512, 1024, 5, 2, "md5", "0123"},
	{1, 1024, 512, 9, 0, "sha512", "ff"},
}

// below returns a data block whose digest is found by way of a block of the tree.
func (t *target) below(hashBlock uint64) int {
	for block := range t.blocks {
		for level := range t.tree.level {
			if at, _ := t.tree.place(block, level); at == hashBlock {
				return int(block)
			}
		}
	}
	return 0
}

// forget has the target forget what it has verified.
func (t *target) forget() { t.cache = cache{limit: t.cache.limit} }

// Each bit of the data, of the tree and of the salt, flipped alone, is found when the block is read that it belongs to.
func TestEveryFlipIsFound(t *testing.T) {
	data, tree, salts := 0, 0, 0
	for _, s := range smallShapes {
		im := newImage(s)
		below, above := im.disks(t)
		v, _ := im.open(t, below, above)
		v.logged.Store(maxLogged + 1)
		find := func(d *mappertest.Disk, bit, block int, what string) {
			flip(t, d, bit)
			v.forget()
			if _, err := im.read(v, block, 1); !errors.Is(err, mapper.ErrIO) {
				t.Fatalf("%v: bit %d of the %s, flipped, is read as block %d: %v", s, bit, what, block, err)
			}
			flip(t, d, bit)
		}
		for bit := range len(im.data) * 8 {
			find(below, bit, bit/8/s.dataBlock, "data")
			data++
		}
		for bit := s.start * s.hashBlock * 8; bit < len(im.hash)*8; bit++ {
			find(above, bit, v.below(uint64(bit/8/s.hashBlock)), "tree")
			tree++
		}
		v.forget()
		if got, err := im.read(v, 0, s.blocks); err != nil || !bytes.Equal(got, im.data) {
			t.Fatalf("%v: with all bits as they were: %v", s, err)
		}
		for bit := range 4 * len(s.salt) {
			other := *im
			salt := []byte(other.salt)
			digits := "0123456789abcdef"
			salt[bit/4] = digits[strings.IndexByte(digits, salt[bit/4])^1<<(bit%4)]
			other.salt = string(salt)
			v, _ := other.open(t, below, above)
			if _, err := im.read(v, 0, 1); !errors.Is(err, mapper.ErrIO) {
				t.Fatalf("%v: bit %d of the salt, flipped: %v", s, bit, err)
			}
			salts++
		}
	}
	t.Logf("all found: %d flips of data, %d of trees, %d of salts", data, tree, salts)
}

// parity returns a disk with the parity of an image, and the options that name it. Code words are made by the decoder, for which
// the parity is erased.
func (im *image) parity(t testing.TB, roots int) (*mappertest.Disk, []string) {
	t.Helper()
	covered := append(bytes.Clone(im.data), im.hash[im.start*im.hashBlock:]...)
	columns := rs.WordSize - roots
	blocks := len(covered) / im.dataBlock
	rounds := (blocks + columns - 1) / columns
	covered = append(covered, make([]byte, columns*rounds*im.dataBlock-len(covered))...)
	erased := make([]int, roots)
	for i := range erased {
		erased[i] = columns + i
	}
	d := rs.NewDecoder(roots)
	var parity []byte
	for at := range rounds * im.dataBlock {
		var word [rs.WordSize]byte
		for c := range columns {
			word[c] = covered[c*rounds*im.dataBlock+at]
		}
		if err := d.Decode(word[:], erased); err != nil {
			t.Fatal(err)
		}
		parity = append(parity, word[columns:]...)
	}
	disk := mappertest.NewDisk("1:3", mapper.SectorsOf(int64(len(parity)))+8)
	if err := disk.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Count: mapper.SectorsOf(int64(len(parity))), Data: parity}); err != nil {
		t.Fatal(err)
	}
	return disk, []string{"use_fec_from_device", "1:3", "fec_blocks", strconv.Itoa(blocks), "fec_start", "0", "fec_roots", strconv.Itoa(roots)}
}

// openWithParity makes the target, which repairs.
func (im *image) openWithParity(t testing.TB, data, hash mapper.Disk, roots int, options ...string) (*target, *mappertest.Host) {
	t.Helper()
	disk, fec := im.parity(t, roots)
	h := mappertest.NewHost(data, hash, disk)
	h.RO = true
	made, err := newTarget(ctx, h, im.spec(slices.Concat(options, fec)...))
	if err != nil {
		t.Fatal(err)
	}
	return made.(*target), h
}

// Bits of the data and of the tree, flipped alone, are repaired where there is parity: one of 31, or with DMFS_FLIPS=1 in the environment each.
func TestEveryFlipIsRepaired(t *testing.T) {
	im := newImage(shape{1, 512, 512, 3, 1, "sha256", "00ff"})
	data, hash := im.disks(t)
	v, _ := im.openWithParity(t, data, hash, 2)
	v.logged.Store(maxLogged + 1)
	step := 31
	if os.Getenv("DMFS_FLIPS") != "" {
		step = 1
	}
	flips := 0
	for _, part := range []struct {
		disk      *mappertest.Disk
		from, to  int // bits
		ofData    bool
		blockBits int
	}{{data, 0, len(im.data) * 8, true, im.dataBlock * 8}, {hash, im.start * im.hashBlock * 8, len(im.hash) * 8, false, im.hashBlock * 8}} {
		for bit := part.from; bit < part.to; bit += step {
			block := bit / part.blockBits
			if !part.ofData {
				block = v.below(uint64(block))
			}
			flip(t, part.disk, bit)
			v.forget()
			got, err := im.read(v, block, 1)
			if err != nil || !bytes.Equal(got, im.data[block*im.dataBlock:][:im.dataBlock]) {
				t.Fatalf("bit %d, flipped, is not repaired as block %d: %v", bit, block, err)
			}
			flip(t, part.disk, bit)
			flips++
		}
	}
	if status, _ := v.Status(ctx, false); status != "V" {
		t.Errorf("status %s: what was repaired is no corruption", status)
	}
	t.Logf("all repaired: %d flips", flips)
}

// A block that cannot be read, and not be repaired, is not one that does not verify: it is an error whatever is ignored, and so is one of the tree.
func TestUnreadableIsNotCorrupted(t *testing.T) {
	im := newImage(shape{1, 512, 512, 40, 0, "sha256", "aa"})
	for _, option := range []string{"ignore_corruption", "restart_on_corruption", "check_at_most_once"} {
		plain, tree := im.disks(t)
		data, hash := mappertest.NewFaulty(plain), mappertest.NewFaulty(tree)
		v, h := im.openWithParity(t, data, hash, 2, option)
		parity, _ := h.Open(ctx, "1:3")
		if err := parity.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Count: 4, Data: make([]byte, 4*512)}); err != nil {
			t.Fatal(err)
		}
		for _, d := range []*mappertest.Faulty{data, hash} {
			d.Inject(mappertest.Fault{Start: 0, End: 1})
			v.forget()
			if _, err := im.read(v, 0, 1); !errors.Is(err, mapper.ErrIO) {
				t.Errorf("%s: %v, want %v", option, err, mapper.ErrIO)
			}
			d.Heal()
		}
		if status, _ := v.Status(ctx, false); status != "V" || len(h.Log()) != 0 {
			t.Errorf("%s: status %s, log %q", option, status, h.Log())
		}
		if got, err := im.read(v, 0, 40); err != nil || !bytes.Equal(got, im.data) {
			t.Errorf("%s: when the disks are well: %v", option, err)
		}
	}
}

// A disk whose reads end when their caller does.
type waiting struct {
	mapper.Disk
	began chan struct{}
}

func (d waiting) Submit(ctx context.Context, _ mapper.Request) error {
	d.began <- struct{}{}
	<-ctx.Done()
	return context.Cause(ctx)
}

// A read that was called off says nothing of the device, with parity either.
func TestCalledOffIsNotCorrupted(t *testing.T) {
	im := newImage(shape{1, 512, 512, 40, 0, "sha256", "aa"})
	for _, which := range []string{"data", "hash", "parity"} {
		data, hash := im.disks(t)
		v, h := im.openWithParity(t, data, hash, 2, "restart_on_corruption")
		began := make(chan struct{}, 1000)
		switch which {
		case "data":
			v.data = waiting{v.data, began}
		case "hash":
			v.hash = waiting{v.hash, began}
		case "parity":
			flip(t, data, 0)
			v.fec.disk = waiting{v.fec.disk, began}
		}
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan error)
		go func() {
			done <- v.Submit(ctx, mapper.Request{Op: mapper.OpRead, Count: 1, Data: make([]byte, 512)})
		}()
		<-began
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want %v", which, err, context.Canceled)
		}
		if status, _ := v.Status(ctx, false); status != "V" || v.dead.Load() || len(h.Log()) != 0 {
			t.Errorf("%s: status %s, log %q", which, status, h.Log())
		}
	}
}

// Of a large read, which several processors verify, the log has what the kernel's has: the first block that does not verify, and that once; with
// ignore_corruption all of them, in their order.
func TestLargeReadsLogOnce(t *testing.T) {
	const blocks = 256
	im := newImage(shape{1, 4096, 4096, blocks, 1, "sha256", "00ff"})
	for _, c := range []struct {
		data, tree []int // damaged blocks
		from       int   // the block where the read begins
		option     string
		want       []string // the log begins with
	}{
		{data: []int{3, 100, 200}, want: []string{"data block 3"}},
		{data: []int{255}, want: []string{"data block 255"}},
		{data: []int{9}, tree: []int{1}, want: []string{"metadata block 1"}},
		{data: []int{126}, tree: []int{3}, want: []string{"data block 126"}},
		{data: []int{127}, tree: []int{3}, from: 1, want: []string{"data block 127"}},
		// A flipped bit of a digest is two things: a block of the tree that does not verify, and the data block that it is of.
		{tree: []int{3}, option: "ignore_corruption", want: []string{"metadata block 3", "data block 128", "metadata block 3", "metadata block 3"}},
		{data: []int{129}, tree: []int{3}, option: "ignore_corruption", want: []string{"metadata block 3", "data block 128", "metadata block 3", "data block 129", "metadata block 3"}},
	} {
		for range 20 {
			data, hash := im.disks(t)
			for _, b := range c.data {
				flip(t, data, b*4096*8)
			}
			for _, b := range c.tree {
				flip(t, hash, b*4096*8)
			}
			var options []string
			if c.option != "" {
				options = []string{c.option}
			}
			v, h := im.open(t, data, hash, options...)
			_, err := im.read(v, c.from, blocks-c.from)
			if (err == nil) != (c.option != "") {
				t.Fatal(err)
			}
			var want []string
			for _, w := range c.want {
				want = append(want, "1:1: "+w+" is corrupted")
			}
			got := h.Log()
			if c.option != "" {
				got = got[:min(len(got), len(want))]
			}
			if !slices.Equal(got, want) {
				t.Fatalf("data %d, tree %d, %s: the log is %q, want %q", c.data, c.tree, c.option, got, want)
			}
		}
	}
}
