package logwrites

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// NewType returns the log-writes target for one mount: its targets know of each other's logs.
func NewType() *mapper.Type {
	all := &owners{byDisk: make(map[mapper.Disk]*target)}
	return &mapper.Type{
		Name: "log-writes", Version: [3]int{1, 1, 0},
		New: func(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
			return all.newTarget(ctx, h, s)
		},
	}
}

// owners are the targets that log, by their log disks.
type owners struct {
	mu     sync.Mutex
	byDisk map[mapper.Disk]*target
}

// maxHeld bounds the data that waits for a flush, in bytes. Tests make it smaller.
var maxHeld int64 = 64 << 20

type target struct {
	host   mapper.Host
	all    *owners
	disk   mapper.Disk
	length mapper.Sector
	log    *writer

	// wire holds a token while somebody takes from the queue and writes the log.
	wire chan struct{}

	mu       sync.Mutex
	queue    []pending // completed and not logged, in the order of completion
	next     uint64    // number of the next to complete
	held     int64     // bytes of the queue, and of writes under way that will enter it
	disabled bool
	started  bool // the log was begun
	resumed  bool // guarded by owners.mu
}

// A pending entry has completed and waits to be logged.
type pending struct {
	number uint64
	Entry
	data []byte
}

// size returns what p counts against maxHeld.
func (p pending) size() int64 {
	const overhead = 128 // so that discards are bounded, too
	return overhead + int64(len(p.data))
}

var (
	_ mapper.Areaser       = (*target)(nil)
	_ mapper.Tabler        = (*target)(nil)
	_ mapper.Statuser      = (*target)(nil)
	_ mapper.Messenger     = (*target)(nil)
	_ mapper.Hinter        = (*target)(nil)
	_ mapper.PreResumer    = (*target)(nil)
	_ mapper.PostSuspender = (*target)(nil)
)

func (all *owners) newTarget(ctx context.Context, h mapper.Host, s mapper.Spec) (*target, error) {
	if len(s.Args) < 2 {
		return nil, mapper.BadArg("Invalid argument count", "%d arguments: want DISK LOGDISK", len(s.Args))
	}
	t := &target{host: h, all: all, length: s.Len, wire: make(chan struct{}, 1)}
	var err error
	if t.disk, err = args.Open(ctx, h, s.Args[0], "Device lookup failed"); err != nil {
		return nil, err
	}
	log, err := args.Open(ctx, h, s.Args[1], "Log device lookup failed")
	if err != nil {
		return nil, err
	}
	t.log = newWriter(log, max(t.disk.Limits().LogicalSectors(), log.Limits().LogicalSectors()))
	return t, nil
}

// Submit carries r out, and then notes or logs what it changed.
func (t *target) Submit(ctx context.Context, r mapper.Request) error {
	if r.Op == mapper.OpRead || t.isDisabled() {
		return t.pass(ctx, r)
	}
	switch r.Op {
	case mapper.OpFlush:
		return t.flush(ctx, r)
	case mapper.OpWrite, mapper.OpDiscard:
		return t.write(ctx, r)
	}
	return mapper.ErrNotSupported
}

// pass carries r out below. Discards that the disk cannot do are done.
func (t *target) pass(ctx context.Context, r mapper.Request) error {
	if r.Op == mapper.OpDiscard && t.disk.Limits().MaxDiscard == 0 {
		return nil
	}
	err := t.disk.Submit(ctx, r)
	if r.Op == mapper.OpDiscard && errors.Is(err, mapper.ErrNotSupported) {
		return nil
	}
	return err
}

func (t *target) isDisabled() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.disabled
}

// entry returns the entry of r, with a copy of its data.
func (t *target) entry(r mapper.Request) pending {
	p := pending{Entry: Entry{Sector: uint64(r.Start / t.log.block), Count: uint64(r.Count / t.log.block)}}
	switch {
	case r.Op == mapper.OpDiscard:
		p.Flags = FlagDiscard
	case r.Flags&mapper.FlagFUA != 0:
		p.Flags = FlagFUA
	}
	p.data = bytes.Clone(r.Data)
	return p
}

// complete puts what has completed into the queue and returns its number.
func (t *target) complete(p pending) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.number = t.next
	t.next++
	if t.disabled {
		t.held -= p.size()
	} else {
		t.queue = append(t.queue, p)
	}
	return p.number
}

