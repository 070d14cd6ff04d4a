package kernel

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A reencryption is one that cryptsetup begins in the kernel, and that is stopped by a sector that cannot be read.
type reencryption struct {
	name   string
	format bool   // there is a container before, else plain data
	begin  string // words for cryptsetup reencrypt
	header string // words for the header, if it is not before the data
	at     int    // sector
}

var reencryptions = []reencryption{
	{"forward", true, "--sector-size 512 --resilience journal NAME.img", "", 12000},
	{"checksum", true, "--resilience checksum NAME.img", "", 12000},
	{"backward", true, "--reduce-device-size 1M NAME.img", "", 12000},
	{"encrypt", false, "--encrypt --reduce-device-size 4M --luks2-metadata-size 16k --luks2-keyslots-size 1m NAME.img", "", 10000},
	{"decrypt", true, "--decrypt --header NAME-header.img NAME.img", "--header NAME-header.img", 14000},
}

// script has the kernel begin, stop, and show it; then interrupt it while it writes, keep that state, and show what recovery makes of it.
func (r reencryption) script() string {
	format := ""
	if r.format {
		format = `cryptsetup -q luksFormat --type luks2 $q --luks2-metadata-size 16k --luks2-keyslots-size 1m NAME.img >&2
			cryptsetup open --key-file pass NAME.img c; cat one one two | dd of=/dev/mapper/c bs=64k iflag=fullblock conv=notrunc,fsync status=none; cryptsetup close c`
	}
	return strings.NewReplacer("HEADER", strings.ReplaceAll(r.header, "NAME", r.name), "NAME", r.name, "AT", fmt.Sprint(r.at)).Replace(`
		q="--pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file pass"
		view() { cryptsetup open --key-file pass HEADER NAME.img c; size=${size:-$(blockdev --getsize64 /dev/mapper/c)}
			dmsetup table c | sed "s/^/NAME $1 /"; echo NAME $1 sum $(head -c $size /dev/mapper/c | sha256sum); cryptsetup close c; }
		resume() { losetup $disk NAME.img; printf "$1" | dmsetup create d
			cryptsetup -q reencrypt --resume-only --force-offline-reencrypt --hotzone-size 256k --key-file pass HEADER /dev/mapper/d >&2 && exit 1
			dmsetup remove d; losetup -d $disk; }
		disk=$(losetup -f); size=
		` + format + `
		cryptsetup -q reencrypt --init-only --force-offline-reencrypt $q ` + r.begin + ` >&2
		resume "0 AT linear $disk 0\nAT 8 error\n$((AT+8)) $((24576-AT-8)) linear $disk $((AT+8))\n"
		view stopped; cp NAME.img NAME-stopped.img; test ! -e NAME-header.img || cp NAME-header.img NAME-stopped-header.img
		resume "0 24568 linear $disk 0\n24568 8 flakey $disk 24568 0 1 1 error_writes\n"
		cp NAME.img NAME-torn.img; test ! -e NAME-header.img || cp NAME-header.img NAME-torn-header.img
		view recovered
		`)
}

// What is being reencrypted is mapped as the kernel and its cryptsetup map it, stopped in the middle, and read as they read it when they have recovered it,
// interrupted while they wrote.
func TestReencryptions(t *testing.T) {
	boot(t)
	b := newToolbox(t)
	mnt := filepath.Join(b.dir, "mnt")
	for _, r := range reencryptions {
		t.Run(r.name, func(t *testing.T) {
			b.t = t
			images := newImages(t)
			data, err := os.ReadFile(filepath.Join(images, "one"))
			must(t, err)
			image := filepath.Join(images, r.name+".img")
			must(t, os.WriteFile(image, data, 0o644))
			must(t, os.Truncate(image, 24576*512))
			shown := inKernel(t, images, r.script())
			for _, state := range []string{"stopped", "torn"} {
				theirs := state
				args := []string{"open", "-m", mnt, "--key-file", filepath.Join(images, "pass")}
				if state == "torn" {
					theirs, args = "recovered", append(args, "--readonly")
				}
				if r.header != "" {
					args = append(args, "--header", filepath.Join(images, r.name+"-"+state+"-header.img"))
				}
				b.run(append(args, filepath.Join(images, r.name+"-"+state+".img"), "c")...)
				var table, want []string
				for line := range strings.Lines(b.run("table", "-m", mnt, "c")) {
					table = append(table, bare(line))
				}
				content, err := os.ReadFile(filepath.Join(mnt, "c"))
				must(t, err)
				b.run("close", "-m", mnt, "c")
				for line := range strings.Lines(shown) {
					if line, ok := strings.CutPrefix(line, r.name+" "+theirs+" "); ok {
						want = append(want, bare(line))
					}
				}
				compareReencryption(t, state, table, content, want)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// compareReencryption compares content with what the kernel has shown, and the table of what was stopped; of what was torn the kernel has another.
func compareReencryption(t *testing.T, state string, table []string, content []byte, want []string) {
	t.Helper()
	if len(want) < 2 {
		t.Fatalf("%s: the kernel shows %q", state, want)
	}
	last := len(want) - 1
	switch theirs := strings.Join(want[:last], "\n"); {
	case state == "torn":
	case len(table) < 2:
		t.Errorf("it was not stopped in the middle: %q", table)
	case strings.Join(table, "\n") != theirs:
		t.Errorf("%s:\n%s\nin the kernel\n%s", state, strings.Join(table, "\n"), theirs)
	}
	if sum := fmt.Sprintf("sum %x -", sha256.Sum256(content)); sum != want[last] {
		t.Errorf("%s: %s, in the kernel %s", state, sum, want[last])
	}
}

// bare returns a line of a table without keys and the name of the disk.
func bare(line string) string {
	line = regexp.MustCompile(`:\d+:logon:\S+|\b(00){32,}\b`).ReplaceAllString(strings.TrimSpace(line), "KEY")
	line = regexp.MustCompile(` \d+:\d+ | /\S+\.img `).ReplaceAllString(line, " DISK ")
	return strings.Join(strings.Fields(line), " ")
}
