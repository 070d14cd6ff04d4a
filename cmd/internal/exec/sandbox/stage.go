package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"dmfs/cmd/internal/exec/seccomp"
)

// Exit statuses of a command that could not be run, as shells have them.
const (
	exitFailed    = 125 // the session, not the command
	exitForbidden = 126
	exitNotFound  = 127
)

// Stage is what a process does that Command started: it makes the surroundings and becomes the command. It returns, with
// an exit status, only if that failed and was told on standard error.
func Stage(args []string, rules []seccomp.Rule) int {
	var j Job
	text := os.Getenv(settings)
	os.Unsetenv(settings)
	if err := json.Unmarshal([]byte(text), &j); err != nil || len(args) == 0 {
		fmt.Fprintf(os.Stderr, "%s is run by dmfs exec, not by hand\n", StageName)
		return exitFailed
	}
	unix.CloseOnExec(j.Socket)
	status, err := stage(j, args, rules)
	fmt.Fprintf(os.Stderr, "dmfs exec: %v\n", err)
	return status
}

func stage(j Job, args []string, rules []seccomp.Rule) (status int, err error) {
	trees, err := build(j)
	if err != nil {
		return exitFailed, err
	}
	for _, e := range j.Env {
		key, value, _ := strings.Cut(e, "=")
		if err := os.Setenv(key, value); err != nil {
			return exitFailed, err
		}
	}
	file, err := exec.LookPath(args[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EISDIR) {
			return exitForbidden, err
		}
		return exitNotFound, err
	}
	env := os.Environ()
	// The thread that has the filter is the one that becomes the command.
	runtime.LockOSThread()
	listener, err := seccomp.Install(rules)
	if err != nil {
		return exitFailed, err
	}
	if err := send(j.Socket, listener, trees); err != nil {
		return exitFailed, fmt.Errorf("the supervisor has gone: %w", err)
	}
	err = syscall.Exec(file, args, env)
	if errors.Is(err, unix.ENOENT) {
		return exitNotFound, fmt.Errorf("%s: %w", file, err)
	}
	return exitForbidden, fmt.Errorf("%s: %w", file, err)
}

// MountNamespace returns the link in /proc that tells the mount namespace of a process.
func MountNamespace(pid string) string { return "/proc/" + pid + "/ns/mnt" }

// send sends the listener, the directories and what the mount namespace is called, and returns when the supervisor has answered.
func send(socket, listener int, trees Trees) error {
	fds := []int{listener}
	for _, fd := range trees.list() {
		fds = append(fds, *fd)
	}
	namespace, err := os.Readlink(MountNamespace("self"))
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(socket, []byte(namespace), unix.UnixRights(fds...), nil, 0); err != nil {
		return err
	}
	var answer [1]byte
	for {
		n, err := unix.Read(socket, answer[:])
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = unix.EPIPE
		}
		return err
	}
}

// Receive returns what Stage sends: the listener, the directories, and the mount namespace, as MountNamespace leads to it. It waits for it; an error is
// that Stage has ended.
func Receive(socket int) (listener int, t Trees, namespace string, err error) {
	list := t.list()
	data, control := make([]byte, 64), make([]byte, unix.CmsgSpace(4*(1+len(list))))
	var length, n int
	for {
		length, n, _, _, err = unix.Recvmsg(socket, data, control, unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return -1, t, "", os.NewSyscallError("recvmsg", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return -1, t, "", errors.New("the command ended before it began")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1+len(list) {
		return -1, t, "", errors.New("the command sent something else")
	}
	for i, fd := range fds[1:] {
		*list[i] = fd
	}
	return fds[0], t, string(data[:length]), nil
}

// Go answers Stage that all is ready.
func Go(socket int) error {
	_, err := unix.Write(socket, []byte{1})
	return err
}
