package mappertest

import (
	"context"
	"slices"
	"sync"

	"dmfs/mapper"
)

// A Fault says which requests a Faulty disk fails. What is left out matches everything.
type Fault struct {
	Ops        []mapper.Op   // only these operations
	Start, End mapper.Sector // only requests that touch [Start, End); End 0 means no bound. A flush touches nothing
	After      int           // let that many matching requests pass first
	Times      int           // then fail that many; 0 means all
	Err        error         // with this; nil means mapper.ErrIO
}

// A Faulty passes requests on to a disk and fails those that match a Fault. A failed write leaves
// half of its sectors written, and a failed read leaves rubbish in the buffer: after an error
// nobody may rely on either.
type Faulty struct {
	mapper.Disk

	mu     sync.Mutex
	faults []*pendingFault
	ios    int
	failed int
}

type pendingFault struct {
	Fault
	seen int // matching requests so far
}

// NewFaulty returns a disk in front of d that has no faults yet.
func NewFaulty(d mapper.Disk) *Faulty { return &Faulty{Disk: d} }

// Inject adds a fault. Where several match the same request, the oldest decides, and all count it.
func (d *Faulty) Inject(f Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, &pendingFault{Fault: f})
}

// FailNth makes the n-th request from now fail, counted from 1, and no other.
func (d *Faulty) FailNth(n int) { d.Inject(Fault{After: n - 1, Times: 1}) }

// Heal removes all faults.
func (d *Faulty) Heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = nil
}

// IOs returns how many requests arrived, failed ones included.
func (d *Faulty) IOs() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ios
}

// Failed returns how many requests were failed.
func (d *Faulty) Failed() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// DiskName returns the name of the disk behind.
func (d *Faulty) DiskName() string { return mapper.DiskName(d.Disk) }

// Submit fails r or passes it on.
func (d *Faulty) Submit(ctx context.Context, r mapper.Request) error {
	err := d.decide(r)
	if err == nil {
		return d.Disk.Submit(ctx, r)
	}
	switch block := d.Disk.Limits().LogicalSectors(); {
	case r.Op == mapper.OpRead:
		fill(r.Data, 0xee)
	case r.Op == mapper.OpWrite && r.Count > block:
		_ = d.Disk.Submit(ctx, r.Slice(0, max(block, r.Count/2/block*block))) // r fails anyway
	}
	return err
}

// decide counts r and returns the error to fail it with, or nil.
func (d *Faulty) decide(r mapper.Request) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ios++
	var err error
	for _, f := range d.faults {
		if !f.matches(r) {
			continue
		}
		f.seen++
		if err == nil && f.seen > f.After && (f.Times == 0 || f.seen <= f.After+f.Times) {
			if err = f.Err; err == nil {
				err = mapper.ErrIO
			}
		}
	}
	if err != nil {
		d.failed++
	}
	return err
}

func (f *Fault) matches(r mapper.Request) bool {
	if len(f.Ops) > 0 && !slices.Contains(f.Ops, r.Op) {
		return false
	}
	if f.End == 0 && f.Start == 0 {
		return true
	}
	return r.Op != mapper.OpFlush && r.End() > f.Start && (f.End == 0 || r.Start < f.End)
}
