package mount

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/syslog"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// readyFD is the environment variable by which a parent gives its child the number of the descriptor to
// announce itself on. Whoever sets it by hand gets a byte written to a descriptor of his own.
const readyFD = "DMFS_READY_FD"

// Background starts this program again with args, which must make it Serve in front, and returns when that
// serves. The child has written its errors to stderr; then the error here is ErrTold.
func Background(args []string, stderr *os.File) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = "dmfs" // not the helper's name, which takes other arguments
	cmd.Stderr = stderr
	// The pipe keeps its number, and others that the caller gave along for keys theirs.
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETFD, 0); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", readyFD, w.Fd()))
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(stop)
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	go func() {
		for range stop {
			// In a session of its own the child does not get what the terminal sends.
			_ = cmd.Process.Signal(unix.SIGTERM)
		}
	}()
	said, _ := io.ReadAll(io.LimitReader(r, 1)) // nothing: the child has ended
	if len(said) == 1 {
		return nil
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.Exited():
		return ErrTold
	case err == nil:
		return errors.New("the daemon ended before it served")
	}
	return fmt.Errorf("the daemon ended before it served: %w", err)
}

// ErrTold is an error that has been told already.
var ErrTold = errors.New("the daemon could not start")

// A Daemon is the child's side of Background. The zero value stands for a program in front.
type Daemon struct {
	ready *os.File
	log   *syslog.Writer // nil while standard error is the caller's, or if there is no log
}

// AsDaemon returns the child's side if this process was started by Background. It is called once.
func AsDaemon() *Daemon {
	text := os.Getenv(readyFD)
	if text == "" {
		return &Daemon{}
	}
	os.Unsetenv(readyFD)
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 3 {
		return &Daemon{}
	}
	unix.CloseOnExec(fd)
	return &Daemon{ready: os.NewFile(uintptr(fd), "ready")}
}

// Ready lets the parent return 0, having left its terminal and its directory alone.
func (d *Daemon) Ready() error {
	if d.ready == nil {
		return nil
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	// What cannot be told to a caller any more goes to the system's log, if there is one.
	if log, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_WARNING, "dmfs"); err == nil {
		d.log = log
	}
	for fd := range 3 {
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			return os.NewSyscallError("dup3", err)
		}
	}
	defer d.ready.Close()
	if _, err := d.ready.Write([]byte{'1'}); err != nil {
		return fmt.Errorf("nobody waits for this daemon: %w", err)
	}
	return nil
}

// Stderr is where messages go: to standard error, or once that is closed to the system's log.
func (d *Daemon) Stderr() io.Writer { return daemonWriter{d} }

type daemonWriter struct{ d *Daemon }

// Write sends each line of p.
func (w daemonWriter) Write(p []byte) (int, error) {
	if w.d.log == nil {
		return os.Stderr.Write(p)
	}
	for _, line := range strings.Split(string(bytes.TrimRight(p, "\n")), "\n") {
		if err := w.d.log.Warning(line); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
