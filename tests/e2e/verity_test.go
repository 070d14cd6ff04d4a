package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
)

// An image of veritysetup is opened by its superblock, on two disks and on one, and a flipped bit in it cannot be read.
func TestVerity(t *testing.T) {
	requireTool(t, "veritysetup")
	b := newBench(t)
	b.mount("")
	data := random(256<<10, 1)
	for name, c := range map[string]struct {
		hash    string
		options []string
	}{
		"two":  {"hash.img", []string{"--hash=sha512", "--salt=00ff"}},
		"one":  {"data.img", []string{"--hash-offset=262144", "--format=0", "--hash=sha1", "--salt=-"}},
		"fine": {"hash.img", []string{"--data-block-size=512", "--hash-block-size=1024"}},
	} {
		must(t, os.WriteFile(b.path("data.img"), data, 0o600))
		must(t, os.WriteFile(b.path("hash.img"), nil, 0o600))
		made := b.run("veritysetup", append([]string{"format", "--data-blocks=" + map[bool]string{true: "512", false: "64"}[name == "fine"],
			b.path("data.img"), b.path(c.hash)}, c.options...)...)
		_, rest, _ := strings.Cut(made, "Root hash:")
		root := strings.Fields(rest)[0]
		args := []string{"verity-table"}
		if c.hash == "data.img" {
			args = append(args, "--hash-offset", "262144")
		}
		table := b.run(program, append(args, b.path("data.img"), b.path(c.hash), root)...)
		b.run(program, "create", "--readonly", name, "--table", strings.TrimSpace(table))
		got, err := os.ReadFile(b.mnt + "/" + name)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%s: %d bytes, %v; want what was formatted", name, len(got), err)
		}
		f, err := os.OpenFile(b.path("data.img"), os.O_RDWR, 0)
		must(t, err)
		_, err = f.WriteAt([]byte{data[70000] ^ 4}, 70000)
		must(t, errors.Join(err, f.Close()))
		f, err = os.Open(b.mnt + "/" + name)
		must(t, err)
		if _, err := f.ReadAt(make([]byte, 512), 69632); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: a flipped bit was read: %v", name, err)
		}
		if _, err := f.ReadAt(make([]byte, 4096), 0); err != nil {
			t.Errorf("%s: another block: %v", name, err)
		}
		must(t, f.Close())
		if status := b.run(program, "status", name); !strings.HasSuffix(strings.TrimSpace(status), "verity C") {
			t.Errorf("%s: status %q", name, status)
		}
		b.run(program, "remove", name)
	}
	b.fails(1, "no verity superblock", program, "verity-table", b.path("data.img"), b.path("data.img"), "00")
	b.fails(1, "3: want DATA HASH ROOT"[2:], program, "verity-table", b.path("data.img"))
}

// What is lost of an image is repaired by the parity of veritysetup, data and tree, as far as there is parity; and what is not lost
// is read in any case.
func TestVerityRepairs(t *testing.T) {
	requireTool(t, "veritysetup")
	b := newBench(t)
	b.mount("")
	const blocks, size = 256, 4096
	data := random(blocks*size, 2)
	for roots, damaged := range map[string][]int{
		// There are two rows. Where a damaged block of the tree cannot tell which others are damaged, each of those costs two roots.
		"2":  {5, 77, blocks},
		"7":  {0, 1, 2, 3, 4, 250, 251, blocks + 1},
		"24": {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42, 44, 1},
	} {
		must(t, os.WriteFile(b.path("data.img"), data, 0o600))
		must(t, os.WriteFile(b.path("hash.img"), nil, 0o600))
		must(t, os.WriteFile(b.path("fec.img"), nil, 0o600))
		made := b.run("veritysetup", "format", "--fec-device="+b.path("fec.img"), "--fec-roots="+roots, b.path("data.img"), b.path("hash.img"))
		_, rest, _ := strings.Cut(made, "Root hash:")
		table := strings.TrimSpace(b.run(program, "verity-table", b.path("data.img"), b.path("hash.img"), strings.Fields(rest)[0]))
		table += " 8 use_fec_from_device " + b.path("fec.img") + " fec_blocks 259 fec_start 0 fec_roots " + roots
		for _, block := range damaged {
			if block < blocks {
				b.overwrite("data.img", block*size, random(size, uint64(block)))
			} else {
				b.overwrite("hash.img", (block-blocks+1)*size, random(size, uint64(block)))
			}
		}
		b.run(program, "create", "--readonly", "fec", "--table", table)
		got, err := os.ReadFile(b.mnt + "/fec")
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s roots, %d blocks damaged: %v", roots, len(damaged), err)
		}
		if status := b.run(program, "status", "fec"); !strings.HasSuffix(strings.TrimSpace(status), "verity V") {
			t.Errorf("%s roots: status %q after repairs", roots, status)
		}
		b.run(program, "remove", "fec")

		if roots == "2" { // one more in row 1
			b.overwrite("data.img", 101*size, make([]byte, size))
			b.run(program, "create", "--readonly", "fec", "--table", table)
			f, err := os.Open(b.mnt + "/fec")
			must(t, err)
			p := make([]byte, size)
			if _, err := f.ReadAt(p, 5*size); !errors.Is(err, syscall.EIO) {
				t.Errorf("a row with three lost blocks and two roots: %v", err)
			}
			if _, err := f.ReadAt(p, 7*size); err != nil || !bytes.Equal(p, data[7*size:8*size]) {
				t.Errorf("a good block of that row: %v", err)
			}
			must(t, f.Close())
			b.run(program, "remove", "fec")
		}
	}
}

