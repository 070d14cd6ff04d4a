package exec

import (
	"hash/fnv"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ipcNoWait is IPC_NOWAIT.
const ipcNoWait = 0o4000

// sembuf is struct sembuf: what is to be done to one semaphore of a set.
type sembuf struct {
	number uint16
	op     int16
	flags  int16
}

func (b *sembuf) apply(id uintptr) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_SEMOP, id, uintptr(unsafe.Pointer(b)), 1)
	return errno
}

// serial makes a serial number of the name of a file.
func serial(file, node string) string {
	h := fnv.New64a()
	h.Write([]byte(file))
	if file == "" {
		h.Write([]byte(node))
	}
	return "DMFS" + strconv.FormatUint(h.Sum64(), 16)
}

// procFD returns the name in /proc of one of our descriptors.
func procFD(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
