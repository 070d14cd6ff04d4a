package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// forEach runs a test as an ordinary user and as root, in a bench with a mount without devices.
func forEach(t *testing.T, tools string, f func(t *testing.T, b *bench)) {
	for _, who := range []string{"user", "root"} {
		t.Run(who, func(t *testing.T) {
			for _, tool := range strings.Fields(tools) {
				requireTool(t, tool)
			}
			if who == "root" {
				requireRoot(t)
			}
			b := newBench(t)
			if who == "user" {
				b.asUser()
				b.skipWithoutUserNamespaces()
			}
			b.run(program, "mount", b.mnt)
			f(t, b)
			b.endSessions()
		})
	}
}

// endSessions unmounts, and fails the test if a session on the mount has left the directory in which it locks.
func (b *bench) endSessions() {
	b.t.Helper()
	mount := mountsBelow(b.mnt)[0]
	b.run(program, "umount", b.mnt)
	name := "dmfs-exec-*-" + strings.Replace(mount.dev, ":", ".", 1)
	for _, dir := range []string{"/run", "/run/user/*", os.TempDir()} {
		if left, _ := filepath.Glob(filepath.Join(dir, name)); len(left) > 0 {
			b.t.Errorf("left behind: %q", left)
		}
	}
}

// session runs a shell script in a session and returns what it printed; options are words for dmfs exec.
func (b *bench) session(options, script string) string {
	b.t.Helper()
	out, status := b.trySession(options, script)
	if status != 0 {
		b.t.Fatalf("exit status %d\n%s", status, out)
	}
	return out
}

func (b *bench) trySession(options, script string) (string, int) {
	b.t.Helper()
	args := append([]string{"exec"}, strings.Fields(options)...)
	return b.try(program, append(args, "--", "sh", "-euxc", script)...)
}

// says fails the test unless text has each line of want, alone or within a line.
func says(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("said\n%s\nwant %q", text, w)
		}
	}
}

// The verbs of the distribution's dmsetup, on devices that stand on each other.
func TestExecDmsetup(t *testing.T) {
	forEach(t, "dmsetup", func(t *testing.T, b *bench) {
		b.image("a.img", 2048)
		out := b.session("--block a.img", `
			dmsetup create low --uuid UUID-1 --table '0 1024 linear /dev/sda 0'
			dmsetup create top --table '0 512 linear /dev/mapper/low 100'
			dmsetup table; dmsetup status; dmsetup deps; dmsetup deps -o devname low; dmsetup ls --tree -o blkdevname; dmsetup info -c --noheadings -o name,open,uuid
			if dmsetup remove low; then exit 1; fi
			dmsetup suspend top; dmsetup info top; dmsetup load top --table '0 256 linear /dev/mapper/low 0'
			dmsetup table --inactive top; dmsetup resume top; blockdev --getsz /dev/mapper/top
			dmsetup reload top --table '0 8 zero'; dmsetup clear top; dmsetup rename top other; ls /dev/mapper
			dmsetup create bare --notable; dmsetup rename --setuuid bare UUID-2; dmsetup info -c --noheadings -o name,uuid bare; dmsetup remove bare
			dmsetup message other 0 hello || echo no message
			dmsetup mknodes; dmsetup targets; dmsetup target-version linear; dmsetup version
			dmsetup setgeometry other 1 2 3 0; dmsetup create none --table '0 8 none' || echo no target
			dmsetup remove other low; ls /dev/mapper; dmsetup ls`)
		says(t, out, "low: 0 1024 linear 8:0 0", "(sda)", "low <dm-0>", "low:1:UUID-1", "Device or resource busy", "SUSPENDED", "\n256\n", "bare:UUID-2",
			"no message", "linear           v1.", "Driver version:    4.", "no target", "No devices found")
	})
}

// A table of 300 segments does not fit into the first buffer, and comes back as it was.
func TestExecManySegments(t *testing.T) {
	forEach(t, "dmsetup", func(t *testing.T, b *bench) {
		b.image("a.img", 2048)
		var table strings.Builder
		for i := range 300 {
			fmt.Fprintf(&table, "%d 1 linear 8:0 %d\n", i, 300-i)
		}
		b.file("table", table.String())
		b.session("--block a.img", "dmsetup create many table; dmsetup table many >have; dmsetup status many | wc -l >count; dmsetup remove many")
		have, err := os.ReadFile(b.path("have"))
		must(t, err)
		if string(have) != table.String() {
			t.Errorf("got\n%s\nwant\n%s", have, table.String())
		}
	})
}

