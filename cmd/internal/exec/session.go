package exec

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"dmfs/cmd/internal/exec/sandbox"
)

// Exit statuses of what is not the command's.
const (
	exitDone     = 0
	exitFailed   = 125
	exitNotFound = 127
	exitSignal   = 128 // and the number of the signal that ended the command
)

// Options are what a session is started with.
type Options struct {
	Mount  string // absolute
	Blocks []Block
	Args   []string // the command
}

// environment is what tools are to know of a session: there is no udev, and this mount is meant.
func (o Options) environment() []string {
	env := []string{"DM_DISABLE_UDEV=1", "DMFS_MOUNT=" + o.Mount}
	if os.Getenv("LVM_SUPPRESS_FD_WARNINGS") == "" {
		env = append(env, "LVM_SUPPRESS_FD_WARNINGS=1") // for descriptors that the user passes on purpose
	}
	return env
}

// Run runs a command in a session and returns its exit status, 128 and the number of the signal that ended it. With an error
// the session could not be made, and the status is the one that says so.
func Run(o Options) (status int, err error) {
	if sandbox.Inside() {
		return plainly(o)
	}
	sup, toStage, err := startSupervisor(o)
	if err != nil {
		return exitFailed, err
	}
	defer sup.conn.Close()
	cmd, err := sandbox.Command(sandbox.Job{Socket: int(toStage.Fd()), Locks: sup.locks, Devices: sandbox.DevicesDir(), Env: o.environment()}, o.Args)
	if err == nil {
		err = inherit(toStage)
	}
	if err == nil {
		err = cmd.Start()
	}
	toStage.Close()
	if err != nil {
		return exitFailed, sandbox.ExplainStart(err)
	}
	if namespace, err := os.Readlink(sandbox.MountNamespace(strconv.Itoa(cmd.Process.Pid))); err == nil {
		go sup.guard(namespace)
	} else {
		close(sup.guarded) // it has ended already
	}
	stop := forward(cmd.Process)
	err = cmd.Wait()
	stop()
	if trouble := sup.end(); trouble != "" {
		return exitFailed, errors.New(trouble)
	}
	return exitStatus(cmd, err)
}

// plainly runs a command in the session that this process is in.
func plainly(o Options) (int, error) {
	if len(o.Blocks) > 0 {
		return exitFailed, errors.New("this is a session of dmfs exec already: --block is for the one who begins it; losetup works here")
	}
	cmd := osexec.Command(o.Args[0], o.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return exitNotFound, err
	}
	defer forward(cmd.Process)()
	return exitStatus(cmd, cmd.Wait())
}

func exitStatus(cmd *osexec.Cmd, err error) (int, error) {
	var exit *osexec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return exitFailed, err
	}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return exitSignal + int(ws.Signal()), nil
	}
	return cmd.ProcessState.ExitCode(), nil
}

// forward passes on to a command the signals that are for it. Those of the terminal go to it anyway.
func forward(p *os.Process) (stop func()) {
	c := make(chan os.Signal, 8)
	signal.Notify(c, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2)
	go func() {
		for s := range c {
			if s != unix.SIGINT && s != unix.SIGQUIT {
				_ = p.Signal(s) // it may have ended
			}
		}
	}()
	return func() {
		signal.Stop(c)
		close(c)
	}
}

// A supervision is the client's side of a supervisor.
type supervision struct {
	conn  *os.File
	in    *bufio.Reader
	cmd   *osexec.Cmd
	locks string

	ended   chan struct{} // closed when the process is gone
	guarded chan struct{} // closed when nobody is left of a session without it
}

// startSupervisor starts a supervisor and returns when it has reached the mount, with the socket for the stage.
func startSupervisor(o Options) (s *supervision, toStage *os.File, err error) {
	ours, theirs, err := socketPair(unix.SOCK_STREAM)
	if err != nil {
		return nil, nil, err
	}
	defer theirs.Close()
	toStage, fromStage, err := socketPair(unix.SOCK_SEQPACKET)
	if err != nil {
		ours.Close()
		return nil, nil, err
	}
	defer fromStage.Close()
	s = &supervision{conn: ours, in: bufio.NewReader(ours), ended: make(chan struct{}), guarded: make(chan struct{})}
	if err = s.start(theirs, fromStage); err == nil {
		err = json.NewEncoder(ours).Encode(order{o.Mount, o.Blocks})
	}
	var r reply
	if err == nil {
		theirs.Close() // so that the supervisor's end is seen
		var line []byte
		if line, err = s.in.ReadBytes('\n'); err == nil {
			err = json.Unmarshal(line, &r)
		}
	}
	switch {
	case err != nil:
		err = fmt.Errorf("the supervisor has ended: %w", err)
	case r.Error != "":
		err = errors.New(r.Error)
	}
	if err != nil {
		ours.Close()
		toStage.Close()
		return nil, nil, err
	}
	s.locks = r.Locks
	return s, toStage, nil
}

// start starts the process. It has nothing of the caller's but its ends of the sockets: it may outlive him.
func (s *supervision) start(client, stage *os.File) error {
	s.cmd = osexec.Command("/proc/self/exe")
	s.cmd.Args = []string{SupervisorName}
	s.cmd.Dir = "/"
	s.cmd.ExtraFiles = []*os.File{client, stage}
	s.cmd.Env = append(os.Environ(), sockets+"=3 4")
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait() // how it ended is in its state
	}()
	return nil
}

// guard does for the client what Guard does: it ends the session when the supervisor has ended and somebody is left.
func (s *supervision) guard(namespace string) {
	defer close(s.guarded)
	if <-s.ended; !s.cmd.ProcessState.Success() {
		endSession(namespace)
	}
}

// end tells the supervisor that the command has ended, and returns when it has, too, or stays for others. trouble is what it had to tell.
func (s *supervision) end() (trouble string) {
	fmt.Fprintln(s.conn, wordEnded) //nolint:errcheck // it may have ended
	text, _ := s.in.ReadString('\n')
	text = strings.TrimSpace(text)
	if text == wordStayed {
		return ""
	}
	if text != "" {
		return text
	}
	<-s.ended // so that all it had to clean up is
	if ws, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		<-s.guarded
		return fmt.Sprintf("the supervisor was killed (%v), and the session with it", ws.Signal())
	}
	return ""
}

// socketPair returns the ends of a socket, which are not inherited.
func socketPair(kind int) (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket"), nil
}

// inherit has f keep its number in children. Others that the user passes to the command keep theirs.
func inherit(f *os.File) error {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0)
	return os.NewSyscallError("fcntl", err)
}
