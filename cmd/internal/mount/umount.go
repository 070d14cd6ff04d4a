package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/fs"
)

// Unmount ends the dmfs mount at point: it flushes every device, unmounts, and returns when the daemon has
// ended, so that all is written. If the flush fails or the mount is busy, it stays, and the error says why.
// note tells what a caller may want to know and is no error. A lazy unmount detaches a busy mount and does
// not wait, since the daemon lives until the last user is gone.
func Unmount(ctx context.Context, point string, lazy bool, note func(string)) error {
	p, err := resolve(point)
	if err != nil {
		return err
	}
	m, ok, err := At(p)
	switch {
	case err != nil:
		return err
	case !ok:
		return notMounted(p)
	case m.Type != FSType:
		return fmt.Errorf("%s: mounted there is %s, want a dmfs mount", p, m.Type)
	}
	if _, err := fileMode(ctx, p); died(err) {
		return unmountStale(p, note)
	}
	daemon, err := findDaemon(ctx, m)
	if err != nil {
		if died(err) {
			return unmountStale(p, note) // it was about to die
		}
		if gone(m) {
			return notMounted(p) // the daemon was about to end, and nobody can be asked which it was
		}
		note(fmt.Sprintf("%s: cannot watch the daemon end: %v", p, err))
	}
	defer daemon.close()
	if err := flush(ctx, m, note); err != nil {
		if gone(m) {
			return daemon.wait(ctx) // it ends by itself and has flushed
		}
		return err
	}
	if err := fs.Detach(p, lazy); err != nil {
		if gone(m) {
			return daemon.wait(ctx)
		}
		if errors.Is(err, unix.EBUSY) {
			return busy(m)
		}
		return fmt.Errorf("%s: %w", p, err)
	}
	if lazy {
		return nil
	}
	return finish(ctx, m, daemon, note)
}

// unmountStale takes away the mount of a daemon that has died.
func unmountStale(point string, note func(string)) error {
	if err := fs.Detach(point, true); err != nil { // lazily: see place.take
		return fmt.Errorf("%s: unmount the stale mount: %w", point, err)
	}
	note(point + " was stale: its daemon had died; unmounted")
	return nil
}

// gone reports whether m was unmounted meanwhile.
func gone(m Mount) bool {
	on, ok, err := At(m.Point)
	return err == nil && (!ok || on.ID != m.ID)
}

// ErrNotMounted is wrapped by the error for a point on which nothing is mounted.
var ErrNotMounted = errors.New("not mounted")

// notMounted is the error for a path that is no mount point. Whoever named a device is shown the way.
func notMounted(p string) error {
	if m, ok, err := At(path.Dir(p)); err == nil && ok && m.Type == FSType {
		return fmt.Errorf("%s is a device: want its mount point, %s", p, m.Point)
	}
	if _, err := os.Lstat(p); err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", p, ErrNotMounted)
}

// flush makes everything written so far durable, while an error can still be told.
func flush(ctx context.Context, m Mount, note func(string)) error {
	_, err := ask(ctx, m, "flush")
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EACCES):
		note(fmt.Sprintf("%s: cannot ask the daemon to flush (%v); it does so when it ends", m.Point, err))
		return nil
	}
	return fmt.Errorf("%s: not unmounted, because writing out failed: %w", m.Point, err)
}

// A process is another process, held on to so that its number cannot come to mean a third.
// The zero value is none.
type process struct {
	pid int
	fd  int // pidfd, -1 if the kernel has none
}

// findDaemon returns the process that serves m.
func findDaemon(ctx context.Context, m Mount) (process, error) {
	v, err := version(ctx, m)
	if err != nil {
		return process{}, err
	}
	fd, err := unix.PidfdOpen(v.PID, 0)
	if errors.Is(err, unix.ENOSYS) {
		fd, err = -1, nil
	}
	if err != nil {
		return process{}, fmt.Errorf("pid %d: %w", v.PID, err)
	}
	p := process{v.PID, fd}
	// The daemon tells its pid as it sees itself; in another pid namespace that is somebody else's.
	if !servesFUSE(v.PID) {
		p.close()
		return process{}, fmt.Errorf("pid %d is not its pid here", v.PID)
	}
	return p, nil
}

// servesFUSE reports whether a process has the FUSE device open.
func servesFUSE(pid int) bool {
	links, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
	for _, l := range links {
		if target, err := os.Readlink(l); err == nil && target == fs.Device {
			return true
		}
	}
	return false
}

// pollEvery is how often wait looks whether ctx is done.
const pollEvery = 200 * time.Millisecond

// wait returns when p has ended.
func (p process) wait(ctx context.Context) error {
	for p.pid != 0 {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("unmounted, but the daemon, pid %d, is still writing: %w", p.pid, err)
		}
		if p.fd < 0 {
			if errors.Is(unix.Kill(p.pid, 0), unix.ESRCH) {
				return nil
			}
			time.Sleep(pollEvery / 10)
			continue
		}
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(pollEvery/time.Millisecond))
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for pid %d: %w", p.pid, err)
		}
	}
	return nil
}

func (p process) close() {
	if p.pid != 0 && p.fd >= 0 {
		unix.Close(p.fd)
	}
}
