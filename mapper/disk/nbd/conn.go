package nbd

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"dmfs/mapper"
)

// maxInFlight bounds the requests of a connection; others wait for one of them to end.
const maxInFlight = 64

// errLost is what requests get whose connection has ended before their reply.
var errLost = errors.New("the connection is lost")

// A conn is a connection in the transmission phase. One goroutine sends what the callers put into the queue, one receives. A
// caller whose context ends goes away at once and takes its buffer along: whoever is about to use the buffer is
// interrupted, by a deadline that has passed, and goes on with a copy, or without.
type conn struct {
	nc     net.Conn
	r      *bufio.Reader
	export export

	acked   *atomic.Uint64 // counts writes that the server has acknowledged and may hold in its cache
	flushed *atomic.Uint64 // how many of them are known to be durable

	calls [maxInFlight]call
	free  chan *call
	queue chan *call // never full
	stop  chan struct{}

	mu    sync.Mutex // guards what follows and the fields of calls that say so; held briefly
	ended bool       // every call has got its answer, and none gets in any more
	cause error      // why the connection ended

	// The sender's.
	head   []byte
	vector [2][]byte
	unsent net.Buffers

	in [32]byte // the receiver's
}

// states of a call
type state uint8

const (
	idle      state = iota
	queued          // the sender will find it in the queue
	sending         // the sender uses data
	sent            // nobody uses data; the reply is awaited
	receiving       // the receiver uses data
	answered
)

// A call is a request and its reply.
type call struct {
	slot   uint64
	serial uint64 // of the request in this slot, so that a late reply is noticed

	cmd, flags uint16
	off        uint64
	n          uint32
	data       []byte // the caller's, to be sent or filled; guarded by mu

	covers uint64 // of a flush: acked when it was queued

	state     state // guarded by mu
	abandoned bool  // the caller has gone, or goes as soon as hands are off its data; guarded by mu
	early     bool  // the reply came before the sender was through; guarded by mu
	done      chan struct{}
	freed     chan struct{} // hands are off the data

	// The receiver's, until the call is answered.
	err       error
	got       []span // of a structured reply to a read: what has come
	extent    uint32 // of a block status: its first extent, in bytes
	extentFor uint32 // its state
}

// newConn takes over a connection after its handshake.
func newConn(nc net.Conn, r *bufio.Reader, e export, acked, flushed *atomic.Uint64) *conn {
	c := &conn{
		nc: nc, r: r, export: e, acked: acked, flushed: flushed,
		free: make(chan *call, maxInFlight), queue: make(chan *call, maxInFlight+1), stop: make(chan struct{}),
		head: make([]byte, 0, maxInFlight*requestHeadSize),
	}
	for i := range c.calls {
		k := &c.calls[i]
		k.slot, k.done, k.freed = uint64(i), make(chan struct{}, 1), make(chan struct{}, 1)
		c.free <- k
	}
	return c
}

// serve runs the connection until it ends. Before the calls that are under way get errLost, it calls lost.
func (c *conn) serve(lost func(cause error)) {
	var wg sync.WaitGroup
	wg.Go(c.send)
	c.shut(c.receive())
	wg.Wait()
	c.mu.Lock()
	cause := c.cause
	c.mu.Unlock()
	lost(cause)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for i := range c.calls {
		k := &c.calls[i]
		switch {
		case k.state == idle || k.state == answered:
		case k.abandoned && (k.state == sending || k.state == receiving):
			select {
			case k.freed <- struct{}{}:
			default: // the sender has done so before it failed
			}
		case k.abandoned:
		default:
			k.err = errLost
			k.state = answered
			k.done <- struct{}{}
		}
	}
}

// shut ends the connection. The first cause counts.
func (c *conn) shut(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		c.cause = cause
		close(c.stop)
		c.nc.Close() //nolint:errcheck // the cause is known
	}
}

// do sends a request and waits for its reply, or for ctx. The error is errLost, a *replyError, or ctx's.
func (c *conn) do(ctx context.Context, q request) (extent, flags uint32, err error) {
	var k *call
	select {
	case k = <-c.free:
	case <-c.stop:
		return 0, 0, errLost
	case <-ctx.Done():
		return 0, 0, context.Cause(ctx)
	}
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return 0, 0, errLost
	}
	k.serial++
	k.cmd, k.flags, k.off, k.n, k.data = q.cmd, q.flags, q.off, q.n, q.data
	k.covers = c.acked.Load()
	k.state, k.abandoned, k.early, k.err, k.got, k.extent = queued, false, false, nil, k.got[:0], 0
	c.mu.Unlock()
	c.queue <- k
	select {
	case <-k.done:
	case <-ctx.Done():
		if c.abandon(k) {
			return 0, 0, context.Cause(ctx)
		}
		<-k.done
	}
	extent, flags, err = k.extent, k.extentFor, k.err
	c.mu.Lock()
	defer c.mu.Unlock()
	c.release(k)
	return extent, flags, err
}

