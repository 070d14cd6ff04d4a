package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program is the dmfs under test. Its path is like no other, so that its processes are known by it.
var program string

// ordinary is the user that tests of an ordinary user run as: nobody. fusermount3 wants one with an entry.
const ordinary = 65534

// patience is how long anything may take before a test gives up on it.
const patience = 90 * time.Second

func TestMain(m *testing.M) {
	if times, err := strconv.Atoi(os.Getenv(openerEnv)); err == nil {
		if err := openAndCheck(os.Args[1], times); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("opened")
		return
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "dmfs-e2e-")
		if err == nil {
			err = os.Chmod(dir, 0o755)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "dmfs")
		build := exec.Command("go", "build", "-o", program, "dmfs/cmd/dmfs")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// A bench is the directory of one test.
type bench struct {
	t    *testing.T
	dir  string
	mnt  string
	user bool     // run as an ordinary user
	env  []string // beside the test's own
}

// newBench makes a directory with an empty mount point. The test may mount.
func newBench(t *testing.T) *bench {
	t.Helper()
	if os.Geteuid() != 0 {
		requireTool(t, "fusermount3")
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("needs /dev/fuse: %v", err)
	}
	f.Close()
	// Not t.TempDir: others must be able to enter.
	dir, err := os.MkdirTemp("", "dmfs-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, dir: dir, mnt: filepath.Join(dir, "mnt")}
	t.Cleanup(b.end)
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Mkdir(b.mnt, 0o755))
	return b
}

// asUser makes the bench belong to an ordinary user and run everything as him.
func (b *bench) asUser() {
	b.t.Helper()
	requireTool(b.t, "fusermount3")
	if os.Geteuid() != 0 {
		return // we are one
	}
	if st, err := os.Stat("/dev/fuse"); err != nil || st.Mode().Perm()&0o006 != 0o006 {
		b.t.Skip("needs a /dev/fuse that users may open: chmod 666 /dev/fuse")
	}
	b.user = true
	must(b.t, filepath.Walk(b.dir, func(name string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(name, ordinary, ordinary)
	}))
}

// path returns the name of a file of the bench.
func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// image makes an empty image of so many sectors.
func (b *bench) image(name string, sectors int64) string {
	b.t.Helper()
	b.file(name, "")
	must(b.t, os.Truncate(b.path(name), sectors*512))
	return b.path(name)
}

// file writes a file.
func (b *bench) file(name, text string) string {
	b.t.Helper()
	must(b.t, os.WriteFile(b.path(name), []byte(text), 0o644))
	if b.user {
		must(b.t, os.Chown(b.path(name), ordinary, ordinary))
	}
	return b.path(name)
}

// sample writes a configuration of one device, vol0, made of two images of 8 sectors.
func (b *bench) sample() string {
	b.t.Helper()
	b.image("a.img", 8)
	b.image("b.img", 8)
	return b.file("dmfs.toml", "[devices.vol0]\ntable = \"\"\"\n0 8 linear a.img 0\n8 8 linear b.img 0\n\"\"\"\n")
}

// command returns a command of the bench's user in the bench's directory.
func (b *bench) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), append([]string{"LC_ALL=C", "NOTIFY_SOCKET=", "DMFS_MOUNT=" + b.mnt, b.mark()}, b.env...)...)
	if b.user {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinary, Gid: ordinary}}
	}
	return cmd
}

// try runs a command and returns what it printed and its exit status.
func (b *bench) try(name string, args ...string) (string, int) {
	b.t.Helper()
	return b.complete(b.command(name, args...))
}

