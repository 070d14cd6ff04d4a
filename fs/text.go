package fs

import (
	"bytes"
	"context"
	"errors"
	"strconv"

	"golang.org/x/sys/unix"

	"dmfs/fs/control"
	"dmfs/mapper"
)

// A textHandle is an open file of control text. One call runs at a time. Offsets of writes mean nothing: what is
// written is a stream. Once something was, reads go through what the file says from the offset of the first read after it
// changed, so that a file position that writes have moved does not hide the reply. Before, offsets are what they are.
type textHandle struct {
	busy   chan struct{} // holds a token while a call runs; guards what follows
	file   textFile
	opener uint32 // thread that opened it
	text   string
	loaded bool  // text is what file said last
	base   int64 // offset of the byte 0 of text
	writes bool  // opened for writing
	wrote  bool  // something was written
}

// A textFile is what one kind of text file does. Its methods are called one at a time.
type textFile interface {
	// text returns what a read gives, from the beginning.
	text(c *caller) (string, error)
	// write takes bytes of the stream, after which text may be another. n is less than len(p) if the rest is to be written again.
	write(c *caller, p []byte) (n int, err error)
	// flush is called when the process that opened the file closes it.
	flush(c *caller) error
	// release is called when nobody has the file open any more.
	release(c *caller)
}

func (t *tree) openText(c *caller, node uint64, writes bool) (*textHandle, unix.Errno) {
	node = t.aliases.real(node)
	h := &textHandle{busy: make(chan struct{}, 1), opener: c.pid, writes: writes}
	switch node {
	case controlNode:
		h.file = &controlFile{t: t, session: control.NewSession(t.m, t.version)}
		return h, 0
	case logNode:
		h.file = snapshot(func(*caller) (string, error) { return t.m.Log().Text(), nil })
		return h, 0
	}
	d, file := t.deviceOf(node)
	if d == nil {
		return nil, unix.ENOENT
	}
	switch file {
	case tableFile:
		h.file = &tableWriter{dev: d}
	case statusFile:
		h.file = snapshot(func(c *caller) (string, error) {
			lines, err := d.Status(c, mapper.LiveSlot, false)
			return control.TableText(lines), err
		})
	case infoFile:
		h.file = snapshot(func(c *caller) (string, error) {
			state, err := control.Describe(c, d)
			return control.InfoText(state), err
		})
	case messageFile:
		h.file = &messageWriter{dev: d}
	case eventsFile:
		h.file = &eventReader{dev: d}
	default:
		return nil, unix.ENOENT
	}
	return h, 0
}

// lock makes c's call the one that runs. Others may be waiting for long, so this ends with c.
func (h *textHandle) lock(c *caller) unix.Errno {
	c.anySignal = true
	select {
	case h.busy <- struct{}{}:
		return 0
	default:
	}
	select {
	case h.busy <- struct{}{}:
		return 0
	case <-c.Done():
		return errno(context.Cause(c))
	}
}

func (h *textHandle) unlock() { <-h.busy }

func (h *textHandle) read(c *caller, p []byte, off int64) (int, unix.Errno) {
	if e := h.lock(c); e != 0 {
		return 0, e
	}
	defer h.unlock()
	if h.loaded && off < h.base {
		h.base = off // rewound
	}
	_, events := h.file.(*eventReader)
	if !h.loaded || events && off == h.base {
		text, err := h.file.text(c)
		if err != nil {
			return 0, errno(err)
		}
		h.text, h.loaded, h.base = text, true, 0
		if h.wrote {
			h.base = off
		}
	}
	at := off - h.base
	if at >= int64(len(h.text)) {
		return 0, 0
	}
	return copy(p, h.text[at:]), 0
}

func (h *textHandle) write(c *caller, p []byte) (int, unix.Errno) {
	if e := h.lock(c); e != 0 {
		return 0, e
	}
	defer h.unlock()
	h.loaded, h.wrote = false, true
	n, err := h.file.write(c, p)
	return n, errno(err)
}

func (h *textHandle) flush(c *caller) unix.Errno {
	// One that inherited it, as the commands of a shell group do, may have written a part. Nor does it wait for a call in progress: it may be on its way to
	// another program, in a fork of somebody who has a thread wait here.
	if !h.writes || !sameProcess(c.pid, h.opener) {
		return 0
	}
	if e := h.lock(c); e != 0 {
		return e
	}
	defer h.unlock()
	return errno(h.file.flush(c))
}

func (h *textHandle) release(c *caller) {
	h.busy <- struct{}{} // the last close: no call runs
	defer h.unlock()
	h.file.release(c)
}

// readOnly is what text files that are only read do on the other calls.
type readOnly struct{}

func (readOnly) write(*caller, []byte) (int, error) { return 0, unix.EBADF }
func (readOnly) flush(*caller) error                { return nil }
func (readOnly) release(*caller)                    {}

