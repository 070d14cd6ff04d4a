package snapshot

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"strconv"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/targets/internal/worker"
)

// NewTypes returns the targets snapshot, snapshot-origin and snapshot-merge for one mount: they find each other by the disks below.
func NewTypes() []*mapper.Type {
	f := &family{origins: make(map[mapper.Disk]*origin)}
	return []*mapper.Type{
		{Name: "snapshot-origin", Version: [3]int{1, 9, 0}, New: f.newOrigin},
		{Name: "snapshot", Version: [3]int{1, 16, 0}, New: func(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
			return f.newSnapshot(ctx, h, s, false)
		}},
		{Name: "snapshot-merge", Version: [3]int{1, 5, 0}, New: func(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
			return f.newSnapshot(ctx, h, s, true)
		}},
	}
}

// logModule is what the kernel's log says of snapshots while they run.
const logModule = "snapshots"

// A snapshot shows its origin as it was, and changes of its own. If it merges, the changes go back to the origin one by one, and it
// shows what that will be.
type snapshot struct {
	host          mapper.Host
	family        *family
	origin        *origin
	cow           mapper.Disk   // of the store
	start, length mapper.Sector // of the segment, in the device and on the origin
	merges        bool
	overflow      bool // PO: a snapshot that fills its store stays readable
	zeroes        bool // discard_zeroes_cow
	passdown      bool // discard_passdown_origin

	merger worker.Group

	// Guarded by family.mu, and changed only while nobody does I/O here.
	content   *content
	active    bool // keeps what is overwritten
	suspended bool
}

var (
	_ mapper.Areaser       = (*snapshot)(nil)
	_ mapper.Hinter        = (*snapshot)(nil)
	_ mapper.Tabler        = (*snapshot)(nil)
	_ mapper.Statuser      = (*snapshot)(nil)
	_ mapper.PreResumer    = (*snapshot)(nil)
	_ mapper.Resumer       = (*snapshot)(nil)
	_ mapper.PostSuspender = (*snapshot)(nil)
)

func (f *family) newSnapshot(ctx context.Context, h mapper.Host, spec mapper.Spec, merges bool) (mapper.Target, error) {
	s := &snapshot{host: h, family: f, start: spec.Start, length: spec.Len, merges: merges}
	disk, err := s.parse(ctx, h, spec.Args)
	if err != nil {
		return nil, err
	}
	if merges && s.content.store.letter() == "N" {
		return nil, noMerge()
	}
	s.origin = f.join(disk)
	heir, err := s.adopt()
	if err == nil && !heir {
		err = s.load(ctx)
	}
	if err != nil {
		f.leave(s.origin)
		return nil, err
	}
	f.enlist(s)
	return s, nil
}

func noMerge() error {
	return mapper.BadArg("Snapshot exception store does not support snapshot-merge.", "a transient store has no order in which to merge: want P")
}

// adopt finds out whether s is to take over the store of a snapshot that is there.
func (s *snapshot) adopt() (heir bool, err error) {
	s.family.mu.Lock()
	defer s.family.mu.Unlock()
	source, waiting, merging := s.family.sharing(s)
	switch {
	case waiting != nil:
		return false, mapper.BadArg("Snapshot cow pairing for exception table handover failed", "another table waits for the same store")
	case source == nil:
		return false, nil
	case s.merges && merging != nil:
		return false, mapper.BadArg("A snapshot is already merging.", "one at a time can, of each origin")
	case s.merges && source.content.store.letter() == "N":
		return false, noMerge()
	}
	s.content.store.abstain()
	return true, nil
}

// load reads what is in the store.
func (s *snapshot) load(ctx context.Context) error {
	c := s.content
	valid, err := c.store.load(ctx, func(e exception) error {
		if _, twice := c.kept.new[e.old]; twice {
			return fmt.Errorf("chunk %d is there twice", e.old)
		}
		c.kept.new[e.old] = e.new
		return nil
	})
	var arg *mapper.ArgError
	switch {
	case errors.As(err, &arg):
		return err
	case err != nil:
		return &mapper.ArgError{Reason: "Failed to read snapshot metadata", Detail: err.Error(), Errno: mapper.Errno(err)}
	}
	if !valid {
		c.valid.Store(false)
		s.host.LogFrom(logModule, "Snapshot is marked invalid.")
	}
	if c.store.size() == 0 {
		return mapper.BadArg("Chunk size not set", "a transient store needs one")
	}
	return nil
}

// chunk returns the sectors in a chunk, 0 while s waits for a store.
func (s *snapshot) chunk() mapper.Sector { return s.content.store.size() }

func (s *snapshot) isValid() bool { return s.content.valid.Load() }

// span returns the chunks that n sectors of the origin from start on touch: first to before end.
func (c *content) span(start, n mapper.Sector) (first, end uint64) {
	shift := bits.TrailingZeros64(uint64(c.store.size()))
	return uint64(start) >> shift, uint64(start+n-1)>>shift + 1
}

