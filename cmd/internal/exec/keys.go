package exec

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/secret"
)

// maxKey bounds a key in bytes, as the kernel bounds those of type user.
const maxKey = 32767

// keyTypes are the types of keys that tables may name.
var keyTypes = map[string]bool{"logon": true, "user": true}

// keys are the keys that processes have added to their keyrings. Those of type logon the kernel shows to nobody, and a mount is
// another process; so they are handed to the mount when they are added. It has them as long as the control file is open that they came
// through. A key in the keyring of a thread or a process, as cryptsetup's volume keys are, goes when its owner takes it back or ends. One in another
// keyring outlives him, as with the kernel: it goes when anybody takes it back, or with the session.
type keys struct {
	s *supervisor

	mu   sync.Mutex
	open map[int][]ownKey // by process, or nobodys
}

// nobodys is the process of keys that are in no process's own keyring.
const nobodys = 0

// An ownKey is a key that the mount has.
type ownKey struct {
	kind, name string
	fd         int // the control file that it came through
}

// addKey sees what add_key(2) adds. The kernel adds it, too.
func (s *supervisor) addKey(c *call) {
	defer s.pass(c)
	kind, errno := c.String(c.Args[0], 32)
	size := c.Args[3]
	if errno != 0 || !keyTypes[kind] || size == 0 || size > maxKey {
		return
	}
	name, errno := c.String(c.Args[1], 4096)
	if errno != 0 {
		return
	}
	switch pid := process(c.TID); int32(c.Args[4]) {
	case unix.KEY_SPEC_THREAD_KEYRING, unix.KEY_SPEC_PROCESS_KEYRING:
		if pid != 0 {
			s.keys.capture(c, pid, kind, name)
		}
	default:
		s.keys.capture(c, nobodys, kind, name)
	}
}

// capture hands a key to the mount. If that fails the table that names it does, too.
func (k *keys) capture(c *call, pid int, kind, name string) {
	guard()
	var memory secret.Memory
	defer memory.Release()
	size := int(c.Args[3])
	key, err := memory.Alloc(size)
	if err != nil || c.Read(c.Args[2], key) != 0 || !k.s.listener.Valid(&c.Call) {
		return
	}
	head := "addkey " + kind + " " + mapper.QuoteArg(name) + " "
	command, err := memory.Alloc(len(head) + hex.EncodedLen(size) + 1)
	if err != nil {
		return
	}
	n := copy(command, head)
	hex.Encode(command[n:], key)
	command[len(command)-1] = '\n'
	fd, err := k.s.mount.openControl()
	if err != nil {
		return
	}
	if err := write(context.Background(), fd, command); err != nil {
		unix.Close(fd) //nolint:errcheck // the mount has no key
		return
	}
	k.drop(nobodys, func(o ownKey) bool { return pid == nobodys && o.kind == kind && o.name == name }) // this one takes its place
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.open[pid]) == 0 && pid != nobodys {
		go k.watch(pid)
	}
	k.open[pid] = append(k.open[pid], ownKey{kind, name, fd})
}

// keyctl sees keys being taken back.
func (s *supervisor) keyctl(c *call) {
	defer s.pass(c)
	switch int(int32(c.Args[0])) {
	case unix.KEYCTL_REVOKE, unix.KEYCTL_UNLINK, unix.KEYCTL_INVALIDATE:
	case unix.KEYCTL_CLEAR:
		s.keys.drop(nobodys, func(ownKey) bool { return true }) // which of them were in that keyring is not known here
		return
	default:
		return
	}
	// TYPE;UID;GID;PERMISSIONS;DESCRIPTION
	text, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, int(int32(c.Args[1])))
	if f := strings.SplitN(text, ";", 5); err == nil && len(f) == 5 {
		this := func(o ownKey) bool { return o.kind == f[0] && o.name == f[4] }
		s.keys.drop(process(c.TID), this)
		s.keys.drop(nobodys, this)
	}
}

// drop has the mount forget those keys of a process that are.
func (k *keys) drop(pid int, those func(o ownKey) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.open[pid] = slices.DeleteFunc(k.open[pid], func(o ownKey) bool {
		if !those(o) {
			return false
		}
		unix.Close(o.fd) //nolint:errcheck // that is what it was open for
		return true
	})
	if len(k.open[pid]) == 0 {
		delete(k.open, pid)
	}
}

// watch has the mount forget the keys of a process that has ended.
func (k *keys) watch(pid int) {
	defer k.drop(pid, func(ownKey) bool { return true })
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd) //nolint:errcheck // nothing is written to it
	const look = time.Second
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, int(look/time.Millisecond)); n > 0 || err != nil && err != unix.EINTR {
			return
		}
		k.mu.Lock()
		none := len(k.open[pid]) == 0
		k.mu.Unlock()
		if none {
			return // it took them back
		}
	}
}
