package exec

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// minLoops is how many loop devices there are at least, as with the kernel.
const minLoops = 8

// maxLoops bounds them.
const maxLoops = 1 << 18

// loopUUID is how the uuid of a bound loop device begins. A device has a uuid from when somebody binds it, once, so that of two who try at a
// time only one succeeds, in whatever session they are.
const loopUUID = "DMFS-LOOP-"

// What is in the uuid of a loop device that was bound with a limit to its size, or so that its partition table counts.
const (
	limited = "limited-"
	scanned = "partscan-"
)

// loops are the loop devices of the mount.
type loops struct {
	s *supervisor

	mu    sync.Mutex // guards what follows
	added map[uint32]bool
	// By ID of the device, what has been said since it was bound, which its uuid tells otherwise.
	limit, scan map[uint64]bool
	loads       map[uint64]int // by ID, how often it was given another table, which changes what /sys tells
	// cleared are those that are as good as unbound: their user has let go, and the last close, which may be his, does it.
	cleared map[uint64]bool
}

func newLoops(s *supervisor) *loops {
	return &loops{s: s, added: make(map[uint32]bool), limit: make(map[uint64]bool), scan: make(map[uint64]bool), loads: make(map[uint64]int), cleared: make(map[uint64]bool)}
}

func loopName(n uint32) string { return reserved + "loop" + strconv.Itoa(int(n)) }

// beside stands for what /sys tells of d that the mount does not say unasked.
func (l *loops) beside(d *device) string {
	cleared, scans := l.isCleared(d), l.scans(d)
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprint(cleared, scans, l.loads[d.ID])
}

// numbers returns the loop devices that there are.
func (l *loops) numbers() []uint32 {
	var list []uint32
	for n := range uint32(minLoops) {
		list = append(list, n)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := range l.added {
		list = append(list, n)
	}
	return list
}

// exists reports whether there is such a loop device, bound or not.
func (l *loops) exists(n uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return n < minLoops || l.added[n]
}

// makeUnbound makes what stands for a loop device that nobody has bound: its I/O fails, until a file takes the place.
func (l *loops) makeUnbound(ctx context.Context, n uint32) error {
	_, err := l.s.mount.Do(ctx, fmt.Sprintf("create %s minor=%d 0 1 error", loopName(n), loopInMount+n))
	if err != nil && !errors.Is(err, unix.EBUSY) { // another was faster
		return err
	}
	_, err = l.s.refresh(ctx)
	return err
}

// bound reports whether a loop device is bound.
func bound(d *device) bool { return strings.HasPrefix(d.UUID, loopUUID) }

// sweep removes what stands for loop devices that nobody has bound or open.
func (l *loops) sweep(ctx context.Context) {
	if _, err := l.s.world.look(ctx); err != nil {
		return
	}
	for _, d := range l.s.world.all() {
		if d.number.major == loopMajor && !bound(d) && d.OpenCount == 0 {
			_, _ = l.s.mount.Do(ctx, "remove "+d.Name) // somebody may have opened it
		}
	}
}

// Free implements loopdev.Control.
func (l *loops) Free() (uint32, error) {
	if _, err := l.s.refresh(context.Background()); err != nil {
		return 0, err
	}
	for n := range uint32(maxLoops) {
		if d := l.s.world.at(number{loopMajor, n}); d != nil && bound(d) || l.s.host[number{loopMajor, n}] {
			continue
		}
		return n, l.Add(n)
	}
	return 0, unix.ENOSPC
}

// Add implements loopdev.Control.
func (l *loops) Add(n uint32) error {
	if n >= maxLoops {
		return unix.EINVAL
	}
	l.mu.Lock()
	l.added[n] = true
	l.mu.Unlock()
	return l.s.tree.loop(n)
}

// Remove implements loopdev.Control.
func (l *loops) Remove(n uint32) error {
	if d := l.s.world.at(number{loopMajor, n}); d != nil && (bound(d) || d.OpenCount > 0) {
		return unix.EBUSY
	}
	if !l.exists(n) {
		return unix.ENODEV
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.added, n)
	return nil
}