// Thirty at a time, each its own device.
func TestExecParallel(t *testing.T) {
	forEach(t, "dmsetup", func(t *testing.T, b *bench) {
		out := b.session("", `
			set +x
			for i in $(seq 30); do (
				dmsetup create p$i --table "0 $i zero" && test "$(blockdev --getsz /dev/mapper/p$i)" = $i &&
				dmsetup rename p$i q$i && test "$(blockdev --getsz /dev/mapper/q$i)" = $i && dmsetup remove q$i || echo failed $i
			) & done
			wait; dmsetup ls; ls /dev/mapper`)
		if strings.Contains(out, "failed") || !strings.HasSuffix(out, "No devices found\ncontrol\n") {
			t.Error(out)
		}
	})
}

// dmsetup wait returns at an event, and with a signal, and not before.
func TestExecWait(t *testing.T) {
	forEach(t, "dmsetup", func(t *testing.T, b *bench) {
		b.session("", `
			dmsetup create w --table '0 8 zero'
			(sleep 0.3; dmsetup rename w v) &
			timeout 10 dmsetup wait w
			wait
			n=$(dmsetup info -c --noheadings -o events v)
			timeout 0.3 dmsetup wait v $n && exit 1 || test $? = 124
			dmsetup remove v`)
	})
}

// A suspend whose caller is killed while it waits for I/O is given up.
func TestExecKilledSuspend(t *testing.T) {
	forEach(t, "dmsetup", func(t *testing.T, b *bench) {
		b.session("", `
			dmsetup create low --table '0 8 zero'
			dmsetup create up --table '0 8 linear /dev/mapper/low 0'
			dmsetup message up 0 @stats_create - 1
			dmsetup suspend low
			dd if=/dev/zero of=/dev/mapper/up bs=4k count=1 oflag=direct status=none &
			until dmsetup message up 0 @stats_print 0 | grep -q ' 1 [0-9]* [0-9]* [0-9]* [0-9]*$'; do sleep 0.1; done
			timeout 1 dmsetup suspend up && exit 1 || test $? = 124
			sleep 2
			dmsetup resume low
			wait
			dmsetup info up | grep -q ACTIVE
			dmsetup remove up
			dmsetup remove low`)
	})
}

// Whoever waits for udev is answered as if there were one, and finds the nodes.
func TestExecCookies(t *testing.T) {
	forEach(t, "dmsetup", func(t *testing.T, b *bench) {
		out := b.session("", `
			unset DM_DISABLE_UDEV; mkdir -p /run/udev; touch /run/udev/control
			timeout 10 dmsetup create c --table '0 8 zero'; test -b /dev/mapper/c
			timeout 10 dmsetup rename c d; test -b /dev/mapper/d; test ! -e /dev/mapper/c
			cookie=$(dmsetup udevcreatecookie)
			timeout 10 dmsetup --udevcookie $cookie remove d
			timeout 10 dmsetup udevreleasecookie $cookie
			test ! -e /dev/mapper/d; dmsetup udevcookies`)
		if strings.Contains(out, "0xd4d") {
			t.Errorf("a cookie is left:\n%s", out)
		}
	})
}

// A node names a number: it can be made, renamed, linked to, given away, and opened by descriptor. What is no device passes.
func TestExecNodes(t *testing.T) {
	forEach(t, "dmsetup", func(t *testing.T, b *bench) {
		b.image("a.img", 8)
		b.file("f", "a file")
		out := b.session("--block a.img", `
			printf stamp | dd of=/dev/sda conv=notrunc status=none
			mkdir /dev/d; mknod /dev/d/n b 8 0; test -b /dev/d/n; mv /dev/d/n /dev/d/m; ln -s d/m /dev/l; ln -s /dev/l l
			for name in /dev/sda /dev/d/m /dev/l l /dev/block/8:0 /proc/self/cwd/l; do test "$(head -c 5 $name)" = stamp; done
			test "$(stat -Lc %t:%T:%i:%d l)" = "$(stat -c %t:%T:%i:%d /dev/sda)"
			test "$(stat -Lc %t:%T:%i:%d - </dev/d/m)" = "$(stat -c %t:%T:%i:%d /dev/sda)"
			test "$(head -c 5 /dev/stdin </dev/sda)" = stamp; test "$(head -c 5 /proc/self/fd/0 </dev/sda)" = stamp
			chown 0:6 /dev/sda; chmod 600 /dev/sda
			(cd /dev/d; test "$(head -c 5 m)" = stamp)
			mknod /dev/gone b 252 77; test -b /dev/gone; cat /dev/gone && exit 1
			mknod ./here b 8 0 && exit 1
			test "$(cat f)" = 'a file'; test -f f; mkfifo p; test -p p
			echo >/dev/mapper/control || echo unwritable
			test "$(cat "$DMFS_MOUNT/dmfs-sda" | head -c 5)" = stamp
			echo kept >/dev/mapper/backup; (cd /dev/d; dd if=/dev/zero of=large bs=64k count=4 status=none; stat -Lc %s:%F large); test "$(cat /dev/mapper/backup)" = kept
			mkfifo /dev/p; echo 'more' >>/dev/mapper/backup; cat /dev/mapper/backup; rm /dev/d/large /dev/p
			rm /dev/l /dev/d/m l p`)
		says(t, out, "No such device or address", "Operation not permitted", "unwritable", "262144:regular file", "kept\nmore\n")
	})
}

