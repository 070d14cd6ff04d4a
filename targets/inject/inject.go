package inject

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// Type is the inject target.
var Type = mapper.Type{Name: "inject", Version: [3]int{1, 0, 0}, New: newTarget}

// maxRules bounds the rules of a target.
const maxRules = 256

type target struct {
	disk          mapper.Disk
	start, length mapper.Sector // of the range of disk
	table         []string      // seed and rules of the table line
	seed          uint64

	requests atomic.Uint64
	asks     atomic.Bool // there is a rule that is not spent

	mu         sync.Mutex
	rules      []*rule // in their order, spent ones too
	lastID     uint64
	made       [kinds]uint64 // faults
	stalled    int
	suspending bool
	handBack   bool // what waits is handed back to the core, not carried out
}

var (
	_ mapper.Areaser       = (*target)(nil)
	_ mapper.Tabler        = (*target)(nil)
	_ mapper.Statuser      = (*target)(nil)
	_ mapper.Messenger     = (*target)(nil)
	_ mapper.Hinter        = (*target)(nil)
	_ mapper.PreSuspender  = (*target)(nil)
	_ mapper.SuspendUndoer = (*target)(nil)
	_ mapper.Resumer       = (*target)(nil)
)

func newTarget(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
	if len(s.Args) < 2 {
		return nil, mapper.BadArg("Invalid argument count", "%d arguments: want DISK OFFSET [seed=N] RULE*", len(s.Args))
	}
	start, ok := args.Uint64(s.Args[1])
	if !ok {
		return nil, mapper.BadArg("Invalid device sector", "offset %q: want a number of sectors", s.Args[1])
	}
	t := &target{start: mapper.Sector(start), length: s.Len, seed: rand.Uint64()}
	words := s.Args[2:]
	if len(words) > 0 {
		if seed, ok := strings.CutPrefix(words[0], "seed="); ok {
			if t.seed, ok = args.Uint64(seed); !ok {
				return nil, mapper.BadArg("Invalid seed", "%q: want a number below 2^64", seed)
			}
			t.table, words = append(t.table, "seed="+strconv.FormatUint(t.seed, 10)), words[1:]
		}
	}
	disk, err := args.Open(ctx, h, s.Args[0], "Device lookup failed")
	if err != nil {
		return nil, err
	}
	t.disk = disk
	rules, err := parseRules(words, t.block())
	if err != nil {
		return nil, err
	}
	for _, r := range rules {
		if _, err := t.add(r); err != nil {
			return nil, err
		}
		t.table = append(t.table, r.words...)
	}
	return t, nil
}

// block returns the logical block in bytes.
func (t *target) block() int { return int(t.disk.Limits().LogicalSectors().Bytes()) }

// add puts r behind the other rules and returns its number.
func (t *target) add(r *rule) (id uint64, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.rules) == maxRules {
		return 0, mapper.BadArg("Too many rules", "there are %d: disarm some", maxRules)
	}
	t.lastID++
	r.id, r.rnd = t.lastID, rand.New(rand.NewPCG(t.seed, t.lastID))
	t.rules = append(t.rules, r)
	t.asks.Store(true)
	return r.id, nil
}

// A fault is what happens to one request.
type fault struct {
	*rule
	chance   uint64 // what it draws from
	released <-chan struct{}
}

// Submit carries r out on the disk, unless a rule wants otherwise.
func (t *target) Submit(ctx context.Context, r mapper.Request) error {
	t.requests.Add(1)
	if t.asks.Load() {
		for after := uint64(0); ; {
			f := t.choose(r, after)
			if f.rule == nil {
				break
			}
			if f.kind != stall {
				return t.inject(ctx, r, f)
			}
			if err := t.wait(ctx, f); err != nil {
				return err
			}
			after = f.id
		}
	}
	r.Start += t.start
	return t.disk.Submit(ctx, r)
}

// choose asks the rules behind number after, in their order, for a fault, and counts it.
func (t *target) choose(r mapper.Request, after uint64) fault {
	t.mu.Lock()
	defer t.mu.Unlock()
	asks := false
	for _, rule := range t.rules {
		if rule.spent() {
			continue
		}
		asks = true
		switch {
		case rule.id <= after, rule.kind == stall && t.suspending:
			continue
		case r.Op == mapper.OpWriteZeroes && rule.kind >= misdirect && rule.concerns(r):
			return fault{rule: inPlainWrites}
		case rule.matches(r, t.length) && rule.hits():
			rule.injected++
			t.made[rule.kind]++
			if rule.kind == stall {
				t.stalled++
			}
			return fault{rule: rule, chance: rule.rnd.Uint64(), released: rule.released}
		}
	}
	if !asks {
		t.asks.Store(false)
	}
	return fault{}
}

// inPlainWrites is what happens to write-zeroes that a rule may want to see the data of.
var inPlainWrites = &rule{kind: fail, err: mapper.ErrNotSupported}

