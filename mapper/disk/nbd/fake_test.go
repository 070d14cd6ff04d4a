package nbd

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"dmfs/mapper"
)

// A fake is a server that a test scripts.
type fake struct {
	t    testing.TB
	l    net.Listener
	path string

	size  uint64
	flags uint16
	plain bool     // simple replies, and no options but the name of the export
	block []uint32 // minimum, preferred, maximum; nil if not told
	holes bool

	// serve is called for each connection, in the transmission phase.
	serve func(c *peer)

	wg sync.WaitGroup
}

// A peer is the server's side of a connection.
type peer struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

const allFlags = hasFlags | canFlush | canFUA | canTrim | canWriteZeroes

// newFake listens and serves until the test ends.
func newFake(t testing.TB, f *fake) *fake {
	t.Helper()
	f.t, f.path = t, filepath.Join(t.TempDir(), "s")
	if f.size == 0 {
		f.size = 1 << 20
	}
	if f.flags == 0 {
		f.flags = allFlags
	}
	f.listen()
	t.Cleanup(func() {
		f.l.Close()
		f.wg.Wait()
	})
	return f
}

func (f *fake) listen() {
	l, err := net.Listen("unix", f.path)
	if err != nil {
		f.t.Fatal(err)
	}
	f.l = l
	f.wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			f.wg.Go(func() {
				defer nc.Close()
				c := &peer{f.t, nc, bufio.NewReader(nc)}
				if f.greet(c) && f.serve != nil {
					f.serve(c)
				}
			})
		}
	})
}

func (f *fake) uri(query string) string { return "nbd+unix:///x?socket=" + f.path + query }

func (f *fake) open(query string) *Disk {
	f.t.Helper()
	d, err := Open(f.t.Context(), mapper.DiskConfig{Path: f.uri(query)})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { d.Close() })
	return d
}

func be(parts ...any) []byte {
	var b bytes.Buffer
	for _, p := range parts {
		if s, ok := p.(string); ok {
			b.WriteString(s)
		} else if err := binary.Write(&b, binary.BigEndian, p); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

// greet does the handshake, and reports whether the client goes on.
func (f *fake) greet(c *peer) bool {
	fixed := uint16(flagFixed | flagNoZeroes)
	if f.plain {
		fixed = 0
	}
	c.Write(be(uint64(magicServer), uint64(magicOption), fixed))
	c.read(4)
	for {
		head := c.read(16)
		if head == nil {
			return false
		}
		code, data := binary.BigEndian.Uint32(head[8:]), c.read(int(binary.BigEndian.Uint32(head[12:])))
		reply := func(kind uint32, data []byte) {
			c.Write(be(uint64(magicReply), code, kind, uint32(len(data)), data))
		}
		switch {
		case code == optExportName:
			c.Write(be(f.size, f.flags))
			if f.plain {
				c.Write(make([]byte, 124))
			}
			return true
		case code == optStructured:
			reply(repAck, nil)
		case code == optSetMeta && f.holes:
			reply(repMeta, be(uint32(7), metaAllocation))
			reply(repAck, nil)
		case code == optGo:
			_ = data
			reply(repInfo, be(uint16(infoExport), f.size, f.flags))
			if f.block != nil {
				reply(repInfo, be(uint16(infoBlock), f.block))
			}
			reply(repAck, nil)
			return true
		default:
			reply(repErrUnsup, []byte("no"))
		}
	}
}

// read returns n bytes, nil at the end.
func (c *peer) read(n int) []byte {
	p := make([]byte, n)
	if _, err := io.ReadFull(c.r, p); err != nil {
		return nil
	}
	return p
}

// A received is a request as the server sees it.
type received struct {
	flags, cmd  uint16
	cookie, off uint64
	n           uint32
	data        []byte
}

// next returns the next request; ok is false at the end, and when the client takes its leave.
func (c *peer) next() (q received, ok bool) {
	head := c.read(requestHeadSize)
	if head == nil {
		return q, false
	}
	if m := binary.BigEndian.Uint32(head); m != magicRequest {
		c.t.Errorf("a request begins with %#x", m)
		return q, false
	}
	q = received{
		flags: binary.BigEndian.Uint16(head[4:]), cmd: binary.BigEndian.Uint16(head[6:]), cookie: binary.BigEndian.Uint64(head[8:]),
		off: binary.BigEndian.Uint64(head[16:]), n: binary.BigEndian.Uint32(head[24:]),
	}
	if q.cmd == cmdDisconnect {
		return q, false
	}
	if q.cmd == cmdWrite {
		if q.data = c.read(int(q.n)); q.data == nil {
			return q, false
		}
	}
	return q, true
}

// simple sends a simple reply.
func (c *peer) simple(q received, number uint32, data ...byte) {
	c.Write(be(uint32(magicSimple), number, q.cookie, data))
}

// chunk sends a chunk of a structured reply.
func (c *peer) chunk(q received, flags, kind uint16, parts ...any) {
	data := be(parts...)
	c.Write(be(uint32(magicStructured), flags, kind, q.cookie, uint32(len(data)), data))
}

// ok answers q as a disk of zeroes does.
func (c *peer) ok(q received) {
	if q.cmd == cmdRead {
		c.chunk(q, chunkDone, chunkData, q.off, make([]byte, q.n))
		return
	}
	c.simple(q, 0)
}

// each serves requests by f until the connection ends.
func each(f func(c *peer, q received)) func(*peer) {
	return func(c *peer) {
		for {
			q, ok := c.next()
			if !ok {
				return
			}
			f(c, q)
		}
	}
}
