package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// The containers of the corpus open with the tables, uuids and content that the kernel and cryptsetup had. Those that are authenticated need
// targets beside crypt.
func TestContainersOfCorpus(t *testing.T) {
	root := os.Getenv("DMFS_CORPUS")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "corpus")
	}
	cases, err := filepath.Glob(filepath.Join(root, "luks*"))
	must(t, err)
	if len(cases) == 0 {
		t.Skip("needs the corpus: DMFS_CORPUS")
	}
	for _, dir := range cases {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			b := newBench(t)
			b.mount("")
			packed, err := os.ReadFile(filepath.Join(dir, "disk0.img.zst"))
			must(t, err)
			d, err := zstd.NewReader(nil)
			must(t, err)
			defer d.Close()
			disk, err := d.DecodeAll(packed, nil)
			must(t, err)
			image := b.file("disk0.img", string(disk))
			passphrase := "luks two"
			if filepath.Base(dir) == "luks1" {
				passphrase = "second pass"
			}
			want, err := os.ReadFile(filepath.Join(dir, "table"))
			must(t, err)
			authenticated := strings.Contains(string(want), " integrity ")
			out, status := b.feed(passphrase, program, "open", image, "l")
			if authenticated && !strings.Contains(b.run(program, "targets"), "integrity") {
				if status != 1 || !strings.Contains(out, "integrity: unknown target type") || strings.TrimSpace(b.run(program, "ls")) != "No devices found" {
					t.Errorf("without the target integrity: status %d, %s", status, out)
				}
				t.Skip("needs the target integrity")
			}
			if status != 0 {
				t.Fatalf("status %d: %s", status, out)
			}
			uuids, err := os.ReadFile(filepath.Join(dir, "uuid"))
			must(t, err)
			if got := b.run(program, "info", "-c", "--noheadings", "-o", "name,uuid"); got != string(uuids) {
				t.Errorf("uuids %q, want %q", got, uuids)
			}
			for line := range strings.Lines(string(want)) {
				name, line, _ := strings.Cut(strings.TrimSpace(line), ": ")
				below := image
				if authenticated && name == "l" {
					below = strings.Fields(b.run(program, "table", "--showkeys", name))[6]
				}
				line = strings.NewReplacer("98:0", below, "254:0", below).Replace(line)
				if got := strings.TrimSpace(b.run(program, "table", "--showkeys", name)); got != line {
					t.Errorf("table of %s:\n got %s\nwant %s", name, got, line)
				}
			}
			sums, err := os.ReadFile(filepath.Join(dir, "expect.sha256"))
			must(t, err)
			got := strings.Fields(b.run("sha256sum", b.mnt+"/l"))[0]
			if first := strings.Fields(string(sums))[0]; got != first {
				t.Errorf("content has sha256 %s, want %s", got, first)
			}
			b.run(program, "close", "l")
			if left := strings.TrimSpace(b.run(program, "ls")); left != "No devices found" {
				t.Errorf("left after close: %s", left)
			}
		})
	}
}