// complete runs a command of the bench and returns what it printed and its exit status. If it takes too long, or leaves behind who goes on printing, the
// test fails.
func (b *bench) complete(cmd *exec.Cmd) (string, int) {
	b.t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	must(b.t, cmd.Start())
	timer := time.AfterFunc(patience, func() {
		for _, pid := range b.processes() {
			syscall.Kill(pid, syscall.SIGKILL) //nolint:errcheck // most often it has ended with another
		}
	})
	err := cmd.Wait()
	var exit *exec.ExitError
	if !timer.Stop() {
		b.t.Fatalf("%q: was killed after %v\n%s", cmd.Args, patience, out.Bytes())
	}
	if err != nil && !errors.As(err, &exit) {
		b.t.Fatalf("%q: %v", cmd.Args, err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// run runs a command that must succeed and returns what it printed.
func (b *bench) run(name string, args ...string) string {
	b.t.Helper()
	out, status := b.try(name, args...)
	if status != 0 {
		b.t.Fatalf("%s %s: exit status %d\n%s", filepath.Base(name), strings.Join(args, " "), status, out)
	}
	return out
}

// fails runs a command that must exit with status and say want.
func (b *bench) fails(status int, want, name string, args ...string) string {
	b.t.Helper()
	out, got := b.try(name, args...)
	if got != status {
		b.t.Errorf("%s %s: exit status %d, want %d\n%s", filepath.Base(name), strings.Join(args, " "), got, status, out)
	}
	if !strings.Contains(out, want) {
		b.t.Errorf("%s %s: said\n%swant %q", filepath.Base(name), strings.Join(args, " "), out, want)
	}
	return out
}

// start starts a command and returns what it printed so far whenever asked.
func (b *bench) start(name string, args ...string) (*exec.Cmd, *lockedBuffer) {
	b.t.Helper()
	cmd := b.command(name, args...)
	out := new(lockedBuffer)
	cmd.Stdout, cmd.Stderr = out, out
	must(b.t, cmd.Start())
	b.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	return cmd, out
}

// waitFor fails the test if cond does not become true.
func (b *bench) waitFor(what string, cond func() bool) {
	b.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if cond() {
			return
		}
	}
	b.t.Fatalf("waited in vain: %s", what)
}

// mounted returns the types of what is mounted on the mount point, the topmost last.
func (b *bench) mounted() []string {
	b.t.Helper()
	var types []string
	for _, f := range mountsBelow(b.mnt) {
		if f.point == b.mnt {
			types = append(types, f.fsType)
		}
	}
	return types
}

type mounted struct{ point, fsType, dev string } // dev is MAJOR:MINOR

// mountsBelow returns the mounts on and below dir, in the order they were made.
func mountsBelow(dir string) []mounted {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var found []mounted
	for _, line := range strings.Split(string(text), "\n") {
		f := strings.Fields(line)
		_, after, ok := strings.Cut(line, " - ")
		if ok && (f[4] == dir || strings.HasPrefix(f[4], dir+"/")) {
			found = append(found, mounted{f[4], strings.Fields(after)[0], f[2]})
		}
	}
	return found
}

// mark is an environment variable by which the bench knows its processes.
func (b *bench) mark() string { return "DMFS_E2E_BENCH=" + b.dir }

// processes returns the pids of the processes that the bench started, and of theirs.
func (b *bench) processes() []int {
	var pids []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		env, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if bytes.Contains(append(env, 0), []byte(b.mark()+"\x00")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// daemons returns the pids of the program's processes among these.
func (b *bench) daemons() []int {
	return slices.DeleteFunc(b.processes(), func(pid int) bool {
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		return exe != program
	})
}

// daemon returns the pid of the one daemon of the bench.
func (b *bench) daemon() int {
	b.t.Helper()
	pids := b.daemons()
	if len(pids) != 1 {
		b.t.Fatalf("%d daemons, want 1: %v", len(pids), pids)
	}
	return pids[0]
}

// nothingLeft fails the test if something is mounted or runs.
func (b *bench) nothingLeft() {
	b.t.Helper()
	if left := mountsBelow(b.dir); len(left) > 0 {
		b.t.Errorf("left mounted: %v", left)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for len(b.daemons()) > 0 && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
	if left := b.daemons(); len(left) > 0 {
		b.t.Errorf("left running: %v", left)
	}
}

// end checks that the test left nothing, and removes what it did.
func (b *bench) end() {
	b.nothingLeft()
	left := mountsBelow(b.dir)
	for i := len(left) - 1; i >= 0; i-- {
		if syscall.Unmount(left[i].point, 2 /* MNT_DETACH */) != nil {
			exec.Command("fusermount3", "-uz", left[i].point).Run()
		}
	}
	for _, pid := range b.daemons() {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	os.RemoveAll(b.dir)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func requireTool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("needs %s", name)
	}
}

func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}
