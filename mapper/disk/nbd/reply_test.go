package nbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dmfs/mapper"
)

func read(ctx context.Context, d *Disk, s, n mapper.Sector) ([]byte, error) {
	p := bytes.Repeat([]byte{0xaa}, int(n.Bytes()))
	err := d.Submit(ctx, mapper.Request{Op: mapper.OpRead, Start: s, Count: n, Data: p})
	return p, err
}

func write(d *Disk, s, n mapper.Sector, flags mapper.Flags) error {
	return d.Submit(context.Background(), mapper.Request{Op: mapper.OpWrite, Flags: flags, Start: s, Count: n, Data: make([]byte, n.Bytes())})
}

func flush(d *Disk, flags mapper.Flags) error {
	return d.Submit(context.Background(), mapper.Request{Op: mapper.OpFlush, Flags: flags})
}

// Chunks of a read may come in any order, between those of others, and as holes.
func TestChunks(t *testing.T) {
	f := newFake(t, &fake{serve: func(c *peer) {
		a, _ := c.next()
		b, _ := c.next()
		if a.off > b.off {
			a, b = b, a
		}
		c.chunk(b, 0, chunkData, b.off+512, bytes.Repeat([]byte{4}, 512))
		c.chunk(a, 0, chunkHole, a.off+100, uint32(412))
		c.chunk(b, 0, chunkNone+chunkHole, b.off, uint32(512))
		c.chunk(a, 0, chunkData, a.off+512, bytes.Repeat([]byte{2}, 512))
		c.chunk(b, chunkDone, chunkNone)
		c.chunk(a, chunkDone, chunkData, a.off, bytes.Repeat([]byte{1}, 100))
		c.next()
	}})
	d := f.open("")
	type result struct {
		p   []byte
		err error
	}
	second := make(chan result, 1)
	go func() {
		p, err := read(t.Context(), d, 10, 2)
		second <- result{p, err}
	}()
	p, err := read(t.Context(), d, 0, 2)
	want := append(append(bytes.Repeat([]byte{1}, 100), make([]byte, 412)...), bytes.Repeat([]byte{2}, 512)...)
	if err != nil || !bytes.Equal(p, want) {
		t.Errorf("first: %v", err)
	}
	r := <-second
	if want := append(make([]byte, 512), bytes.Repeat([]byte{4}, 512)...); r.err != nil || !bytes.Equal(r.p, want) {
		t.Errorf("second: %v", r.err)
	}
}

