package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/fs"
	"dmfs/mapper"
)

// A Job is a mount to be made and served.
type Job struct {
	Point   string // as the user wrote it
	Source  string // what mountinfo shows: the configuration, or "dmfs"
	Version string // of the program
	Options Options

	// Devices makes the manager, all devices created, and read-only if Options say so. It is given the
	// mount point, absolute and without symlinks.
	Devices func(ctx context.Context, point string) (*mapper.Manager, error)
	// Note tells what a user or the service's log should know, and is no error.
	Note func(string)
	// Ready is called once, when the mount serves.
	Ready func() error

	mountID int // in mountinfo, once it is made
}

// holdersTimeout is how long a daemon that was told to end waits for those who keep its mount busy.
const holdersTimeout = 10 * time.Second

// closeTimeout bounds the wait for everything to be written, beyond which a disk below hangs.
const closeTimeout = 90 * time.Second

// Serve makes the mount and serves it until it is unmounted or told to end by a signal. An error before
// Ready means that nothing is mounted; one after, that not everything could be written.
func Serve(ctx context.Context, j Job) error {
	signal.Ignore(unix.SIGHUP)
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, unix.SIGINT, unix.SIGTERM)
	defer signal.Stop(stop)

	pl, err := look(ctx, j.Point)
	if err != nil {
		return err
	}
	direct := mayMount()
	if err := checkPrivilege(j.Options, direct); err != nil {
		return err
	}
	m, err := j.create(ctx, pl.path, stop)
	if err != nil {
		return err
	}
	server, err := j.mount(ctx, pl, m, direct)
	if err != nil {
		return errors.Join(err, closeManager(m))
	}
	if err := j.ready(pl.path); err != nil {
		return errors.Join(err, j.end(server, m, pl.path, stop))
	}
	select {
	case <-server.Done():
		j.stopping("unmounted; writing out")
		return closeManager(m)
	case <-stop:
		return j.end(server, m, pl.path, stop)
	}
}

// create makes the devices; a signal ends that.
func (j *Job) create(ctx context.Context, point string, stop <-chan os.Signal) (*mapper.Manager, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case s := <-stop:
			cancel(fmt.Errorf("ended by %v before the mount was made", s))
		case <-done:
		}
	}()
	m, err := j.Devices(ctx, point)
	if cause := context.Cause(ctx); cause != nil {
		if m != nil {
			err = errors.Join(err, closeManager(m))
		}
		return nil, errors.Join(cause, err)
	}
	return m, err
}

// mount mounts m on pl. Where mount(2) is refused though a capability is there (a user namespace without
// a mount namespace of its own), fusermount3 is tried.
func (j *Job) mount(ctx context.Context, pl *place, m *mapper.Manager, direct bool) (*fs.Server, error) {
	if err := pl.take(ctx, j.Note); err != nil {
		return nil, err
	}
	defer pl.release()
	o := fs.Options{
		MountPoint: pl.path, Source: j.Source, Version: j.Version,
		AllowOther: j.Options.AllowOther, AllowRoot: j.Options.AllowRoot,
		KernelOptions: j.Options.Kernel, Direct: direct,
	}
	server, err := fs.Mount(m, o)
	if direct && errors.Is(err, unix.EPERM) {
		if checkPrivilege(j.Options, false) != nil {
			return nil, fmt.Errorf("mount on %s: %w: in a user namespace this needs a mount namespace too, as `unshare -Urm` makes", pl.path, err)
		}
		o.Direct = false
		server, err = fs.Mount(m, o)
	}
	if err != nil {
		return nil, fmt.Errorf("mount on %s: %w", pl.path, err)
	}
	if on, ok, err := At(pl.path); err == nil && ok {
		j.mountID = on.ID
	}
	return server, nil
}

// ready tells everyone that the mount serves.
func (j *Job) ready(point string) error {
	if err := notify("READY=1", "STATUS=serving "+point); err != nil {
		j.Note(fmt.Sprintf("cannot notify the service manager: %v", err))
	}
	return j.Ready()
}

// stopping tells the service manager what takes time.
func (j *Job) stopping(status string) {
	_ = notify("STOPPING=1", "STATUS="+status) // it was told once before, or there is none
}

// end unmounts in order and releases the devices.
func (j *Job) end(server *fs.Server, m *mapper.Manager, point string, stop <-chan os.Signal) error {
	j.stopping("writing out")
	flushErr := flushAll(m)
	err := j.leave(point)
	if err != nil {
		err = fmt.Errorf("unmount %s: %w", point, err)
	} else {
		waitGone(server, m, stop)
	}
	return errors.Join(flushErr, err, closeManager(m))
}

// leave takes the mount away, lazily if it is busy. What others have mounted there since is left alone.
func (j *Job) leave(point string) error {
	on, ok, err := At(point)
	if err != nil {
		return err
	}
	if !ok || on.ID != j.mountID {
		return nil // others have detached it
	}
	err = fs.Detach(point, false)
	if errors.Is(err, unix.EBUSY) {
		j.Note(busy(on).Error() + "\n  detaching it; its files are served a little longer")
		j.stopping("waiting for those who use " + point)
		err = fs.Detach(point, true)
	}
	if errors.Is(err, unix.EINVAL) {
		return nil // others have just done so
	}
	return err
}

// waitGone returns when the last user of a detached mount is gone, or has had his time, which a second signal cuts
// short. Where another mount namespace has a copy of the mount, it is enough that no device is open.
func waitGone(server *fs.Server, m *mapper.Manager, stop <-chan os.Signal) {
	timeout := time.After(holdersTimeout)
	look := time.NewTicker(holdersTimeout / 20)
	defer look.Stop()
	for {
		select {
		case <-server.Done():
			return
		case <-stop:
			return
		case <-timeout:
			return
		case <-look.C:
			if !anyOpen(m) {
				return
			}
		}
	}
}

func anyOpen(m *mapper.Manager) bool {
	return slices.ContainsFunc(m.BottomUp(), (*mapper.Device).Opened)
}

// flushAll makes what was written durable, in bounded time.
func flushAll(m *mapper.Manager) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return m.Flush(ctx)
}

// closeManager flushes and releases all devices, in bounded time.
func closeManager(m *mapper.Manager) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := m.Close(ctx); err != nil {
		return fmt.Errorf("not everything could be written: %w", err)
	}
	return nil
}
