package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// feed runs a command with standard input and returns what it printed and its exit status.
func (b *bench) feed(stdin, name string, args ...string) (string, int) {
	b.t.Helper()
	cmd := b.command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	return b.complete(cmd)
}

// Options of cryptsetup: key derivations that cost nothing, and headers that do not waste room.
var (
	luks1 = []string{"--type", "luks1", "--pbkdf-force-iterations", "1000"}
	luks2 = []string{"--type", "luks2", "--luks2-metadata-size", "16k", "--luks2-keyslots-size", "1m"}
	cheap = []string{"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"}
)

// imageSectors is an image with room for a header and some data.
const imageSectors = 8192

// container makes an image with cryptsetup, whose passphrase is "secret", which is what the file secret holds.
func (b *bench) container(name string, args ...string) string {
	b.t.Helper()
	b.image(name, imageSectors)
	b.file("secret", "secret")
	b.run("cryptsetup", slices.Concat([]string{"-q", "luksFormat", "--key-file", b.path("secret")}, args, []string{b.path(name)})...)
	return b.path(name)
}

// judged returns the crypt table of a container, made of what cryptsetup prints of its header, with its key.
func (b *bench) judged(header, image string) string {
	b.t.Helper()
	dump := b.run("cryptsetup", "-q", "luksDump", header)
	key := b.run("cryptsetup", "-q", "luksDump", "--dump-volume-key", "--key-file", b.path("secret"), header)
	_, digits, _ := strings.Cut(key, "MK dump:")
	field := func(pattern string) string {
		if m := regexp.MustCompile(pattern).FindStringSubmatch(dump); m != nil {
			return m[1]
		}
		return ""
	}
	number := func(text string) int {
		n, err := strconv.Atoi(text)
		must(b.t, err)
		return n
	}
	var cipher, options string
	var offset int
	if field(`Version:\s+(\d)`) == "1" {
		cipher = field(`Cipher name:\s+(\S+)`) + "-" + field(`Cipher mode:\s+(\S+)`)
		offset = number(field(`Payload offset:\s+(\d+)`))
	} else {
		cipher = field(`\tcipher: (\S+)`)
		offset = number(field(`\toffset: (\d+) \[bytes\]`)) / 512
		if n := field(`\tsector: (\d+)`); n != "512" {
			options = " 1 sector_size:" + n
		}
	}
	return fmt.Sprintf("0 %d crypt %s %s 0 %s %d%s", imageSectors-offset, cipher,
		strings.Join(regexp.MustCompile(`\b[0-9a-f]{2}\b`).FindAllString(digits, -1), ""), image, offset, options)
}

// Containers of cryptsetup open, and hold what a crypt table with the key that cryptsetup prints holds: each sees what the other wrote.
func TestContainersOfCryptsetup(t *testing.T) {
	requireTool(t, "cryptsetup")
	argon := func(kind, threads string) []string {
		return []string{"--pbkdf", kind, "--pbkdf-force-iterations", "4", "--pbkdf-memory", "64", "--pbkdf-parallel", threads}
	}
	for _, c := range []struct {
		name     string
		args     []string
		detached bool
	}{
		{"luks1 sha1", slices.Concat(luks1, []string{"--hash", "sha1", "-c", "aes-cbc-essiv:sha256", "-s", "256"}), false},
		{"luks1 sha512", slices.Concat(luks1, []string{"--hash", "sha512", "-c", "aes-xts-plain64", "-s", "512"}), false},
		{"luks1 ripemd160", slices.Concat(luks1, []string{"--hash", "ripemd160", "-c", "aes-cbc-plain", "-s", "128"}), false},
		{"luks1 detached", luks1, true},
		{"luks2 pbkdf2", slices.Concat(luks2, cheap), false},
		{"luks2 sha3", slices.Concat(luks2, cheap, []string{"--hash", "sha3-256", "--sector-size", "512"}), false},
		{"luks2 1024", slices.Concat(luks2, cheap, []string{"--sector-size", "1024"}), false},
		{"luks2 argon2id 4096", slices.Concat(luks2, argon("argon2id", "4"), []string{"--sector-size", "4096"}), false},
		{"luks2 argon2i", slices.Concat(luks2, argon("argon2i", "1"), []string{"-c", "aes-cbc-essiv:sha256", "-s", "128"}), false},
		{"luks2 detached", slices.Concat(luks2, cheap), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.mount("")
			header, args := b.path("c.img"), c.args
			var extra []string
			if c.detached {
				header = b.image("header.img", imageSectors)
				extra = []string{"--header", header}
			}
			image := b.container("c.img", slices.Concat(args, extra)...)
			b.run(program, slices.Concat([]string{"open", "--key-file", b.path("secret"), image, "c"}, extra)...)
			table := b.judged(header, image)
			b.run(program, "create", "judge", "--table", table)
			if got := strings.TrimSpace(b.run(program, "table", "--showkeys", "c")); got != strings.TrimSpace(b.run(program, "table", "--showkeys", "judge")) {
				t.Errorf("table %q, and by cryptsetup's account %q", got, table)
			}
			data := random(70000, 7)
			must(t, writeAt(b.mnt+"/c", data, 4096*3))
			b.run(program, "close", "c")
			got, err := os.ReadFile(b.mnt + "/judge")
			if err != nil || !bytes.Equal(got[4096*3:][:len(data)], data) {
				t.Errorf("what was written is not there for the judge: %v", err)
			}
			must(t, writeAt(b.mnt+"/judge", data, 512*5))
			b.run(program, "remove", "judge")
			b.run(program, slices.Concat([]string{"open", "--readonly", "--key-file", b.path("secret"), image, "c"}, extra)...)
			got, err = os.ReadFile(b.mnt + "/c")
			if err != nil || !bytes.Equal(got[512*5:][:len(data)], data) {
				t.Errorf("what the judge wrote is not there: %v", err)
			}
			if err := writeAt(b.mnt+"/c", data, 0); err == nil {
				t.Error("written in spite of --readonly")
			}
			b.run(program, "close", "c")
		})
	}
}