// Submit carries out r.
func (s *snapshot) Submit(ctx context.Context, r mapper.Request) error {
	if r.Op == mapper.OpFlush {
		disks := []mapper.Disk{s.cow, s.origin.disk}
		return mapper.FanOut(len(disks), len(disks), func(i int) error { return disks[i].Submit(ctx, r) })
	}
	c := s.content
	r.Start += s.start
	switch {
	case r.Op == mapper.OpWriteZeroes:
		return mapper.ErrNotSupported
	case s.merges && r.Op == mapper.OpDiscard:
		return nil // as in the kernel: what is merged would come back
	case s.merges:
		return s.submitMerging(ctx, c, r)
	case !c.valid.Load(), c.overflowed.Load() && r.Op != mapper.OpRead:
		return mapper.ErrIO
	case r.Op == mapper.OpRead:
		return s.read(ctx, c, r)
	case r.Op == mapper.OpWrite:
		return s.write(ctx, c, r)
	}
	return s.discard(ctx, c, r)
}

// each calls f with the pieces of r: those that are kept, and where, and those that are not.
func (c *content) each(r mapper.Request, f func(piece mapper.Request, at mapper.Sector, kept bool) error) error {
	size := c.store.size()
	first, end := c.span(r.Start, r.Count)
	for r.Count > 0 {
		into := r.Start - mapper.Sector(first)*size
		at, chunks, kept := c.kept.run(first, end)
		piece := r.Slice(0, min(r.Count, mapper.Sector(chunks)*size-into))
		if err := f(piece, mapper.Sector(at)*size+into, kept); err != nil {
			return err
		}
		r = r.Slice(piece.Count, r.Count-piece.Count)
		first += chunks
	}
	return nil
}

// read reads each chunk where it is. Of what is on the origin nothing is overwritten meanwhile.
func (s *snapshot) read(ctx context.Context, c *content, r mapper.Request) error {
	first, end := c.span(r.Start, r.Count)
	set, err := c.share(ctx, first, end)
	if err != nil {
		return err
	}
	defer c.unshare(set)
	err = c.each(r, func(piece mapper.Request, at mapper.Sector, kept bool) error {
		if !kept {
			return s.origin.disk.Submit(ctx, piece)
		}
		piece.Start = at
		return s.cow.Submit(ctx, piece)
	})
	if err == nil && !c.valid.Load() {
		return mapper.ErrIO // since then the origin was not kept
	}
	return err
}

// write writes to the store, having kept what r touches in part.
func (s *snapshot) write(ctx context.Context, c *content, r mapper.Request) error {
	first, end := c.span(r.Start, r.Count)
	if !c.kept.all(first, end) {
		set, err := c.lock(ctx, first, end)
		if err != nil {
			return err
		}
		defer c.unlock(set)
	}
	return c.each(r, func(piece mapper.Request, at mapper.Sector, kept bool) error {
		if kept {
			piece.Start = at
			return s.cow.Submit(ctx, piece)
		}
		first, end := c.span(piece.Start, piece.Count)
		// An exception that is begun is finished.
		full, err := s.except(context.WithoutCancel(ctx), c, first, end, &piece)
		switch {
		case err != nil:
			s.invalidate(ctx, c, "Error reading/writing.")
			return err
		case full && s.overflow:
			if c.overflowed.CompareAndSwap(false, true) {
				s.host.LogFrom(logModule, "Snapshot overflowed: Unable to allocate exception.")
			}
			return mapper.ErrIO
		case full:
			s.invalidate(ctx, c, "Unable to allocate exception.")
			return mapper.ErrIO
		}
		return nil
	})
}

// keep copies what n sectors of the origin from start on touch and s does not have, as far as s reaches. It fails only if ctx ends first: what
// goes wrong costs the snapshot its validity, not the writer.
func (s *snapshot) keep(ctx context.Context, start, n mapper.Sector) error {
	c := s.content
	last := s.start + s.length
	if start >= last {
		return nil
	}
	first, end := c.span(start, min(n, last-start))
	if !c.valid.Load() || c.kept.all(first, end) {
		return nil
	}
	set, err := c.lock(ctx, first, end)
	if err != nil {
		return err
	}
	defer c.unlock(set)
	for first < end && c.valid.Load() {
		_, run, kept := c.kept.run(first, end)
		if !kept {
			full, err := s.except(context.WithoutCancel(ctx), c, first, first+run, nil)
			switch {
			case err != nil:
				s.invalidate(ctx, c, "Error reading/writing.")
			case full:
				s.invalidate(ctx, c, "Unable to allocate exception.")
			}
		}
		first += run
	}
	return nil
}

// invalidate gives a snapshot up that can no longer show what it should.
func (s *snapshot) invalidate(ctx context.Context, c *content, why string) {
	if !c.valid.CompareAndSwap(true, false) {
		return
	}
	s.host.LogFrom(logModule, "Invalidating snapshot: %s", why)
	if err := c.store.invalidate(context.WithoutCancel(ctx)); err != nil {
		s.host.LogFrom(module, "write header failed")
	}
	s.host.Event()
}

