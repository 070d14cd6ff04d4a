package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// python is the system's: one in root's home is out of reach for an ordinary user.
const python = "/usr/bin/python3"

// random returns n bytes that no other seed gives.
func random(n int, seed uint64) []byte {
	p := make([]byte, n)
	rng := rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "%d", seed)))
	rng.Read(p)
	return p
}

// mount mounts the configuration and makes the test unmount it.
func (b *bench) mount(config string) {
	b.t.Helper()
	args := []string{"mount"}
	if config != "" {
		args = append(args, "--config", config)
	}
	b.run(program, append(args, b.mnt)...)
	b.t.Cleanup(func() {
		if len(b.mounted()) > 0 {
			b.run(program, "umount", b.mnt)
		}
	})
}

// control writes commands to the control file.
func (b *bench) control(commands string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.mnt, "control"), []byte(commands), 0); err != nil {
		log, _ := os.ReadFile(filepath.Join(b.mnt, ".dm/log"))
		b.t.Fatalf("%v\n%s\nlog:\n%s", err, commands, log)
	}
}

// same fails the test unless the n bytes of a from offset and of b from its offset are equal.
func (b *bench) same(n int64, fileA string, offA int64, fileB string, offB int64) {
	b.t.Helper()
	read := func(name string, off int64) []byte {
		f, err := os.Open(name)
		must(b.t, err)
		defer f.Close()
		p := make([]byte, n)
		if _, err := f.ReadAt(p, off); err != nil {
			b.t.Fatalf("%s at %d: %v", name, off, err)
		}
		return p
	}
	x, y := read(fileA, offA), read(fileB, offB)
	for i := range x {
		if x[i] != y[i] {
			b.t.Fatalf("%s differs from %s at byte %d, %d from the beginning of what is compared", fileA, fileB, offA+int64(i), i)
		}
	}
}

const concatenation = `
[disks]
second = "b.img"

[devices.vol0]
table = """
0 2048 linear a.img 0
2048 2048 linear second 2048
"""

[devices.vol1]
table = "0 6144 striped 3 8 s0.img 0 s1.img 0 s2.img 0"
`

// An ordinary user writes through the mount with several programs, and the bytes lie where the tables say.
func TestWritersOfAnOrdinaryUser(t *testing.T) {
	writers := map[string][]string{
		"dd":                 {"dd", "if=src", "of=mnt/%s", "bs=1000", "status=none"},
		"dd sync":            {"dd", "if=src", "of=mnt/%s", "bs=64k", "oflag=direct,dsync", "conv=notrunc", "status=none"},
		"cp":                 {"cp", "src", "mnt/%s"},
		"qemu-img":           {"qemu-img", "convert", "-f", "raw", "-O", "raw", "-n", "src", "mnt/%s"},
		"qemu-img, creating": {"qemu-img", "convert", "-f", "raw", "-O", "raw", "src", "mnt/%s"},
		"python":             {python, "-c", "import sys; d = open('src','rb').read(); f = open(sys.argv[1],'wb'); f.write(d[:777]); f.write(d[777:]); f.close()", "mnt/%s"},
		"python, mapped": {python, "-c", `
import mmap, sys
d = open('src','rb').read()
with open(sys.argv[1],'r+b') as f, mmap.mmap(f.fileno(), len(d)) as m:
    m[:] = d
    m.flush()
`, "mnt/%s"},
	}
	b := newBench(t)
	for name, size := range map[string]int64{"a.img": 2048, "b.img": 8192, "s0.img": 2048, "s1.img": 2048, "s2.img": 2048} {
		b.image(name, size)
	}
	config := b.file("dmfs.toml", concatenation)
	b.asUser()
	b.mount(config)
	seed := uint64(1)
	for name, argv := range writers {
		t.Run(name, func(t *testing.T) {
			inner := *b
			inner.t = t
			requireTool(t, argv[0])
			for device, size := range map[string]int64{"vol0": 2 << 20, "vol1": 3 << 20} {
				seed++
				src := inner.file("src", string(random(int(size), seed)))
				words := append([]string(nil), argv[1:]...)
				words[len(words)-1] = strings.Replace(words[len(words)-1], "%s", device, 1)
				for i := range words {
					words[i] = strings.Replace(words[i], "%s", device, 1)
				}
				inner.run(argv[0], words...)
				inner.run("cmp", "src", "mnt/"+device)
				if device == "vol0" {
					inner.same(1<<20, src, 0, b.path("a.img"), 0)
					inner.same(1<<20, src, 1<<20, b.path("b.img"), 1<<20)
					continue
				}
				const chunk = 8 * 512
				for i := range size / chunk {
					inner.same(chunk, src, i*chunk, b.path(fmt.Sprintf("s%d.img", i%3)), i/3*chunk)
				}
			}
		})
	}
	if st, err := os.Stat(b.path("a.img")); err != nil || st.Size() != 1<<20 {
		t.Errorf("a.img is %d bytes, want them to stay 1 MiB (%v)", st.Size(), err)
	}
}

