package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// script runs a shell script in namespaces of its own: root's with a private copy of the mounts, a user's with a
// user namespace besides.
func (b *bench) script(text string) (string, int) {
	b.t.Helper()
	requireTool(b.t, "unshare")
	flags := "-Urm"
	if os.Geteuid() == 0 && !b.user {
		flags = "-m"
	}
	return b.try("unshare", flags, "sh", "-euxc", text)
}

// withoutHelper makes the bench's commands not find fusermount3, but all else of PATH. go-fuse looks in /bin as a
// last resort, so a mount that succeeded with it would be caught too.
func (b *bench) withoutHelper() {
	b.t.Helper()
	bin := b.path("bin")
	must(b.t, os.Mkdir(bin, 0o755))
	for _, tool := range []string{"sh", "cat", "cmp", "dd", "grep", "ls", "mkdir", "mount", "mountpoint", "printf", "umount", "unshare"} {
		if name, err := exec.LookPath(tool); err == nil {
			must(b.t, os.Symlink(name, filepath.Join(bin, tool)))
		}
	}
	b.env = append(b.env, "PATH="+bin)
}

// skipWithoutUserNamespaces skips where the kernel or its policy allows users none.
func (b *bench) skipWithoutUserNamespaces() {
	b.t.Helper()
	if out, status := b.try("unshare", "-Urm", "true"); status != 0 {
		b.t.Skipf("needs user namespaces: unshare -Urm: %s", strings.TrimSpace(out))
	}
}

// Inside `unshare -Urm` a mount needs no fusermount3, and may be on /dev/mapper.
func TestUnshare(t *testing.T) {
	for _, point := range []string{"mnt", "/dev/mapper"} {
		t.Run(point, func(t *testing.T) {
			b := newBench(t)
			b.asUser()
			b.skipWithoutUserNamespaces()
			b.sample()
			b.withoutHelper()
			out, status := b.script(`
				test -d ` + point + ` || { mount -t tmpfs none /dev/mnt; exit 77; }
				` + program + ` mount --config dmfs.toml ` + point + `
				printf written | dd of=` + point + `/vol0 bs=1 seek=4090 conv=notrunc status=none
				` + program + ` umount ` + point)
			if status == 77 {
				t.Skipf("needs a directory %s", point)
			}
			if status != 0 {
				t.Fatalf("exit status %d\n%s", status, out)
			}
			a, err := os.ReadFile(b.path("a.img"))
			must(t, err)
			c, err := os.ReadFile(b.path("b.img"))
			must(t, err)
			if got := string(a[4090:]) + string(c[:1]); got != "written" {
				t.Errorf("where the images meet: %q", got)
			}
		})
	}
}

// A user namespace without a mount namespace of its own cannot mount, and is told what lacks.
func TestUnshareWithoutMounts(t *testing.T) {
	b := newBench(t)
	b.asUser()
	b.skipWithoutUserNamespaces()
	b.withoutHelper()
	b.fails(1, "needs a mount namespace too, as `unshare -Urm` makes", "unshare", "-Ur", program, "mount", b.mnt)
}

// An ordinary user without fusermount3 is told what to install and what to do instead.
func TestNoHelper(t *testing.T) {
	b := newBench(t)
	b.asUser()
	b.withoutHelper()
	b.fails(1, "install the package fuse3, or mount inside `unshare -Urm`", program, "mount", b.mnt)
}

// allow_other is checked before anything is done, and the error names the file and the line.
func TestAllowOther(t *testing.T) {
	b := newBench(t)
	b.asUser()
	if text, err := os.ReadFile("/etc/fuse.conf"); err == nil && strings.Contains("\n"+string(text), "\nuser_allow_other") {
		t.Skip("needs a /etc/fuse.conf without user_allow_other")
	}
	for _, option := range []string{"allow_other", "allow_root"} {
		b.fails(1, "option "+option+": /etc/fuse.conf must contain the line `user_allow_other`", program, "mount", "-o", option, b.mnt)
	}
}