// writeAt writes to a device and makes it durable.
func writeAt(name string, data []byte, off int64) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, off)
	return errors.Join(err, f.Sync(), f.Close())
}

// LUKS1 is read and written by QEMU, too, whose code has nothing to do with cryptsetup's: both hold the same data, in every cipher and hash
// that it has.
func TestContainersOfQEMU(t *testing.T) {
	requireTool(t, "qemu-img")
	b := newBench(t)
	b.mount("")
	data := random(256<<10, 9)
	b.file("plain", string(data))
	object := []string{"--object", "secret,id=s,data=secret"}
	for _, c := range []string{
		"cipher-alg=aes-256,cipher-mode=xts,ivgen-alg=plain64,hash-alg=sha256",
		"cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256,hash-alg=sha1",
		"cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=plain,hash-alg=sha512",
		"cipher-alg=serpent-256,cipher-mode=xts,ivgen-alg=plain64,hash-alg=sha512",
		"cipher-alg=twofish-256,cipher-mode=xts,ivgen-alg=plain64,hash-alg=ripemd160",
		"cipher-alg=twofish-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256,hash-alg=sha256",
		"cipher-alg=cast5-128,cipher-mode=cbc,ivgen-alg=plain64,hash-alg=sha256",
	} {
		image := b.path("q.img")
		out, status := "", 1
		for try := 0; status != 0 && try < 10; try++ {
			out, status = b.try("qemu-img", slices.Concat([]string{"convert"}, object, []string{
				"-O", "luks", "-o", "key-secret=s,iter-time=10," + c, b.path("plain"), image})...)
			if !strings.Contains(out, "CPU usage") { // it may measure that it took no time
				break
			}
		}
		if status != 0 {
			t.Fatalf("%s: %s", c, out)
		}
		if out, status := b.feed("secret\n", program, "open", "--type", "luks1", image, "q"); status != 0 {
			t.Fatalf("%s: %s", c, out)
		}
		got, err := os.ReadFile(b.mnt + "/q")
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: QEMU's data is not there: %d bytes, %v", c, len(got), err)
		}
		other := random(len(data), 11)
		must(t, writeAt(b.mnt+"/q", other, 0))
		b.run(program, "close", "q")
		b.run("qemu-img", slices.Concat([]string{"convert"}, object, []string{"--image-opts",
			"driver=luks,key-secret=s,file.filename=" + image, "-O", "raw", b.path("back")})...)
		if got, err := os.ReadFile(b.path("back")); err != nil || !bytes.Equal(got, other) {
			t.Errorf("%s: QEMU does not read what was written: %v", c, err)
		}
	}
}