// What a session cannot have is told with its cure.
func TestExecRefusals(t *testing.T) {
	b := newBench(t)
	b.asUser()
	b.skipWithoutUserNamespaces()
	b.run(program, "mount", b.mnt)
	b.fails(125, "no more user namespaces are allowed here", "unshare", "-Ur", "sh", "-c", "echo 0 >/proc/sys/user/max_user_namespaces; exec "+program+" exec -- true")
	b.fails(125, "seccomp user notification is in use here", program, "exec", "--", "sh", "-c", "rm /run/dmfs/session; exec "+program+" exec -- true")
	b.fails(125, "--block is for the one who begins it", program, "exec", "--", program, "exec", "--block", "/etc/passwd", "--", "true")
	b.fails(125, "no such file", program, "exec", "--block", "none.img", "--", "true")
	b.fails(125, "is neither a file nor a block device", program, "exec", "--block", b.mnt, "--", "true")
	b.fails(125, "a disk has at least 512", program, "exec", "--block", b.file("small", "x"), "--", "true")
	b.fails(125, "is no name of a block device", program, "exec", "--block", "small=../x", "--", "true")
	b.fails(125, "no command given", program, "exec", "--")
	b.fails(125, "unknown option", program, "exec", "--frob", "true")
	b.fails(125, "no dmfs mount takes commands there", program, "exec", "-m", b.dir, "--", "true")
	b.endSessions()
}

// The exit status is the command's; a session in a session is the same one.
func TestExecStatus(t *testing.T) {
	forEach(t, "dmsetup", func(t *testing.T, b *bench) {
		b.fails(3, "", program, "exec", "--", "sh", "-c", "exit 3")
		b.fails(143, "", program, "exec", "--", "sh", "-c", "kill -TERM $$")
		b.fails(127, "not found", program, "exec", "--", "nosuchcommand")
		b.fails(126, "", program, "exec", "--", "/etc")
		b.fails(4, "", program, "exec", program, "exec", "sh", "-c", "dmsetup version && exit 4")
	})
}

// Daemons that the command leaves behind are served when dmfs exec has returned, and the mount can be unmounted when they are gone.
func TestExecDaemon(t *testing.T) {
	forEach(t, "dmsetup", func(t *testing.T, b *bench) {
		tell := func(fifo string) {
			f, err := os.OpenFile(b.path(fifo), os.O_WRONLY, 0)
			must(t, err)
			f.Close()
		}
		b.session("", `mkfifo go fifo
			(cat go; dmsetup create late --table '0 8 zero'; cat fifo; stat -c %F /dev/mapper/late >said) </dev/null >/dev/null 2>&1 &`)
		tell("go")
		b.waitFor("the daemon's device", func() bool { return strings.Contains(b.run(program, "ls"), "late") })
		b.fails(1, "(dmfs-exec) has "+b.mnt, program, "umount", b.mnt)
		tell("fifo")
		b.waitFor("the daemon's end", func() bool {
			text, _ := os.ReadFile(b.path("said"))
			return string(text) == "block special file\n" && len(b.daemons()) == 1
		})
	})
}

