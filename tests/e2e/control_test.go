package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shells are those that scripts are written for.
var shells = []string{"sh", "dash", "bash"}

// Every command of the control file works from a shell, and errors reach $?.
func TestControlFromShells(t *testing.T) {
	for _, shell := range shells {
		t.Run(shell, func(t *testing.T) {
			b := newBench(t)
			requireTool(t, shell)
			b.image("a.img", 8192)
			b.mount("")
			b.run(shell, "-euc", `
cd mnt
echo 'create one 0 1024 linear `+b.path("a.img")+` 0   # a comment' >control
printf 'create two uuid=U-2 minor=7 ro {\n0 512 linear one 512\n512 512 zero\n}\n' >control
cat >control <<END
# several
create three notable
load three 0 64 zero
resume three
suspend three noflush nolockfs
resume three
load three 0 128 error
clear three
rename three drei
setuuid drei U-3
END
test "$(stat -c %s one)" = $((1024*512))
test "$(stat -c %a two)" = 400
test "$(cat .dm/drei/table)" = '0 64 zero '
grep -q '^Major, minor: *253, 7$' .dm/two/info
echo '0 32 zero' >.dm/drei/table
test "$(stat -c %s drei)" = $((32*512))

# Errors reach the status and can be read.
if echo 'remove one' >control; then exit 1; fi
if echo 'frobnicate' >control; then exit 1; fi
if printf 'create broken { 0 8 zero\n9 8 zero }\n' >control; then exit 1; fi
test ! -e broken
if printf 'create unfinished {\n0 8 zero\n' | dd of=control conv=notrunc status=none; then exit 1; fi
grep -q 'unfinished command dropped' .dm/log
exec 3<>control
if echo 'create broken 0 8 linear nowhere 0' >&3; then exit 1; fi
read -r reply <&3
test "${reply#error: broken: segment 0 (0+8 linear): Device lookup failed}" != "$reply"
echo 'message one 0 @cancel_deferred_remove' >&3
read -r reply <&3
test "$reply" = ok
# A table in parts, by several writers on one open file.
{ echo 'create parts {'; /bin/echo '0 8 zero'; printf '8 8 error\n'; echo '}'; } >&3
read -r reply <&3
test "$reply" = ok
exec 3>&-

# Messages, through the file too.
if echo '0 hello' >.dm/one/message; then exit 1; fi

# Save, remove all, restore.
cat control >../saved
echo 'concise c1,,,rw,0 8 zero;c2,UU,,ro,0 8 error,8 8 zero' >control
test "$(stat -c %s c2)" = 8192
echo 'remove parts force' >control
echo 'remove c1 deferred' >control
echo remove_all >control
test "$(ls)" = control
cat ../saved >control
cat control >../again
cmp ../saved ../again
`)
			other := newBench(t)
			other.mount("")
			saved, err := os.ReadFile(b.path("saved"))
			must(t, err)
			other.control(string(saved))
			again, err := os.ReadFile(other.mnt + "/control")
			must(t, err)
			if !bytes.Equal(saved, again) {
				t.Errorf("saved\n%s\nrestored\n%s", saved, again)
			}
		})
	}
}

// tell writes one command and returns the errno of the write and the reply.
func (b *bench) tell(command string) (syscall.Errno, string) {
	b.t.Helper()
	f, err := os.OpenFile(b.mnt+"/control", os.O_RDWR, 0)
	must(b.t, err)
	defer f.Close()
	_, err = f.WriteString(command + "\n")
	var errno syscall.Errno
	if err != nil && !errors.As(err, &errno) {
		b.t.Fatalf("%q: %v", command, err)
	}
	reply := make([]byte, 1<<16)
	n, _ := f.ReadAt(reply, 0)
	return errno, string(reply[:n])
}

