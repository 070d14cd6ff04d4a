package exec

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/fs/control"
)

// maxIdle bounds the control files that are kept open.
const maxIdle = 4

// A mount is a dmfs mount, spoken to through its control file.
type mount struct {
	path string
	root int    // its root directory
	dev  uint64 // st_dev of its files

	mu   sync.Mutex
	idle []int // open control files that nobody uses
}

// openMount opens the mount at path. Having it open keeps others from unmounting it.
func openMount(path string) (*mount, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	m := &mount{path: path, root: fd}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	m.dev = st.Dev
	return m, nil
}

// openControl opens the control file.
func (m *mount) openControl() (int, error) {
	fd, err := unix.Openat(m.root, "control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("no dmfs mount takes commands there: %w", &os.PathError{Op: "open", Path: m.path + "/control", Err: err})
	}
	return fd, nil
}

// Do carries out one command and returns the reply. The error of a refused command has the mount's words and wraps the errno.
// A command that waits ends with ctx.
func (m *mount) Do(ctx context.Context, command string) (string, error) {
	m.mu.Lock()
	fd := -1
	if n := len(m.idle); n > 0 {
		fd, m.idle = m.idle[n-1], m.idle[:n-1]
	}
	m.mu.Unlock()
	if fd < 0 {
		var err error
		if fd, err = m.openControl(); err != nil {
			return "", err
		}
	}
	reply, err := exchange(ctx, fd, append([]byte(command), '\n'))
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil || len(m.idle) == maxIdle {
		unix.Close(fd) //nolint:errcheck // the command has been carried out, or not
		return reply, err
	}
	m.idle = append(m.idle, fd)
	return reply, nil
}

// exchange writes commands to an open control file and reads the reply to the last.
func exchange(ctx context.Context, fd int, commands []byte) (string, error) {
	err := write(ctx, fd, commands)
	if err == unix.EINTR {
		return "", err
	}
	text, failed := read(fd)
	switch {
	case err != nil:
		if reason, ok := strings.CutPrefix(strings.TrimSpace(text), "error: "); ok {
			return "", fmt.Errorf("%s (%w)", reason, err)
		}
		return "", os.NewSyscallError("write", err)
	case failed != nil:
		return "", os.NewSyscallError("read", failed)
	}
	return text, nil
}

// write writes p. It is interrupted when ctx ends: a signal has the kernel tell the mount.
func write(ctx context.Context, fd int, p []byte) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tid, done := unix.Gettid(), make(chan struct{})
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		const again = 10 * time.Millisecond
		for {
			_ = unix.Tgkill(unix.Getpid(), tid, unix.SIGIO) // the runtime ignores it, the mount does not
			select {
			case <-done:
				return
			case <-time.After(again):
			}
		}
	})
	defer func() {
		close(done)
		if !stop() {
			<-ended
		}
	}()
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		switch {
		case err == unix.EINTR && ctx.Err() == nil:
			continue
		case err != nil:
			return err
		}
		p = p[n:]
	}
	return nil
}

func read(fd int) (string, error) {
	var b strings.Builder
	buf := make([]byte, 64<<10)
	for off := int64(0); ; {
		n, err := unix.Pread(fd, buf, off)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return "", err
		case n == 0:
			return b.String(), nil
		}
		b.Write(buf[:n])
		off += int64(n)
	}
}

// version asks the mount about itself.
func (m *mount) version(ctx context.Context) (control.Version, error) {
	var v control.Version
	text, err := m.Do(ctx, "version")
	if err == nil {
		err = json.Unmarshal([]byte(text), &v)
	}
	return v, err
}

// parseDocument reads the reply to a query.
func parseDocument(text string) ([]control.Device, error) {
	var doc control.Document
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&doc); err != nil && err != io.EOF {
		return nil, fmt.Errorf("reply to query: %w", err)
	}
	return doc.Devices, nil
}
