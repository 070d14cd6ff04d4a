package mount

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/fs/control"
)

// maxReply bounds the reply to a command, in bytes.
const maxReply = 64 << 10

// answerTimeout is how long a daemon may take to say who it is.
const answerTimeout = 3 * time.Second

// ask sends one command to the mount m and returns the reply. FUSE keeps even root out of another user's
// mount, so root asks in his name.
func ask(ctx context.Context, m Mount, command string) (string, error) {
	type answer struct {
		text string
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		if os.Geteuid() == 0 && m.UserID > 0 {
			// The thread is never unlocked, so it ends with the goroutine and its identity with it.
			runtime.LockOSThread()
			if err := becomeOnThread(m.UserID, m.GroupID); err != nil {
				done <- answer{"", err}
				return
			}
		}
		text, err := exchange(m.Point, command)
		done <- answer{text, err}
	}()
	select {
	case a := <-done:
		return a.text, a.err
	case <-ctx.Done():
		return "", fmt.Errorf("%s: the daemon does not answer: %w", path.Join(m.Point, "control"), ctx.Err())
	}
}

// becomeOnThread gives the calling thread, and no other, the ids of a user.
func becomeOnThread(uid, gid int) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)); errno != 0 {
		return fmt.Errorf("setresgid: %w", errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
		return fmt.Errorf("setresuid: %w", errno)
	}
	return nil
}

// exchange writes one command to the control file of the mount at point and reads the reply. It uses
// system calls, not os.File, because it may run on a thread with an identity of its own.
func exchange(point, command string) (string, error) {
	name := path.Join(point, "control")
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	_, werr := unix.Write(fd, []byte(command+"\n"))
	reply := make([]byte, maxReply)
	n, rerr := unix.Pread(fd, reply, 0)
	text := strings.TrimSpace(string(reply[:max(n, 0)]))
	if werr != nil {
		if reason, ok := strings.CutPrefix(text, "error: "); ok {
			return "", fmt.Errorf("%s (%w)", reason, werr)
		}
		return "", &os.PathError{Op: "write", Path: name, Err: werr}
	}
	if rerr != nil {
		return "", &os.PathError{Op: "read", Path: name, Err: rerr}
	}
	return text, nil
}

// version asks the mount m who serves it.
func version(ctx context.Context, m Mount) (control.Version, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	text, err := ask(ctx, m, "version")
	if err != nil {
		return control.Version{}, err
	}
	var v control.Version
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return v, fmt.Errorf("reply to version: %w", err)
	}
	if v.PID <= 0 {
		return v, errors.New("reply to version: no pid")
	}
	return v, nil
}
