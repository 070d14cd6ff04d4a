package mapper

import (
	"context"
	"io"
	"sync"
)

// A pool holds the open disks that are no mapped devices, each file once for each way to open it. Nothing is opened
// or closed with mu held: a disk may be on the other side of a network.
type pool struct {
	files      FileOpener
	mountPoint string
	dir        string
	configured map[string]DiskConfig

	mu       sync.Mutex
	mountDev uint64 // st_dev of the mount, once it is known
	open     map[poolKey]*pooled
}

type poolKey struct {
	id               FileID
	direct, readOnly bool
}

type pooled struct {
	disk Disk
	refs int
	busy chan struct{} // closed when the opening or the closing in progress has ended; nil between them
}

func (p *pool) init(o Options) {
	p.files, p.mountPoint, p.dir, p.configured = o.Files, o.MountPoint, o.Dir, o.Disks
	p.open = make(map[poolKey]*pooled)
}

// Growing is implemented by disks whose size may grow while they are open. Measure is called when another table begins to use the disk.
type Growing interface{ Measure() }

// openFile opens a file, a block device or a network disk, or takes another reference to it.
func (m *Manager) openFile(ctx context.Context, c DiskConfig, id FileID) (Disk, func(), error) {
	p := &m.pool
	key := poolKey{id, c.Direct, c.ReadOnly}
	for {
		p.mu.Lock()
		have := p.open[key]
		if have == nil {
			have = &pooled{busy: make(chan struct{})}
			p.open[key] = have
			p.mu.Unlock()
			return m.openFirst(ctx, c, key, have)
		}
		busy := have.busy
		if busy == nil {
			have.refs++
			p.mu.Unlock()
			if g, ok := have.disk.(Growing); ok {
				g.Measure()
			}
			return have.disk, func() { m.releaseFile(key) }, nil
		}
		p.mu.Unlock()
		if err := waitFor(ctx, busy); err != nil {
			return nil, nil, err
		}
	}
}

// openFirst opens what nobody has open. Others wait for that.
func (m *Manager) openFirst(ctx context.Context, c DiskConfig, key poolKey, have *pooled) (Disk, func(), error) {
	d, err := m.pool.files.Open(ctx, c)
	m.pool.mu.Lock()
	defer m.pool.mu.Unlock()
	close(have.busy)
	have.busy = nil
	if err != nil {
		delete(m.pool.open, key)
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		return nil, nil, deviceLookup(err)
	}
	have.disk, have.refs = d, 1
	return d, func() { m.releaseFile(key) }, nil
}

// releaseFile gives a reference back. The last one closes the disk; who wants to open it again waits for that.
func (m *Manager) releaseFile(key poolKey) {
	p := &m.pool
	p.mu.Lock()
	have := p.open[key]
	if have.refs--; have.refs > 0 {
		p.mu.Unlock()
		return
	}
	have.busy = make(chan struct{})
	p.mu.Unlock()
	if c, ok := have.disk.(io.Closer); ok {
		if err := c.Close(); err != nil {
			m.log.Printf("device-mapper: core: closing %s: %v", KernelName(have.disk), err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, key)
	close(have.busy)
}

// is reports whether d, which somebody has open, is what id says.
func (p *pool) is(d Disk, id FileID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, have := range p.open {
		if key.id == id && have.disk == d {
			return true
		}
	}
	return false
}
