package exec

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// held returns how many keys are held for a process.
func (k *keys) held(pid int) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.open[pid])
}

// A program that adds keys again and again does not use up the descriptors of the supervisor, and one that empties its own keyring takes nothing from others.
func TestKeysHeld(t *testing.T) {
	k := newKeys(nil)
	watches := 0
	add := func(pid int, name string, ring int32) {
		t.Helper()
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if k.hold(pid, ownKey{"logon", name, ring, fd}) {
			watches++
		}
	}
	const pid, other = 7, 8
	const thread, own, session = unix.KEY_SPEC_THREAD_KEYRING, unix.KEY_SPEC_PROCESS_KEYRING, unix.KEY_SPEC_SESSION_KEYRING
	for range 3 {
		add(pid, "a", own)
		add(pid, "a", thread)
		add(other, "a", own)
		add(nobodys, "a", session)
	}
	if k.held(pid) != 2 || k.held(other) != 1 || k.held(nobodys) != 1 {
		t.Errorf("%d, %d and %d keys, want one of a name in each keyring", k.held(pid), k.held(other), k.held(nobodys))
	}
	if watches != 2 {
		t.Errorf("%d watches, want one of each process", watches)
	}
	k.clear(pid, own)
	if k.held(pid) != 1 || k.held(other) != 1 || k.held(nobodys) != 1 {
		t.Errorf("%d, %d and %d keys, want those of other keyrings", k.held(pid), k.held(other), k.held(nobodys))
	}
	k.clear(pid, session)
	if k.held(nobodys) != 0 {
		t.Error("a keyring was emptied, and its keys are there")
	}
	for i := range mostKeys + 10 {
		add(nobodys, fmt.Sprint(i), session)
	}
	if n := k.held(nobodys); n != mostKeys-2 {
		t.Errorf("%d keys, want %d at most", n, mostKeys-2)
	}
	for _, p := range []int{pid, other, nobodys} {
		k.drop(p, func(ownKey) bool { return true })
	}
}