// undo takes back that a fault was counted: there was nothing to do it to.
func (t *target) undo(f fault) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.injected--
	if t.made[f.kind] > 0 { // the counters may have been reset meanwhile
		t.made[f.kind]--
	}
	t.asks.Store(true)
}

// inject carries r out as f wants.
func (t *target) inject(ctx context.Context, r mapper.Request, f fault) error {
	switch f.kind {
	case fail:
		return f.failure()
	case lost:
		return nil
	case misdirect:
		r.Start = mapper.Sector(int64(r.Start) + f.by)
	case corrupt:
		return t.corrupt(ctx, r, f)
	case torn:
		return t.tear(ctx, r, f)
	}
	return t.pass(ctx, r, f)
}

func (f fault) failure() error {
	if f.rule == inPlainWrites {
		return f.err
	}
	return fmt.Errorf("injected by rule %d: %w", f.id, f.err)
}

// pass carries r out on the disk. If that fails f has not been made.
func (t *target) pass(ctx context.Context, r mapper.Request, f fault) error {
	r.Start += t.start
	err := t.disk.Submit(ctx, r)
	if err != nil {
		t.undo(f)
	}
	return err
}

// corrupt flips bits of what is read or written.
func (t *target) corrupt(ctx context.Context, r mapper.Request, f fault) error {
	if r.Op == mapper.OpRead {
		if err := t.pass(ctx, r, f); err != nil {
			return err
		}
		flip(r.Data, f)
		return nil
	}
	buf := mapper.GetBuffer(len(r.Data))
	defer buf.Free()
	copy(buf.Data, r.Data)
	flip(buf.Data, f)
	r.Data = buf.Data
	return t.pass(ctx, r, f)
}

// flip flips as many different bits of data as the rule says, or all of them.
func flip(data []byte, f fault) {
	rnd := rand.New(rand.NewPCG(f.chance, 0))
	total := uint64(len(data)) * 8
	flipped := make(map[uint64]bool, f.bits)
	for uint64(len(flipped)) < min(uint64(f.bits), total) {
		if bit := rnd.Uint64N(total); !flipped[bit] {
			flipped[bit] = true
			data[bit/8] ^= 1 << (bit % 8)
		}
	}
}

// tear writes some units of r. They are put together with what is there if a block is torn.
func (t *target) tear(ctx context.Context, r mapper.Request, f fault) error {
	units := (len(r.Data) + f.unit - 1) / f.unit
	rnd := rand.New(rand.NewPCG(f.chance, 0))
	kept := rnd.IntN(units)
	missing := (kept + 1 + rnd.IntN(units-1)) % units
	arrives := func(i int) bool {
		half := rnd.Uint64()&1 != 0
		return i == kept || i != missing && half
	}
	var err error
	if f.unit < t.block() {
		err = t.tearBlocks(ctx, r, f.unit, units, arrives)
	} else {
		err = t.tearRuns(ctx, r, f.unit, units, arrives)
	}
	if err != nil {
		t.undo(f)
		return err
	}
	if f.err != nil {
		return f.failure()
	}
	return nil
}

// tearRuns writes the units of r that arrive, which are whole blocks.
func (t *target) tearRuns(ctx context.Context, r mapper.Request, unit, units int, arrives func(i int) bool) error {
	n := mapper.SectorsOf(int64(unit))
	var first mapper.Sector // of the run of units that arrive
	for i := range units + 1 {
		at := min(r.Count, mapper.Sector(i)*n)
		if i < units && arrives(i) {
			continue
		}
		if at > first {
			part := r.Slice(first, at-first)
			part.Start += t.start
			if err := t.disk.Submit(ctx, part); err != nil {
				return err
			}
		}
		first = at + n
	}
	return nil
}

// tearBlocks writes r with what is there in place of the units that do not arrive.
func (t *target) tearBlocks(ctx context.Context, r mapper.Request, unit, units int, arrives func(i int) bool) error {
	buf := mapper.GetBuffer(len(r.Data))
	defer buf.Free()
	r.Start += t.start
	old := mapper.Request{Op: mapper.OpRead, Start: r.Start, Count: r.Count, Data: buf.Data}
	if err := t.disk.Submit(ctx, old); err != nil {
		return err
	}
	for i := range units {
		if arrives(i) {
			end := min((i+1)*unit, len(r.Data))
			copy(buf.Data[i*unit:end], r.Data[i*unit:end])
		}
	}
	r.Data = buf.Data
	return t.disk.Submit(ctx, r)
}

// Areas returns the one range.
func (t *target) Areas() []mapper.Area {
	return []mapper.Area{{Disk: t.disk, Start: t.start, Len: t.length}}
}

// Hints asks for flushes, which rules may be about, whatever the disk has.
func (t *target) Hints(l *mapper.Limits) { l.VolatileCache = true }

// Table returns DISK OFFSET, the seed if it was given, and the rules of the table line.
func (t *target) Table(bool) []string {
	return append([]string{mapper.DiskName(t.disk), strconv.FormatUint(uint64(t.start), 10)}, t.table...)
}
