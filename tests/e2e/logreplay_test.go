package e2e

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"dmfs/tests/kernel"
	"dmfs/tests/scenario"
)

// sameFiles fails the test if two files of the bench differ.
func (b *bench) sameFiles(one, other string) {
	b.t.Helper()
	p, err := os.ReadFile(b.path(one))
	must(b.t, err)
	q, err := os.ReadFile(b.path(other))
	must(b.t, err)
	if !bytes.Equal(p, q) {
		b.t.Errorf("%s and %s differ", one, other)
	}
}

// A file system made on a log-writes device is good at its marks when the log is replayed, and the whole log gives the disk.
func TestLogReplay(t *testing.T) {
	for _, tool := range []string{"mkfs.ext4", "debugfs", "e2fsck"} {
		requireTool(t, tool)
	}
	b := newBench(t)
	b.image("data.img", 16384)
	b.image("log.img", 200000)
	b.mount("")
	b.control("create traced 0 16384 log-writes " + b.path("data.img") + " " + b.path("log.img") + "\n")
	traced := b.mnt + "/traced"
	b.run("mkfs.ext4", "-q", "-F", traced)
	b.control("message traced 0 mark made\n")
	b.run("debugfs", "-w", "-R", "write "+b.file("hello", "hello, disk\n")+" hello", traced)
	b.control("message traced 0 mark written\n")
	b.run(program, "umount", b.mnt)

	listing := b.run(program, "log-replay", "log.img")
	for _, want := range []string{`"made"`, `"written"`, `"dm-log-writes-end"`} {
		if !strings.Contains(listing, want) {
			t.Errorf("the listing lacks %s:\n%s", want, listing)
		}
	}
	b.image("replayed.img", 16384)
	b.run(program, "log-replay", "--end-mark", "made", "log.img", "replayed.img")
	b.run("e2fsck", "-fn", "replayed.img")
	if out := b.run("debugfs", "-R", "ls", "replayed.img"); strings.Contains(out, "hello") {
		t.Errorf("at the mark made there is a file that was written after it: %s", out)
	}
	// A check that writes to what it is given does not spoil the replay.
	b.image("replayed.img", 16384)
	b.run(program, "log-replay", "--fsck", `e2fsck -fn "$DISK" && dd if=/dev/zero of="$DISK" bs=64k count=4 conv=notrunc`, "--check", "mark",
		"log.img", "replayed.img")
	b.sameFiles("replayed.img", "data.img")
	if out := b.run("debugfs", "-R", "cat hello", "replayed.img"); !strings.Contains(out, "hello, disk") {
		t.Errorf("the file holds %q", out)
	}

	b.image("replayed.img", 16384)
	out := b.fails(1, "the check failed behind entry", program, "log-replay", "--fsck", `! debugfs -R ls "$DISK" 2>&1 | grep hello`,
		"--check", "every-write", "log.img", "replayed.img")
	b.run("sh", "-c", `debugfs -R ls replayed.img | grep hello`)
	_, command, ok := strings.Cut(out, "from what it held before:\n")
	if !ok {
		t.Fatalf("no command to repeat the failure: %s", out)
	}
	b.image("replayed.img", 16384)
	b.fails(1, "hello", "sh", "-c", "PATH="+b.dir+":$PATH\n ln -s "+program+" dmfs\n"+command)
	b.image("replayed.img", 16384)
	if again := b.fails(1, "the check failed behind entry", program, "log-replay", "--bisect", "--fsck", `! debugfs -R ls "$DISK" 2>&1 | grep hello`,
		"--check", "every-write", "log.img", "replayed.img"); firstLine(again) != firstLine(out) {
		t.Errorf("by halves:\n%s\nin order:\n%s", again, out)
	}
}

// firstLine returns the line that says what failed.
func firstLine(out string) string {
	_, line, _ := strings.Cut(out, "the check failed")
	line, _, _ = strings.Cut(line, "\n")
	return line
}

