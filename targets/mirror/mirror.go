package mirror

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"

	"dmfs/mapper"
	"dmfs/targets/internal/worker"
)

// module is by what name the kernel's log lines call this target's code.
const module = "raid1"

type target struct {
	host         mapper.Host
	length       mapper.Sector
	shift        uint // log2 of the sectors of a region
	legs         []leg
	disks        []mapper.Disk // of the legs, each once
	log          *dirtyLog
	handleErrors bool
	keepLog      bool
	balance      bool // reads go to the leg with the fewest

	primary   atomic.Int32 // the leg that reads go to and copies come from
	whole     atomic.Bool  // all regions are alike on all legs
	legFailed atomic.Bool  // a leg has failed in some way
	logFailed atomic.Bool  // the log could not be written when a write needed it

	workers     worker.Group
	stopWork    context.CancelFunc // tells them to end and does not wait; guarded by mu
	wake        chan struct{}      // capacity 1: there are regions to recover
	wakeCleaner chan struct{}      // capacity 1: there are regions to clean

	limits limiters

	mu         sync.Mutex // held briefly, never across I/O
	regions    map[int]*region
	idle       []int         // dirty regions without writes, which the cleaner has not seen
	inSync     bool          // the last word on it: an event tells when it becomes true
	spoiled    bool          // a flush failed: regions written after are not alike
	holds      chan struct{} // closed by PreSuspend: what is held has its verdict
	suspending bool          // from PreSuspend to Resume
	noFlush    bool          // of this suspend
}

// A leg is one copy: a range of a disk that begins at start.
type leg struct {
	disk     mapper.Disk
	start    mapper.Sector
	reads    atomic.Int32 // under way, where reads are balanced
	failures atomic.Int32 // since the legs were last alike
	kinds    uint8        // of these failures; guarded by target.mu
	stale    atomic.Bool  // a region counts as alike though the leg did not take it
}

var (
	_ mapper.Areaser       = (*target)(nil)
	_ mapper.Hinter        = (*target)(nil)
	_ mapper.Tabler        = (*target)(nil)
	_ mapper.Statuser      = (*target)(nil)
	_ mapper.PreSuspender  = (*target)(nil)
	_ mapper.SuspendUndoer = (*target)(nil)
	_ mapper.PostSuspender = (*target)(nil)
	_ mapper.PreResumer    = (*target)(nil)
	_ mapper.Resumer       = (*target)(nil)
)

// Submit reads from one leg and writes to all.
func (t *target) Submit(ctx context.Context, r mapper.Request) error {
	switch r.Op {
	case mapper.OpRead:
		return t.read(ctx, r)
	case mapper.OpWrite:
		return t.write(ctx, r)
	case mapper.OpWriteZeroes:
		return t.writeZeroes(ctx, r)
	case mapper.OpFlush:
		return t.flush(ctx, r)
	case mapper.OpDiscard:
		return t.discard(ctx, r)
	}
	return mapper.ErrNotSupported
}

// region returns the region that sector s of the segment is in.
func (t *target) region(s mapper.Sector) int { return int(s >> t.shift) }

// on returns r as leg i gets it.
func (l *leg) on(r mapper.Request) mapper.Request {
	if r.Op != mapper.OpFlush {
		r.Start += l.start
	}
	return r
}

// Areas returns the range of each leg. The log is no part of the segment, whose limits do not depend on it.
func (t *target) Areas() []mapper.Area {
	areas := make([]mapper.Area, len(t.legs))
	for i := range t.legs {
		areas[i] = mapper.Area{Disk: t.legs[i].disk, Start: t.legs[i].start, Len: t.length}
	}
	return areas
}

// Hints asks for reads and writes within a region.
func (t *target) Hints(l *mapper.Limits) { l.Split = mapper.Sector(t.log.size) }

// PreSuspend stops the copying, and gives what is held its verdict.
func (t *target) PreSuspend(noFlush bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.suspending, t.noFlush = true, noFlush
	close(t.holds)
	t.stopWork()
}