// write carries out a write or a discard, which is logged at once if it is durable, and else waits.
func (t *target) write(ctx context.Context, r mapper.Request) error {
	size := pending{data: r.Data}.size()
	if err := t.reserve(ctx, size); err != nil {
		return err
	}
	if err := t.pass(ctx, r); err != nil {
		t.unreserve(size)
		return err
	}
	number := t.complete(t.entry(r))
	if r.Op == mapper.OpDiscard || r.Flags&mapper.FlagFUA == 0 {
		return nil
	}
	if err := t.hold(ctx); err != nil {
		return err // it is logged with the next flush
	}
	defer t.release()
	t.logUpTo(t.overlapped(number))
	t.logOne(number)
	t.super()
	return nil
}

// reserve waits until n more bytes may be held, for which the oldest may have to be logged.
func (t *target) reserve(ctx context.Context, n int64) error {
	for {
		t.mu.Lock()
		if t.held+n <= maxHeld || len(t.queue) == 0 { // what is under way is in the memory of the callers
			t.held += n
			t.mu.Unlock()
			return nil
		}
		half := t.queue[len(t.queue)/2].number // so that not every write has to wait
		t.mu.Unlock()
		if err := t.hold(ctx); err != nil {
			return err
		}
		t.logUpTo(half + 1)
		t.finish()
		t.release()
	}
}

func (t *target) unreserve(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held -= n
}

// flush logs what had completed when it was submitted, and itself, when it has completed.
func (t *target) flush(ctx context.Context, r mapper.Request) error {
	t.mu.Lock()
	covers := t.next
	t.mu.Unlock()
	if err := t.pass(ctx, r); err != nil {
		return err
	}
	if err := t.hold(ctx); err != nil {
		return err
	}
	defer t.release()
	t.logUpTo(covers)
	t.put(pending{Entry: Entry{Flags: FlagFlush}})
	t.super()
	return nil
}

// find returns where in the queue a number is; ok is false if it has been logged. mu is held.
func (t *target) find(number uint64) (i int, ok bool) {
	return slices.BinarySearchFunc(t.queue, number, func(p pending, n uint64) int { return cmp.Compare(p.number, n) })
}

// overlapped returns the number after the newest in the queue that is older than another, and that that overlaps; 0 if there is none.
func (t *target) overlapped(number uint64) (end uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, ok := t.find(number)
	if !ok {
		return 0
	}
	p := &t.queue[i]
	for i--; i >= 0; i-- {
		if q := &t.queue[i]; q.Sector < p.Sector+p.Count && p.Sector < q.Sector+q.Count {
			return q.number + 1
		}
	}
	return 0
}

// logOne logs one of the queue, before what is older. The wire is held.
func (t *target) logOne(number uint64) {
	t.mu.Lock()
	i, ok := t.find(number)
	if !ok {
		t.mu.Unlock()
		return
	}
	p := t.queue[i]
	t.queue = slices.Delete(t.queue, i, i+1)
	t.held -= p.size()
	t.mu.Unlock()
	t.put(p)
}

// logUpTo logs what completed before number end and is not logged. The wire is held.
func (t *target) logUpTo(end uint64) {
	for {
		t.mu.Lock()
		if len(t.queue) == 0 || t.queue[0].number >= end {
			if len(t.queue) == 0 {
				t.queue = nil // the array holds what was logged
			}
			t.mu.Unlock()
			return
		}
		p := t.queue[0]
		t.queue[0] = pending{}
		t.queue = t.queue[1:]
		t.held -= p.size()
		t.mu.Unlock()
		t.put(p)
	}
}

// put logs p. The wire is held.
func (t *target) put(p pending) {
	if !t.isDisabled() {
		t.check(t.log.put(p.Entry, p.data))
	}
}

// finish writes what put has gathered. The wire is held.
func (t *target) finish() {
	if !t.isDisabled() {
		t.check(t.log.flush())
	}
}

// super writes what put has gathered and then the super block. The wire is held.
func (t *target) super() {
	if !t.isDisabled() {
		t.check(t.log.super())
	}
}

// check disables logging after an error: what waits is forgotten, and I/O goes on.
func (t *target) check(err error) {
	if err == nil {
		return
	}
	t.mu.Lock()
	for _, p := range t.queue {
		t.held -= p.size()
	}
	t.disabled, t.queue = true, nil
	t.mu.Unlock()
	if errors.Is(err, errFull) {
		t.host.Logf("Ran out of space on the logdev")
		err = t.log.super() // so that what was logged can be replayed
		if err == nil {
			return
		}
	}
	t.host.Logf("Error writing log block, error=%d", blockStatus(err))
}

// blockStatus returns the number that the kernel's block layer has for an error.
func blockStatus(err error) int {
	for _, s := range []struct {
		err    error
		number int
	}{{mapper.ErrNotSupported, 1}, {mapper.ErrTimeout, 2}, {mapper.ErrNoSpace, 3}, {mapper.ErrMedium, 7}, {mapper.ErrProtection, 8}} {
		if errors.Is(err, s.err) {
			return s.number
		}
	}
	return 10
}