func TestLogReplayRefuses(t *testing.T) {
	b := newBench(t)
	b.image("empty.img", 100)
	for _, c := range []struct{ want, args string }{
		{"no log given", ""},
		{"no log: it begins with 0x0", "empty.img"},
		{"no such file", "missing.img"},
		{"unknown option", "--all empty.img"},
		{"want a number", "--limit x empty.img"},
		{"found [\"c\"]", "a b c"},
		{"need --fsck", "--check flush a b"},
		{"want every-write", "--fsck true --check often a b"},
		{"names b, and is to check a copy", "--fsck b a b"},
		{"take no TARGET", "--json a b"},
		{"no target", "--fsck true a"},
		{"by halves", "--fsck true --bisect --in-place a b"},
	} {
		b.fails(2, c.want, program, append([]string{"log-replay"}, strings.Fields(c.args)...)...)
	}
	b.run(program, "log-replay", "--help")
}

// Logs of QEMU's blklogwrites replay, with small and large sectors, also when they were continued; and QEMU continues ours.
func TestLogReplayOfQEMU(t *testing.T) {
	requireTool(t, "qemu-io")
	b := newBench(t)
	qemu := func(disk, log, options string, commands ...string) {
		t.Helper()
		args := []string{}
		for _, c := range commands {
			args = append(args, "-c", c)
		}
		b.run("qemu-io", append(args, "--image-opts",
			"driver=blklogwrites,file.driver=file,file.filename="+disk+",log.driver=file,log.filename="+log+options)...)
	}
	for _, sector := range []string{"512", "4096"} {
		b.image("q.img", 2048)
		b.image("q.log", 16384)
		qemu("q.img", "q.log", ",log-sector-size="+sector, "write -P 1 0 64k", "write -P 2 -f 8k 4k", "flush", "write -z 16k 4k", "discard 32k 16k", "flush")
		qemu("q.img", "q.log", ",log-append=on", "write -P 3 4k 4k", "flush")
		b.image("r.img", 2048)
		b.run(program, "log-replay", "q.log", "r.img")
		b.sameFiles("r.img", "q.img")
	}
	b.image("q.img", 2048)
	b.image("q.log", 16384)
	b.mount("")
	b.control("create x 0 2048 log-writes " + b.path("q.img") + " " + b.path("q.log") + "\n")
	b.run("dd", "if=/dev/urandom", "of="+b.mnt+"/x", "bs=4k", "count=20", "conv=notrunc,fsync", "status=none")
	b.run(program, "umount", b.mnt)
	qemu("q.img", "q.log", ",log-append=on", "write -P 4 8k 4k", "flush")
	b.image("r.img", 2048)
	b.run(program, "log-replay", "q.log", "r.img")
	b.sameFiles("r.img", "q.img")
}

// A log of the kernel's target replays to what the kernel's disk holds. No write with FUA here goes over one that waits: the kernel logs the older
// one behind it, and such a log does not replay to what the disk holds.
func TestLogReplayOfTheKernel(t *testing.T) {
	if why := kernel.Missing(); why != "" {
		t.Skip(why)
	}
	b := newBench(t)
	g, err := kernel.Boot()
	must(t, err)
	defer g.Close()
	s, err := scenario.Parse("log", `# A log.
disk data 2048
disk log 16384
create x 0 2048 log-writes @data@ @log@
write x 0 200 1
write x 1000 50 2 fua
discard x 8 40
flush x
message x 0 mark here
write x 300 64 3
flush x
pause
write x 310 8 4
zeroout x 320 8
suspend x
remove x
`)
	must(t, err)
	must(t, os.Mkdir(b.path("disks"), 0o755))
	_, err = g.Play(s, kernel.Images{To: b.path("disks")})
	must(t, err)
	b.image("r.img", 2048)
	b.run(program, "log-replay", "disks/log", "r.img")
	b.sameFiles("r.img", "disks/data")
}
