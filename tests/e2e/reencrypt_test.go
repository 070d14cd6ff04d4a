package e2e

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A reencryption is one that cryptsetup begins and that is stopped in the middle.
type reencryption struct {
	name     string
	sectors  string // bytes of the sectors of the container that there is before; "" if there is none
	begin    string // words for cryptsetup reencrypt
	detached bool   // the header is in h; when the container is made already, unless there is none in the end
	at       int    // sector that cannot be read, which stops it
	torn     []int  // those that stop it before the part in which it is then interrupted while it writes
}

// reencryptions has each mode and direction, headers before the data, which is moved, and elsewhere, all resiliences and sector sizes.
var reencryptions = []reencryption{
	{"forward", "512", "--sector-size 4096 --resilience checksum a.img", false, 12000, []int{12000}},
	{"forward, same key", "512", "--keep-key --sector-size 4096 --resilience journal a.img", false, 12000, []int{12000}},
	{"backward", "4096", "--reduce-device-size 1M --sector-size 512 a.img", false, 12000, []int{12000}},
	{"encrypt", "", "--encrypt --reduce-device-size 4M $s a.img", false, 10000, []int{10000, 21000}},
	{"encrypt, detached", "", "--encrypt --header h --sector-size 4096 --resilience journal $s a.img", true, 12000, []int{12000}},
	{"decrypt, detached", "4096", "--decrypt --header h --resilience checksum a.img", true, 12000, []int{12000}},
	{"decrypt", "4096", "--decrypt --header h a.img", true, 14000, []int{100}},
}

// script returns the beginning of the scripts for sessions. view shows what cryptsetup makes of the container, and judge the sum of the
// first bytes of its content, wherever that is when recovery has ended a decryption; stop goes on with the reencryption on a
// disk that has a sector that cannot be read; interrupt on one that does not say that what was written is durable.
func (r reencryption) script() string {
	header := ""
	if r.detached {
		header = "--header h"
	}
	return `set +x; q="--pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file pass"; s="--luks2-metadata-size 16k --luks2-keyslots-size 1m"
		format() { n=$1; shift; cryptsetup -q luksFormat --type luks2 $q $s --sector-size $n "$@" 2>/dev/null; cryptsetup open --key-file pass "$@" c; head -c $(blockdev --getsize64 /dev/mapper/c) plain | dd of=/dev/mapper/c bs=1M conv=notrunc status=none; cryptsetup close c; }
		view() { cryptsetup open --key-file pass ` + header + ` a.img c; dmsetup table c | sed 's/^/table /'; sha256sum /dev/mapper/c; cryptsetup close c; }
		judge() { cryptsetup open --key-file pass ` + header + ` a.img c || { head -c $1 a.img | sha256sum; return; }
			head -c $1 /dev/mapper/c | sha256sum; cryptsetup close c; }
		disk() { dmsetup create d --table "0 $1 linear a.img 0
$1 8 $2$(test $1 = 24568 || echo; test $1 = 24568 || echo $(($1+8)) $((24576-$1-8)) linear a.img $(($1+8)))"; }
		resume() { cryptsetup -q reencrypt --resume-only --force-offline-reencrypt --hotzone-size 1m --key-file pass ` + header + ` $1; }
		interrupt() { disk 24568 "flakey a.img 24568 0 1 1 error_writes"; ! resume /dev/mapper/d; dmsetup remove d; }
		stop() { disk ` + fmt.Sprint(r.at) + ` "$1"; ! resume /dev/mapper/d; dmsetup remove d; }
		`
}

const imageOfReencryption = 24576 // sectors

// begin makes the container and begins, which writes nothing but headers, and data that is to be out of a header's way.
func (b *bench) begin(r reencryption) {
	b.t.Helper()
	data := make([]byte, imageOfReencryption*512)
	copy(data, random(8<<20, 3))
	for _, name := range []string{"plain", "a.img"} {
		b.file(name, string(data))
	}
	b.file("pass", "secret")
	format := ""
	if r.name != "decrypt" { // which makes it of the header that is before the data
		b.image("h", 4096)
	}
	switch {
	case r.sectors == "":
	case r.detached && r.name != "decrypt":
		format = "format " + r.sectors + " --header h a.img"
	default:
		format = "format " + r.sectors + " a.img"
	}
	b.session("", r.script()+format+`
		cryptsetup -q reencrypt --init-only --force-offline-reencrypt $q `+r.begin)
}