// What goes wrong has the exit status of cryptsetup, and says what to do about it.
func TestContainerRefusals(t *testing.T) {
	requireTool(t, "cryptsetup")
	b := newBench(t)
	b.mount("")
	image := b.container("c.img", slices.Concat(luks2, cheap)...)
	key := []string{"--key-file", b.path("secret")}
	open := func(status int, want string, args ...string) {
		t.Helper()
		b.fails(status, want, program, slices.Concat([]string{"open"}, key, args)...)
	}
	open(4, "no such file", b.path("missing"), "c")
	open(4, "neither a file nor a block device", b.dir, "c")
	open(1, "there is no LUKS header", b.image("zero.img", 64), "c")
	open(1, "BitLocker", b.file("bitlocker.img", "\xeb\x58\x90-FVE-FS-"+strings.Repeat("\x00", 8192)), "c")
	open(1, "--type verity", b.file("verity.img", "verity\x00\x00"+strings.Repeat("\x00", 8192)), "c")
	open(1, "NAME", image, "a/b")
	open(1, "LUKS2, not luks1", "--type", "luks1", image, "c")
	open(1, "are known", "--type", "plain", image, "c")
	open(1, "1 arguments", image)
	open(1, "goes with --print", "--showkeys", image, "c")
	open(1, "one of --key-file", "--key-fd", "0", image, "c")
	for _, args := range [][]string{{"--check-at-most-once"}, {"--hash-offset", "4096"}, {"--fec-device", "x"}, {"--fec-roots", "3"}, {"--force"}} {
		open(1, "not for LUKS", append(args, image, "c")...)
	}
	open(4, "segment 0", "--header", image, b.image("zero.img", 64), "c")
	b.fails(4, "is not mapped", program, "close", "c")
	b.run(program, "create", "own", "--table", "0 8 zero")
	b.fails(1, "dmfs remove own", program, "close", "own")

	b.run(program, slices.Concat([]string{"open"}, key, []string{image, "c"})...)
	open(5, "exists already", image, "c")
	open(5, "is open already, as c", image, "other")
	f, err := os.Open(b.mnt + "/c")
	must(t, err)
	b.fails(5, "--deferred", program, "close", "c")
	b.run(program, "close", "--deferred", "c")
	must(t, f.Close())
	b.waitFor("the deferred removal", func() bool { return !strings.Contains(b.run(program, "ls"), "c\t") })

	saved, err := os.ReadFile(image)
	must(t, err)
	b.overwrite("c.img", 5000, []byte("damaged"))
	if out := b.run(program, slices.Concat([]string{"open"}, key, []string{image, "c"})...); !strings.Contains(out, "the primary LUKS2 header is damaged") {
		t.Errorf("a damaged primary header: %q", out)
	}
	b.run(program, "close", "c")
	b.overwrite("c.img", 16384+5000, []byte("damaged"))
	open(1, "neither LUKS2 header is of use", image, "c")
	must(t, os.WriteFile(image, saved, 0o600))

}

// Key slots with a hash function that is not known here are refused by its name.
func TestContainerHashes(t *testing.T) {
	requireTool(t, "cryptsetup")
	b := newBench(t)
	key := []string{"--key-file", b.path("secret")}
	whirlpool := b.container("w.img", slices.Concat(luks1, []string{"--hash", "whirlpool"})...)
	b.run(program, slices.Concat([]string{"open", "--test-passphrase"}, key, []string{whirlpool})...)
	sm3 := b.container("s.img", slices.Concat(luks1, []string{"--hash", "sm3"})...)
	b.fails(1, `"sm3"`, program, slices.Concat([]string{"open", "--test-passphrase"}, key, []string{sm3})...)
}

// A container may lie on a mapped device, or on a network disk, whose header is read as any other.
func TestContainerDisks(t *testing.T) {
	requireTool(t, "cryptsetup")
	b := newBench(t)
	b.mount("")
	image := b.container("c.img", slices.Concat(luks2, cheap)...)
	data := random(9000, 5)
	open := func(disk string) {
		t.Helper()
		b.run(program, "open", "--key-file", b.path("secret"), disk, "c")
		got, err := os.ReadFile(b.mnt + "/c")
		if err != nil || len(got) < 4096+len(data) {
			t.Fatalf("%s: %d bytes, %v", disk, len(got), err)
		}
		if !bytes.Equal(got[4096:][:len(data)], data) {
			t.Errorf("%s: what was written is not there", disk)
		}
		b.run(program, "close", "c")
	}
	b.run(program, "open", "--key-file", b.path("secret"), image, "c")
	must(t, writeAt(b.mnt+"/c", data, 4096))
	b.run(program, "close", "c")
	b.run(program, "create", "below", "--table", fmt.Sprintf("0 %d linear %s 0", imageSectors, image))
	open(b.mnt + "/below")
	b.run(program, "remove", "below")
	requireTool(t, "qemu-nbd")
	open(b.qemuNBD(image).uri)
}