// A request is what do sends.
type request struct {
	cmd, flags uint16
	off        uint64
	n          uint32
	data       []byte
}

// release makes k free for the next request. It is called with mu held.
func (c *conn) release(k *call) {
	k.state, k.data = idle, nil
	c.free <- k
}

// abandon makes the caller free to go, with its data. It reports false if the reply has come.
func (c *conn) abandon(k *call) bool {
	c.mu.Lock()
	was := k.state
	if was == answered {
		c.mu.Unlock()
		return false
	}
	k.abandoned = true
	if was == queued || was == sent {
		k.data = nil
	}
	c.mu.Unlock()
	switch was {
	case sending:
		c.nc.SetWriteDeadline(aLongTimeAgo) //nolint:errcheck // fails if the connection has ended, which interrupts as well
		<-k.freed
	case receiving:
		c.nc.SetReadDeadline(aLongTimeAgo) //nolint:errcheck // likewise
		<-k.freed
	}
	return true
}

var aLongTimeAgo = time.Unix(1, 0)

// answer gives k its reply. It is called with mu held.
func (c *conn) answer(k *call) {
	switch {
	case k.state == sending:
		k.early = true // the sender is still at it
	case k.abandoned:
		c.release(k)
	default:
		k.state = answered
		k.done <- struct{}{}
	}
}

// send sends what is in the queue until the connection ends.
func (c *conn) send() {
	for {
		select {
		case k := <-c.queue:
			if err := c.sendFrom(k); err != nil {
				c.shut(err)
				return
			}
		case <-c.stop:
			return
		}
	}
}

// sendFrom sends k, and what follows it in the queue up to the first request that has data.
func (c *conn) sendFrom(k *call) error {
	c.head = c.head[:0]
	for {
		if data := c.prepare(k); data != nil {
			return c.write(k, data)
		}
		if len(c.head)+requestHeadSize > cap(c.head) {
			return c.write(nil, nil)
		}
		select {
		case k = <-c.queue:
		default:
			return c.write(nil, nil)
		}
	}
}

// prepare appends the header of k to what is to be sent, and returns the data that follows it.
func (c *conn) prepare(k *call) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.abandoned {
		c.release(k)
		return nil
	}
	c.head = binary.BigEndian.AppendUint32(c.head, magicRequest)
	c.head = binary.BigEndian.AppendUint16(c.head, k.flags)
	c.head = binary.BigEndian.AppendUint16(c.head, k.cmd)
	c.head = binary.BigEndian.AppendUint64(c.head, k.cookie())
	c.head = binary.BigEndian.AppendUint64(c.head, k.off)
	c.head = binary.BigEndian.AppendUint32(c.head, k.n)
	if k.cmd == cmdWrite {
		k.state = sending
		return k.data
	}
	k.state = sent
	return nil
}

// cookie is how the reply names k.
func (k *call) cookie() uint64 { return k.serial<<16 | k.slot }

// write sends the headers and the data of k, if there is any.
func (c *conn) write(k *call, data []byte) error {
	c.vector = [2][]byte{c.head, data}
	if c.unsent = c.vector[:]; data == nil {
		c.unsent = c.vector[:1]
	}
	var spare *mapper.Buffer
	for len(c.head) > 0 {
		_, err := c.unsent.WriteTo(c.nc)
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		c.nc.SetWriteDeadline(time.Time{}) //nolint:errcheck // the next write tells
		if k != nil && spare == nil {
			spare = c.letGo(k)
		}
	}
	c.vector = [2][]byte{}
	if spare != nil {
		spare.Free()
	}
	if k == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.abandoned && spare == nil {
		k.freed <- struct{}{}
	}
	k.data, k.state = nil, sent
	if k.early {
		c.answer(k)
	}
	return nil
}

// letGo copies what is left of the data of k if its caller wants to go, and lets it.
func (c *conn) letGo(k *call) *mapper.Buffer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !k.abandoned {
		return nil
	}
	buf := mapper.GetBuffer(max(1, len(k.data)))
	if n := len(c.unsent); n > 0 {
		left := c.unsent[n-1]
		buf.Data = buf.Data[:copy(buf.Data, left)]
		c.unsent[n-1] = buf.Data
	}
	k.data = nil
	k.freed <- struct{}{}
	return buf
}