// Slots are tried as cryptsetup tries them, and every way to give a passphrase gives the same one.
func TestContainerKeys(t *testing.T) {
	requireTool(t, "cryptsetup")
	b := newBench(t)
	line := b.file("line", "with\nnewline\n")
	long := b.file("long", "..secret......")
	for _, format := range [][]string{luks1, slices.Concat(luks2, cheap)} {
		image := b.container("c.img", format...)
		add := []string{"-q", "luksAddKey", "--key-file", b.path("secret"), "--pbkdf-force-iterations", "1000"}
		if format[1] == "luks2" {
			add = append(add, "--pbkdf", "pbkdf2")
		}
		b.run("cryptsetup", append(add, image, line)...)
		b.run("cryptsetup", append(add, image, b.file("typed", "with"))...)
		for _, c := range []struct {
			stdin  string
			status int
			args   []string
		}{
			{"secret", 0, nil},
			{"secret\nmore\n", 0, nil},
			{"Secret\n", 2, nil},
			{"", 1, nil},
			{"with\nnewline\n", 0, nil},
			{"", 0, []string{"--key-file", line}},
			{"with\nnewline\n", 0, []string{"--key-file", "-"}},
			{"with\nnewline", 2, []string{"--key-file", "-"}},
			{"secret\n", 2, []string{"--key-file", "-"}},
			{"", 0, []string{"--key-file", long, "--keyfile-offset", "2", "--keyfile-size", "6"}},
			{"..secret...", 0, []string{"--key-file", "-", "--keyfile-offset", "2", "--keyfile-size", "6"}},
			{"", 2, []string{"--key-file", long, "--keyfile-offset", "2", "--keyfile-size", "7"}},
			{"", 1, []string{"--key-file", long, "--keyfile-size", "100"}},
			{"", 1, []string{"--key-file", b.path("missing")}}, // not 4, which is about the disk
			{"", 1, []string{"--key-file", long, "--keyfile-offset", "15"}},
			{"", 2, []string{"--key-file", long, "--keyfile-offset", "14"}},
			{"", 1, []string{"--key-file", os.DevNull}},
			{"secret", 1, []string{"--key-file", "-", "--keyfile-offset", "15"}},
			{"secret more", 0, []string{"--keyfile-size", "6"}},
			{"secret\n", 2, []string{"--keyfile-size", "3"}},
			{"secret\n", 1, []string{"--keyfile-size", "7"}},
			{"a\nsecret\nmore", 0, []string{"--keyfile-offset", "2"}},
			{"a\nsecretmore", 0, []string{"--keyfile-offset", "2", "--keyfile-size", "6"}},
			{"secret", 1, []string{"--keyfile-offset", "15"}},
			{"secret\n", 0, []string{"--key-slot", "0"}},
			{"secret\n", 2, []string{"--key-slot", "1"}},
			{"secret\n", 1, []string{"--key-slot", "5"}},
		} {
			args := append([]string{"open", "--test-passphrase", image}, c.args...)
			out, status := b.feed(c.stdin, program, args...)
			theirs, judge := b.feed(c.stdin, "cryptsetup", args...)
			if status != c.status || judge != c.status && c.stdin != "" {
				t.Errorf("%q %q: status %d, cryptsetup %d, want %d\n%s%s", c.stdin, c.args, status, judge, c.status, out, theirs)
			}
		}
		r, w, err := os.Pipe()
		must(t, err)
		_, err = w.WriteString("xxsecret, not this\n")
		must(t, errors.Join(err, w.Close()))
		cmd := b.command(program, "open", "--test-passphrase", "--key-fd", "3", "--keyfile-offset", "2", "--keyfile-size", "6", image)
		cmd.ExtraFiles = []*os.File{r}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("--key-fd: %v\n%s", err, out)
		}
		must(t, r.Close())
		b.run("cryptsetup", "-q", "luksKillSlot", "--key-file", line, image, "0")
		b.fails(2, "no key available", program, "open", "--test-passphrase", "--key-file", b.path("secret"), image)
		b.run(program, "open", "--test-passphrase", "--key-file", line, image)
	}
	b.run("cryptsetup", "config", "--key-slot", "1", "--priority", "ignore", b.path("c.img"))
	b.fails(2, "no key available", program, "open", "--test-passphrase", "--key-file", line, b.path("c.img"))
	b.run(program, "open", "--test-passphrase", "--key-slot", "1", "--key-file", line, b.path("c.img"))
}
