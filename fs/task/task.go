// Package task tells what the kernel says of another thread: whose it is, and whether it has signals to take. Whoever answers a call
// in the kernel's place looks here whether the caller still waits for it.
package task

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// harmless are the signals that are ignored unless the process wants to be told: a child ended, the terminal has another size, the
// runtime of Go wants its thread to look up.
const harmless = 1<<(unix.SIGCHLD-1) | 1<<(unix.SIGCONT-1) | 1<<(unix.SIGURG-1) | 1<<(unix.SIGWINCH-1)

// Killed reports whether a thread has been sent a signal that kills it. One that cannot be seen, because it is gone or of
// another pid namespace (0), counts as killed.
func Killed(tid uint32) bool {
	pending, _, ok := signals(tid)
	return !ok || pending&(1<<(unix.SIGKILL-1)) != 0
}

// Signalled reports whether a thread has a signal to take for which it gives up what it waits for: any that it does not block, but for
// SIGCHLD, SIGCONT, SIGURG and SIGWINCH. One that cannot be seen counts as signalled.
func Signalled(tid uint32) bool {
	pending, blocked, ok := signals(tid)
	return !ok || pending&^blocked&^harmless != 0
}

// Process returns the process that a thread belongs to, 0 if it cannot be seen.
func Process(tid uint32) int {
	status, ok := read(tid)
	if !ok {
		return 0
	}
	pid, _ := strconv.Atoi(field(status, "Tgid:")) // 0 if it is not there
	return pid
}

// signals returns the sets of signals that a thread has pending, those of its process among them, and that it blocks.
func signals(tid uint32) (pending, blocked uint64, ok bool) {
	status, ok := read(tid)
	if !ok {
		return 0, 0, false
	}
	var sets [3]uint64
	for i, name := range []string{"SigPnd:", "ShdPnd:", "SigBlk:"} {
		set, err := strconv.ParseUint(field(status, name), 16, 64)
		if err != nil {
			return 0, 0, false
		}
		sets[i] = set
	}
	return sets[0] | sets[1], sets[2], true
}

func read(tid uint32) ([]byte, bool) {
	if tid == 0 {
		return nil, false
	}
	status, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(tid), 10) + "/status")
	return status, err == nil
}

func field(status []byte, name string) string {
	for line := range bytes.Lines(status) {
		if value, ok := bytes.CutPrefix(line, []byte(name)); ok {
			return string(bytes.TrimSpace(value))
		}
	}
	return ""
}
