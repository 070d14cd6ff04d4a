package nbd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// A Disk is an export of an NBD server.
type Disk struct {
	uri     URI
	name    string // as listings print it
	export  export // as it was when the disk was opened
	sectors mapper.Sector
	limits  mapper.Limits

	acked   atomic.Uint64 // writes that the server has acknowledged without FUA
	flushed atomic.Uint64 // how many of them are known to be durable
	losses  atomic.Uint64 // connections that were lost

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	kick   chan struct{} // asks for an attempt to connect
	done   chan struct{} // closed when the supervisor has ended

	mu           sync.Mutex
	conn         *conn         // nil while there is none
	changed      chan struct{} // closed at each change of what follows
	began, ended uint64        // attempts to connect
	since        time.Time     // when the last connection was lost
	cause        error         // why there is none
	forgot       error         // acknowledged writes may be lost; nil if not
}

var (
	_ mapper.NamedDisk   = (*Disk)(nil)
	_ mapper.KernelNamed = (*Disk)(nil)
	_ mapper.Extenter    = (*Disk)(nil)
	_ mapper.Measurer    = (*Disk)(nil)
)

const (
	dialTime  = 10 * time.Second // for connecting and the handshake
	closeTime = time.Second      // for the server to notice that we go
	// attemptTime is how long a request that finds no connection waits for an attempt to get one.
	attemptTime = time.Second
	// maxAtOnce bounds a discard, in sectors: 1 GiB.
	maxAtOnce mapper.Sector = 1 << 21
	readAhead               = 64 << 10 // of the receiver, in bytes
)

// Open connects to the export that c.Path, a URI, names. ctx ends the wait for the server.
func Open(ctx context.Context, c mapper.DiskConfig) (*Disk, error) {
	uri, err := ParseURI(c.Path)
	if err != nil {
		return nil, err
	}
	if c.Direct {
		return nil, &uriError{c.Path, "direct is about the page cache of a file: leave it out, and say --cache=none to the server"}
	}
	d := &Disk{
		uri: uri, name: mapper.QuoteArg(uri.String()),
		kick: make(chan struct{}, 1), done: make(chan struct{}), changed: make(chan struct{}),
	}
	first, err := d.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", uri, err)
	}
	d.export = first.export
	if d.export.flags&isReadOnly != 0 && !c.ReadOnly {
		first.shut(net.ErrClosed)
		return nil, fmt.Errorf("%s: the export is read-only, the table is not: %w", uri, unix.EROFS)
	}
	d.measure(c.ReadOnly)
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.conn = first
	go d.supervise(first)
	return d, nil
}

// measure finds out size and limits.
func (d *Disk) measure(readOnly bool) {
	e := &d.export
	block := max(int(e.least), mapper.SectorSize)
	blockSectors := mapper.SectorsOf(int64(block))
	d.sectors = mapper.SectorsOf(int64(e.size)) / blockSectors * blockSectors
	d.limits = mapper.Limits{
		LogicalBlock: block, PhysicalBlock: block, MinIO: int(min(e.likes, e.most)),
		VolatileCache: e.flags&canFlush != 0, ReadOnly: readOnly,
	}
	if e.flags&canTrim != 0 {
		d.limits.DiscardGranularity, d.limits.MaxDiscard = blockSectors, maxAtOnce
	}
	if e.flags&canWriteZeroes != 0 {
		d.limits.MaxWriteZeroes = mapper.SectorsOf(int64(e.most))
	}
}

// DiskName returns the URI, quoted where a table needs it.
func (d *Disk) DiskName() string { return d.name }

// KernelName returns the URI.
func (d *Disk) KernelName() string { return d.uri.String() }

// Path returns the URI.
func (d *Disk) Path() string { return d.uri.String() }

// Sectors returns the size when the disk was opened, without a partial block at the end.
func (d *Disk) Sectors() mapper.Sector { return d.sectors }

// Limits returns the limits, which do not change.
func (d *Disk) Limits() mapper.Limits { return d.limits }

// dial connects and shakes hands.
func (d *Disk) dial(caller context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeoutCause(caller, dialTime, unix.ETIMEDOUT)
	defer cancel()
	dialer := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 4},
		Control:         boundSilence,
	}
	nc, err := dialer.DialContext(ctx, d.uri.network, d.uri.address)
	if ctx.Err() != nil && err != nil {
		err = fmt.Errorf("the server at %s does not answer: %w", d.uri.address, context.Cause(ctx))
	}
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(aLongTimeAgo) }) //nolint:errcheck // it only hurries the end
	r := bufio.NewReaderSize(nc, readAhead)
	e, err := handshake(r, nc, d.uri.Export)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		nc.Close() //nolint:errcheck // it is of no use
		if ctx.Err() != nil {
			err = fmt.Errorf("the server at %s does not answer: %w", d.uri.address, context.Cause(ctx))
		}
		return nil, err
	}
	return newConn(nc, r, e, &d.acked, &d.flushed), nil
}

// silence is how long, in milliseconds, a peer may not acknowledge what was sent to it, before it counts as gone.
const silence = 30000

func boundSilence(network, _ string, c syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, silence) // without it the system's patience counts
	})
}

// Close takes leave of the server and ends the connection.
func (d *Disk) Close() error {
	d.mu.Lock()
	c := d.conn
	d.cancel()
	d.mu.Unlock()
	if c != nil {
		c.queue <- &call{cmd: cmdDisconnect}
		timer := time.NewTimer(closeTime)
		defer timer.Stop()
		select {
		case <-d.done: // the server has hung up
		case <-timer.C:
			c.shut(net.ErrClosed)
		}
	}
	<-d.done
	return nil
}