// open opens the container as dmfs does and returns its table and content, in the form in which view shows them.
func (b *bench) openReencrypted(r reencryption, options ...string) string {
	b.t.Helper()
	args := slices.Concat([]string{"open", "--key-file", b.path("pass")}, options)
	if r.detached {
		args = append(args, "--header", b.path("h"))
	}
	b.run(program, append(args, b.path("a.img"), "c")...)
	shown := ""
	for line := range strings.Lines(b.run(program, "table", "c")) {
		shown += "table " + line
	}
	return shown + b.run("sha256sum", b.mnt+"/c")
}

// plain takes the names of keys and disks out of tables, and of the file out of sums.
func plain(tables string) string {
	tables = strings.TrimPrefix(tables, "+ set +x\n")
	tables = regexp.MustCompile(`:\d+:logon:\S+|\b(00)+\b(?: )`).ReplaceAllString(tables, "KEY ")
	tables = regexp.MustCompile(` 7:\d+ | \S+/a\.img `).ReplaceAllString(tables, " DISK ")
	tables = regexp.MustCompile(`  +\S+/c\n`).ReplaceAllString(tables, "\n")
	return strings.TrimSpace(strings.ReplaceAll(tables, "  ", " "))
}

// A reencryption that has begun, and one that was stopped in the middle, are mapped as by cryptsetup: the same tables, the same content. Nothing is
// written by that. What is written then is there for cryptsetup, which ends the reencryption.
func TestReencrypted(t *testing.T) {
	for _, r := range reencryptions {
		t.Run(r.name, func(t *testing.T) {
			requireTool(t, "cryptsetup")
			b := newBench(t)
			b.skipWithoutUserNamespaces()
			b.mount("")
			b.begin(r)
			var sums []string
			for _, step := range []string{"begun", "stopped"} {
				if step == "stopped" {
					b.session("", r.script()+"stop error")
				}
				before := b.run("sha256sum", b.path("a.img"), b.path("h"))
				got := plain(b.openReencrypted(r))
				b.run(program, "close", "c")
				if after := b.run("sha256sum", b.path("a.img"), b.path("h")); after != before {
					t.Errorf("%s: it was written to by opening", step)
				}
				want := plain(b.session("", r.script()+"view"))
				if got != want {
					t.Errorf("%s:\n%s\nby cryptsetup's account\n%s", step, got, want)
				}
				sums = append(sums, want[strings.LastIndex(want, "\n")+1:])
				if n := strings.Count(want, "table "); step == "stopped" && n < 2 {
					t.Errorf("it was not stopped in the middle:\n%s", want)
				}
			}
			if sums[0] != sums[1] {
				t.Error("the reencryption has changed the content")
			}
			b.endReencryption(r)
		})
	}
}

// endReencryption writes to the container, in each segment and where segments meet, has cryptsetup end the reencryption, and looks for what was written.
func (b *bench) endReencryption(r reencryption) {
	b.t.Helper()
	b.openReencrypted(r)
	want, err := os.ReadFile(b.mnt + "/c")
	must(b.t, err)
	for i, line := range strings.Split(strings.TrimSpace(b.run(program, "table", "c")), "\n") {
		var start int64
		_, err := fmt.Sscan(line, &start)
		must(b.t, err)
		at, data := max(0, start*512-4096), random(12288, uint64(i))
		must(b.t, writeAt(b.mnt+"/c", data, at))
		copy(want[at:], data)
	}
	b.run(program, "close", "c")
	out := b.session("", r.script()+"resume a.img && cryptsetup status c || true; cryptsetup luksDump h || cryptsetup luksDump a.img || true")
	if strings.Contains(out, "online-reencrypt") {
		b.t.Fatalf("the reencryption has not ended: %s", out)
	}
	got, err := os.ReadFile(b.path("a.img"))
	must(b.t, err)
	if !strings.HasPrefix(r.name, "decrypt") {
		b.openReencrypted(r)
		got, err = os.ReadFile(b.mnt + "/c")
		must(b.t, err)
		b.run(program, "close", "c")
	}
	if len(got) < len(want) || !bytes.Equal(got[:len(want)], want) {
		b.t.Error("when the reencryption has ended the data is another")
	}
}

