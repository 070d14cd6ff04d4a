package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A replyError is the server's refusal of a request.
type replyError struct {
	number uint32
	text   string
}

func (e *replyError) Error() string {
	what := fmt.Sprintf("the server reports %v", unix.Errno(e.number))
	if e.text != "" {
		what += fmt.Sprintf(" (%q)", e.text)
	}
	return what
}

// receive takes replies until the connection ends, and returns why it did.
func (c *conn) receive() error {
	for {
		if err := c.readFull(c.in[:4]); err != nil {
			return err
		}
		var err error
		switch magic := binary.BigEndian.Uint32(c.in[:]); {
		case magic == magicSimple:
			err = c.simple()
		case magic == magicStructured && c.export.structured:
			err = c.chunk()
		default:
			err = broken("a reply begins with %#x", magic)
		}
		if err != nil {
			return err
		}
	}
}

// readFull fills p, which is ours.
func (c *conn) readFull(p []byte) error {
	for got := 0; got < len(p); {
		n, err := c.r.Read(p[got:])
		got += n
		if err = c.patient(err); err != nil {
			if err == io.EOF && got > 0 {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// patient returns err unless it is that a caller who wants to go has interrupted.
func (c *conn) patient(err error) error {
	if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return c.nc.SetReadDeadline(time.Time{})
}

// discard passes over n bytes.
func (c *conn) discard(n int) error {
	for n > 0 {
		k, err := c.r.Discard(n)
		n -= k
		if err = c.patient(err); err != nil {
			return err
		}
	}
	return nil
}

// find returns the call that a reply is for.
func (c *conn) find(cookie uint64) (*call, error) {
	slot := cookie & 0xffff
	if slot >= maxInFlight {
		return nil, broken("a reply to request %#x, which was never sent", cookie)
	}
	k := &c.calls[slot]
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.state != sent && k.state != sending || k.early || k.cookie() != cookie {
		return nil, broken("a reply to request %#x, which is not under way", cookie)
	}
	return k, nil
}

// simple takes a reply that is one error number, and for a read data.
func (c *conn) simple() error {
	if err := c.readFull(c.in[4:16]); err != nil {
		return err
	}
	number, cookie := binary.BigEndian.Uint32(c.in[4:]), binary.BigEndian.Uint64(c.in[8:])
	k, err := c.find(cookie)
	switch {
	case err != nil:
		return err
	case number != 0:
		k.err = &replyError{number, ""}
	case k.cmd == cmdBlockStatus:
		return broken("a simple reply to a block status")
	case k.cmd == cmdRead && c.export.structured:
		return broken("a simple reply to a read, where structured ones were agreed on")
	case k.cmd == cmdRead:
		if err := c.fill(k, 0, int(k.n)); err != nil {
			return err
		}
	}
	c.finish(k)
	return nil
}

// finish ends k, whose last byte has come. What it says of the server's cache is noted before anybody can know, so that the loss
// of the connection, which comes after it, finds it.
func (c *conn) finish(k *call) {
	if k.err == nil && k.cmd == cmdFlush && c.flushed.Load() < k.covers {
		c.flushed.Store(k.covers) // nobody else stores
	}
	if k.err == nil && k.flags&cmdFlagFUA == 0 && (k.cmd == cmdWrite || k.cmd == cmdWriteZeroes) {
		c.acked.Add(1)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer(k)
}

// fill reads n bytes into the data of k from byte at on, or nowhere if its caller has gone.
func (c *conn) fill(k *call, at, n int) error {
	c.mu.Lock()
	if k.abandoned {
		c.mu.Unlock()
		return c.discard(n)
	}
	p := k.data[at : at+n]
	k.state = receiving
	c.mu.Unlock()
	for len(p) > 0 {
		got, err := c.r.Read(p)
		p = p[got:]
		if err == nil {
			continue
		}
		if err = c.patient(err); err != nil {
			return err
		}
		if c.handsOff(k, false) {
			return c.discard(len(p))
		}
	}
	c.handsOff(k, true)
	return nil
}

// handsOff stops using the data of k if its caller wants to go, or if we are through. It reports whether the caller goes.
func (c *conn) handsOff(k *call, through bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.abandoned || through {
		k.state = sent
	}
	if k.abandoned {
		k.data = nil
		k.freed <- struct{}{}
	}
	return k.abandoned
}

// A span is a range of bytes of a request, [start, end).
type span struct{ start, end uint32 }

// maxSpans bounds in how many separate pieces a read may be at a time.
const maxSpans = 256

// cover notes that a range has come. It reports false if some of it had come before, or if the pieces are too many.
func (k *call) cover(s span) bool {
	i, _ := slices.BinarySearchFunc(k.got, s, func(have, s span) int {
		if have.start < s.start {
			return -1
		}
		return 1
	})
	if i > 0 && k.got[i-1].end > s.start || i < len(k.got) && k.got[i].start < s.end {
		return false
	}
	if i > 0 && k.got[i-1].end == s.start {
		k.got[i-1].end = s.end
		if i < len(k.got) && k.got[i].start == s.end {
			k.got[i-1].end = k.got[i].end
			k.got = slices.Delete(k.got, i, i+1)
		}
		return true
	}
	if i < len(k.got) && k.got[i].start == s.end {
		k.got[i].start = s.start
		return true
	}
	if len(k.got) >= maxSpans {
		return false
	}
	k.got = slices.Insert(k.got, i, s)
	return true
}

// complete reports whether all of a read has come.
func (k *call) complete() bool { return len(k.got) == 1 && k.got[0] == span{0, k.n} }

// chunk takes one chunk of a structured reply.
func (c *conn) chunk() error {
	if err := c.readFull(c.in[4:20]); err != nil {
		return err
	}
	flags, kind := binary.BigEndian.Uint16(c.in[4:]), binary.BigEndian.Uint16(c.in[6:])
	cookie, size := binary.BigEndian.Uint64(c.in[8:]), binary.BigEndian.Uint32(c.in[16:])
	k, err := c.find(cookie)
	if err != nil {
		return err
	}
	switch {
	case kind&chunkErrorBit != 0:
		err = c.errorChunk(k, kind, size)
	case kind == chunkNone:
		if size != 0 || flags&chunkDone == 0 {
			err = broken("an empty chunk of %d bytes, flags %#x", size, flags)
		}
	case kind == chunkData && k.cmd == cmdRead:
		err = c.dataChunk(k, size)
	case kind == chunkHole && k.cmd == cmdRead:
		err = c.holeChunk(k, size)
	case kind == chunkBlockStatus && k.cmd == cmdBlockStatus:
		err = c.statusChunk(k, size)
	default:
		err = broken("a chunk of type %d in a reply to command %d", kind, k.cmd)
	}
	if err != nil || flags&chunkDone == 0 {
		return err
	}
	switch {
	case k.err != nil:
	case k.cmd == cmdRead && !k.complete():
		return broken("it ends the reply to a read of %d bytes with some missing", k.n)
	case k.cmd == cmdBlockStatus && k.extent == 0:
		return broken("it ends a block status without one")
	}
	c.finish(k)
	return nil
}

// dataChunk reads an offset and data.
func (c *conn) dataChunk(k *call, size uint32) error {
	if size <= 8 || size-8 > k.n {
		return broken("a chunk of %d bytes for a read of %d", size, k.n)
	}
	if err := c.readFull(c.in[20:28]); err != nil {
		return err
	}
	at, err := k.place(binary.BigEndian.Uint64(c.in[20:]), size-8)
	if err != nil {
		return err
	}
	return c.fill(k, at, int(size-8))
}

// place notes that n <= k.n bytes from byte off of the export on have come, and returns where in the request they are.
func (k *call) place(off uint64, n uint32) (int, error) {
	if off < k.off || off-k.off > uint64(k.n-n) {
		return 0, broken("%d bytes at %d for a read of %d at %d", n, off, k.n, k.off)
	}
	at := uint32(off - k.off)
	if !k.cover(span{at, at + n}) {
		return 0, broken("the bytes from %d on come twice, or in more than %d pieces", off, maxSpans)
	}
	return int(at), nil
}

// holeChunk reads an offset and a length of zeroes.
func (c *conn) holeChunk(k *call, size uint32) error {
	if size != 12 {
		return broken("a hole in %d bytes", size)
	}
	if err := c.readFull(c.in[20:32]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(c.in[28:])
	if n == 0 || n > k.n {
		return broken("a hole of %d bytes in a read of %d", n, k.n)
	}
	at, err := k.place(binary.BigEndian.Uint64(c.in[20:]), n)
	if err != nil {
		return err
	}
	c.mu.Lock()
	if k.abandoned {
		c.mu.Unlock()
		return nil
	}
	p := k.data[at:][:n]
	k.state = receiving
	c.mu.Unlock()
	clear(p)
	c.handsOff(k, true)
	return nil
}

// statusChunk reads the state of the first extent.
func (c *conn) statusChunk(k *call, size uint32) error {
	if size < 12 || size > maxStatusChunk || (size-4)%8 != 0 {
		return broken("a block status of %d bytes", size)
	}
	if err := c.readFull(c.in[:12]); err != nil {
		return err
	}
	if id := binary.BigEndian.Uint32(c.in[:]); id != c.export.allocation {
		return broken("a block status in context %d", id)
	}
	if k.extent, k.extentFor = binary.BigEndian.Uint32(c.in[4:]), binary.BigEndian.Uint32(c.in[8:]); k.extent == 0 {
		return broken("a block status of an extent of 0 bytes")
	}
	return c.discard(int(size - 12))
}

// errorChunk reads an error, of which the first counts. More chunks may follow.
func (c *conn) errorChunk(k *call, kind uint16, size uint32) error {
	if size < 6 || size > maxErrorChunk {
		return broken("an error of %d bytes", size)
	}
	text := make([]byte, size)
	if err := c.readFull(text); err != nil {
		return err
	}
	e := &replyError{number: binary.BigEndian.Uint32(text)}
	n := int(binary.BigEndian.Uint16(text[4:]))
	extra := 0
	if kind == chunkErrorOffset {
		extra = 8
	}
	if n+extra > len(text)-6 {
		return broken("an error text of %d bytes in %d", n, size)
	}
	if e.number == 0 {
		return broken("an error without a number")
	}
	e.text = string(text[6 : 6+n])
	if k.err == nil {
		k.err = e
	}
	return nil
}
