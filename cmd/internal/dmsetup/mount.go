package dmsetup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A mount takes commands. Do sends one, without its final newline, and returns the reply; a refused command
// is a *refusal. It does not keep command, and blocks as long as the command takes and returns when ctx is done.
type mount interface {
	Do(ctx context.Context, command string) (string, error)
	Path() string
}

// A refusal is a command that the mount did not carry out.
type refusal struct {
	errno  unix.Errno
	reason string // the mount's own words, "" if it gave none
}

func (e *refusal) Error() string {
	if e.reason != "" {
		return e.reason
	}
	return strerror(e.errno)
}

// Unwrap returns the errno, which is the one the kernel's ioctl would give.
func (e *refusal) Unwrap() error { return e.errno }

// unreachable says that a mount takes no commands: it is none, or not the caller's.
type unreachable struct{ err error }

func (e *unreachable) Error() string { return "no dmfs mount takes commands there: " + e.err.Error() }

// A controlFile is the mount whose control file it is.
type controlFile struct{ dir string }

func openControl(path string) mount { return controlFile{path} }

func (c controlFile) Path() string { return c.dir }

// Do opens the file anew for each command, since a reply belongs to an open file.
func (c controlFile) Do(ctx context.Context, command string) (string, error) {
	type result struct {
		reply string
		err   error
	}
	done := make(chan result, 1)
	line := []byte(command + "\n")
	go func() {
		reply, err := Exchange(c.dir, line)
		clear(line) // it may hold a key
		done <- result{reply, err}
	}()
	select {
	case r := <-done:
		return r.reply, r.err
	case <-ctx.Done():
		return "", unix.EINTR // the write ends with the process
	}
}

// Exchange sends commands, complete with their last newline, to the mount on dir and returns the reply to the last one. The error of a
// command that was refused has the mount's words and wraps the errno. It blocks as long as the commands take, and keeps none of them.
func Exchange(dir string, commands []byte) (string, error) {
	f, err := openBlocking(filepath.Join(dir, "control"))
	if err != nil {
		return "", &unreachable{err}
	}
	defer f.Close()
	_, failed := f.Write(commands)
	reply, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<62))
	if failed != nil {
		return "", newRefusal(failed, string(reply))
	}
	return string(reply), err
}

// openBlocking opens a file for system calls that block. os.OpenFile would have the runtime poll a file of a mount, which waits, and writes once
// more, where a command is refused with EAGAIN.
func openBlocking(path string) (*os.File, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), path), nil
		case !errors.Is(err, unix.EINTR):
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// newRefusal makes a refusal of the error of the write and the reply that explains it.
func newRefusal(failed error, reply string) error {
	r := &refusal{errno: unix.EIO}
	errors.As(failed, &r.errno)
	if reason, ok := strings.CutPrefix(strings.TrimSpace(reply), "error: "); ok {
		r.reason = reason
	}
	return r
}

// connect chooses the mount that this invocation speaks to.
func (s *session) connect() (mount, error) {
	if s.conn != nil {
		return s.conn, nil
	}
	path, err := s.mountPoint()
	if err != nil {
		return nil, s.failf("%s: %v", s.Args0, err)
	}
	s.conn = s.dial(path)
	return s.conn, nil
}

func (s *session) mountPoint() (string, error) {
	if s.opts.has("mount") {
		return s.opts.get("mount"), nil
	}
	return s.ChooseMount()
}

// ChooseMount returns the mount of an invocation that names none: that of DMFS_MOUNT, else the caller's only one.
func (e Env) ChooseMount() (string, error) {
	if path := e.Getenv("DMFS_MOUNT"); path != "" {
		return path, nil
	}
	found, err := e.Mounts()
	switch {
	case err != nil:
		return "", fmt.Errorf("finding dmfs mounts: %w", err)
	case len(found) == 0:
		return "", errors.New("no dmfs mount found: make one with 'dmfs mount', or name it in $DMFS_MOUNT")
	case len(found) > 1:
		how := "name one with -m or $DMFS_MOUNT"
		if e.Strict {
			how = "name one in $DMFS_MOUNT"
		}
		return "", fmt.Errorf("several dmfs mounts, %s:\n\t%s", how, strings.Join(found, "\n\t"))
	}
	return found[0], nil
}
