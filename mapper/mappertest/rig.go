package mappertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"dmfs/mapper"
)

// A rig is one target on fresh disks with the part of the core that it needs: limits, cuts, lifecycle. Each disk is
// a Crash behind a Stall behind a Faulty.
//
// Every request that goes through it is watched: written data must not change, is scribbled on after, and
// what was read must not change later.
type rig struct {
	t      testing.TB
	typ    *mapper.Type
	setup  *Setup
	power  *Power
	crash  []*Crash
	stall  []*Stall
	fault  []*Faulty
	host   *Host
	target mapper.Target
	limits mapper.Limits
	model  *model
	serial uint64

	mu   sync.Mutex
	lent [][]byte // read buffers that were filled with scribble after their return
}

const scribble = 0x5a

// newRig makes the disks and starts the target.
func newRig(t testing.TB, typ *mapper.Type, setup *Setup) *rig {
	t.Helper()
	g := newRigOn(t, typ, setup, newPower(t, setup))
	g.start(setup.Args)
	return g
}

// newPower makes the disks of a setup and prepares them.
func newPower(t testing.TB, setup *Setup) *Power {
	t.Helper()
	power := new(Power)
	disks := make(map[string]mapper.Disk)
	for _, s := range setup.Disks {
		d := power.Disk(s.Name, s.Sectors)
		if s.Limits != (mapper.Limits{}) {
			d.SetLimits(s.Limits)
		}
		disks[s.Name] = d
	}
	if setup.Prepare != nil {
		if err := setup.Prepare(context.Background(), disks); err != nil {
			t.Fatalf("Prepare: %v", err)
		}
	}
	return power
}

// newRigOn makes a rig on the disks of power, without a target.
func newRigOn(t testing.TB, typ *mapper.Type, setup *Setup, power *Power) *rig {
	g := &rig{t: t, typ: typ, setup: setup, power: power, crash: power.Disks(), model: newModel(setup.Len)}
	var tops []mapper.Disk
	for _, c := range g.crash {
		s := NewStall(c)
		f := NewFaulty(s)
		g.stall, g.fault, tops = append(g.stall, s), append(g.fault, f), append(tops, f)
	}
	g.host = NewHost(tops...)
	g.host.RO = setup.Kind == ReadsOnly
	return g
}

// start builds the target from args and makes it ready for I/O.
func (g *rig) start(args []string) {
	g.t.Helper()
	ctx := context.Background()
	before := g.changes()
	target, err := g.typ.New(ctx, g.host, g.spec(args))
	if err != nil {
		g.t.Fatalf("New(%q): %v", args, err)
	}
	if n := g.changes() - before; n != 0 {
		g.t.Errorf("New wrote to the disks (%d requests); writing starts in PreResume", n)
	}
	g.target = target
	g.limits = stackedLimits(g.host.Opened(), target)
	if p, ok := target.(mapper.PreResumer); ok {
		if err := p.PreResume(ctx); err != nil {
			g.t.Fatalf("PreResume: %v", err)
		}
	}
	if p, ok := target.(mapper.Resumer); ok {
		p.Resume()
	}
}

// spec returns the table line. The segment does not begin at 0, which a target must not notice.
func (g *rig) spec(args []string) mapper.Spec {
	return mapper.Spec{Start: 4096, Len: g.setup.Len, Type: g.typ.Name, Args: args}
}

// changes returns how many requests have changed the disks.
func (g *rig) changes() (n int) {
	for _, d := range g.crash {
		c := d.Counts()
		n += c.Writes + c.Discards + c.WriteZeroes
	}
	return n
}

// stackedLimits does what the core does: the limits of all disks stacked, then the target's hints.
func stackedLimits(disks []mapper.Disk, target mapper.Target) mapper.Limits {
	var l mapper.Limits
	for i, d := range disks {
		if i == 0 {
			l = d.Limits()
			l.Split, l.SplitDiscard = 0, false
			continue
		}
		l = l.Stack(d.Limits())
	}
	if h, ok := target.(mapper.Hinter); ok {
		h.Hints(&l)
	}
	return l.Normal()
}

// suspend stops I/O as the core does.
func (g *rig) suspend() {
	if p, ok := g.target.(mapper.PreSuspender); ok {
		p.PreSuspend(false)
	}
	if p, ok := g.target.(mapper.PostSuspender); ok {
		if err := p.PostSuspend(context.Background()); err != nil {
			g.t.Errorf("PostSuspend: %v", err)
		}
	}
}

// stop suspends and closes the target.
func (g *rig) stop() {
	if g.target == nil {
		return
	}
	g.suspend()
	if c, ok := g.target.(io.Closer); ok {
		if err := c.Close(); err != nil {
			g.t.Errorf("Close: %v", err)
		}
	}
	g.target = nil
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, buf := range g.lent {
		if !bytes.Equal(buf, bytes.Repeat([]byte{scribble}, len(buf))) {
			g.t.Error("a read buffer changed after Submit had returned: it is lent until then only")
		}
	}
	g.lent = nil
}

// finish stops the target and looks for broken contracts.
func (g *rig) finish() {
	g.t.Helper()
	g.stop()
	for _, d := range g.crash {
		if err := d.Broken(); err != nil {
			g.t.Error(err)
		}
	}
}

