package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// guestKernel returns the directory with the guest's kernel, unpacked from the Debian package once.
func guestKernel(t *testing.T) string {
	t.Helper()
	for _, tool := range []string{"qemu-system-x86_64", "busybox", "cpio", "mke2fs", "resize2fs", "apt-get", "dpkg-deb"} {
		requireTool(t, tool)
	}
	dir, err := filepath.Abs("../../build/guest")
	must(t, err)
	if out, err := exec.Command("../guest/kernel.sh", dir).CombinedOutput(); err != nil {
		t.Skipf("needs a kernel package: %v: %s", err, out)
	}
	return dir
}

// initramfs packs the guest's user space: busybox, the tools of ext4 with their libraries, the modules, init.
func (b *bench) initramfs(kernel string) string {
	b.t.Helper()
	root := b.path("root")
	for _, dir := range []string{"bin", "proc", "sys", "dev", "modules"} {
		must(b.t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	init, err := filepath.Abs("../guest/init")
	must(b.t, err)
	b.run("cp", init, root+"/init")
	b.run("sh", "-c", "cp "+kernel+"/*.ko "+root+"/modules/")
	busybox, err := exec.LookPath("busybox")
	must(b.t, err)
	b.run("cp", busybox, root+"/bin/busybox")
	for _, name := range []string{"sh", "mount", "umount", "insmod", "sleep", "mkdir", "dd", "sync", "cat", "sha256sum", "rm", "sed", "cp", "fstrim", "poweroff"} {
		must(b.t, os.Symlink("busybox", root+"/bin/"+name))
	}
	for _, name := range []string{"mke2fs", "resize2fs"} {
		path, err := exec.LookPath(name)
		must(b.t, err)
		b.run("cp", path, root+"/bin/"+name)
		for _, word := range strings.Fields(b.run("ldd", path)) {
			if filepath.IsAbs(word) {
				b.run("sh", "-c", fmt.Sprintf("mkdir -p %s%s && cp -L %s %s%s", root, filepath.Dir(word), word, root, word))
			}
		}
	}
	b.run("sh", "-c", "cd root && find . | cpio --quiet -o -H newc >../initramfs")
	return b.path("initramfs")
}

// A guest's disk is a device, past the host's cache and with discard: it makes a file system, which grows while it is
// mounted and the table is swapped, and the file system is clean from outside.
func TestGuest(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a guest under emulation: left out with -short")
	}
	b := newBench(t)
	kernel := guestKernel(t)
	b.image("a.img", 65536)
	b.image("b.img", 65536)
	b.mount("")
	b.control("create vol0 0 65536 linear " + b.path("a.img") + " 0\n")
	g := b.boot("qemu-system-x86_64", "-accel", "tcg", "-m", "256", "-nodefaults", "-display", "none", "-no-reboot",
		"-serial", "stdio", "-qmp", "unix:qmp,server=on,wait=off",
		"-kernel", kernel+"/vmlinuz", "-initrd", b.initramfs(kernel), "-append", "console=ttyS0 panic=-1 quiet",
		"-drive", "file=mnt/vol0,format=raw,if=none,id=disk,cache=none,discard=unmap,aio=native", "-device", "virtio-blk-pci,drive=disk")
	g.says("guest: grow")

	b.control(fmt.Sprintf("load vol0 {\n0 65536 linear %s 0\n65536 65536 linear %s 0\n}\nresume vol0\n", b.path("a.img"), b.path("b.img")))
	b.qmp("block_resize", map[string]any{"device": "disk", "size": 131072 * 512})
	g.says("guest: done")
	select {
	case <-g.ended:
		must(t, g.err)
	case <-time.After(patience):
		t.Fatal("the guest said that it is done and did not end")
	}
	b.run("e2fsck", "-fn", "mnt/vol0")
	if out := b.run("dumpe2fs", "-h", "mnt/vol0"); !strings.Contains(out, "Block count:              65536\n") {
		t.Errorf("the file system has not grown to 65536 blocks of 1 KiB:\n%s", out)
	}
	if out := b.run("debugfs", "-R", "ls -p /", "mnt/vol0"); strings.Contains(out, "before1/") || !strings.Contains(out, "/after8/") {
		t.Errorf("the file system holds\n%s", out)
	}
	if st := b.run("stat", "-c", "%b", "mnt/vol0"); len(st) > 6 {
		t.Errorf("%s blocks are allocated: the guest's discards freed nothing", strings.TrimSpace(st))
	}
}

// A guest is a virtual machine and what it has said so far.
type guest struct {
	t       *testing.T
	console lockedBuffer
	ended   chan struct{} // closed when it has ended, with err
	err     error
}

// boot starts a guest, which ends with the test at the latest.
func (b *bench) boot(name string, args ...string) *guest {
	b.t.Helper()
	g := &guest{t: b.t, ended: make(chan struct{})}
	cmd := b.command(name, args...)
	cmd.Stdout, cmd.Stderr = &g.console, &g.console
	must(b.t, cmd.Start())
	go func() {
		g.err = cmd.Wait()
		close(g.ended)
	}()
	b.t.Cleanup(func() {
		cmd.Process.Kill()
		<-g.ended
	})
	return g
}

// says waits until the console shows a text, which takes the guest long under emulation.
func (g *guest) says(text string) {
	g.t.Helper()
	const guestPatience = 4 * time.Minute
	late := time.After(guestPatience)
	for ended := g.ended; !strings.Contains(g.console.String(), text); {
		select {
		case <-late:
		case <-time.After(50 * time.Millisecond):
			if !strings.Contains(g.console.String(), "guest: failed") {
				continue
			}
		case <-ended:
			ended = nil // one more look, all has been read
			if strings.Contains(g.console.String(), text) {
				return
			}
		}
		g.t.Fatalf("the guest does not say %q:\n%s", text, g.console.String())
	}
}

// qmp has QEMU carry out a command.
func (b *bench) qmp(command string, args map[string]any) {
	b.t.Helper()
	conn, err := net.Dial("unix", b.path("qmp"))
	must(b.t, err)
	defer conn.Close()
	must(b.t, conn.SetDeadline(time.Now().Add(patience)))
	answers := bufio.NewScanner(conn)
	answers.Scan() // the greeting
	for _, c := range []map[string]any{{"execute": "qmp_capabilities"}, {"execute": command, "arguments": args}} {
		text, err := json.Marshal(c)
		must(b.t, err)
		_, err = conn.Write(text)
		must(b.t, err)
		for answers.Scan() && strings.Contains(answers.Text(), `"event"`) {
		}
		if !strings.Contains(answers.Text(), `"return"`) {
			b.t.Fatalf("%s: %s", text, answers.Text())
		}
	}
}
