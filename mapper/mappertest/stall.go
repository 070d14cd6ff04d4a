package mappertest

import (
	"context"
	"sync"

	"dmfs/mapper"
)

// A Stall passes requests on to a disk, or holds them until Release or until their context ends.
// A request whose context ended has had no effect.
type Stall struct {
	mapper.Disk

	mu      sync.Mutex
	gate    chan struct{} // closed by Release; nil if requests pass
	waiting int
	change  chan struct{} // closed when waiting changes
}

// NewStall returns a disk in front of d that lets requests pass.
func NewStall(d mapper.Disk) *Stall { return &Stall{Disk: d, change: make(chan struct{})} }

// Hold makes requests that arrive from now on wait.
func (d *Stall) Hold() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gate == nil {
		d.gate = make(chan struct{})
	}
}

// Release lets the waiting requests and all later ones pass.
func (d *Stall) Release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gate != nil {
		close(d.gate)
		d.gate = nil
	}
}

// WaitHeld blocks until at least n requests are held, or until ctx ends.
func (d *Stall) WaitHeld(ctx context.Context, n int) error {
	for {
		d.mu.Lock()
		enough, change := d.waiting >= n, d.change
		d.mu.Unlock()
		if enough {
			return nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// DiskName returns the name of the disk behind.
func (d *Stall) DiskName() string { return mapper.DiskName(d.Disk) }

// Submit waits if it must and passes r on.
func (d *Stall) Submit(ctx context.Context, r mapper.Request) error {
	if gate := d.enter(); gate != nil {
		defer d.leave()
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return d.Disk.Submit(ctx, r)
}

// enter returns what to wait for, and counts the caller as waiting, or nil.
func (d *Stall) enter() chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gate != nil {
		d.count(1)
	}
	return d.gate
}

func (d *Stall) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count(-1)
}

func (d *Stall) count(n int) {
	d.waiting += n
	close(d.change)
	d.change = make(chan struct{})
}