// submit carries r out as the core would: cut where the limits ask, and written as zeroes where
// the target has no write-zeroes, or refuses one. It may be called concurrently.
func (g *rig) submit(ctx context.Context, r mapper.Request) error {
	switch {
	case r.Op == mapper.OpFlush:
		return g.target.Submit(ctx, r)
	case r.Op == mapper.OpDiscard && g.limits.MaxDiscard == 0:
		return mapper.ErrNotSupported
	case r.Op == mapper.OpWriteZeroes && g.limits.MaxWriteZeroes == 0:
		r.Op, r.Data = mapper.OpWrite, make([]byte, r.Count.Bytes())
	}
	for done := mapper.Sector(0); done < r.Count; {
		n := min(r.Count-done, g.piece(r.Op, r.Start+done))
		err := g.submitPiece(ctx, r.Slice(done, n))
		if r.Op == mapper.OpWriteZeroes && errors.Is(err, mapper.ErrNotSupported) {
			r.Op, r.Data = mapper.OpWrite, make([]byte, r.Count.Bytes())
			continue
		}
		if err != nil {
			return err
		}
		done += n
	}
	return nil
}

// piece returns how many sectors from s on one request may have.
func (g *rig) piece(op mapper.Op, s mapper.Sector) mapper.Sector {
	n := mapper.MaxSectors
	data := op == mapper.OpRead || op == mapper.OpWrite
	if split := g.limits.Split; split != 0 && (data || g.limits.SplitDiscard) {
		n = split - s%split
	}
	switch op {
	case mapper.OpDiscard:
		n = min(n, g.limits.MaxDiscard)
	case mapper.OpWriteZeroes:
		n = min(n, g.limits.MaxWriteZeroes)
	}
	return n
}

// submitPiece calls the target and watches over the buffer.
func (g *rig) submitPiece(ctx context.Context, r mapper.Request) error {
	if r.Data == nil {
		return g.target.Submit(ctx, r)
	}
	private := bytes.Clone(r.Data)
	caller := r.Data
	r.Data = private
	err := g.target.Submit(ctx, r)
	if r.Op == mapper.OpRead {
		copy(caller, private)
	} else if !bytes.Equal(private, caller) {
		g.t.Error("the target changed the data of a write, which is only lent to it")
	}
	fill(private, scribble)
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.lent) < 256 {
		g.lent = append(g.lent, private)
	}
	return err
}

// write writes stamped data with a serial of its own and keeps the model.
func (g *rig) write(s, n mapper.Sector, flags mapper.Flags) error {
	g.serial++
	g.model.begin(s, n, g.serial)
	err := g.submit(context.Background(), mapper.Request{Op: mapper.OpWrite, Flags: flags, Start: s, Count: n, Data: Stamped(s, n, g.serial)})
	if err != nil {
		g.model.failed(s, n)
		return fmt.Errorf("write of %d sectors at %d: %w", n, s, err)
	}
	g.model.done(s, n, g.stored(g.serial), flags&mapper.FlagFUA != 0)
	return nil
}

// stored returns what a read shows of a write with that serial.
func (g *rig) stored(serial uint64) uint64 {
	if g.setup.Kind == ReadsZero {
		return zeroSerial
	}
	return serial
}

// zero writes zeroes and keeps the model.
func (g *rig) zero(s, n mapper.Sector) error {
	g.model.begin(s, n, zeroSerial)
	if err := g.submit(context.Background(), mapper.Request{Op: mapper.OpWriteZeroes, Start: s, Count: n}); err != nil {
		g.model.failed(s, n)
		return fmt.Errorf("write-zeroes of %d sectors at %d: %w", n, s, err)
	}
	g.model.done(s, n, zeroSerial, false)
	return nil
}

// discard discards and keeps the model.
func (g *rig) discard(s, n mapper.Sector) error {
	g.model.begin(s, n, anySerial)
	if err := g.submit(context.Background(), mapper.Request{Op: mapper.OpDiscard, Start: s, Count: n}); err != nil {
		return fmt.Errorf("discard of %d sectors at %d: %w", n, s, err)
	}
	return nil
}

// flush flushes and keeps the model.
func (g *rig) flush() error {
	if err := g.submit(context.Background(), mapper.Request{Op: mapper.OpFlush}); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	g.model.flushed()
	return nil
}

// read reads and compares with the model.
func (g *rig) read(s, n mapper.Sector, loose bool) error {
	buf := bytes.Repeat([]byte{0xc3}, int(n.Bytes())) // a target that forgets to fill it is found out
	if err := g.submit(context.Background(), mapper.Request{Op: mapper.OpRead, Start: s, Count: n, Data: buf}); err != nil {
		return &readError{fmt.Errorf("read of %d sectors at %d: %w", n, s, err)}
	}
	return g.model.check(buf, s, loose)
}

// A readError is an error that the target reported, as opposed to wrong data.
type readError struct{ error }

// readKnown reads everything whose contents are known.
func (g *rig) readKnown(loose bool) error {
	var first error
	g.model.known(loose, func(s, n mapper.Sector) {
		for end := s + n; s < end && first == nil; s += n {
			n = min(end-s, 256) // so that an error does not hide more than it must
			n = max(g.block(), n/g.block()*g.block())
			if s%g.block() != 0 || s+n > end {
				return // known by parts of blocks: cannot be read alone
			}
			first = g.read(s, n, loose)
		}
	})
	return first
}

// block returns the unit of alignment in sectors.
func (g *rig) block() mapper.Sector { return g.limits.LogicalSectors() }

// must fails the test if err is not nil.
func (g *rig) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}
