package dmfstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A TB is what a test gives: *testing.T, *testing.B, *testing.F. Outside of tests, see [Alone].
type TB interface {
	Helper()
	Cleanup(f func())
	Failed() bool
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	TempDir() string
}

// A Mount is a dmfs mount that belongs to one test. Its methods fail the test if something goes wrong, unless they return an
// error. They may be called concurrently.
type Mount struct {
	tb     TB
	dir    string // of images
	point  string
	binary string
}

// Start mounts an empty dmfs that ends with the test.
func Start(tb TB) *Mount {
	tb.Helper()
	binary, err := program()
	if err != nil {
		tb.Fatalf("dmfstest: %v", err)
	}
	dir := tb.TempDir()
	m := &Mount{tb: tb, dir: filepath.Join(dir, "images"), point: filepath.Join(dir, "mnt"), binary: binary}
	for _, d := range []string{m.dir, m.point} {
		if err := os.Mkdir(d, 0o700); err != nil {
			tb.Fatalf("dmfstest: %v", err)
		}
	}
	tb.Cleanup(m.end)
	m.mount()
	return m
}

func (m *Mount) mount() {
	m.tb.Helper()
	cmd := exec.Command(m.binary, "mount", m.point)
	cmd.Dir = m.dir // relative names of disks are found here
	if out, err := cmd.CombinedOutput(); err != nil {
		m.tb.Fatalf("dmfstest: mount: %v\n%s", err, out)
	}
}

// end unmounts, by force if it has to.
func (m *Mount) end() {
	if m.tb.Failed() {
		m.tb.Logf("tables:\n%s\nlog:\n%s", m.read("control"), m.Log())
	}
	const limit = 20 * time.Second // a stack of the test's own may hold up what unmounting writes out
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	out, err := exec.CommandContext(ctx, m.binary, "umount", m.point).CombinedOutput()
	if err == nil {
		return
	}
	if !m.tb.Failed() {
		m.tb.Logf("dmfstest: umount: %v\n%s", err, out)
	}
	m.kill()
}

// kill kills the daemon and takes its mount away.
func (m *Mount) kill() {
	reply, _ := m.Try("version") // a mount that does not answer has no pid to tell
	if pid := pidOf(reply); pid > 1 {
		syscall.Kill(pid, syscall.SIGKILL) //nolint:errcheck // it may have ended
	}
	if syscall.Unmount(m.point, syscall.MNT_DETACH) != nil {
		exec.Command("fusermount3", "-uz", "--", m.point).Run() //nolint:errcheck // there may be nothing to unmount
	}
}

// Dir returns the mount point.
func (m *Mount) Dir() string { return m.point }

// Image makes an image of zeroes, of size bytes, which takes space only where it is written to, and returns its path.
func (m *Mount) Image(name string, size int64) string {
	m.tb.Helper()
	path := filepath.Join(m.dir, name)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = errors.Join(f.Truncate(size), f.Close())
	}
	if err != nil {
		m.tb.Fatalf("dmfstest: image: %v", err)
	}
	return path
}

// Command runs commands of the control file, one a line, and returns the reply to the last.
func (m *Mount) Command(format string, args ...any) string {
	m.tb.Helper()
	reply, err := m.Try(format, args...)
	if err != nil {
		m.tb.Fatalf("dmfstest: %v", err)
	}
	return reply
}

// Try is Command for those that may fail: the error has the reply's text and wraps the errno.
func (m *Mount) Try(format string, args ...any) (string, error) {
	f, err := m.openControl()
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // every line was complete, so nothing is left to fail
	commands := strings.TrimSuffix(fmt.Sprintf(format, args...), "\n")
	_, failed := f.WriteString(commands + "\n")
	reply, err := readAll(f)
	reply = strings.TrimSuffix(reply, "\n")
	if failed != nil {
		return "", fmt.Errorf("%s: %s: %w", commands, strings.TrimPrefix(reply, "error: "), errnoOf(failed))
	}
	return reply, err
}

// openControl opens the control file for system calls that block. os.OpenFile would have the runtime poll it, which waits where a command is refused
// with EAGAIN.
func (m *Mount) openControl() (*os.File, error) {
	path := filepath.Join(m.point, "control")
	for {
		fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), path), nil
		case !errors.Is(err, syscall.EINTR):
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// errnoOf returns the errno in err, err itself if there is none.
func errnoOf(err error) error {
	var n syscall.Errno
	if errors.As(err, &n) {
		return n
	}
	return err
}

// readAll reads what the file says from the beginning.
func readAll(f *os.File) (string, error) {
	var text bytes.Buffer
	part := make([]byte, 64<<10)
	for {
		n, err := f.Read(part)
		text.Write(part[:n])
		if n == 0 || err != nil {
			if n == 0 {
				err = nil // io.EOF
			}
			return text.String(), err
		}
	}
}

// Log returns the log of the mount: what the kernel would say in dmesg.
func (m *Mount) Log() string { return m.read(".dm/log") }

func (m *Mount) read(name string) string {
	text, err := os.ReadFile(filepath.Join(m.point, name))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Crash kills the program that serves the mount, as kill -9 does, mounts anew and makes the same devices again on the same images:
// what was in the program's memory is gone. All users of the devices have closed them.
func (m *Mount) Crash() {
	m.tb.Helper()
	saved := m.read("control")
	m.kill()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		var dir, above syscall.Stat_t
		if syscall.Stat(m.point, &dir) == nil && syscall.Stat(filepath.Dir(m.point), &above) == nil && dir.Dev == above.Dev {
			break
		}
		if time.Now().After(end) {
			m.tb.Fatalf("dmfstest: the mount of a killed program is still there")
		}
	}
	m.mount()
	m.Command("%s", saved)
}

// Available says what is missing for Start, if anything.
func Available() error {
	_, err := program()
	return err
}

// program finds or builds the program, once.
var program = sync.OnceValues(func() (string, error) {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("needs FUSE: %w", err)
	}
	f.Close() //nolint:errcheck // nothing was written
	if os.Geteuid() != 0 {
		if _, err := exec.LookPath("fusermount3"); err != nil {
			return "", errors.New("needs fusermount3, of the package fuse3")
		}
	}
	if path := os.Getenv("DMFS"); path != "" {
		return filepath.Abs(path)
	}
	built, err := build()
	if err == nil {
		return built, nil
	}
	if path, e := exec.LookPath("dmfs"); e == nil {
		return path, nil
	}
	return "", fmt.Errorf("needs the program: set DMFS to its path, or put dmfs on PATH; building it failed: %w", err)
})

// build builds the program of this module, in a place that stays: the next run finds it there, and go build knows whether it
// is up to date.
func build() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "dmfstest")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	binary := filepath.Join(dir, fmt.Sprintf("dmfs-%d", os.Getpid()))
	cmd := exec.Command("go", "build", "-o", binary, "dmfs/cmd/dmfs")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build dmfs/cmd/dmfs: %w\n%s", err, out)
	}
	path := filepath.Join(dir, "dmfs")
	return path, os.Rename(binary, path) // for those who run it, the old one remains
}
