package exec

import (
	"fmt"
	"os"
	osexec "os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/cmd/internal/exec/sandbox"
)

// WardenName is what this program is called (argv[0]) when it is to be Guard.
const WardenName = "dmfs-exec-warden"

// guarded is the environment variable that tells Guard which mount namespace it is about.
const guarded = "DMFS_EXEC_GUARDED"

// Guard is what a process does that waits for the end of a supervisor, and then ends what is left of the session: the calls that the supervisor would have
// answered fail from then on, and a daemon that does not expect that tries again and again, for ever. The client does so as long as it lives; what comes
// after it needs a process of its own.
func Guard() int {
	namespace := os.Getenv(guarded)
	if namespace == "" {
		fmt.Fprintf(os.Stderr, "%s is run by dmfs exec, not by hand\n", WardenName)
		return exitFailed
	}
	_, _ = os.Stdin.Read(make([]byte, 1)) // the supervisor has the other end, and writes nothing
	endSession(namespace)
	return exitDone
}

// startWarden starts one for this process. Without one a session works, too.
func startWarden(namespace string) {
	var ends [2]int // the second stays open as long as this process lives
	if unix.Pipe2(ends[:], unix.O_CLOEXEC) != nil {
		return
	}
	in := os.NewFile(uintptr(ends[0]), "pipe")
	defer in.Close()
	cmd := osexec.Command("/proc/self/exe")
	cmd.Args, cmd.Dir, cmd.Stdin = []string{WardenName}, "/", in
	cmd.Env = append(os.Environ(), guarded+"="+namespace)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if cmd.Start() != nil {
		unix.Close(ends[1]) //nolint:errcheck // nothing is written to it
	}
}

// endSession kills the processes in a mount namespace, until there are none: they may be making others. A session has another one than whoever calls this.
func endSession(namespace string) {
	if own, err := os.Readlink(sandbox.MountNamespace("self")); err != nil || own == namespace {
		return
	}
	const again, tries = 10 * time.Millisecond, 500
	for range tries {
		if !killMembers(namespace) {
			return
		}
		time.Sleep(again)
	}
}

// killMembers kills those that there are, and reports whether there were any.
func killMembers(namespace string) (found bool) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0) // before it is looked who it is: the number may be another's by the time of the kill
		if err != nil {
			continue
		}
		if link, err := os.Readlink(sandbox.MountNamespace(e.Name())); err == nil && link == namespace {
			found = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil || found
		}
		unix.Close(fd) //nolint:errcheck // nothing is written to it
	}
	return found
}