// overwrite damages a file.
func (b *bench) overwrite(name string, off int, p []byte) {
	b.t.Helper()
	f, err := os.OpenFile(b.path(name), os.O_RDWR, 0)
	must(b.t, err)
	_, err = f.WriteAt(p, int64(off))
	must(b.t, errors.Join(err, f.Close()))
}

// Wrong bytes here and there, at most one in a code word, are repaired however many blocks have some: two parity bytes find one
// wrong byte, wherever it is.
func TestVerityRepairsBytes(t *testing.T) {
	requireTool(t, "veritysetup")
	b := newBench(t)
	b.mount("")
	const blocks, size = 30, 4096
	data := random(blocks*size, 3)
	must(t, os.WriteFile(b.path("data.img"), data, 0o600))
	must(t, os.WriteFile(b.path("hash.img"), nil, 0o600))
	must(t, os.WriteFile(b.path("fec.img"), nil, 0o600))
	made := b.run("veritysetup", "format", "--fec-device="+b.path("fec.img"), b.path("data.img"), b.path("hash.img"))
	_, rest, _ := strings.Cut(made, "Root hash:")
	table := strings.TrimSpace(b.run(program, "verity-table", b.path("data.img"), b.path("hash.img"), strings.Fields(rest)[0]))
	table += " 8 use_fec_from_device " + b.path("fec.img") + " fec_blocks 31 fec_start 0 fec_roots 2"
	for block := range 5 {
		at := block*size + 7*block
		b.overwrite("data.img", at, []byte{^data[at]})
	}
	b.run(program, "create", "--readonly", "fec", "--table", table)
	if got, err := os.ReadFile(b.mnt + "/fec"); err != nil || !bytes.Equal(got, data) {
		t.Errorf("a wrong byte in each of five blocks: %v", err)
	}
	b.run(program, "remove", "fec")
}

// Images of veritysetup with parameters by chance are opened by their superblock; a lost block is repaired where there is parity.
func TestVerityOfAllKinds(t *testing.T) {
	requireTool(t, "veritysetup")
	b := newBench(t)
	b.mount("")
	const cases = 16
	rnd := rand.New(rand.NewPCG(5, 0))
	for i := range cases {
		pick := func(of ...int) int { return of[rnd.IntN(len(of))] }
		block, hashBlock, blocks := pick(512, 1024, 2048, 4096), pick(512, 1024, 2048, 4096), pick(1, 2, 128, 129, 1+rnd.IntN(1000))
		with := []string{
			fmt.Sprint("--data-block-size=", block), fmt.Sprint("--format=", i%2), "--salt=" + []string{"-", "00ff", strings.Repeat("5a", 64)}[i%3],
			"--hash=" + []string{"sha1", "sha256", "sha512", "sha224", "sha3-256", "blake2b-512", "blake2s-256"}[rnd.IntN(7)],
		}
		var places []string
		if offset := hashBlock * pick(0, 1, 8); offset > 0 {
			places = append(places, fmt.Sprint("--hash-offset=", offset))
		}
		parity := i%2 == 0
		if parity {
			hashBlock = block
			places = append(places[:0], "--fec-device="+b.path("fec.img"), fmt.Sprint("--fec-roots=", pick(2, 3, 24)))
		}
		with = append(with, fmt.Sprint("--hash-block-size=", hashBlock), fmt.Sprint("--data-blocks=", blocks))
		data := random(block*blocks, uint64(i))
		for name, p := range map[string][]byte{"data.img": data, "hash.img": nil, "fec.img": nil} {
			must(t, os.WriteFile(b.path(name), p, 0o600))
		}
		made := b.run("veritysetup", append(append([]string{"format", b.path("data.img"), b.path("hash.img")}, with...), places...)...)
		_, rest, _ := strings.Cut(made, "Root hash:")
		if parity {
			b.overwrite("data.img", rnd.IntN(blocks)*block, make([]byte, block))
		}
		b.run(program, append([]string{"open", "--root-hash", strings.Fields(rest)[0], b.path("data.img"), b.path("hash.img"), "v"}, places...)...)
		if got, err := os.ReadFile(b.mnt + "/v"); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%v %v: %d bytes, %v; want what was formatted", with, places, len(got), err)
		}
		b.run(program, "close", "v")
	}
}