// loop attaches file to a loop device for the length of the test.
func (b *bench) loop(file string, args ...string) string {
	b.t.Helper()
	requireRoot(b.t)
	out, status := b.try("losetup", append(append([]string{"--find", "--show"}, args...), file)...)
	if status != 0 {
		b.t.Skipf("needs a free loop device: %s", out)
	}
	loop := strings.TrimSpace(out)
	b.t.Cleanup(func() { b.try("losetup", "-d", loop) })
	return loop
}

// mayResizeMounted reports whether ext4 lets us resize it while it is mounted, which takes CAP_SYS_RESOURCE.
func mayResizeMounted(t *testing.T) bool {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	must(t, unix.Capget(&header, &data[0]))
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// A device is a disk: a file system on it is filled, grows while it is mounted, and stays clean.
func TestLoopDeviceWithExt4Grows(t *testing.T) {
	for _, direct := range []string{"--direct-io=off", "--direct-io=on"} {
		t.Run(direct, func(t *testing.T) {
			b := newBench(t)
			requireTool(t, "mkfs.ext4")
			requireTool(t, "resize2fs")
			b.image("a.img", 32768)
			b.image("b.img", 32768)
			b.mount("")
			b.control("create vol0 0 32768 linear " + b.path("a.img") + " 0\n")
			loop := b.loop(b.mnt+"/vol0", direct)
			b.run("mkfs.ext4", "-q", loop)
			files := b.path("files")
			must(t, os.Mkdir(files, 0o755))
			if out, status := b.try("mount", "-t", "ext4", loop, files); status != 0 {
				t.Skipf("needs to mount ext4: %s", out)
			}
			unmount := func() { b.try("umount", files) }
			t.Cleanup(unmount)

			write := func(name string, n int, seed uint64) {
				must(t, os.WriteFile(filepath.Join(files, name), random(n, seed), 0o644))
			}
			check := func(name string, n int, seed uint64) {
				t.Helper()
				have, err := os.ReadFile(filepath.Join(files, name))
				must(t, err)
				if !bytes.Equal(have, random(n, seed)) {
					t.Errorf("%s is not what was written", name)
				}
			}
			for i := range 20 {
				write(fmt.Sprint("before", i), 300_000+i, uint64(i))
			}
			b.run("sync", "-f", files)
			b.control(fmt.Sprintf("load vol0 {\n0 32768 linear %s 0\n32768 32768 linear %s 0\n}\nresume vol0\n", b.path("a.img"), b.path("b.img")))
			b.run("losetup", "-c", loop)
			if mayResizeMounted(t) {
				b.run("resize2fs", loop)
			} else {
				// The guest's test grows one that is mounted.
				b.run("umount", files)
				b.run("e2fsck", "-fy", loop)
				b.run("resize2fs", loop)
				b.run("mount", "-t", "ext4", loop, files)
			}
			for i := range 40 {
				write(fmt.Sprint("after", i), 400_000+i, uint64(100+i))
			}
			b.run("umount", files)
			b.run("e2fsck", "-fn", loop)
			b.run("mount", "-t", "ext4", loop, files)
			for i := range 20 {
				check(fmt.Sprint("before", i), 300_000+i, uint64(i))
			}
			for i := range 40 {
				check(fmt.Sprint("after", i), 400_000+i, uint64(100+i))
			}
			b.run("umount", files)
			b.run("losetup", "-d", loop)
			b.run(program, "umount", b.mnt)
			whole := b.path("whole.img")
			out, err := os.Create(whole)
			must(t, err)
			for _, name := range []string{"a.img", "b.img"} {
				data, err := os.ReadFile(b.path(name))
				must(t, err)
				_, err = out.Write(data)
				must(t, err)
			}
			must(t, out.Close())
			b.run("e2fsck", "-fn", whole)
		})
	}
}

// QEMU's tools take a device as a disk.
func TestQemuTools(t *testing.T) {
	b := newBench(t)
	requireTool(t, "qemu-img")
	requireTool(t, "qemu-io")
	b.image("a.img", 65536)
	b.mount("")
	b.control("create vol0 {\n0 32768 linear " + b.path("a.img") + " 32768\n32768 32768 linear " + b.path("a.img") + " 0\n}\n")
	vol := b.mnt + "/vol0"
	if out := b.run("qemu-img", "info", "-f", "raw", vol); !strings.Contains(out, "virtual size: 32 MiB (33554432 bytes)") {
		t.Errorf("info says\n%s", out)
	}
	out := b.run("qemu-io", "-f", "raw", "-n", vol, "-c", "write -P 0x5a 1M 64k", "-c", "read -P 0x5a 1M 64k",
		"-c", "write -P 0x33 12345 678", "-c", "read -P 0x33 12345 678", "-c", "flush",
		"-c", "discard 1M 4k", "-c", "read -P 0 1M 4k", "-c", "read -P 0x5a 1028k 60k", "-c", "write -z 2M 8k", "-c", "read -P 0 2M 8k")
	if strings.Contains(out, "failed") {
		t.Errorf("qemu-io:\n%s", out)
	}
	if out := b.run("qemu-img", "map", "-f", "raw", "--output=json", vol); !strings.Contains(out, `"data": false`) || !strings.Contains(out, `"data": true`) {
		t.Errorf("map of a sparse device says\n%s", out)
	}
	b.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", vol, "copy.qcow2")
	b.run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", vol, "copy.qcow2")
	for _, args := range [][]string{{"-t", "none"}, {"-t", "none", "-i", "native"}, {"-t", "writeback", "-w"}, {"-t", "none", "-w", "--flush-interval=64"}} {
		b.run("qemu-img", append(append([]string{"bench", "-f", "raw", "-c", "2000", "-d", "32", "-s", "4096"}, args...), vol)...)
	}
	if out, status := b.try("qemu-io", "-f", "raw", vol, "-c", "write 32M 512"); status == 0 {
		t.Errorf("a write past the end succeeded:\n%s", out)
	}
}

// Devices stand on each other five deep, by name, by path in the mount and by number.
func TestFiveDeepStack(t *testing.T) {
	b := newBench(t)
	var base strings.Builder
	for i := range 4 {
		b.image(fmt.Sprintf("d%d.img", i), 2048)
		fmt.Fprintf(&base, " %s 0", b.path(fmt.Sprintf("d%d.img", i)))
	}
	must(t, os.Symlink(b.mnt, b.path("elsewhere")))
	b.mount("")
	b.control("create l1 0 8192 striped 4 16" + base.String() + "\n")
	b.control("create l2 {\n0 4096 linear l1 4096\n4096 4096 linear l1 0\n}\n")
	b.control("create l3 0 8192 linear " + b.mnt + "/l2 0\n")
	b.control("create l4 0 8192 striped 2 8 253:2 0 253:2 4096\n")
	b.control("create l5 {\n0 100 linear /dev/mapper/l4 8092 ; 100 8092 linear " + b.path("elsewhere") + "/l4 0 }\n")
	if table := b.run(program, "table", "l5"); table != "0 100 linear 253:3 8092\n100 8092 linear 253:3 0\n" {
		t.Errorf("table says\n%s", table)
	}
	data := random(4<<20, 5)
	must(t, os.WriteFile(b.mnt+"/l5", data, 0))
	have, err := os.ReadFile(b.mnt + "/l5")
	must(t, err)
	if !bytes.Equal(have, data) {
		t.Fatal("what was written does not read back")
	}
	f, err := os.OpenFile(b.mnt+"/l5", os.O_RDWR, 0)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
	// Where byte 0 of l5 lies, by hand: l4 sector 8092 = chunk 1011 of 8, stripe 1, row 505, 4 in it: sector 4044 + 4096 of l3
	// and l2, 4044 of l1: chunk 252 of 16, stripe 0, row 63, 12 in it: sector 1020 of d0.
	b.file("want", string(data[:2048]))
	b.same(2048, b.path("want"), 0, b.path("d0.img"), 1020*512)
	b.fails(1, "", program, "remove", "l3")
	b.run(program, "remove_all")
}

// The daemon's own files and devices of other mounts are no disks.
func TestStrangeDisks(t *testing.T) {
	b := newBench(t)
	other := newBench(t)
	b.image("a.img", 2048)
	b.file("short.img", strings.Repeat("x", 1000))
	must(t, os.Mkdir(b.path("dir"), 0o755))
	if err := exec.Command("mkfifo", b.path("fifo")).Run(); err != nil {
		t.Fatal(err)
	}
	b.mount("")
	other.mount("")
	other.image("o.img", 2048)
	other.control("create theirs 0 2048 linear " + other.path("o.img") + " 0\n")
	for _, tt := range []struct{ disk, errno, says string }{
		{b.path("dir"), "Block device required", "is a directory"},
		{b.path("fifo"), "Block device required", "is a FIFO"},
		{"/dev/null", "Block device required", "is a character device"},
		{b.path("none"), "No such device", "no such file"},
		{b.path("a.img") + "/x", "No such device", "not a directory"},
		{other.mnt + "/theirs", "Device or resource busy", "of the dmfs mount at " + other.mnt},
		{b.mnt + "/control", "No such device", "no mapped device is called control"},
		{b.mnt + "/x", "Invalid argument", "the device would stand on itself: x -> x"},
		{"x", "Invalid argument", "the device would stand on itself: x -> x"},
		{"253:77", "No such device or address", "no mapped device has number 253:77"},
		{"4000:77", "No such device or address", "no block device 4000:77"},
		{b.path("short.img"), "Invalid argument", "short.img too small for target: start=0, len=2048, dev_size=1"},
	} {
		out := b.fails(1, tt.says, program, "create", "x", "--table", "0 2048 linear "+tt.disk+" 0")
		if !strings.Contains(out, "failed: "+tt.errno+"\n") {
			t.Errorf("%s: want %s, got\n%s", tt.disk, tt.errno, out)
		}
	}
	if out := b.run(program, "ls"); out != "No devices found\n" {
		t.Errorf("left behind:\n%s", out)
	}
}