// What a server must not send ends the connection with an error that says what it was.
func TestBrokenReplies(t *testing.T) {
	for name, tt := range map[string]struct {
		reply func(c *peer, q received)
		want  string
	}{
		"magic":       {func(c *peer, q received) { c.Write(make([]byte, 64)) }, "begins with 0x0"},
		"cookie":      {func(c *peer, q received) { q.cookie++; c.simple(q, 0) }, "which was never sent|not under way"},
		"slot":        {func(c *peer, q received) { q.cookie |= 0xffff; c.simple(q, 0) }, "never sent"},
		"simple read": {func(c *peer, q received) { c.simple(q, 0, make([]byte, 1024)...) }, "a simple reply to a read"},
		"too long":    {func(c *peer, q received) { c.chunk(q, chunkDone, chunkData, q.off, make([]byte, 1025)) }, "chunk of 1033 bytes for a read of 1024"},
		"huge": {func(c *peer, q received) {
			c.Write(be(uint32(magicStructured), uint16(1), uint16(1), q.cookie, ^uint32(0)))
		}, "chunk of 4294967295 bytes"},
		"no data": {func(c *peer, q received) { c.chunk(q, chunkDone, chunkData, q.off) }, "chunk of 8 bytes"},
		"before":  {func(c *peer, q received) { c.chunk(q, chunkDone, chunkData, q.off-1, make([]byte, 512)) }, "512 bytes at 511 for a read of 1024 at 512"},
		"behind":  {func(c *peer, q received) { c.chunk(q, chunkDone, chunkData, q.off+513, make([]byte, 512)) }, "512 bytes at 1025"},
		"far":     {func(c *peer, q received) { c.chunk(q, chunkDone, chunkHole, ^uint64(0), uint32(1)) }, "1 bytes at 18446744073709551615"},
		"missing": {func(c *peer, q received) { c.chunk(q, chunkDone, chunkData, q.off, make([]byte, 1023)) }, "some missing"},
		"nothing": {func(c *peer, q received) { c.chunk(q, chunkDone, chunkNone) }, "some missing"},
		"twice": {func(c *peer, q received) {
			c.chunk(q, 0, chunkHole, q.off, uint32(9))
			c.chunk(q, 0, chunkHole, q.off+8, uint32(9))
		}, "come twice"},
		"empty hole":    {func(c *peer, q received) { c.chunk(q, 0, chunkHole, q.off, uint32(0)) }, "hole of 0 bytes"},
		"wide hole":     {func(c *peer, q received) { c.chunk(q, 0, chunkHole, q.off, uint32(1025)) }, "hole of 1025 bytes"},
		"odd hole":      {func(c *peer, q received) { c.chunk(q, 0, chunkHole, q.off) }, "a hole in 8 bytes"},
		"endless none":  {func(c *peer, q received) { c.chunk(q, 0, chunkNone) }, "an empty chunk"},
		"full none":     {func(c *peer, q received) { c.chunk(q, chunkDone, chunkNone, uint8(1)) }, "an empty chunk of 1 bytes"},
		"type":          {func(c *peer, q received) { c.chunk(q, chunkDone, 9) }, "a chunk of type 9"},
		"status":        {func(c *peer, q received) { c.chunk(q, chunkDone, chunkBlockStatus, uint32(7), uint32(1), uint32(0)) }, "a chunk of type 5 in a reply to command 0"},
		"short error":   {func(c *peer, q received) { c.chunk(q, chunkDone, chunkErrorBit+1, uint32(5)) }, "an error of 4 bytes"},
		"long error":    {func(c *peer, q received) { c.chunk(q, chunkDone, chunkErrorBit+1, make([]byte, maxErrorChunk+1)) }, "an error of 8193 bytes"},
		"error text":    {func(c *peer, q received) { c.chunk(q, chunkDone, chunkErrorBit+1, uint32(5), uint16(2), "x") }, "an error text of 2 bytes in 7"},
		"no error":      {func(c *peer, q received) { c.chunk(q, chunkDone, chunkErrorBit+1, uint32(0), uint16(0)) }, "an error without a number"},
		"hangs up amid": {func(c *peer, q received) { c.Write(be(uint32(magicStructured), uint16(1))); c.Close() }, "unexpected EOF"},
		"hangs up":      {func(c *peer, q received) { c.Close() }, "the server hung up"},
		"pieces": {func(c *peer, q received) {
			for i := range uint64(300) {
				c.chunk(q, 0, chunkHole, q.off+2*i, uint32(1))
			}
		}, "more than 256 pieces"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, &fake{serve: func(c *peer) {
				if q, ok := c.next(); ok {
					tt.reply(c, q)
					c.next()
				}
			}})
			_, err := read(t.Context(), f.open(""), 1, 2)
			said := false
			for _, w := range strings.Split(tt.want, "|") {
				said = said || err != nil && strings.Contains(err.Error(), w)
			}
			if !said || !errors.Is(err, mapper.ErrIO) {
				t.Errorf("got %v, want an I/O error with %q", err, tt.want)
			}
		})
	}
}

// Refusals of a request leave the connection alone and become the errors of the block layer.
func TestRefusedRequests(t *testing.T) {
	for number, want := range map[uint32]error{
		5: mapper.ErrIO, 28: mapper.ErrNoSpace, 1: mapper.ErrReadOnly, 95: mapper.ErrNotSupported, 22: mapper.ErrIO, 12: mapper.ErrIO,
		75: mapper.ErrIO, 108: mapper.ErrIO, 4294967295: mapper.ErrIO,
	} {
		f := newFake(t, &fake{serve: each(func(c *peer, q received) {
			switch {
			case q.off == 1024:
				c.ok(q)
			case q.cmd == cmdRead:
				c.chunk(q, 0, chunkData, q.off, make([]byte, 512))
				c.chunk(q, 0, chunkErrorBit+2, number, uint16(4), "why?", q.off+512)
				c.chunk(q, chunkDone, chunkNone)
			default:
				c.simple(q, number)
			}
		})})
		d := f.open("")
		if _, err := read(t.Context(), d, 0, 2); !errors.Is(err, want) || !strings.Contains(err.Error(), "why?") {
			t.Errorf("read: error %d became %v, want %v", number, err, want)
		}
		if err := write(d, 0, 2, 0); !errors.Is(err, want) {
			t.Errorf("write: error %d became %v, want %v", number, err, want)
		}
		if _, err := read(t.Context(), d, 2, 2); err != nil {
			t.Errorf("after error %d: %v", number, err)
		}
	}
}