// PreSuspendUndo goes on.
func (t *target) PreSuspendUndo() {
	t.workers.Stop()
	t.Resume()
}

// PostSuspend leaves the log as it is when nothing is under way.
func (t *target) PostSuspend(ctx context.Context) error {
	t.workers.Stop()
	if t.host.ReadOnly() {
		return nil
	}
	_ = t.cleanIdle(ctx, true) // a log that fails is told by an event and in the status, and is no reason not to suspend
	if t.log.disk == nil || t.log.lock(ctx) != nil {
		return nil
	}
	defer t.log.unlock()
	if t.writeLog(ctx) != nil {
		t.host.LogFrom(module, "log postsuspend failed")
	}
	return nil
}

// PreResume reads the log and marks it as in use.
func (t *target) PreResume(ctx context.Context) error {
	t.mu.Lock()
	clear(t.regions) // no write is under way
	t.idle = nil
	t.mu.Unlock()
	if !t.loadLog(ctx) {
		t.host.LogFrom(module, "log resume failed")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.log.synced, t.log.search = t.log.sync.count(), 0
	t.noteSync()
	return nil
}

// Resume starts the copying.
func (t *target) Resume() {
	t.mu.Lock()
	if t.suspending {
		t.holds = make(chan struct{})
	}
	t.suspending = false
	ctx, cancel := context.WithCancel(context.Background())
	t.stopWork = cancel
	readOnly := t.host.ReadOnly()
	if !readOnly {
		t.checkSync()
		// What a write leaves apart from now on is for the next resume, whenever the copying begins.
		t.log.search = t.log.sync.nextClear(t.log.search, t.log.count)
	}
	t.mu.Unlock()
	if readOnly {
		return
	}
	t.work(ctx, t.recoverRegions)
	if t.log.disk != nil {
		t.work(ctx, t.cleaner)
	}
}

// work runs f until ctx ends, which PreSuspend sees to, or the workers are stopped.
func (t *target) work(ctx context.Context, f func(ctx context.Context)) {
	t.workers.Start(func(stopped context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(stopped, cancel)()
		f(ctx)
	})
}

// Close ends what a table that was never suspended has running.
func (t *target) Close() error {
	t.workers.Stop()
	return nil
}

// Table returns the arguments as the kernel spells them.
func (t *target) Table(bool) []string {
	l := t.log
	var log []string
	if l.disk != nil {
		log = append(log, mapper.DiskName(l.disk))
	}
	log = append(log, strconv.FormatUint(uint64(l.size), 10))
	switch l.mode {
	case syncAlways:
		log = append(log, "sync")
	case syncNever:
		log = append(log, "nosync")
	}
	words := append([]string{l.kind, strconv.Itoa(len(log))}, log...)
	words = append(words, strconv.Itoa(len(t.legs)))
	for i := range t.legs {
		words = append(words, mapper.DiskName(t.legs[i].disk), strconv.FormatUint(uint64(t.legs[i].start), 10))
	}
	switch {
	case t.keepLog:
		words = append(words, "2", "handle_errors", "keep_log")
	case t.handleErrors:
		words = append(words, "1", "handle_errors")
	}
	return words
}

// Status returns the legs, how many regions are alike, and the health of legs and log.
func (t *target) Status(context.Context, bool) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.log
	text := strconv.Itoa(len(t.legs))
	var health []byte
	for i := range t.legs {
		text += " " + mapper.DiskName(t.legs[i].disk)
		health = append(health, t.legs[i].letter())
	}
	text += " " + strconv.Itoa(l.synced) + "/" + strconv.Itoa(l.count) + " 1 " + string(health)
	if l.disk == nil {
		return text + " 1 " + l.kind, nil
	}
	letter := " A"
	switch {
	case l.flushFailed:
		letter = " F"
	case l.failed:
		letter = " D"
	}
	return text + " 3 " + l.kind + " " + mapper.DiskName(l.disk) + letter, nil
}