// A snapshotFile says what its function says when it is read from the beginning.
type snapshotFile struct {
	readOnly
	f func(c *caller) (string, error)
}

func snapshot(f func(c *caller) (string, error)) textFile { return &snapshotFile{f: f} }

func (s *snapshotFile) text(c *caller) (string, error) { return s.f(c) }

// A controlFile runs commands.
type controlFile struct {
	t       *tree
	session *control.Session
}

func (f *controlFile) text(*caller) (string, error) {
	if reply, ran := f.session.Reply(); ran {
		return reply, nil
	}
	return control.Save(f.t.m), nil
}

// write leaves nothing of what was written in the buffer, for there may be keys in it.
func (f *controlFile) write(c *caller, p []byte) (int, error) {
	defer clear(p)
	return f.session.Write(c, p)
}

// flush reports a command that was begun and not completed.
func (f *controlFile) flush(*caller) error {
	if f.session.Unfinished() {
		return control.ErrUnfinished
	}
	return nil
}

func (f *controlFile) release(*caller) { f.session.Close() }

// A tableWriter collects a table and makes it live when the file is closed.
type tableWriter struct {
	dev     *mapper.Device
	written []byte
}

// maxTable bounds a table that is written to a table file, in bytes.
const maxTable = 16 << 20

func (f *tableWriter) text(*caller) (string, error) {
	return control.TableText(f.dev.Table(mapper.LiveSlot, false, false)), nil
}

func (f *tableWriter) write(_ *caller, p []byte) (int, error) {
	if len(f.written)+len(p) > maxTable {
		return 0, unix.E2BIG
	}
	f.written = append(f.written, p...)
	return len(p), nil
}

func (f *tableWriter) flush(c *caller) error {
	if len(f.written) == 0 {
		return nil
	}
	return f.apply(c)
}

func (f *tableWriter) apply(c *caller) error {
	text := string(f.written)
	f.written = nil
	specs, err := mapper.ParseTable(text)
	if err == nil {
		err = f.dev.Replace(c, specs, f.dev.ReadOnly())
	}
	if err != nil {
		f.dev.Log().Printf("dmfs: table of %s: %v", f.dev.Name(), err)
	}
	return err
}

func (f *tableWriter) release(c *caller) {
	if len(f.written) > 0 {
		f.apply(c) //nolint:errcheck // it is in the log, and nobody is left to be told
	}
}

// A messageWriter sends each line to the device.
type messageWriter struct {
	dev     *mapper.Device
	partial string
	reply   string
}

// maxMessage bounds a message, in bytes.
const maxMessage = 1 << 20

func (f *messageWriter) text(*caller) (string, error) { return f.reply, nil }

func (f *messageWriter) write(c *caller, p []byte) (int, error) {
	if len(f.partial)+len(p) > maxMessage {
		return 0, unix.E2BIG
	}
	for begin, at := f.partial, 0; ; {
		line, _, ok := bytes.Cut(p[at:], []byte{'\n'})
		f.partial += string(line)
		if !ok {
			return len(p), nil
		}
		err := f.send(c, f.partial)
		switch {
		case errors.Is(err, mapper.ErrInterrupted) && at > 0:
			f.partial = begin
			return at, nil // the rest is written again
		case errors.Is(err, mapper.ErrInterrupted):
			f.partial = begin
			return 0, err
		case err != nil:
			f.partial = ""
			return 0, err
		}
		f.partial, begin = "", ""
		at += len(line) + 1
	}
}

func (f *messageWriter) send(c *caller, line string) error {
	words, err := mapper.SplitArgs(line)
	if err == nil && len(words) == 0 {
		return nil
	}
	if err == nil {
		f.reply, err = control.Message(c, f.dev, words)
	}
	return err
}

// flush sends a last line that had no newline.
func (f *messageWriter) flush(c *caller) error {
	if f.partial == "" {
		return nil
	}
	line := f.partial
	f.partial = ""
	return f.send(c, line)
}

func (f *messageWriter) release(c *caller) {
	if err := f.flush(c); err != nil {
		f.dev.Log().Printf("dmfs: message of %s: %v", f.dev.Name(), err)
	}
}

// An eventReader says the event counter. The first read from the beginning says what it is; each later
// one waits until it is another.
type eventReader struct {
	readOnly
	dev  *mapper.Device
	said bool
	last uint32
}

func (f *eventReader) text(c *caller) (string, error) {
	nr := f.dev.EventNr()
	if f.said {
		var err error
		nr, err = f.dev.WaitEvent(c, f.last)
		if err != nil && !errors.Is(err, mapper.ErrClosed) {
			return "", err
		}
	}
	f.said, f.last = true, nr
	return strconv.FormatUint(uint64(nr), 10) + "\n", nil
}