// Bad commands give the errno of the kernel's ioctl and a reason, and nothing of them has happened.
func TestControlRefuses(t *testing.T) {
	b := newBench(t)
	b.image("a.img", 2048)
	b.mount("")
	b.control("create have uuid=U 0 8 zero\ncreate up 0 8 linear have 0\n")
	img := b.path("a.img")
	long := strings.Repeat("n", 128)
	for _, tt := range []struct {
		command string
		errno   syscall.Errno
		says    string
	}{
		{"create " + long + " 0 8 zero", syscall.EINVAL, "128 bytes, want at most 127"},
		{"create a/b 0 8 zero", syscall.EINVAL, "invalid device name"},
		{"create .. 0 8 zero", syscall.EINVAL, "taken by the mount"},
		{"create control 0 8 zero", syscall.EINVAL, "taken by the mount"},
		{"create .dm 0 8 zero", syscall.EINVAL, "taken by the mount"},
		{"create \"\" 0 8 zero", syscall.EINVAL, "it is empty"},
		{"create \"a\tb\" 0 8 zero", syscall.EINVAL, "invalid device name"},
		{"create x", syscall.EINVAL, "missing table"},
		{"create x 0 8", syscall.EINVAL, "incomplete table line"},
		{"create x { 0 8 zero } y", syscall.EINVAL, "text after the closing brace"},
		{"create x 0 8 nosuch", syscall.EINVAL, "unknown target type"},
		{"create x 0 8 linear", syscall.EINVAL, "Invalid argument count"},
		{"create x 0 8 linear " + img + " y", syscall.EINVAL, "Invalid device sector"},
		{"create x 0 9999 linear " + img + " 0", syscall.EINVAL, "a.img too small for target: start=0, len=9999, dev_size=2048"},
		{"create x { 0 8 zero; 16 8 zero }", syscall.EINVAL, "segment 1 (16+8 zero): Gap in table"},
		{"create x { 0 8 zero; 4 8 zero }", syscall.EINVAL, "segment 1 (4+8 zero): Gap in table"},
		{"create x 0 0 zero", syscall.EINVAL, "zero-length target"},
		{"create x 0 9223372036854775808 zero", syscall.EINVAL, "too large device"},
		{"create x 0 18446744073709551616 zero", syscall.EINVAL, "not a number of sectors"},
		{"create x -1 8 zero", syscall.EINVAL, "not a number of sectors"},
		{"create x minor=-1 0 8 zero", syscall.EINVAL, "invalid minor number"},
		{"create have 0 8 zero", syscall.EBUSY, "is taken"},
		{"create x uuid=U 0 8 zero", syscall.EBUSY, "uuid U is taken by have"},
		{"create x minor=0 0 8 zero", syscall.ENXIO, "minor number is taken: 0, by have"},
		{"create x frob=1 0 8 zero", syscall.EINVAL, "start: not a number of sectors: \"frob=1\""},
		{"load none 0 8 zero", syscall.ENXIO, "none: no such mapped device"},
		{"resume none", syscall.ENXIO, "no such mapped device"},
		{"resume have frob", syscall.EINVAL, "unexpected word"},
		{"remove have", syscall.EBUSY, "mapped by 1"},
		{"rename have up", syscall.EBUSY, "is taken"},
		{"rename have a/b", syscall.EINVAL, "invalid device name"},
		{"setuuid have V", syscall.EINVAL, "uuid is already set"},
		{"message have 0", syscall.EINVAL, "Empty message received."},
		{"message have 8 x", syscall.EINVAL, "Target message sector outside device."},
		{"message have 0 x", syscall.EINVAL, "Target type does not support messages"},
		{"message have 0 @nosuch", syscall.EINVAL, "Unsupported message sent to DM core: @nosuch"},
		{"concise a,,,rw,0 8 zero;have,,,rw,0 8 zero", syscall.EBUSY, "have: name have is taken"},
		{"concise a,,,xx,0 8 zero", syscall.EINVAL, "invalid flags"},
		{"load have 0 8 linear up 0", syscall.EINVAL, "the device would stand on itself: have -> up -> have"},
		{"frobnicate", syscall.EINVAL, "unknown command"},
		{"create \"x 0 8 zero", syscall.EINVAL, "unbalanced quote"},
		{"setgeometry have 1 256 1 0", syscall.EINVAL, "Geometry exceeds range limits."},
	} {
		errno, reply := b.tell(tt.command)
		if errno != tt.errno || !strings.HasPrefix(reply, "error: ") || !strings.Contains(reply, tt.says) {
			t.Errorf("%.80s: errno %v (%d), reply %q: want %v and %q", tt.command, errno, errno, reply, tt.errno, tt.says)
		}
	}
	if out := b.run(program, "ls"); out != "have\t(253:0)\nup\t(253:1)\n" {
		t.Errorf("left behind:\n%s", out)
	}
}

