package mount

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"dmfs/fs"
)

// A place is a mount point that was looked at and found usable.
type place struct {
	path  string // absolute, without symlinks
	stale bool   // the mount of a daemon that has died is on it
	lock  *os.File
}

// look finds out whether something can be mounted on point. It changes nothing.
func look(ctx context.Context, point string) (*place, error) {
	p, err := resolve(point)
	if err != nil {
		return nil, fmt.Errorf("mount point %s: %w", point, err)
	}
	m, mounted, err := At(p)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout) // in all, should the daemon there hang
	defer cancel()
	mode, err := fileMode(ctx, p)
	switch {
	case died(err):
		if !mounted || m.Type != FSType {
			return nil, fmt.Errorf("%s: the stale mount on it (%s) is none of dmfs: unmount it first: %w", p, orUnknown(m.Type), err)
		}
		return &place{path: p, stale: true}, nil
	case mounted && m.Type == FSType:
		if err := alreadyMounted(ctx, m); !died(err) {
			return nil, err
		}
		return &place{path: p, stale: true}, nil
	case errors.Is(err, unix.ENOENT):
		return nil, fmt.Errorf("mount point %s does not exist", p)
	case err != nil:
		return nil, fmt.Errorf("mount point %s: %w", p, err)
	case mode&unix.S_IFMT != unix.S_IFDIR:
		return nil, fmt.Errorf("mount point %s is not a directory", p)
	}
	return &place{path: p}, nil
}

// fileMode returns the st_mode of p. What is mounted there may have a daemon that hangs: it gets answerTimeout.
func fileMode(ctx context.Context, p string) (uint32, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var st unix.Stat_t
	done := make(chan error, 1)
	go func() { done <- unix.Stat(p, &st) }()
	select {
	case err := <-done:
		return st.Mode, err
	case <-ctx.Done():
		return 0, fmt.Errorf("what is mounted there does not answer: %w", ctx.Err())
	}
}

// died reports whether err is what a file system says whose daemon has died, or did so while it was asked.
func died(err error) bool { return errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED) }

// alreadyMounted is the error for a mount point on which a daemon serves, or for one whose daemon died amid the question.
func alreadyMounted(ctx context.Context, m Mount) error {
	by := "a dmfs that does not answer"
	v, err := version(ctx, m)
	switch {
	case err == nil:
		by = fmt.Sprintf("dmfs, pid %d", v.PID)
	case errors.Is(err, unix.EACCES):
		by = fmt.Sprintf("dmfs of user %d", m.UserID)
	case died(err):
		return err
	}
	return fmt.Errorf("%s is already mounted by %s: %w", m.Point, by, unix.EBUSY)
}

func orUnknown(s string) string {
	if s == "" {
		return "of unknown type"
	}
	return s
}

// take makes pl ready to be mounted on: a stale mount goes, and whoever mounts here at the same time waits
// until release and then finds us. note tells what was done.
func (pl *place) take(ctx context.Context, note func(string)) error {
	if pl.stale {
		// Lazily: whoever still has files of it open gets errors from them in any case.
		if err := fs.Detach(pl.path, true); err != nil {
			return fmt.Errorf("replace the stale mount on %s: %w", pl.path, err)
		}
		note(fmt.Sprintf("%s: replaced a stale mount, left by a daemon that had died", pl.path))
	}
	// The lock is on the directory below the mount to come. Somebody else's directory that cannot be
	// read cannot be locked; then only the last look remains.
	if f, err := os.Open(pl.path); err == nil {
		if unix.Flock(int(f.Fd()), unix.LOCK_EX) == nil {
			pl.lock = f
		} else {
			f.Close()
		}
	}
	again, err := look(ctx, pl.path)
	switch {
	case err != nil:
		pl.release()
		return err
	case again.stale:
		pl.release()
		return fmt.Errorf("%s: another stale mount lies below the one that was replaced: unmount it first: %w", pl.path, unix.EBUSY)
	}
	return nil
}

// release lets others mount on pl, or see that they cannot.
func (pl *place) release() {
	if pl.lock != nil {
		pl.lock.Close()
		pl.lock = nil
	}
}
