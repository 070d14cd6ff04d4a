package exec

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/fs/task"
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

	mu      sync.Mutex
	open    map[int][]ownKey // by process, or nobodys
	watched map[int]bool     // processes whose end is awaited
}

func newKeys(s *supervisor) *keys {
	return &keys{s: s, open: make(map[int][]ownKey), watched: make(map[int]bool)}
}

// nobodys is the process of keys that are in no process's own keyring.
const nobodys = 0

// An ownKey is a key that the mount has.
type ownKey struct {
	kind, name string
	ring       int32 // as its owner named it
	fd         int   // the control file that it came through
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
	switch pid := task.Process(c.TID); int32(c.Args[4]) {
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
	if k.hold(pid, ownKey{kind, name, int32(c.Args[4]), fd}) {
		go k.watch(pid)
	}
}

// mostKeys bounds the keys of a session, each of which takes a descriptor. The kernel lets a user have 200.
const mostKeys = 512

// hold keeps a key. It takes the place of one of the same name and keyring. If there are too many the mount forgets it. watch says that
// nobody awaits the end of the process yet.
func (k *keys) hold(pid int, key ownKey) (watch bool) {
	k.drop(pid, func(o ownKey) bool {
		return o.kind == key.kind && o.name == key.name && (pid == nobodys || o.ring == key.ring)
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	total := 0
	for _, list := range k.open {
		total += len(list)
	}
	if total >= mostKeys {
		unix.Close(key.fd) //nolint:errcheck // so that the mount has it no longer
		return false
	}
	k.open[pid] = append(k.open[pid], key)
	watch = pid != nobodys && !k.watched[pid]
	if watch {
		k.watched[pid] = true
	}
	return watch
}

// keyctl sees keys being taken back.
func (s *supervisor) keyctl(c *call) {
	defer s.pass(c)
	switch int(int32(c.Args[0])) {
	case unix.KEYCTL_REVOKE, unix.KEYCTL_UNLINK, unix.KEYCTL_INVALIDATE:
	case unix.KEYCTL_CLEAR:
		s.keys.clear(task.Process(c.TID), int32(c.Args[1]))
		return
	default:
		return
	}
	// TYPE;UID;GID;PERMISSIONS;DESCRIPTION
	text, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, int(int32(c.Args[1])))
	if f := strings.SplitN(text, ";", 5); err == nil && len(f) == 5 {
		this := func(o ownKey) bool { return o.kind == f[0] && o.name == f[4] }
		s.keys.drop(task.Process(c.TID), this)
		s.keys.drop(nobodys, this)
	}
}

// clear has the mount forget the keys of a keyring that a process empties.
func (k *keys) clear(pid int, ring int32) {
	switch ring {
	case unix.KEY_SPEC_THREAD_KEYRING, unix.KEY_SPEC_PROCESS_KEYRING:
		k.drop(pid, func(o ownKey) bool { return pid != nobodys && o.ring == ring })
	default:
		k.drop(nobodys, func(ownKey) bool { return true }) // which of them were in that keyring is not known here
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

// watch has the mount forget the keys of a process that has ended. It returns when there are none.
func (k *keys) watch(pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		defer unix.Close(fd) //nolint:errcheck // nothing is written to it
	}
	const look = time.Second
	for ended := err != nil; !k.unwatched(pid); {
		if ended {
			k.drop(pid, func(ownKey) bool { return true })
			continue
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(look/time.Millisecond))
		ended = n > 0 || err != nil && err != unix.EINTR
	}
}

// unwatched ends the watch of a process that has no keys.
func (k *keys) unwatched(pid int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	none := len(k.open[pid]) == 0
	if none {
		delete(k.watched, pid)
	}
	return none
}