// A session has a copy of the other mounts, where mounts are private. One that it does not use goes all the same; one that it uses
// is served until it is done.
func TestExecOtherMount(t *testing.T) {
	forEach(t, "dmsetup", func(t *testing.T, b *bench) {
		b.image("a.img", 8)
		other := b.path("other")
		b.run("mkdir", other)
		for _, use := range []string{"", "exec 3<" + other + "/vol;"} {
			b.run(program, "mount", other)
			b.run(program, "create", "-m", other, "low", "--table", "0 8 linear "+b.path("a.img")+" 0")
			b.run(program, "create", "-m", other, "vol", "--table", "0 8 linear low 0")
			b.run("sh", "-c", "test -p fifo || mkfifo fifo")
			cmd, out := b.start(program, "exec", "-m", b.mnt, "--", "sh", "-c", use+"echo ready; read go <fifo; head -c 512 <&3 | wc -c")
			b.waitFor("ready", func() bool { return strings.Contains(out.String(), "ready") })
			said := b.run("timeout", "8", program, "umount", other)
			if use != "" && !strings.Contains(said, "in use in another mount namespace") && len(b.daemons()) == 4 {
				t.Errorf("said %q while a session uses the mount", said)
			}
			b.run("sh", "-c", "echo go >fifo")
			cmd.Wait()
			if use != "" {
				says(t, out.String(), "512")
			}
			b.waitFor("the end of all but one daemon", func() bool { return len(b.daemons()) == 1 })
		}
	})
}

// Whoever is killed, nobody is stuck and nothing is left.
func TestExecKilled(t *testing.T) {
	forEach(t, "dmsetup", func(t *testing.T, b *bench) {
		b.image("a.img", 8)
		for _, victim := range []string{"client", "supervisor", "command"} {
			t.Run(victim, func(t *testing.T) {
				cmd, out := b.start(program, "exec", "--block", "a.img", "--", "sh", "-c",
					"dmsetup create k --table '0 8 linear 8:0 0'; dmsetup resume k; echo ready; dmsetup wait k; dmsetup info k; echo after")
				b.waitFor("ready", func() bool { return strings.Contains(out.String(), "ready") })
				b.waitFor("dmsetup wait", func() bool { return b.named("dmsetup") != 0 })
				time.Sleep(100 * time.Millisecond) // for it to wait
				switch victim {
				case "client":
					must(t, cmd.Process.Kill())
					b.run(program, "rename", "k", "l") // ends the wait
					cmd.Wait()
				case "supervisor":
					b.kill("dmfs-exec")
					cmd.Wait()
					says(t, out.String(), "the supervisor was killed (killed), and the session with it")
				case "command":
					b.kill("dmsetup")
					cmd.Wait()
					says(t, out.String(), "after")
				}
				b.waitFor("the end of all but the mount's daemon", func() bool { return len(b.daemons()) == 1 && b.named("dmsetup") == 0 })
				b.try(program, "remove", "k")
				b.try(program, "remove", "l")
				b.waitFor("the disk's end", func() bool { return !strings.Contains(b.run(program, "ls"), "dmfs-sda") })
			})
		}
		b.session("", "true") // takes the directory with locks away that a killed one left
	})
}

// When a supervisor is killed that serves a daemon which a command has left behind, the daemon ends, too, be the client gone or killed before.
func TestExecDaemonKilled(t *testing.T) {
	forEach(t, "stat", func(t *testing.T, b *bench) {
		// It goes on whatever happens, as dmeventd does, and so does its child.
		const daemon = `(while :; do stat /dev/null && sleep 0.1; done) </dev/null >/dev/null 2>&1 &`
		for _, clientKilled := range []bool{false, true} {
			if clientKilled {
				cmd, out := b.start(program, "exec", "--", "sh", "-c", daemon+" echo ready; exec sleep 100")
				b.waitFor("ready", func() bool { return strings.Contains(out.String(), "ready") })
				b.waitFor("sleep", func() bool { return b.named("sleep") != 0 })
				must(t, cmd.Process.Kill())
				b.waitFor("who watches in its place", func() bool { return b.named("dmfs-exec-warde") != 0 }) // the kernel keeps 15 bytes
				defer cmd.Wait()
			} else {
				b.session("", daemon)
			}
			b.kill("dmfs-exec")
			b.waitFor("the end of the daemon and of who watches", func() bool { return b.named("sh") == 0 && len(b.daemons()) == 1 })
		}
		b.session("", "true") // takes the directory with locks away that a killed one left
	})
}

// kill kills the bench's process of that name, which there must be.
func (b *bench) kill(name string) {
	b.t.Helper()
	pid := b.named(name)
	if pid == 0 { // which would mean this process and all of its group
		b.t.Fatalf("no %s runs", name)
	}
	must(b.t, syscall.Kill(pid, syscall.SIGKILL))
}

// named returns the pid of the bench's process of that name, 0 if there is none.
func (b *bench) named(name string) int {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		comm, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "comm"))
		env, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if strings.TrimSpace(string(comm)) == name && strings.Contains(string(env)+"\x00", b.mark()+"\x00") {
			pid := 0
			fmt.Sscan(e.Name(), &pid)
			return pid
		}
	}
	return 0
}