// A reencryption that was interrupted while it wrote is read as what recovery makes of it, whatever of the data was written, and not written to before
// that: cryptsetup's own recovery of the same state has the same content.
func TestReencryptionInterrupted(t *testing.T) {
	const seed = 5
	for _, r := range reencryptions {
		for _, at := range r.torn {
			t.Run(fmt.Sprintf("%s at %d", r.name, at), func(t *testing.T) {
				requireTool(t, "cryptsetup")
				b := newBench(t)
				b.skipWithoutUserNamespaces()
				b.mount("")
				r.at = at
				b.begin(r)
				b.session("", r.script()+"stop error")
				sum := strings.Fields(b.openReencrypted(r))
				want := sum[len(sum)-2]
				content, err := os.Stat(b.mnt + "/c") // at the end what was kept free becomes part of it
				must(t, err)
				b.run(program, "close", "c")
				before, err := os.ReadFile(b.path("a.img"))
				must(t, err)
				b.session("", r.script()+"interrupt")
				after, err := os.ReadFile(b.path("a.img"))
				must(t, err)
				header := b.path("a.img")
				if r.detached {
					header = b.path("h")
				}
				metadata, err := os.ReadFile(header)
				must(t, err)
				if !bytes.Contains(metadata, []byte("in-reencryption")) {
					t.Fatal("it was not interrupted while it wrote")
				}
				random := rand.New(rand.NewPCG(seed, uint64(at)))
				for try, chance := range []int{60, 3} { // of each block to have been written
					image := bytes.Clone(after)
					for block := int64(firstBlock(r)); block < int64(len(image))/4096; block++ {
						if random.IntN(100) >= chance {
							copy(image[block*4096:][:4096], before[block*4096:])
						}
					}
					b.file("a.img", string(image))
					if r.detached {
						b.file("h", string(metadata))
					}
					b.openInterrupted(r, fmt.Sprintf("seed %d, try %d", seed, try), want, content.Size())
				}
			})
		}
	}
}

// firstBlock returns the first block of 4096 bytes behind the header.
func firstBlock(r reencryption) int {
	if r.detached {
		return 0
	}
	return 512
}

// openInterrupted looks for the content with the sum want, in the container as it is, and in as many bytes when cryptsetup has recovered it.
func (b *bench) openInterrupted(r reencryption, try, want string, size int64) {
	b.t.Helper()
	args := []string{"open", "--key-file", b.path("pass"), b.path("a.img"), "c"}
	if r.detached {
		args = append(args, "--header", b.path("h"))
	}
	b.fails(1, "cryptsetup repair recovers it", program, args...)
	disks := b.run("sha256sum", b.path("a.img"), b.path("h"))
	if got := b.openReencrypted(r, "--readonly"); !strings.Contains(got, want) {
		b.t.Errorf("%s: the content is\n%s\nwant %s", try, got, want)
	}
	b.run(program, "close", "c")
	if b.run("sha256sum", b.path("a.img"), b.path("h")) != disks {
		b.t.Errorf("%s: it was written to", try)
	}
	if judged := b.session("", r.script()+fmt.Sprint("judge ", size)); !strings.Contains(judged, want) {
		b.t.Errorf("%s: cryptsetup has recovered\n%s\nwant %s", try, judged, want)
	}
}

// rewrite changes the JSON of both headers, and their checksums. What is replaced has as many characters.
func (b *bench) rewrite(image, old, now string) {
	b.t.Helper()
	const size, bin, sum = 16 << 10, 4096, 448 // bytes of a header with its JSON, of what is not JSON, and where its checksum is
	data, err := os.ReadFile(b.path(image))
	must(b.t, err)
	for at := 0; at <= size; at += size {
		header := data[at:][:size]
		if len(old) != len(now) || bytes.Count(header, []byte(old)) != 1 {
			b.t.Fatalf("%q is not there once: %s", old, bytes.Trim(header[bin:], "\x00"))
		}
		copy(header[bin:], bytes.Replace(header[bin:], []byte(old), []byte(now), 1))
		clear(header[sum:][:64])
		made := sha256.Sum256(header)
		copy(header[sum:], made[:])
	}
	b.file(image, string(data))
}

// While cryptsetup is at work on a reencryption, nobody else opens the container. It is held up by a part of the disk that is suspended.
func TestReencryptionAtWork(t *testing.T) {
	requireTool(t, "cryptsetup")
	requireRoot(t) // the locks of cryptsetup are root's
	b := newBench(t)
	b.skipWithoutUserNamespaces()
	b.mount("")
	r := reencryptions[4] // the header is elsewhere
	b.begin(r)
	b.run(program, "create", "held", "--table", fmt.Sprintf("0 8 linear %s %d", b.path("a.img"), r.at))
	b.run(program, "create", "d", "--table", fmt.Sprintf("0 %d linear %s 0\n%d 8 linear %s 0\n%d %d linear %s %d", r.at, b.path("a.img"), r.at, b.mnt+"/held",
		r.at+8, imageOfReencryption-r.at-8, b.path("a.img"), r.at+8))
	b.run(program, "suspend", "held")
	cmd, out := b.start("cryptsetup", "-q", "reencrypt", "--resume-only", "--force-offline-reencrypt", "--key-file", b.path("pass"), "--header", b.path("h"), b.mnt+"/d")
	uuid := strings.TrimSpace(b.run("cryptsetup", "luksUUID", b.path("h")))
	b.waitFor("cryptsetup to lock", func() bool {
		f, err := os.Open("/run/cryptsetup/LN_LUKS2-reencryption-" + uuid)
		if err != nil {
			return false
		}
		defer f.Close()
		return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
	})
	open := []string{"open", "--key-file", b.path("pass"), "--header", b.path("h"), b.path("a.img"), "c"}
	b.fails(5, "cryptsetup is at work", program, open...)
	b.waitFor("cryptsetup to be about to write data", func() bool {
		header, err := os.ReadFile(b.path("h"))
		must(t, err)
		return bytes.Contains(header, []byte("in-reencryption"))
	})
	b.fails(5, "cryptsetup is at work", program, open...)
	b.run(program, "resume", "held")
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.openReencrypted(r)
}