// Large input is taken or refused, and costs what it is worth.
func TestControlLargeInput(t *testing.T) {
	b := newBench(t)
	b.image("a.img", 200_000)
	b.mount("")
	var table strings.Builder
	table.WriteString("create many {\n")
	const segments = 100_000
	for i := range segments {
		table.WriteString(strings.Join([]string{strconv.Itoa(i), "1 linear", b.path("a.img"), strconv.Itoa(segments - i)}, " ") + "\n")
	}
	table.WriteString("}\n")
	b.control(table.String())
	if st, err := os.Stat(b.mnt + "/many"); err != nil || st.Size() != segments*512 {
		t.Errorf("the device of %d segments: %v, %v", segments, st, err)
	}
	must(t, os.WriteFile(b.path("pattern"), random(segments*512, 3), 0o644))
	b.run("dd", "if=pattern", "of=mnt/many", "bs=1M", "conv=notrunc", "status=none")
	b.run("cmp", "pattern", "mnt/many")

	f, err := os.OpenFile(b.mnt+"/control", os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString("create huge {\n" + strings.Repeat("0 8 linear "+strings.Repeat("x", 1000)+" 0\n", 100_000) + "}\n")
	if !errors.Is(err, syscall.E2BIG) {
		t.Errorf("a command of 100 MB: %v, want E2BIG", err)
	}
	f.Close()
	b.control("remove many\n")
}

// A process that waits for a suspended device can be killed, and what waits goes on after a resume.
func TestSuspendedDevice(t *testing.T) {
	b := newBench(t)
	b.image("a.img", 2048)
	b.image("b.img", 2048)
	b.mount("")
	b.control("create vol0 0 2048 linear " + b.path("a.img") + " 0\nsuspend vol0\n")
	if out, _ := b.try("stat", "-c", "%s", "mnt/vol0"); out != "1048576\n" {
		t.Errorf("stat of a suspended device says %s", out)
	}
	var killed []interface{ Wait() error }
	for range 4 {
		cmd, _ := b.start("dd", "if=mnt/vol0", "of=/dev/null", "bs=4096", "count=1", "status=none")
		time.Sleep(50 * time.Millisecond)
		must(t, cmd.Process.Signal(syscall.SIGKILL))
		killed = append(killed, cmd)
	}
	for _, cmd := range killed {
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatal("a killed reader does not end")
		}
	}
	// SIGTERM kills dd as well; a signal that is handled does not end the wait.
	cmd, out := b.start(python, "-c", `
import os, signal, sys
signal.signal(signal.SIGUSR1, lambda *a: None)
print("ready", flush=True)
fd = os.open("mnt/vol0", os.O_WRONLY)
print(os.pwrite(fd, b"x" * 4096, 0), flush=True)
`)
	b.waitFor("the signal is handled", func() bool { return strings.Contains(out.String(), "ready") })
	time.Sleep(100 * time.Millisecond)
	must(t, cmd.Process.Signal(syscall.SIGUSR1))
	time.Sleep(100 * time.Millisecond)
	b.control("load vol0 0 2048 linear " + b.path("b.img") + " 0\nresume vol0\n")
	must(t, cmd.Wait())
	have, err := os.ReadFile(b.path("b.img"))
	must(t, err)
	if !bytes.Equal(have[:4096], bytes.Repeat([]byte("x"), 4096)) {
		t.Error("what waited did not go to the table that was live after")
	}
	if a, err := os.ReadFile(b.path("a.img")); err != nil || !bytes.Equal(a, make([]byte, 1<<20)) {
		t.Errorf("what waited went to the old table (%v)", err)
	}
}