// A mount is its owner's alone, but root may unmount it in order, and is told who serves it.
func TestRootAndUser(t *testing.T) {
	requireRoot(t)
	b := newBench(t)
	b.asUser()
	b.run(program, "mount", "--config", b.sample(), b.mnt)
	pid := b.daemon()
	b.run("dd", "if=/dev/zero", "of=mnt/vol0", "bs=512", "count=1", "conv=notrunc", "status=none")
	b.user = false
	b.fails(1, "is already mounted by dmfs, pid ", program, "mount", b.mnt)
	b.run(program, "umount", b.mnt)
	if left := b.daemons(); len(left) > 0 {
		t.Errorf("when umount returns pid %d still runs", pid)
	}
}

// root with allow_other lets a user in; without it the user is kept out.
func TestOtherUsers(t *testing.T) {
	requireRoot(t)
	for option, want := range map[string]bool{"rw": false, "allow_other": true} {
		t.Run(option, func(t *testing.T) {
			b := newBench(t)
			b.run(program, "mount", "-o", option, b.mnt)
			cmd := b.command("ls", b.mnt)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinary, Gid: ordinary}}
			if err := cmd.Run(); (err == nil) != want {
				t.Errorf("ls as another user: %v", err)
			}
			b.run(program, "umount", b.mnt)
		})
	}
}

// installed runs a script as root in a private copy of the mounts where the helpers are installed in /sbin and
// fstab is the one given.
func (b *bench) installed(fstab, script string) string {
	b.t.Helper()
	requireRoot(b.t)
	requireTool(b.t, "mount")
	sbin := b.path("sbin")
	must(b.t, os.Mkdir(sbin, 0o755))
	for _, name := range []string{"mount.fuse.dmfs", "umount.fuse.dmfs"} {
		must(b.t, os.Symlink(program, filepath.Join(sbin, name)))
	}
	// Overlaying /sbin would do as well, but a bind mount works everywhere; mount and the shell are in /bin.
	out, status := b.script("mount --bind " + sbin + " /sbin\nmount --bind " + b.file("fstab", fstab) + " /etc/fstab\n" + script)
	if status != 0 {
		b.t.Fatalf("exit status %d\n%s", status, out)
	}
	return out
}

// `mount -t fuse.dmfs`, a line of fstab and `umount` go through the helpers.
func TestMountHelper(t *testing.T) {
	b := newBench(t)
	config := b.sample()
	b.installed(config+" "+b.mnt+" fuse.dmfs noauto,rw,nofail,x-systemd.device-timeout=1,comment=x 0 0\n", `
		mount -t fuse.dmfs `+config+` `+b.mnt+` -o ro
		test -f `+b.mnt+`/vol0
		umount `+b.mnt+`
		mount `+b.mnt+`
		printf written >`+b.mnt+`/vol0
		umount `+b.mnt+`
		grep -q written a.img
		mount -f -t fuse.dmfs none `+b.mnt+`
		! mountpoint -q `+b.mnt+`
		mount -t fuse.dmfs none `+b.mnt+`
		test -e `+b.mnt+`/control
		umount `+b.mnt)
}

// mount(8) passes on what the helper says, with exit status 32.
func TestMountHelperErrors(t *testing.T) {
	b := newBench(t)
	b.file("bad.toml", "x = 1\n")
	out := b.installed("", `
		mount -t fuse.dmfs bad.toml `+b.mnt+` && exit 1 || test $? = 32
		mount -t fuse.dmfs none `+b.mnt+` -o frob && exit 1 || test $? = 1
		! mountpoint -q `+b.mnt)
	for _, want := range []string{`bad.toml:1: unknown key "x"`, `unknown mount option "frob"`} {
		if !strings.Contains(out, want) {
			t.Errorf("said\n%swant %s", out, want)
		}
	}
}
