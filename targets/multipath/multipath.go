package multipath

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"dmfs/mapper"
)

// Type is the multipath target.
var Type = mapper.Type{Name: "multipath", Version: [3]int{1, 14, 0}, Features: mapper.Singleton | mapper.Immutable, New: newTarget}

// target sends each request down one of several paths to the same storage.
type target struct {
	host   mapper.Host
	length mapper.Sector
	setup  setup
	groups []*group

	mu      sync.Mutex // held briefly, never across I/O
	current *group     // the group in use; nil until a request asks for one
	next    *group     // the group that a message asked for; nil if none did
	fresh   bool       // no group has been chosen yet: the kernel's queue_io
	valid   int        // paths that are active

	queueing   bool // wait while no path is left
	saved      bool // queueing, to be restored by the resume
	suspending bool // from PreSuspend to Resume
	suspended  bool // from PostSuspend to Resume
	handBack   bool // what waits during this suspend goes to the next table
	changed    chan struct{}
}

// A group is paths of one priority.
type group struct {
	number   int // from 1
	kind     *kind
	selector selector
	paths    []*path      // as the table names them
	order    []*path      // those that are active, best first among equals
	valid    atomic.Int32 // the length of order, for who does not hold mu
	bypassed bool
}

// A path is one way to the storage.
type path struct {
	disk   mapper.Disk
	name   string // as listings print it
	group  *group
	active bool
	fails  uint32 // how often it has failed

	load  atomic.Int64 // requests in flight
	bytes atomic.Int64 // of them

	repeat  uint64  // as listings print it: 0 or 1
	weight  uint64  // service-time: relative throughput
	history history // historical-service-time
	mask    cpuMask // io-affinity
}

var (
	_ mapper.Areaser       = (*target)(nil)
	_ mapper.Tabler        = (*target)(nil)
	_ mapper.Statuser      = (*target)(nil)
	_ mapper.Messenger     = (*target)(nil)
	_ mapper.Extenter      = (*target)(nil)
	_ mapper.PreSuspender  = (*target)(nil)
	_ mapper.SuspendUndoer = (*target)(nil)
	_ mapper.PostSuspender = (*target)(nil)
	_ mapper.Resumer       = (*target)(nil)
)

// errNoPath is what a request gets when no path is left and nothing asks it to wait.
var errNoPath = fmt.Errorf("no path is left: %w", mapper.ErrIO)

// Submit sends r down a path. If the path fails, r goes down another: each attempt costs a path, so there are no more
// attempts than paths, unless somebody reinstates paths meanwhile.
func (t *target) Submit(ctx context.Context, r mapper.Request) error {
	if r.Op == mapper.OpFlush {
		r.Flags |= mapper.FlagShared
	}
	failure := errNoPath
	for {
		p, wait, err := t.choose(r)
		switch {
		case err != nil:
			return err
		case wait != nil:
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		case p == nil:
			return failure
		}
		err = p.submit(ctx, r)
		if err == nil || ctx.Err() != nil || !pathError(err) {
			return err
		}
		t.failPath(p)
		failure = err
		if t.hopeless() {
			return failure
		}
	}
}

// hopeless reports whether no path is left and nothing asks requests to wait.
func (t *target) hopeless() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.valid == 0 && !t.queueing && !(t.suspending && t.handBack && t.saved)
}

// submit sends r down p and keeps the counts that selectors choose by.
func (p *path) submit(ctx context.Context, r mapper.Request) error {
	n := r.Count.Bytes()
	p.load.Add(1)
	p.bytes.Add(n)
	timed, ok := p.group.selector.(*historical)
	var began time.Time
	if ok {
		began = time.Now()
	}
	err := p.disk.Submit(ctx, r)
	p.bytes.Add(-n)
	p.load.Add(-1)
	if ok {
		timed.finished(p, began, time.Now())
	}
	return err
}

// pathError reports whether err may be the fault of the path. The others would be the same down any path.
func pathError(err error) bool {
	for _, whatever := range []error{mapper.ErrNoSpace, mapper.ErrMedium, mapper.ErrProtection, mapper.ErrReadOnly} {
		if errors.Is(err, whatever) {
			return false
		}
	}
	return mapper.DiskFailed(err)
}