// Submit implements mapper.Disk.
func (d *Disk) Submit(ctx context.Context, r mapper.Request) error {
	if r.Op == mapper.OpFlush {
		return d.flush(ctx, r.Flags&mapper.FlagShared != 0)
	}
	if r.Start > d.sectors || r.Count > d.sectors-r.Start {
		return fmt.Errorf("%s past the end of %s at sector %d: %w", r.Op, d.uri, d.sectors, mapper.ErrIO)
	}
	if r.Op != mapper.OpRead && d.limits.ReadOnly {
		return mapper.ErrReadOnly
	}
	var q request
	most := uint64(d.export.most)
	switch r.Op {
	case mapper.OpRead:
		q.cmd = cmdRead
	case mapper.OpWrite:
		q.cmd = cmdWrite
	case mapper.OpDiscard:
		q.cmd, most = cmdTrim, uint64(maxAtOnce.Bytes())
		if d.limits.MaxDiscard == 0 {
			return mapper.ErrNotSupported
		}
	case mapper.OpWriteZeroes:
		q.cmd = cmdWriteZeroes
		if d.limits.MaxWriteZeroes == 0 {
			return mapper.ErrNotSupported
		}
		if r.Flags&mapper.FlagNoUnmap != 0 {
			q.flags |= cmdFlagNoHole
		}
	default:
		return mapper.ErrNotSupported
	}
	flushAfter := false
	if r.Flags&mapper.FlagFUA != 0 && r.Op != mapper.OpRead {
		if d.export.flags&canFUA != 0 {
			q.flags |= cmdFlagFUA
		} else {
			flushAfter = d.limits.VolatileCache
		}
	}
	for {
		before := d.losses.Load()
		err := d.pieces(ctx, r, q, most)
		if err != nil || !flushAfter {
			return err
		}
		if err := d.flushNow(ctx); err != nil {
			return err
		}
		if d.losses.Load() == before {
			return nil
		}
		// The server that flushed may have begun after the one that had r in its cache had died.
	}
}

// pieces carries out r by requests of at most most bytes.
func (d *Disk) pieces(ctx context.Context, r mapper.Request, q request, most uint64) error {
	q.off = uint64(r.Start.Bytes())
	for left := uint64(r.Count.Bytes()); left > 0; {
		n := min(left, most)
		q.n = uint32(n)
		if r.Data != nil {
			done := uint64(r.Count.Bytes()) - left
			q.data = r.Data[done : done+n]
		}
		if _, _, err := d.do(ctx, q); err != nil {
			return d.wrap(r.Op, err)
		}
		q.off, left = q.off+n, left-n
	}
	return nil
}

// flush makes durable what was written before. See the package comment for what it remembers.
func (d *Disk) flush(ctx context.Context, shared bool) error {
	if !d.limits.VolatileCache || d.limits.ReadOnly {
		return nil
	}
	if err := d.forgotten(); err != nil && !shared {
		return err
	}
	if err := d.flushNow(ctx); err != nil {
		return err
	}
	if err := d.forgotten(); err != nil && !shared { // meanwhile
		return err
	}
	return nil
}

// flushNow has the server flush.
func (d *Disk) flushNow(ctx context.Context) error {
	if _, _, err := d.do(ctx, request{cmd: cmdFlush}); err != nil {
		return d.wrap(mapper.OpFlush, err)
	}
	return nil
}

// forgotten says that writes may be lost.
func (d *Disk) forgotten() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.forgot
}

// wrap says which disk err is about, and makes it one of the block layer's.
func (d *Disk) wrap(op mapper.Op, err error) error {
	var refused *replyError
	kind := mapper.ErrIO
	switch {
	case errors.Is(err, errLost):
	case errors.As(err, &refused):
		switch unix.Errno(refused.number) {
		case unix.ENOSPC:
			kind = mapper.ErrNoSpace
		case unix.EPERM:
			kind = mapper.ErrReadOnly
		case unix.ENOTSUP:
			kind = mapper.ErrNotSupported
		}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, mapper.ErrInterrupted):
		return err
	}
	return fmt.Errorf("%s %s: %v: %w", op, d.uri, err, kind)
}

// Extent implements mapper.Extenter by the holes that the server tells. What it cannot tell at once counts as data.
func (d *Disk) Extent(ctx context.Context, s, most mapper.Sector) (run mapper.Sector, data bool, err error) {
	d.mu.Lock()
	c := d.conn
	d.mu.Unlock()
	if c == nil || !c.export.tellsHoles || s >= d.sectors {
		return most, true, nil
	}
	q := request{cmd: cmdBlockStatus, flags: cmdFlagReqOne, off: uint64(s.Bytes())}
	q.n = uint32(min(most, d.sectors-s, maxAtOnce).Bytes())
	n, flags, err := c.do(ctx, q)
	if ctx.Err() != nil {
		return 0, false, context.Cause(ctx)
	}
	if err != nil {
		return most, true, nil
	}
	if flags&stateZero != 0 {
		// A hole may end amid a sector, which then is data.
		if run = mapper.SectorsOf(int64(n)); run > 0 {
			return min(run, most), false, nil
		}
	}
	return min(mapper.SectorsOf(int64(n)+mapper.SectorSize-1), most), true, nil
}

// Allocated implements mapper.Measurer: looking for the holes would ask the server for each, so all counts as data.
func (d *Disk) Allocated(_, n mapper.Sector) (mapper.Sector, bool) { return n, true }