// A state that nobody who had the passphrase has written is refused, as by cryptsetup, and one that nothing authenticates; so is what does not go
// with two keys.
func TestReencryptionRefusals(t *testing.T) {
	requireTool(t, "cryptsetup")
	b := newBench(t)
	b.skipWithoutUserNamespaces()
	b.mount("")
	r := reencryptions[0]
	b.begin(r)
	b.session("", r.script()+"stop error")
	image, key := b.path("a.img"), []string{"--key-file", b.path("pass")}
	good, err := os.ReadFile(image)
	must(t, err)
	open := func(status int, want string, args ...string) {
		t.Helper()
		b.fails(status, want, program, slices.Concat([]string{"open"}, args, []string{image, "c"})...)
	}
	for _, c := range []struct{ old, now, want string }{
		{`"hash":"sha256","sector_size":4096}`, `"hash":"sha512","sector_size":4096}`, "is not authentic"},
		{`"mode":"reencrypt","direction":"forward"`, `"mode":"reencrypt","direction":"forwarD"`, "want forward or backward"},
		{`"online-reencrypt-v2"`, `"online-reencrypt-v3"`, "is not authentic"},
		{`"online-reencrypt-v2"`, `"online-reencrypt-v4"`, `"online-reencrypt-v4"`},
		{`"keyslots":["2"]`, `"keyslots":[   ]`, "cryptsetup repair makes one"},
	} {
		b.file("a.img", string(good))
		b.rewrite("a.img", c.old, c.now)
		open(1, c.want, key...)
		if out, status := b.trySession("", r.script()+"cryptsetup open --key-file pass a.img c"); status == 0 {
			t.Errorf("%s: cryptsetup opens it: %s", c.now, out)
		}
	}
	b.session("", "cryptsetup -q repair --key-file pass a.img")
	b.openReencrypted(r)
	open(5, "exists already", key...)
	b.fails(5, "is open already, as c", program, slices.Concat([]string{"open"}, key, []string{image, "other"})...)
	b.run(program, "close", "c")

	open(2, "no key available", "--key-file", b.file("other", "other"))
	open(1, "leave --volume-key-file and --key-slot out", "--key-file", b.path("pass"), "--key-slot", "0")
	open(1, "leave --volume-key-file and --key-slot out", "--volume-key-file", b.path("pass"))
	if out := b.run(program, "open", "--print", image, "c"); !strings.Contains(out, "nobody checked its state") || strings.Count(out, "crypt aes-xts-plain64 "+strings.Repeat("00", 64)) != 2 {
		t.Errorf("--print: %s", out)
	}
	if out := b.run(program, slices.Concat([]string{"open", "--json"}, key, []string{image, "c"})...); !strings.Contains(out, `"key_slots":[0,1]`) {
		t.Errorf("--json: %s", out)
	}
	b.run(program, "close", "c")
	b.run(program, slices.Concat([]string{"open", "--test-passphrase"}, key, []string{image})...)

	// The passphrase of the old key alone, and the words for a reencryption that keeps nothing for a crash.
	b.container("n.img", slices.Concat(luks2, cheap)...)
	b.run("cryptsetup", slices.Concat([]string{"-q", "luksAddKey", "--key-file", b.path("secret")}, cheap, []string{b.path("n.img"), b.file("second", "second")})...)
	b.run("cryptsetup", slices.Concat([]string{"reencrypt", "-q", "--init-only", "--resilience", "none", "--key-slot", "0", "--key-file", b.path("secret")}, cheap,
		[]string{b.path("n.img")})...)
	b.fails(2, "one of two volume keys", program, "open", "--key-file", b.path("second"), b.path("n.img"), "c")
	if out := b.run(program, "open", "--key-file", b.path("secret"), b.path("n.img"), "c"); !strings.Contains(out, "keeps nothing for a crash") {
		t.Errorf("resilience none: %q", out)
	}
}