// countInFlight returns a function that says how many requests a device has in flight.
func (b *bench) countInFlight(device string) func() int {
	b.t.Helper()
	b.run(program, "stats", "create", device)
	return func() int {
		b.t.Helper()
		const field = 9 // of the region that is the whole device
		counters := strings.Fields(b.run(program, "stats", "print", "--allregions", device))
		if len(counters) <= field {
			b.t.Fatalf("counters of %s: %q", device, counters)
		}
		n, err := strconv.Atoi(counters[field])
		must(b.t, err)
		return n
	}
}

// A command that waits is given up at a signal, but not because the terminal has another size or a child has ended.
func TestSignalledCommand(t *testing.T) {
	requireTool(t, "bash")
	b := newBench(t)
	b.mount("")
	b.control("create low 0 2048 zero\ncreate up 0 2048 linear low 0\nsuspend low\n")
	inFlight := b.countInFlight("up")
	writer, _ := b.start("dd", "if=/dev/zero", "of=mnt/up", "bs=4k", "count=1", "conv=notrunc", "oflag=direct", "status=none")
	b.waitFor("the write waits", func() bool { return inFlight() == 1 })
	cmd, out := b.start("bash", "-c", "trap : CHLD WINCH USR1; echo ready; echo suspend up >mnt/control; echo status $?")
	b.waitFor("the signals are handled", func() bool { return strings.Contains(out.String(), "ready") })
	for range 3 {
		time.Sleep(100 * time.Millisecond)
		must(t, cmd.Process.Signal(syscall.SIGWINCH))
		must(t, cmd.Process.Signal(syscall.SIGCHLD))
	}
	time.Sleep(100 * time.Millisecond)
	if strings.Contains(out.String(), "status") {
		t.Errorf("after signals that say nothing: %s", out)
	}
	must(t, cmd.Process.Signal(syscall.SIGUSR1))
	cmd.Wait()
	if !strings.Contains(out.String(), "Interrupted system call") || !strings.HasSuffix(out.String(), "status 1\n") {
		t.Errorf("after a signal: %s", out)
	}
	b.control("resume low\n")
	must(t, writer.Wait())
}

// Events wake those who wait, through the command line and through the file.
func TestEvents(t *testing.T) {
	b := newBench(t)
	b.mount("")
	b.control("create e 0 8 zero\n")
	waiter, _ := b.start(program, "wait", "e", "0")
	reader, out := b.start("sh", "-c", "exec 3<mnt/.dm/e/events; cat <&3; python3 -c 'import os; print(os.pread(3, 10, 0))'")
	b.waitFor("the first number", func() bool { return strings.Contains(out.String(), "0\n") })
	time.Sleep(100 * time.Millisecond)
	b.control("rename e f\n")
	must(t, waiter.Wait())
	must(t, reader.Wait())
	if out.String() != "0\nb'1\\n'\n" {
		t.Errorf("the events file says %q", out.String())
	}
	cmd, _ := b.start(program, "wait", "f", "1")
	time.Sleep(100 * time.Millisecond)
	must(t, cmd.Process.Signal(syscall.SIGKILL))
	cmd.Wait()
	b.control("remove f\n")
}

// Of several processes that wait with a write to one device, each can be killed alone: the lock that the kernel takes is shared.
func TestKilledWriter(t *testing.T) {
	b := newBench(t)
	b.mount("")
	b.control("create v 0 2048 zero\nsuspend v\n")
	var writers []*exec.Cmd
	for range 3 {
		cmd, _ := b.start("dd", "if=/dev/zero", "of=mnt/v", "bs=4k", "count=1", "conv=notrunc", "oflag=direct", "status=none")
		writers = append(writers, cmd)
	}
	time.Sleep(200 * time.Millisecond)
	for i, cmd := range writers {
		must(t, cmd.Process.Kill())
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		select {
		case <-done:
		case <-time.After(patience):
			t.Errorf("writer %d does not end while %d others wait", i, len(writers)-1-i)
		}
	}
	b.control("resume v\n")
}