// The key and the passphrase are in no listing, log or saved state; the header's flags are in the table.
func TestContainerSecrets(t *testing.T) {
	requireTool(t, "cryptsetup")
	b := newBench(t)
	b.mount("")
	image := b.container("c.img", slices.Concat(luks2, cheap)...)
	table := b.judged(image, image)
	key := strings.Fields(table)[4]
	options := []string{"open", "--key-file", b.path("secret"), "--allow-discards", "--perf-no_read_workqueue", image, "c"}
	plan := b.run(program, append(options, "--print")...)
	if strings.Contains(plan, key) || !strings.Contains(plan, strings.Repeat("0", len(key))) || !strings.Contains(plan, " allow_discards no_read_workqueue") {
		t.Errorf("--print: %s", plan)
	}
	if shown := b.run(program, append(options, "--print", "--showkeys")...); !strings.Contains(shown, key) {
		t.Errorf("--print --showkeys: %s", shown)
	}
	var doc struct {
		Type    string
		Devices []struct{ Name, UUID string }
	}
	must(t, json.Unmarshal([]byte(b.run(program, append(options, "--json")...)), &doc))
	if doc.Type != "LUKS2" || len(doc.Devices) != 1 || doc.Devices[0].Name != "c" {
		t.Errorf("--json: %+v", doc)
	}
	b.fails(5, "exists already", program, options...)
	log, err := os.ReadFile(b.mnt + "/.dm/log")
	must(t, err)
	saved, err := os.ReadFile(b.mnt + "/control")
	must(t, err)
	for what, text := range map[string]string{"log": string(log), "saved state": string(saved), "table": b.run(program, "table", "c")} {
		if strings.Contains(text, key) || strings.Contains(text, "secret") {
			t.Errorf("the key is in the %s: %s", what, text)
		}
	}
	b.run(program, "close", "c")
	raw := make([]byte, len(key)/2)
	for i := range raw {
		fmt.Sscanf(key[2*i:], "%2x", &raw[i])
	}
	volume := b.file("volume.key", string(raw))
	b.run(program, "open", "--volume-key-file", volume, image, "c")
	b.run(program, "close", "c")
	raw[0] ^= 1
	b.fails(2, "not the volume key", program, "open", "--volume-key-file", b.file("volume.key", string(raw)), image, "c")
	b.fails(1, "are for passphrases", program, "open", "--volume-key-file", volume, "--keyfile-offset", "1", image, "c")
}

// terminal starts a command on a terminal of its own.
func (b *bench) terminal(args ...string) (master *os.File, tty int, cmd *exec.Cmd) {
	b.t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		b.t.Skipf("needs /dev/ptmx: %v", err)
	}
	b.t.Cleanup(func() { master.Close() })
	must(b.t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	must(b.t, err)
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	must(b.t, err)
	b.t.Cleanup(func() { slave.Close() })
	cmd = b.command(program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	must(b.t, cmd.Start())
	return master, int(slave.Fd()), cmd
}

// On a terminal the passphrase is asked for, not shown, and asked for again if it is wrong; ^C leaves the terminal as it was.
func TestContainerTerminal(t *testing.T) {
	requireTool(t, "cryptsetup")
	b := newBench(t)
	image := b.container("c.img", slices.Concat(luks2, cheap)...)
	for _, c := range []struct {
		typed  []string
		status int
	}{
		{[]string{"secret\n"}, 0}, {[]string{"wrong\n", "secret\n"}, 0}, {[]string{"a\n", "b\n", "c\n"}, 2}, {[]string{"\x03"}, 1}, {[]string{"wrong\n", "\x03"}, 1},
	} {
		master, tty, cmd := b.terminal("open", "--test-passphrase", image)
		seen := new(lockedBuffer)
		go func() {
			p := make([]byte, 1024)
			for {
				n, err := master.Read(p)
				seen.Write(p[:n])
				if err != nil {
					return
				}
			}
		}()
		echoes := func() bool {
			attr, err := unix.IoctlGetTermios(tty, unix.TCGETS)
			return err == nil && attr.Lflag&unix.ECHO != 0
		}
		for i, line := range c.typed {
			b.waitFor("the prompt", func() bool { return strings.Count(seen.String(), "Enter passphrase for ") == i+1 && !echoes() })
			_, err := master.WriteString(line)
			must(t, err)
		}
		timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		_ = cmd.Wait() // the status says it
		timer.Stop()
		if status := cmd.ProcessState.ExitCode(); status != c.status {
			t.Errorf("%q: status %d, want %d\n%s", c.typed, status, c.status, seen)
		}
		if !echoes() {
			t.Errorf("%q: the terminal does not echo any more", c.typed)
		}
		if strings.Contains(seen.String(), "secret") || strings.Contains(seen.String(), "wrong\n") {
			t.Errorf("%q was shown: %q", c.typed, seen)
		}
	}
	_, _, cmd := b.terminal("open", "--test-passphrase", "--keyfile-size", "3", image)
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("--keyfile-size on a terminal: status %d, want 1", cmd.ProcessState.ExitCode())
	}
}