func (t *target) hold(ctx context.Context) error {
	select {
	case t.wire <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t *target) release() { <-t.wire }

// PreResume begins the log, the first time.
func (t *target) PreResume(ctx context.Context) error {
	t.all.mu.Lock()
	owner := t.all.byDisk[t.log.disk]
	if owner != nil && owner != t && (owner.resumed || t.started) {
		t.all.mu.Unlock()
		return fmt.Errorf("another log-writes target logs to %s: %w", mapper.DiskName(t.log.disk), mapper.ErrBusy)
	}
	t.all.byDisk[t.log.disk], t.resumed = t, true
	t.all.mu.Unlock()
	if t.started {
		return nil
	}
	if err := t.hold(ctx); err != nil {
		return err
	}
	defer t.release()
	t.started = true
	t.super()
	return nil
}

// PostSuspend writes out what was logged. What waits for a flush goes on waiting.
func (t *target) PostSuspend(ctx context.Context) error {
	if err := t.hold(ctx); err != nil {
		return err
	}
	defer t.release()
	t.super()
	t.all.mu.Lock()
	t.resumed = false
	t.all.mu.Unlock()
	if t.isDisabled() {
		return nil
	}
	return t.log.disk.Submit(ctx, mapper.Request{Op: mapper.OpFlush})
}

// Close logs what waits and the closing mark, unless another target has taken the log over, or it was never begun.
func (t *target) Close() error {
	t.all.mu.Lock()
	ours := t.all.byDisk[t.log.disk] == t
	if ours {
		delete(t.all.byDisk, t.log.disk)
	}
	t.all.mu.Unlock()
	if !ours || !t.started || t.isDisabled() {
		return nil
	}
	if err := t.hold(context.Background()); err != nil {
		return err
	}
	defer t.release()
	t.logUpTo(t.next)
	t.put(pending{Entry: Entry{Flags: FlagMark, Mark: EndMark}})
	t.super()
	return t.log.disk.Submit(context.Background(), mapper.Request{Op: mapper.OpFlush})
}

// Areas returns the range of the disk. The log may have any size.
func (t *target) Areas() []mapper.Area { return []mapper.Area{{Disk: t.disk, Len: t.length}} }

// Hints takes discards and flushes whatever the disk does, and no write-zeroes, so that zeroes are logged as they are written.
func (t *target) Hints(l *mapper.Limits) {
	l.LogicalBlock = max(l.LogicalBlock, int(t.log.block.Bytes()))
	*l = l.Normal()
	l.VolatileCache, l.MaxWriteZeroes = true, 0
	if l.DiscardGranularity = t.log.block; l.MaxDiscard == 0 {
		const most = 1<<23 - 1 // the kernel's: 32 bits of bytes
		l.MaxDiscard = most / t.log.block * t.log.block
	}
}

// Table returns DISK LOGDISK.
func (t *target) Table(bool) []string {
	return []string{mapper.DiskName(t.disk), mapper.DiskName(t.log.disk)}
}

// Status returns ENTRIES LAST, and whether logging is disabled.
func (t *target) Status(ctx context.Context, _ bool) (string, error) {
	if err := t.hold(ctx); err != nil {
		return "", err
	}
	defer t.release()
	text := fmt.Sprintf("%d %d", t.log.entries, t.log.next-1)
	if t.isDisabled() {
		text += " logging_disabled"
	}
	return text, nil
}

// Message logs a mark.
func (t *target) Message(ctx context.Context, words []string) (string, error) {
	switch {
	case len(words) != 2:
		return "", mapper.BadArg(fmt.Sprintf("Invalid log-writes message arguments, expect 2 arguments, got %d", len(words)), "")
	case !strings.EqualFold(words[0], "mark"):
		return "", mapper.BadArg("Unrecognised log writes target message received: "+words[0], "")
	}
	if most := MaxMark(int(t.log.block.Bytes())); len(words[1]) > most {
		return "", mapper.BadArg("Mark too long", "%d bytes, want at most %d", len(words[1]), most)
	}
	if err := t.hold(ctx); err != nil {
		return "", err
	}
	defer t.release()
	t.put(pending{Entry: Entry{Flags: FlagMark, Mark: words[1]}})
	t.super()
	if t.isDisabled() {
		return "", &mapper.ArgError{Reason: "Logging is disabled", Detail: "the log is full or could not be written"}
	}
	return "", nil
}
