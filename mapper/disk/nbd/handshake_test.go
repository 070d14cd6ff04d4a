package nbd

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// silent listens at path and says nothing to who comes.
func silent(t testing.TB, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

var greeting = be(uint64(magicServer), uint64(magicOption), uint16(flagFixed|flagNoZeroes))

func optReply(code, kind uint32, parts ...any) []byte {
	data := be(parts...)
	return be(uint64(magicReply), code, kind, uint32(len(data)), data)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// A scripted server says its lines whatever it is told.
func TestHandshakes(t *testing.T) {
	unsup := func(code uint32) []byte { return optReply(code, repErrUnsup) }
	size := optReply(optGo, repInfo, uint16(infoExport), uint64(1<<20), uint16(hasFlags))
	ack := optReply(optGo, repAck)
	blocks := func(a, b, c uint32) []byte {
		return join(greeting, unsup(8), size, optReply(optGo, repInfo, uint16(infoBlock), a, b, c), ack)
	}
	for name, tt := range map[string]struct {
		server []byte
		want   string // in the error; "" if it goes well
		errno  unix.Errno
	}{
		"go":                  {join(greeting, unsup(8), size, ack), "", 0},
		"other information":   {join(greeting, unsup(8), optReply(optGo, repInfo, uint16(1), "name"), size, ack), "", 0},
		"export name":         {join(greeting, unsup(8), unsup(optGo), be(uint64(1<<20), uint16(hasFlags))), "", 0},
		"not fixed":           {join(be(uint64(magicServer), uint64(magicOption), uint16(0)), be(uint64(1<<20), uint16(hasFlags)), make([]byte, 124)), "", 0},
		"no context":          {join(greeting, optReply(8, repAck), optReply(optSetMeta, repAck), size, ack), "", 0},
		"context refused":     {join(greeting, optReply(8, repAck), optReply(optSetMeta, repErrInvalid, "no"), size, ack), "", 0},
		"nothing":             {nil, "waiting for the greeting", 0},
		"no server":           {[]byte("HTTP/1.1 400 Bad Request\r\n"), "this is no NBD server", 0},
		"oldstyle":            {be(uint64(magicServer), uint64(magicOldstyle), uint64(1), uint64(1)), "oldstyle", 0},
		"second magic":        {be(uint64(magicServer), uint64(1), uint64(1)), "greets with 0x1", 0},
		"no such export":      {join(greeting, unsup(8), optReply(optGo, repErrUnknown, "x?")), `no such export ("x?")`, unix.ENOENT},
		"TLS":                 {join(greeting, optReply(8, repErrTLS)), "wants TLS", unix.EACCES},
		"policy":              {join(greeting, unsup(8), optReply(optGo, repErrPolicy)), "does not allow", unix.EACCES},
		"other refusal":       {join(greeting, unsup(8), optReply(optGo, repError+99)), "code 0x80000063", unix.EIO},
		"hangs up":            {join(greeting, unsup(8), unsup(optGo)), "may have no such export", 0},
		"long reply":          {join(greeting, be(uint64(magicReply), uint32(8), uint32(1), uint32(1<<30))), "a reply of 1073741824 bytes", 0},
		"other option":        {join(greeting, optReply(7, repAck)), "option 7, which was not asked", 0},
		"reply magic":         {join(greeting, make([]byte, 20)), "begins with 0x0", 0},
		"ack with data":       {join(greeting, optReply(8, repAck, uint8(1))), "1 bytes with the end", 0},
		"unexpected reply":    {join(greeting, optReply(8, repInfo)), "reply 3 to option 8", 0},
		"endless":             {join(greeting, unsup(8), bytes.Repeat(optReply(optGo, repInfo, uint16(9)), 65)), "more than 64 replies", 0},
		"no size":             {join(greeting, unsup(8), ack), "tells no size", 0},
		"odd size":            {join(greeting, unsup(8), optReply(optGo, repInfo, uint16(infoExport), uint64(1))), "information 0 of 8 bytes", 0},
		"odd information":     {join(greeting, unsup(8), optReply(optGo, repInfo, uint8(1))), "reply 3 of 1 bytes", 0},
		"too large":           {join(greeting, unsup(8), optReply(optGo, repInfo, uint16(infoExport), ^uint64(0), uint16(1)), ack), "an export of 18446744073709551615 bytes", 0},
		"empty":               {join(greeting, unsup(8), optReply(optGo, repInfo, uint16(infoExport), uint64(511), uint16(1)), ack), "511 bytes, less than one block", unix.EINVAL},
		"good blocks":         {blocks(512, 4096, 1<<20), "", 0},
		"one byte":            {blocks(1, 1, ^uint32(0)), "", 0},
		"minimum 0":           {blocks(0, 4096, 1<<20), "a minimum block of 0", 0},
		"minimum odd":         {blocks(513, 4096, 1<<20), "a minimum block of 513", 0},
		"minimum large":       {blocks(128<<10, 128<<10, 1<<20), "a minimum block of 131072", 0},
		"preferred odd":       {blocks(512, 4097, 1<<20), "a preferred block of 4097", 0},
		"preferred small":     {blocks(4096, 512, 1<<20), "a preferred block of 512", 0},
		"maximum small":       {blocks(4096, 4096, 4095), "a maximum block of 4095", 0},
		"context of one byte": {join(greeting, optReply(8, repAck), optReply(optSetMeta, repMeta, uint8(1))), "reply 4 of 1 bytes to a choice", 0},
	} {
		e, err := handshake(bufio.NewReader(bytes.NewReader(tt.server)), io.Discard, "x")
		switch {
		case tt.want == "" && (err != nil || e.size != 1<<20):
			t.Errorf("%s: %+v, %v", name, e, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		case tt.errno != 0 && !errors.Is(err, tt.errno):
			t.Errorf("%s: %v is no %v", name, err, tt.errno)
		}
	}
}

// No greeting makes the client panic, or accept limits that cannot be.
func FuzzHandshake(f *testing.F) {
	f.Add(join(greeting, optReply(8, repErrUnsup), optReply(optGo, repInfo, uint16(infoExport), uint64(1<<20), uint16(1)), optReply(optGo, repAck)))
	f.Add(join(greeting, optReply(8, repAck), optReply(optSetMeta, repMeta, uint32(1), metaAllocation), optReply(optSetMeta, repAck),
		optReply(optGo, repInfo, uint16(infoBlock), uint32(1), uint32(512), uint32(1<<20))))
	f.Add(join(greeting, optReply(8, repErrUnsup), optReply(optGo, repErrUnsup), make([]byte, 134)))
	f.Fuzz(func(t *testing.T, server []byte) {
		e, err := handshake(bufio.NewReader(bytes.NewReader(server)), io.Discard, "x")
		if err != nil {
			return
		}
		d := &Disk{export: e}
		d.measure(false)
		l := d.limits
		if d.sectors == 0 || l.LogicalBlock < 512 || l.LogicalBlock&(l.LogicalBlock-1) != 0 || int(e.most)%l.LogicalBlock != 0 || e.most == 0 || e.most > maxPayload {
			t.Errorf("%+v: %d sectors, limits %+v", e, d.sectors, l)
		}
	})
}

// No replies make the client panic, hang, or touch a buffer after the return.
func FuzzReplies(f *testing.F) {
	f.Add(be(uint32(magicSimple), uint32(5), uint64(1<<16)))
	f.Add(be(uint32(magicStructured), uint16(1), uint16(chunkData), uint64(1<<16), uint32(8+1024), uint64(512), make([]byte, 1024)))
	f.Add(be(uint32(magicStructured), uint16(0), uint16(chunkHole), uint64(1<<16), uint32(12), uint64(512), uint32(1024)))
	f.Add(be(uint32(magicStructured), uint16(1), uint16(chunkErrorBit+2), uint64(1<<16), uint32(15), uint32(5), uint16(1), "x", uint64(512)))
	f.Fuzz(func(t *testing.T, replies []byte) {
		client, server := net.Pipe()
		var acked, flushed atomic.Uint64
		c := newConn(client, bufio.NewReader(client), export{structured: true, size: 1 << 20, most: 1 << 20}, &acked, &flushed)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.serve(func(error) {})
		}()
		go func() {
			io.ReadFull(server, make([]byte, requestHeadSize))
			server.SetWriteDeadline(time.Now().Add(10 * time.Second))
			server.Write(replies)
			server.Close()
		}()
		began := time.Now()
		p := make([]byte, 1024)
		_, _, err := c.do(t.Context(), request{cmd: cmdRead, off: 512, n: 1024, data: p})
		clear(p)
		<-ended
		if !bytes.Equal(p, make([]byte, 1024)) {
			t.Errorf("the buffer changed after the return (%v)", err)
		}
		if time.Since(began) > 5*time.Second {
			t.Error("it hung")
		}
		if acked.Load() != 0 {
			t.Error("a read counts as a write")
		}
	})
}