// choose returns the path for r; or what to wait for; or, without any, an error if the request belongs to the next
// table, and nothing if it fails.
func (t *target) choose(r mapper.Request) (p *path, wait <-chan struct{}, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.Op == mapper.OpFlush && t.suspending {
		p = t.anyPath()
	} else {
		p = t.pick(r.Count.Bytes())
	}
	if p != nil {
		return p, nil, nil
	}
	switch {
	case t.suspending && t.handBack && (t.queueing || t.saved):
		return nil, nil, mapper.ErrRequeue
	case t.queueing && !t.suspending:
		return nil, t.changed, nil
	}
	return nil, nil, nil
}

// pick chooses group and path in the kernel's order: the group that a message asked for; the current one as long as it has a
// path; the first that is not bypassed; and a bypassed one if there is no other. It is called with mu held.
func (t *target) pick(n int64) *path {
	if t.valid == 0 {
		t.fresh, t.current = false, nil
		return nil
	}
	if g := t.next; g != nil {
		t.next = nil
		if p := t.pickIn(g, n); p != nil {
			return p
		}
	}
	if t.current != nil {
		if p := t.pickIn(t.current, n); p != nil {
			return p
		}
	}
	for _, bypassed := range []bool{false, true} {
		for _, g := range t.groups {
			if g.bypassed != bypassed {
				continue
			}
			if p := t.pickIn(g, n); p != nil {
				return p
			}
		}
	}
	t.current = nil
	return nil
}

// anyPath returns an active path and changes nothing: the flush before a suspend, which the kernel does not do, leaves no trace in
// the choice of groups and paths. It is called with mu held.
func (t *target) anyPath() *path {
	if g := t.current; g != nil && len(g.order) > 0 {
		return g.order[0]
	}
	for _, g := range t.groups {
		if len(g.order) > 0 {
			return g.order[0]
		}
	}
	return nil
}

// pickIn chooses a path of g and makes g the current group. It is called with mu held.
func (t *target) pickIn(g *group, n int64) *path {
	p := g.selector.pick(g, n)
	if p == nil {
		return nil
	}
	t.current, t.fresh = g, false
	return p
}

// wake makes the requests that wait look again. It is called with mu held.
func (t *target) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// failPath takes p out of use until it is reinstated.
func (t *target) failPath(p *path) {
	t.mu.Lock()
	if !p.active {
		t.mu.Unlock()
		return
	}
	p.active = false
	p.fails++
	t.valid--
	p.group.drop(p)
	t.mu.Unlock()
	t.host.Logf("%s: Failing path %s.", t.host.DeviceNumber(), p.name)
	t.host.Event()
}

// reinstatePath takes p into use again.
func (t *target) reinstatePath(p *path) {
	t.mu.Lock()
	if p.active {
		t.mu.Unlock()
		return
	}
	p.active = true
	t.valid++
	p.group.put(p)
	t.wake()
	t.mu.Unlock()
	t.host.Logf("%s: Reinstating path %s.", t.host.DeviceNumber(), p.name)
	t.host.Event()
}

// PreSuspend makes requests that wait for a path end: handed back to the core, or failed, as queue_mode and noFlush say.
func (t *target) PreSuspend(noFlush bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.suspending = true
	t.handBack = noFlush || !t.setup.bio
	if t.setup.bio || !noFlush {
		t.saved, t.queueing = t.queueing || t.saved, false
	}
	t.wake()
}

// PreSuspendUndo makes requests wait again, if they did before.
func (t *target) PreSuspendUndo() { t.Resume() }

// PostSuspend refuses messages until the resume.
func (t *target) PostSuspend(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.suspended = true
	return nil
}

// Resume restores what PreSuspend changed.
func (t *target) Resume() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.suspending, t.suspended = false, false
	if t.saved {
		t.queueing, t.saved = true, false
	}
}

// Areas returns each path's disk, from its beginning.
func (t *target) Areas() []mapper.Area {
	var areas []mapper.Area
	for _, g := range t.groups {
		for _, p := range g.paths {
			areas = append(areas, mapper.Area{Disk: p.disk, Len: t.length})
		}
	}
	return areas
}

// Extent asks the disk of the first active path that can tell.
func (t *target) Extent(ctx context.Context, s, most mapper.Sector) (run mapper.Sector, data bool, err error) {
	if e := t.extenter(); e != nil {
		if run, data, err = e.Extent(ctx, s, most); err == nil {
			return run, data, nil
		}
	}
	return most, true, nil // what cannot be told counts as data
}

func (t *target) extenter() mapper.Extenter {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range t.groups {
		for _, p := range g.order {
			if e, ok := p.disk.(mapper.Extenter); ok {
				return e
			}
		}
	}
	return nil
}
