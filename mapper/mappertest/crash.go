package mappertest

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"dmfs/mapper"
)

// A Power supplies Crash disks, which lose their caches together. The zero value is ready for use.
//
// # What the disks may do to us
//
// Each disk has a volatile cache. A write that returned is in the cache: reads see it, power loss may lose
// it. Until a flush, the disk writes its cache back when and in what order it likes. So at a power cut
// each sector independently holds what was durable, or any of the versions that were written since:
//
//   - a write may be lost, also when a later one to another sector of any disk has survived;
//   - a write of several sectors may be torn at any sector, and keep any subset of them;
//   - of several writes to a sector an older one may survive;
//   - a discarded sector holds what it held, or zeroes, or rubbish;
//   - zeroes written by OpWriteZeroes are as volatile as data.
//
// # What they may not do
//
//   - A sector is never torn: it holds one version as a whole. So does a unit with its tag on a disk that keeps tags.
//   - When a flush returns, everything that had returned before it was submitted is durable, and stays so until
//     overwritten. (A version older than the newest flushed one never comes back.)
//   - A write with FlagFUA is durable when it returns; it says nothing about other writes, not even about
//     older ones to other sectors.
//   - A request that is under way at the cut, or that failed, may have had any part of its effect, and no other.
//   - Nothing turns up where it was not written, and what is durable does not decay. (Media errors are the business of Faulty.)
type Power struct {
	mu    sync.Mutex
	disks []*Crash

	// Before, if not nil, is called with each request before it is carried out, and may call Cut: to cut at
	// each flush, say. It is set before the disks are used, or by SetBefore, and may be called concurrently.
	Before func(d *Crash, r mapper.Request)
}

// SetBefore sets Before while the disks are in use.
func (p *Power) SetBefore(f func(d *Crash, r mapper.Request)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Before = f
}

// A Crash is a disk with a volatile cache; see Power. It is a Disk in all other respects.
type Crash struct {
	*Disk // the contents as seen by reads: durable and cached
	power *Power
	// dirty sectors, or units with one tag: the versions that may be found after a cut, the durable one first, the newest last.
	// Guarded by power.mu.
	dirty map[mapper.Sector][][]byte
}

// NewCrash returns a disk with a power supply of its own.
func NewCrash(name string, sectors mapper.Sector) *Crash { return new(Power).Disk(name, sectors) }

// Disk returns a new disk of that supply.
func (p *Power) Disk(name string, sectors mapper.Sector) *Crash {
	return p.adopt(NewDisk(name, sectors))
}

func (p *Power) adopt(d *Disk) *Crash {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &Crash{Disk: d, power: p, dirty: make(map[mapper.Sector][][]byte)}
	p.disks = append(p.disks, c)
	return c
}

// Disks returns the disks in the order they were made.
func (p *Power) Disks() []*Crash {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.disks)
}

// Seeds for Cut with a meaning.
const (
	// LoseAll is the seed of a cut that loses everything that is not durable.
	LoseAll uint64 = iota
	// KeepAll is the seed of a cut that loses nothing: every write had just made it.
	KeepAll
)

// Cut returns the disks as they might be after a power cut at this moment, on a supply of their own. The disks of p
// go on undisturbed. The outcome is a function of the seed and of what was written.
func (p *Power) Cut(seed uint64) *Power {
	p.mu.Lock()
	defer p.mu.Unlock()
	after := new(Power)
	for i, d := range p.disks {
		survivor := d.Disk.Clone()
		rnd := rand.New(rand.NewPCG(seed, uint64(i)))
		for _, s := range slices.Sorted(maps.Keys(d.dirty)) {
			versions := d.dirty[s]
			k := rnd.IntN(len(versions))
			switch seed {
			case LoseAll:
				k = 0
			case KeepAll:
				k = len(versions) - 1
			}
			survivor.pokeGrain(s, versions[k])
		}
		after.adopt(survivor)
	}
	return after
}

// CrashClone returns the disk as it might be after a power cut at this moment: Power.Cut for a disk alone.
func (d *Crash) CrashClone(seed uint64) *Crash {
	for i, c := range d.power.Disks() {
		if c == d {
			return d.power.Cut(seed).disks[i]
		}
	}
	panic("mappertest: a Crash that its Power does not know")
}

// Dirty returns how many sectors, or units with a tag, would be in danger at a cut.
func (d *Crash) Dirty() int {
	d.power.mu.Lock()
	defer d.power.mu.Unlock()
	return len(d.dirty)
}

// Submit carries r out in the cache, and through it for FlagFUA and OpFlush.
func (d *Crash) Submit(ctx context.Context, r mapper.Request) error {
	d.power.mu.Lock()
	before := d.power.Before
	d.power.mu.Unlock()
	if before != nil {
		before(d, r)
	}
	if r.Op == mapper.OpRead {
		return d.Disk.Submit(ctx, r)
	}
	d.power.mu.Lock()
	defer d.power.mu.Unlock()
	if err := d.check(r); err != nil {
		return err
	}
	if r.Op == mapper.OpFlush {
		clear(d.dirty)
		return d.Disk.Submit(ctx, r)
	}
	d.keepOld(r.Start, r.Count, r.Op == mapper.OpDiscard)
	if err := d.Disk.Submit(ctx, r); err != nil {
		return err
	}
	for s, step := r.Start, d.grain(); s < r.End(); s += step {
		if r.Flags&mapper.FlagFUA != 0 && r.Op != mapper.OpDiscard {
			delete(d.dirty, s)
			continue
		}
		d.dirty[s] = append(d.dirty[s], d.peekGrain(s))
	}
	return nil
}

// keepOld notes what n sectors from s on hold before they change. d.power.mu is held.
func (d *Crash) keepOld(s, n mapper.Sector, discard bool) {
	step := d.grain()
	for end := s + n; s < end; s += step {
		if d.dirty[s] == nil {
			d.dirty[s] = [][]byte{d.peekGrain(s)}
		}
		if discard {
			d.dirty[s] = append(d.dirty[s], make([]byte, step.Bytes()))
		}
	}
}
