package nbd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"dmfs/mapper"
)

// The time between attempts to connect: twice as long after each that failed, and at least leastGap if requests ask for one.
const (
	leastGap = 20 * time.Millisecond
	firstGap = 100 * time.Millisecond
	mostGap  = 5 * time.Second
)

// supervise serves one connection after the other until Close.
func (d *Disk) supervise(c *conn) {
	defer close(d.done)
	for c != nil {
		c.serve(d.lose)
		c = d.reconnect()
	}
}

// change applies f to what mu guards and wakes those who wait for a change.
func (d *Disk) change(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
	close(d.changed)
	d.changed = make(chan struct{})
}

// lose notes that the connection has ended. Nobody has been told yet, so that whoever tries again does not find it.
func (d *Disk) lose(cause error) {
	if errors.Is(cause, io.EOF) {
		cause = fmt.Errorf("the server hung up: %w", cause)
	}
	d.losses.Add(1) // before anybody can get another connection
	d.change(func() {
		d.conn, d.since, d.cause = nil, time.Now(), cause
		unflushed := d.acked.Load() - d.flushed.Load()
		if d.limits.VolatileCache && unflushed > 0 && d.forgot == nil {
			d.forgot = fmt.Errorf("%s: the connection was lost (%v) after %d writes that the server had acknowledged and not flushed: they may be lost: %w",
				d.uri, cause, unflushed, mapper.ErrIO)
		}
	})
}

// reconnect returns the next connection, nil after Close.
func (d *Disk) reconnect() *conn {
	for gap := firstGap; ; gap = min(2*gap, mostGap) {
		if !d.pause(gap) {
			return nil
		}
		d.change(func() { d.began++ })
		c, err := d.dial(d.ctx)
		if err == nil {
			if err = d.same(&c.export); err != nil {
				c.shut(err)
			}
		}
		d.change(func() {
			d.ended++
			d.cause = err
			if closed := d.ctx.Err() != nil; closed && err == nil {
				c.shut(net.ErrClosed)
			} else if err == nil {
				d.conn = c
			}
		})
		if err == nil {
			return c // which ends at once if Close came first
		}
	}
}

// pause waits for gap, or less if a request wants a connection. It reports false after Close.
func (d *Disk) pause(gap time.Duration) bool {
	least := time.NewTimer(min(gap, leastGap))
	defer least.Stop()
	select {
	case <-least.C:
	case <-d.ctx.Done():
		return false
	}
	rest := time.NewTimer(gap - min(gap, leastGap))
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-d.kick:
	case <-d.ctx.Done():
		return false
	}
	return true
}

// same refuses an export that is no longer what the tables were built on.
func (d *Disk) same(e *export) error {
	was := &d.export
	switch lacks := was.flags &^ e.flags & (canFlush | canFUA | canTrim | canWriteZeroes); {
	case e.size < was.size:
		return fmt.Errorf("the export has shrunk from %d to %d bytes", was.size, e.size)
	case e.flags&^was.flags&isReadOnly != 0:
		return errors.New("the export has become read-only")
	case e.flags&^was.flags&canFlush != 0:
		return errors.New("the export has got a cache that wants to be flushed")
	case lacks != 0:
		return fmt.Errorf("the export lacks what it could do before (flags %#x)", lacks)
	case max(e.least, mapper.SectorSize) > max(was.least, mapper.SectorSize):
		return fmt.Errorf("the minimum block has grown from %d to %d bytes", was.least, e.least)
	case e.most < was.most:
		return fmt.Errorf("the maximum block has shrunk from %d to %d bytes", was.most, e.most)
	}
	return nil
}

// do sends a request, over another connection if one is lost and reconnect-delay allows.
func (d *Disk) do(ctx context.Context, q request) (extent, flags uint32, err error) {
	for {
		c, err := d.connected(ctx)
		if err != nil {
			return 0, 0, err
		}
		extent, flags, err = c.do(ctx, q)
		if !errors.Is(err, errLost) {
			return extent, flags, err
		}
		if d.uri.Delay == 0 {
			return 0, 0, d.down()
		}
	}
}

// connected returns the connection. If there is none it waits for reconnect-delay from the loss on, and in any case for
// one attempt to connect that begins after the call, as long as attemptTime.
func (d *Disk) connected(ctx context.Context) (*conn, error) {
	d.mu.Lock()
	c := d.conn
	d.mu.Unlock()
	if c != nil {
		return c, nil
	}
	patience := time.NewTimer(attemptTime)
	defer patience.Stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	need := d.began + 1
	late := time.NewTimer(time.Until(d.since.Add(d.uri.Delay)))
	defer late.Stop()
	isLate, tired := d.uri.Delay == 0, false
	for d.conn == nil {
		if isLate && (tired || d.ended >= need) {
			return nil, d.downLocked()
		}
		changed := d.changed
		d.mu.Unlock()
		select {
		case d.kick <- struct{}{}:
		default:
		}
		var err error
		select {
		case <-changed:
		case <-patience.C:
			tired = true
		case <-late.C:
			isLate = true
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-d.done:
			err = net.ErrClosed
		}
		d.mu.Lock()
		if err != nil {
			return nil, err
		}
	}
	return d.conn, nil
}

// down says why there is no connection.
func (d *Disk) down() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.downLocked()
}

func (d *Disk) downLocked() error {
	if d.cause == nil {
		return errLost
	}
	return fmt.Errorf("%w: %v", errLost, d.cause)
}