// A key derivation that takes long ends with ^C at once.
func TestContainerInterrupt(t *testing.T) {
	requireTool(t, "cryptsetup")
	b := newBench(t)
	image := b.container("c.img", "--type", "luks1", "--pbkdf-force-iterations", "1000")
	b.overwrite("c.img", 208+4, []byte{255, 255, 255, 255}) // of slot 0
	cmd, out := b.start(program, "open", "--test-passphrase", "--key-file", b.path("secret"), image)
	time.Sleep(300 * time.Millisecond)
	must(t, cmd.Process.Signal(syscall.SIGINT))
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait() // the status says it
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(out.String(), "interrupted") {
		t.Errorf("status %d, %q; want interrupted", cmd.ProcessState.ExitCode(), out)
	}
}

// Verity images open by their superblock, on two disks and on one, and with parity are repaired.
func TestVerityOpens(t *testing.T) {
	requireTool(t, "veritysetup")
	b := newBench(t)
	b.mount("")
	const size = 256 << 10
	data := random(size, 1)
	for _, c := range []struct {
		name   string
		format []string
		open   []string
		one    bool
	}{
		{"two", nil, nil, false},
		{"one", []string{"--hash-offset", "262144"}, []string{"--type", "verity", "--hash-offset", "262144"}, true},
		{"fec", []string{"--fec-device", b.path("fec.img"), "--fec-roots", "4"}, []string{"--fec-device", b.path("fec.img"), "--fec-roots", "4"}, false},
		{"fec on one", []string{"--hash-offset", "262144", "--fec-device", b.path("data.img"), "--fec-offset", "1048576"},
			[]string{"--hash-offset", "262144", "--fec-device", b.path("data.img"), "--fec-offset", "1048576"}, true},
	} {
		must(t, os.WriteFile(b.path("data.img"), data, 0o600))
		must(t, os.WriteFile(b.path("hash.img"), nil, 0o600))
		must(t, os.WriteFile(b.path("fec.img"), nil, 0o600))
		disks := []string{b.path("data.img"), b.path("hash.img")}
		if c.one {
			disks[1] = disks[0]
			must(t, os.Truncate(disks[0], 1<<20)) // parity covers what is there up to its own beginning
		}
		made := b.run("veritysetup", slices.Concat([]string{"format", "--data-blocks=64"}, c.format, disks)...)
		field := func(name string) string {
			_, rest, _ := strings.Cut(made, name)
			return strings.Fields(rest)[0]
		}
		open := slices.Concat([]string{"open", "--root-hash", field("Root hash:")}, c.open, disks)
		if c.one {
			open = open[:len(open)-1]
		}
		if len(c.format) > 1 && strings.HasPrefix(c.name, "fec") {
			b.overwrite("data.img", 4096*7, random(4096, 3))
		}
		b.run(program, append(open, "v")...)
		got, err := os.ReadFile(b.mnt + "/v")
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v; want what was formatted", c.name, len(got), err)
		}
		uuid := "CRYPT-VERITY-" + strings.ReplaceAll(field("UUID:"), "-", "") + "-v"
		if got := strings.TrimSpace(b.run(program, "info", "-c", "--noheadings", "-o", "uuid", "v")); got != uuid {
			t.Errorf("%s: uuid %s, want %s", c.name, got, uuid)
		}
		b.run(program, "close", "v")
	}
	b.fails(1, "root digest", program, "open", "--type", "verity", b.path("data.img"), b.path("hash.img"), "v")
	b.fails(1, "no passphrase", program, "open", "--root-hash", "00", "--key-fd", "0", b.path("data.img"), b.path("hash.img"), "v")
	for _, args := range [][]string{{"--allow-discards"}, {"--key-slot", "3"}, {"--keyfile-size", "3"}, {"--force"}, {"--fec-roots", "3"}, {"--fec-offset", "8"}} {
		b.fails(1, args[0], program, slices.Concat([]string{"open", "--root-hash", "00"}, args, []string{b.path("data.img"), b.path("hash.img"), "v"})...)
	}
	b.fails(1, "no verity superblock", program, "open", "--root-hash", "00", b.image("zero.img", 64), b.path("zero.img"), "v")
}
