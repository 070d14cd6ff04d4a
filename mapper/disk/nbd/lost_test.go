package nbd

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dmfs/mapper"
)

// A mortal is a fake that hangs up when it is told to, and answers what it is asked on the next connection.
func mortal(t testing.TB, f *fake) (*fake, func()) {
	var last atomic.Pointer[peer]
	f.serve = func(c *peer) {
		last.Store(c)
		each((*peer).ok)(c)
	}
	return newFake(t, f), func() {
		last.Load().Close()
	}
}

// waitDown returns when d has noticed that its connection is lost, or has a new one since.
func waitDown(t testing.TB, d *Disk, was *conn) {
	t.Helper()
	for range 5000 {
		if current(d) != was {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("the loss was not noticed")
}

func current(d *Disk) *conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.conn
}

// After a loss with writes that no flush had covered every flush fails; after one without, none does. Flushes of shared storage
// are not concerned.
func TestForgottenWrites(t *testing.T) {
	for _, tt := range []struct {
		name   string
		flags  uint16
		before func(d *Disk) error
		fails  bool
	}{
		{"nothing", allFlags, func(d *Disk) error { return nil }, false},
		{"a write", allFlags, func(d *Disk) error { return write(d, 0, 1, 0) }, true},
		{"a write and a flush", allFlags, func(d *Disk) error { return errors.Join(write(d, 0, 1, 0), flush(d, 0)) }, false},
		{"a write and a shared flush", allFlags, func(d *Disk) error { return errors.Join(write(d, 0, 1, 0), flush(d, mapper.FlagShared)) }, false},
		{"a flush and a write", allFlags, func(d *Disk) error { return errors.Join(flush(d, 0), write(d, 0, 1, 0)) }, true},
		{"FUA", allFlags, func(d *Disk) error { return write(d, 0, 1, mapper.FlagFUA) }, false},
		{"FUA by flush", hasFlags | canFlush, func(d *Disk) error { return write(d, 0, 1, mapper.FlagFUA) }, false},
		{"zeroes", allFlags, func(d *Disk) error {
			return d.Submit(context.Background(), mapper.Request{Op: mapper.OpWriteZeroes, Count: 8})
		}, true},
		{"a discard", allFlags, func(d *Disk) error {
			return d.Submit(context.Background(), mapper.Request{Op: mapper.OpDiscard, Count: 8})
		}, false},
		{"a write through", hasFlags, func(d *Disk) error { return write(d, 0, 1, 0) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, hangUp := mortal(t, &fake{flags: tt.flags})
			d := f.open("")
			if err := tt.before(d); err != nil {
				t.Fatal(err)
			}
			was := current(d)
			hangUp()
			waitDown(t, d, was)
			for range 2 {
				err := flush(d, 0)
				if (err != nil) != tt.fails || err != nil && (!errors.Is(err, mapper.ErrIO) || !strings.Contains(err.Error(), "after 1 writes")) {
					t.Errorf("flush: %v", err)
				}
			}
			if err := flush(d, mapper.FlagShared); err != nil {
				t.Errorf("shared flush: %v", err)
			}
			if err := write(d, 0, 1, mapper.FlagFUA); err != nil {
				t.Errorf("FUA: %v", err)
			}
			if _, err := read(t.Context(), d, 0, 1); err != nil {
				t.Errorf("read: %v", err)
			}
		})
	}
}

// A flush that the server has answered covers what was written, also if the connection is lost right after.
func TestLossAfterFlush(t *testing.T) {
	f := newFake(t, &fake{flags: allFlags, serve: each(func(c *peer, q received) {
		c.ok(q)
		if q.cmd == cmdFlush {
			c.Close()
		}
	})})
	d := f.open("&reconnect-delay=20")
	for i := range 200 {
		if err := write(d, 0, 1, 0); err != nil {
			t.Fatal(err)
		}
		if err := flush(d, 0); err != nil {
			t.Fatalf("flush %d, which the server answered: %v", i, err)
		}
	}
}

// Where FUA is a write and a flush, and the connection is lost between them, the flush of the next connection says nothing about the
// write: both are done again.
func TestLossAmidFUA(t *testing.T) {
	var writes, flushes atomic.Int32
	f := newFake(t, &fake{flags: hasFlags | canFlush, serve: each(func(c *peer, q received) {
		switch {
		case q.cmd == cmdWrite:
			writes.Add(1)
		case q.cmd == cmdFlush && flushes.Add(1) == 1:
			c.Close()
			return
		}
		c.ok(q)
	})})
	d := f.open("&reconnect-delay=20")
	if err := write(d, 0, 1, mapper.FlagFUA); err != nil {
		t.Fatal(err)
	}
	if w, f := writes.Load(), flushes.Load(); w != 2 || f != 3 {
		t.Errorf("%d writes and %d flushes, want 2 and 3: the write again after the loss, and a flush after it", w, f)
	}
}

// Requests under way when the server goes fail at once; the next one finds the server that has come back.
func TestLossAndReturn(t *testing.T) {
	f := newFake(t, &fake{serve: func(c *peer) {
		c.next() // and hang up
	}})
	d := f.open("")
	began := time.Now()
	if _, err := read(t.Context(), d, 0, 1); !errors.Is(err, mapper.ErrIO) || !strings.Contains(err.Error(), "the server hung up") {
		t.Errorf("got %v", err)
	}
	if time.Since(began) > 5*time.Second {
		t.Errorf("after %v", time.Since(began))
	}
	f.l.Close()
	if _, err := read(t.Context(), d, 0, 1); !errors.Is(err, mapper.ErrIO) {
		t.Errorf("without a server: %v", err)
	}
	f.wg.Wait()
	f.serve = each((*peer).ok)
	f.listen()
	if _, err := read(t.Context(), d, 0, 1); err != nil {
		t.Errorf("the server is back: %v", err)
	}
}

// With reconnect-delay requests wait for the server and are sent again; a flush among them does not forget what may be lost.
func TestReconnectDelay(t *testing.T) {
	var connections atomic.Int32
	f := newFake(t, &fake{serve: func(c *peer) {
		if connections.Add(1) == 1 {
			for range 2 {
				q, _ := c.next()
				c.ok(q)
			}
			c.next()
			return
		}
		each((*peer).ok)(c)
	}})
	d := f.open("&reconnect-delay=60")
	if err := errors.Join(write(d, 0, 1, 0), flush(d, 0)); err != nil {
		t.Fatal(err)
	}
	if err := write(d, 4, 4, 0); err != nil {
		t.Errorf("write: %v", err)
	}
	if err := flush(d, 0); err != nil {
		t.Errorf("flush: %v; the write was acknowledged by the new connection alone", err)
	}
	if n := connections.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// A request that waits for reconnect-delay ends with its context, and with the delay.
func TestReconnectDelayEnds(t *testing.T) {
	f := newFake(t, &fake{serve: func(c *peer) { c.next() }})
	d := f.open("&reconnect-delay=1")
	f.l.Close()
	began := time.Now()
	if _, err := read(t.Context(), d, 0, 1); !errors.Is(err, mapper.ErrIO) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("after %v, want the delay of a second", took)
	}
	g := newFake(t, &fake{serve: func(c *peer) { c.next() }})
	e := g.open("&reconnect-delay=3600")
	g.l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := read(ctx, e, 0, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	go func() {
		time.Sleep(10 * time.Millisecond)
		e.Close()
	}()
	if _, err := read(t.Context(), e, 0, 1); !errors.Is(err, mapper.ErrIO) {
		t.Errorf("closed meanwhile: %v", err)
	}
}

// A server that comes back with another export is not used.
func TestOtherExport(t *testing.T) {
	for name, change := range map[string]func(f *fake){
		"shrunk":    func(f *fake) { f.size /= 2 },
		"read-only": func(f *fake) { f.flags |= isReadOnly },
		"lacks":     func(f *fake) { f.flags &^= canTrim },
		"minimum":   func(f *fake) { f.block = []uint32{8192, 8192, 1 << 20} },
		"maximum":   func(f *fake) { f.block = []uint32{512, 512, 65536} },
	} {
		t.Run(name, func(t *testing.T) {
			f, hangUp := mortal(t, &fake{})
			d := f.open("")
			if _, err := read(t.Context(), d, 0, 1); err != nil {
				t.Fatal(err)
			}
			f.l.Close()
			was := current(d)
			hangUp()
			waitDown(t, d, was)
			f.wg.Wait()
			change(f)
			f.listen()
			if _, err := read(t.Context(), d, 0, 1); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// An open that is interrupted ends, although the server keeps silent.
func TestOpenIsInterrupted(t *testing.T) {
	f := newFake(t, &fake{})
	f.l.Close()
	f.wg.Wait()
	silent(t, f.path)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := Open(ctx, mapper.DiskConfig{Path: f.uri("")}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Close takes leave, so that the server knows that nothing was cut off.
func TestClose(t *testing.T) {
	left := make(chan bool, 1)
	f := newFake(t, &fake{serve: func(c *peer) {
		head := c.read(requestHeadSize)
		left <- head != nil && binary.BigEndian.Uint16(head[6:]) == cmdDisconnect
	}})
	f.open("").Close()
	if !<-left {
		t.Error("the server was not told")
	}
}