// Requests become commands as the export allows.
func TestCommands(t *testing.T) {
	type cmd struct {
		cmd, flags uint16
		off        uint64
		n          uint32
	}
	w := mapper.Request{Op: mapper.OpWrite, Start: 8, Count: 8, Data: make([]byte, 4096)}
	fua, zero, trim := w, w, w
	fua.Flags = mapper.FlagFUA
	zero.Op, zero.Data = mapper.OpWriteZeroes, nil
	keep := zero
	keep.Flags = mapper.FlagNoUnmap | mapper.FlagFUA
	trim.Op, trim.Data = mapper.OpDiscard, nil
	for _, tt := range []struct {
		flags uint16
		block []uint32
		r     mapper.Request
		want  []cmd
		err   error
	}{
		{allFlags, nil, w, []cmd{{cmdWrite, 0, 4096, 4096}}, nil},
		{allFlags, nil, fua, []cmd{{cmdWrite, cmdFlagFUA, 4096, 4096}}, nil},
		{hasFlags | canFlush, nil, fua, []cmd{{cmdWrite, 0, 4096, 4096}, {cmdFlush, 0, 0, 0}}, nil},
		{hasFlags, nil, fua, []cmd{{cmdWrite, 0, 4096, 4096}}, nil},
		{0xfffe, nil, fua, []cmd{{cmdWrite, 0, 4096, 4096}}, nil}, // flags that do not count
		{allFlags, []uint32{512, 4096, 1536}, w, []cmd{{cmdWrite, 0, 4096, 1536}, {cmdWrite, 0, 5632, 1536}, {cmdWrite, 0, 7168, 1024}}, nil},
		{allFlags, nil, zero, []cmd{{cmdWriteZeroes, 0, 4096, 4096}}, nil},
		{allFlags, nil, keep, []cmd{{cmdWriteZeroes, cmdFlagNoHole | cmdFlagFUA, 4096, 4096}}, nil},
		{hasFlags, nil, zero, nil, mapper.ErrNotSupported},
		{allFlags, nil, trim, []cmd{{cmdTrim, 0, 4096, 4096}}, nil},
		{hasFlags, nil, trim, nil, mapper.ErrNotSupported},
		{allFlags, nil, mapper.Request{Op: mapper.OpFlush}, []cmd{{cmdFlush, 0, 0, 0}}, nil},
		{hasFlags, nil, mapper.Request{Op: mapper.OpFlush}, nil, nil},
		{allFlags, nil, mapper.Request{Op: mapper.OpRead, Start: 2048, Count: 1, Data: make([]byte, 512)}, nil, mapper.ErrIO},
		{allFlags, nil, mapper.Request{Op: 99, Count: 1}, nil, mapper.ErrNotSupported},
	} {
		seen := make(chan cmd, 8)
		f := newFake(t, &fake{flags: tt.flags, block: tt.block, serve: each(func(c *peer, q received) {
			seen <- cmd{q.cmd, q.flags, q.off, q.n}
			c.ok(q)
		})})
		d := f.open("")
		if err := d.Submit(t.Context(), tt.r); !errors.Is(err, tt.err) || err != nil && tt.err == nil {
			t.Errorf("%+v with flags %#x: %v, want %v", tt.r.Op, tt.flags, err, tt.err)
		}
		close(seen)
		var got []cmd
		for c := range seen {
			got = append(got, c)
		}
		if fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%v %v with flags %#x, blocks %v: sent %v, want %v", tt.r.Op, tt.r.Flags, tt.flags, tt.block, got, tt.want)
		}
	}
}

// A server without options and structured replies is served, too.
func TestPlainServer(t *testing.T) {
	f := newFake(t, &fake{plain: true, serve: each(func(c *peer, q received) {
		if q.cmd == cmdRead {
			c.simple(q, 0, bytes.Repeat([]byte{7}, int(q.n))...)
			return
		}
		c.simple(q, 0)
	})})
	d := f.open("")
	p, err := read(t.Context(), d, 3, 3)
	if err != nil || !bytes.Equal(p, bytes.Repeat([]byte{7}, 1536)) {
		t.Error(err)
	}
	if err := errors.Join(write(d, 0, 8, mapper.FlagFUA), flush(d, 0)); err != nil {
		t.Error(err)
	}
}