// discard zeroes chunks of which s has its own, drops parts of them, and leaves others alone.
func (s *snapshot) discard(ctx context.Context, c *content, r mapper.Request) error {
	size := c.store.size()
	err := c.each(r, func(piece mapper.Request, at mapper.Sector, kept bool) error {
		if !kept {
			return nil
		}
		end := at + piece.Count
		whole, wholeEnd := (at+size-1)/size*size, end/size*size
		if whole >= wholeEnd {
			return drop(ctx, s.cow, at, piece.Count)
		}
		if err := drop(ctx, s.cow, at, whole-at); err != nil {
			return err
		}
		if err := zero(ctx, s.cow, whole, wholeEnd-whole); err != nil {
			return err
		}
		return drop(ctx, s.cow, wholeEnd, end-wholeEnd)
	})
	if err != nil || !s.passdown {
		return err
	}
	first, end := c.span(r.Start, r.Count)
	set, err := c.share(ctx, first, end)
	if err != nil {
		return err
	}
	defer c.unshare(set)
	return drop(ctx, s.origin.disk, r.Start, r.Count)
}

// drop discards n sectors, of which there may be none, if the disk can.
func drop(ctx context.Context, d mapper.Disk, start, n mapper.Sector) error {
	most := d.Limits().MaxDiscard
	for most > 0 && n > 0 {
		r := mapper.Request{Op: mapper.OpDiscard, Start: start, Count: min(n, most)}
		if err := d.Submit(ctx, r); err != nil {
			return err
		}
		start, n = r.End(), n-r.Count
	}
	return nil
}

// Hints has the core write zeroes, and take discards only with discard_zeroes_cow.
func (s *snapshot) Hints(l *mapper.Limits) {
	l.MaxWriteZeroes, l.MaxDiscard = 0, 0
	if s.zeroes {
		l.MaxDiscard = mapper.MaxSectors
		l.DiscardGranularity = max(1, s.chunk())
	}
}

// Areas returns the range of the origin, and the store's disk.
func (s *snapshot) Areas() []mapper.Area {
	return []mapper.Area{{Disk: s.origin.disk, Start: s.start, Len: s.length}, {Disk: s.cow, Len: s.cow.Sectors()}}
}

// current returns the content for whoever does no I/O.
func (s *snapshot) current() *content {
	s.family.mu.Lock()
	defer s.family.mu.Unlock()
	return s.content
}

// Table returns ORIGIN STORE TYPE CHUNK and the features.
func (s *snapshot) Table(bool) []string {
	st := s.current().store
	kind := st.letter()
	if s.overflow {
		kind += "O"
	}
	words := []string{mapper.DiskName(s.origin.disk), mapper.DiskName(s.cow), kind, strconv.FormatUint(uint64(st.size()), 10)}
	return append(words, s.features()...)
}

// Status returns USED/TOTAL METADATA in sectors, or in a word what is wrong.
func (s *snapshot) Status(context.Context, bool) (string, error) {
	c := s.current()
	switch {
	case !c.valid.Load():
		return "Invalid", nil
	case c.failed.Load():
		return "Merge failed", nil
	case c.overflowed.Load():
		return "Overflow", nil
	}
	u := c.store.usage()
	return fmt.Sprintf("%d/%d %d", u.used, u.total, u.metadata), nil
}

// PreResume takes a store over from the table before, or begins its own, and from then on keeps what is overwritten.
func (s *snapshot) PreResume(ctx context.Context) error {
	s.family.mu.Lock()
	source, heir, _ := s.family.sharing(s)
	active := s.active
	busy := source != nil && source != s && !source.suspended
	s.family.mu.Unlock()
	switch {
	case active && heir != nil:
		s.host.LogFrom(logModule, "Unable to resume snapshot source until handover completes.")
		return fmt.Errorf("another table waits for the store: resume that: %w", unix.EINVAL)
	case active:
		return nil
	case busy:
		s.host.LogFrom(logModule, "Unable to perform snapshot handover until source is suspended.")
		return fmt.Errorf("the snapshot that has the store is to be suspended first: %w", unix.EINVAL)
	case source == nil:
		if err := s.content.store.begin(ctx); err != nil {
			return err
		}
	}
	if err := s.origin.writes.Lock(ctx); err != nil {
		return err
	}
	defer s.origin.writes.Unlock()
	s.family.mu.Lock()
	defer s.family.mu.Unlock()
	if source != nil {
		s.content, source.content = source.content, s.content
		source.active = false
		source.content.valid.Store(false)
	}
	s.active = true
	s.origin.sort()
	return nil
}

// Resume goes on merging.
func (s *snapshot) Resume() {
	s.family.mu.Lock()
	s.suspended = false
	s.family.mu.Unlock()
	switch {
	case !s.merges:
	case s.isValid():
		s.merger.Start(s.merge)
	default:
		s.host.LogFrom(logModule, "Snapshot is invalid: can't merge")
	}
}

// PostSuspend stops merging. What is overwritten on the origin is kept all the same.
func (s *snapshot) PostSuspend(context.Context) error {
	s.merger.Stop()
	s.family.mu.Lock()
	defer s.family.mu.Unlock()
	s.suspended = true
	return nil
}

// Close lets go of the origin.
func (s *snapshot) Close() error {
	s.merger.Stop()
	s.family.delist(s)
	s.family.leave(s.origin)
	return nil
}