func TestLimits(t *testing.T) {
	f := newFake(t, &fake{size: 10*4096 + 700, block: []uint32{4096, 8192, 1 << 20}})
	d := f.open("")
	if l := d.Limits(); d.Sectors() != 80 || l.LogicalBlock != 4096 || l.MinIO != 8192 || !l.VolatileCache || l.MaxWriteZeroes != 2048 || l.MaxDiscard == 0 {
		t.Errorf("%d sectors, %+v", d.Sectors(), l)
	}
	g := newFake(t, &fake{flags: hasFlags | isReadOnly})
	if _, err := Open(t.Context(), mapper.DiskConfig{Path: g.uri("")}); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("a read-only export: %v", err)
	}
	ro, err := Open(t.Context(), mapper.DiskConfig{Path: g.uri(""), ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	if err := write(ro, 0, 1, 0); !errors.Is(err, mapper.ErrReadOnly) {
		t.Errorf("write to a read-only disk: %v", err)
	}
	if _, err := Open(t.Context(), mapper.DiskConfig{Path: f.uri(""), Direct: true}); err == nil {
		t.Error("direct is taken")
	}
}

// Holes are told with their length, rounded so that no data is called a hole.
func TestExtent(t *testing.T) {
	var n, state atomic.Uint32
	f := newFake(t, &fake{holes: true, serve: each(func(c *peer, q received) {
		if q.cmd != cmdBlockStatus || q.flags != cmdFlagReqOne {
			t.Errorf("got %+v", q)
		}
		c.chunk(q, chunkDone, chunkBlockStatus, uint32(7), n.Load(), state.Load(), uint32(99), uint32(0))
	})})
	d := f.open("")
	for _, tt := range []struct {
		n, state uint32
		run      mapper.Sector
		data     bool
	}{
		{1024, 0, 2, true}, {1025, 0, 3, true}, {1024, 1, 2, true}, {1024, 3, 2, false}, {1535, 2, 2, false}, {511, 3, 1, true}, {1 << 31, 3, 50, false}, {1 << 31, 0, 50, true},
	} {
		n.Store(tt.n)
		state.Store(tt.state)
		if run, data, err := d.Extent(t.Context(), 4, 50); run != tt.run || data != tt.data || err != nil {
			t.Errorf("%d bytes of state %d: %d %v %v", tt.n, tt.state, run, data, err)
		}
	}
	n.Store(0)
	if run, data, err := d.Extent(t.Context(), 4, 50); run != 50 || !data || err != nil {
		t.Errorf("from a broken reply: %d %v %v", run, data, err)
	}
}

// A request whose context has ended returns at once, wherever it is: before it is sent, amid its data, before the reply, amid its data. Its buffer is not
// touched afterwards, and the connection goes on.
func TestCancel(t *testing.T) {
	const big = 8 << 20 // more than a socket holds
	for _, where := range []string{"sending", "sent", "receiving"} {
		t.Run(where, func(t *testing.T) {
			reached, goOn := make(chan struct{}, 1), make(chan struct{})
			var connections atomic.Int32
			f := newFake(t, &fake{size: 64 << 20, serve: func(c *peer) {
				if connections.Add(1) > 1 {
					t.Error("the connection was given up")
				}
				if where == "sending" {
					c.r.Peek(1)
					reached <- struct{}{}
					<-goOn
				}
				q, _ := c.next()
				if where == "receiving" {
					c.Write(be(uint32(magicStructured), uint16(chunkDone), uint16(chunkData), q.cookie, uint32(8+q.n), q.off))
					c.Write(bytes.Repeat([]byte{1}, big/2))
				}
				if where != "sending" {
					reached <- struct{}{}
					<-goOn
				}
				switch {
				case where == "receiving":
					c.Write(bytes.Repeat([]byte{2}, big/2))
				case q.cmd == cmdWrite:
					if !bytes.Equal(q.data, bytes.Repeat([]byte{9}, big)) {
						t.Error("the server got data that was changed after the caller had gone")
					}
					c.simple(q, 0)
				default:
					c.ok(q)
				}
				each((*peer).ok)(c)
			}})
			d := f.open("")
			ctx, cancel := context.WithCancel(t.Context())
			p := bytes.Repeat([]byte{9}, big)
			r := mapper.Request{Op: mapper.OpWrite, Count: mapper.SectorsOf(big), Data: p}
			if where == "receiving" {
				r.Op = mapper.OpRead
			}
			result := make(chan error, 1)
			go func() { result <- d.Submit(ctx, r) }()
			<-reached
			time.Sleep(5 * time.Millisecond) // to fill the socket, most likely
			cancel()
			select {
			case err := <-result:
				if !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
			case <-time.After(5 * time.Second):
				t.Fatal("still waiting")
			}
			for i := range p { // the buffer is the caller's again
				p[i] = 77
			}
			close(goOn)
			if _, err := read(t.Context(), d, 5, 5); err != nil {
				t.Errorf("the next request: %v", err)
			}
			if !bytes.Equal(p, bytes.Repeat([]byte{77}, big)) {
				t.Error("the buffer was written to after the return")
			}
		})
	}
}

// Requests beyond those that fit wait, and can be cancelled; a server that never answers holds up no Close for long.
func TestSilentServer(t *testing.T) {
	f := newFake(t, &fake{serve: func(c *peer) {
		for c.read(1) != nil {
		}
	}})
	d := f.open("")
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan error, 2*maxInFlight)
	for range cap(results) {
		go func() {
			_, err := read(ctx, d, 0, 1)
			results <- err
		}()
	}
	time.Sleep(5 * time.Millisecond)
	cancel()
	for range cap(results) {
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
}
