package control_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dmfs/fs/control"
	"dmfs/mapper"
)

func names(m *mapper.Manager) string {
	var have []string
	for _, d := range m.Devices() {
		have = append(have, fmt.Sprintf("%s:%d", d.Name(), d.Sectors()))
	}
	return strings.Join(have, " ")
}

// The same commands do the same however the writes cut them.
func TestSplitWrites(t *testing.T) {
	const commands = "create a 0 8 zero # a\n\n  # nothing\ncreate \"b c\" {\n0 8 zero # x }\n8 8 error; 16 8 zero }\ncreate d { 0 8 zero\r\n}\r\nrename a \\#a\n"
	for size := 1; size <= len(commands); size++ {
		m := newManager(t, mapper.Options{})
		s := control.NewSession(m, control.Version{})
		for rest := commands; rest != ""; {
			part := rest[:min(size, len(rest))]
			rest = rest[len(part):]
			if _, err := s.Write(ctx, []byte(part)); err != nil {
				t.Fatalf("in writes of %d bytes, %q: %v", size, part, err)
			}
		}
		if got, want := names(m), "#a:8 b c:24 d:8"; got != want {
			t.Fatalf("in writes of %d bytes: %s, want %s", size, got, want)
		}
		if s.Unfinished() {
			t.Errorf("in writes of %d bytes: unfinished", size)
		}
	}
}

// What a session is given, what it says and what it leaves.
func TestSession(t *testing.T) {
	for _, tt := range []struct {
		name   string
		writes []string
		errno  unix.Errno // of the last write
		reply  string     // begins with
		left   string
		more   bool // unfinished
	}{
		{"create", []string{"create a 0 8 zero\n"}, 0, "ok\n", "a:8", false},
		{"no newline", []string{"create a 0 8 zero"}, 0, "", "", true},
		{"error drops the rest", []string{"create a 0 8 zero\ncreate a 0 8 zero\ncreate b 0 8 zero\n"}, unix.EBUSY, "error: a: name a is taken", "a:8", false},
		{"goes on after an error", []string{"nonsense\n", "create a 0 8 zero\n"}, 0, "ok\n", "a:8", false},
		{"nothing of a bad table", []string{"create a { 0 8 zero\n9 8 zero }\n"}, unix.EINVAL, "error: a: segment 1 (9+8 zero): Gap in table", "", false},
		{"unbalanced quote", []string{"create \"a 0 8 zero\n"}, unix.EINVAL, "error: unbalanced quote", "", false},
		{"trailing backslash", []string{"create a\\\n"}, unix.EINVAL, "error: trailing backslash", "", false},
		{"text after a brace", []string{"create a { 0 8 zero } ro\n"}, unix.EINVAL, "error: text after the closing brace", "", false},
		{"table without command", []string{"{ 0 8 zero }\n"}, unix.EINVAL, "error: a table without a command", "", false},
		{"table for no one", []string{"create a 0 8 zero\nresume a { 0 8 zero }\n"}, unix.EINVAL, "error: unexpected table", "a:8", false},
		{"unfinished", []string{"create a {\n0 8 zero\n"}, 0, "", "", true},
		{"empty table", []string{"create a { }\n"}, unix.EINVAL, "error: a: no targets specified", "", false},
		{"word of null bytes", []string{"\x00\x00\n"}, unix.EINVAL, "error: unknown command", "", false},
		{"name with newline", []string{"create a 0 8 zero\nrename a \"b\x01\"\n"}, unix.EINVAL, "error: invalid device name", "a:8", false},
		{"name of 128 bytes", []string{"create " + strings.Repeat("n", 128) + " 0 8 zero\n"}, unix.EINVAL, "error: " + strings.Repeat("n", 128) + ": invalid device name", "", false},
		{"control", []string{"create control 0 8 zero\n"}, unix.EINVAL, "error: control: invalid device name", "", false},
		{"slash", []string{"create a/b 0 8 zero\n"}, unix.EINVAL, "error: a/b: invalid device name", "", false},
		{"unknown", []string{"remove none\n"}, unix.ENXIO, "error: none: no such mapped device", "", false},
		{"create with options in any order", []string{"create a ro minor=3 uuid=U 0 8 zero\n"}, 0, "ok\n", "a:8", false},
		{"minor too large", []string{"create a minor=1048576 0 8 zero\n"}, unix.EINVAL, "error: a: invalid minor", "", false},
		{"minor wraps", []string{"create a minor=18446744073709551616 0 8 zero\n"}, unix.EINVAL, "error: invalid minor", "", false},
		{"no such disk", []string{"create a 0 8 linear nowhere 0\n"}, unix.ENODEV, "error: a: segment 0 (0+8 linear): Device lookup failed", "", false},
		{"concise", []string{"concise a,,,rw,0 8 zero;b,U,4,ro,0 8 zero,8 8 error;\n"}, 0, "ok\n", "a:8 b:16", false},
		{"concise undoes all", []string{"concise a,,,rw,0 8 zero;b,,,rw,0 8 linear a 0;c,,,rw,9 8 zero\n"}, unix.EINVAL, "error: c: segment 0", "", false},
		{"sector out of range", []string{"create a 0 8 zero\nmessage a 8 x\n"}, unix.EINVAL, "error: Target message sector outside device.", "a:8", false},
		{"huge sector", []string{"create a 0 8 zero\nmessage a 18446744073709551616 x\n"}, unix.EINVAL, "error: not a number of sectors", "a:8", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newManager(t, mapper.Options{})
			s := control.NewSession(m, control.Version{})
			var err error
			for _, w := range tt.writes {
				_, err = s.Write(ctx, []byte(w))
			}
			if got := mapper.Errno(err); got != tt.errno {
				t.Errorf("errno %v (%v), want %v", got, err, tt.errno)
			}
			reply, ran := s.Reply()
			if !strings.HasPrefix(reply, tt.reply) || ran != (tt.reply != "") {
				t.Errorf("reply %q, want %q", reply, tt.reply)
			}
			if got := names(m); got != tt.left {
				t.Errorf("left %q, want %q", got, tt.left)
			}
			if s.Unfinished() != tt.more {
				t.Errorf("unfinished is %t", s.Unfinished())
			}
			s.Abandon()
			if s.Unfinished() || strings.Contains(m.Log().Text(), "unfinished") != tt.more {
				t.Errorf("after Abandon the log says\n%s", m.Log().Text())
			}
		})
	}
}

// A command that does not end is refused at 16 MiB, and what is kept of it is bounded.
func TestEndlessCommands(t *testing.T) {
	for name, part := range map[string]string{
		"word":     strings.Repeat("x", 1<<20),
		"segments": "create a {\n" + strings.Repeat("0 8 zero;", 1<<16),
		"comments": strings.Repeat("#\n", 1<<19),
		"quoted":   `create a 0 8 "` + strings.Repeat("\\\x01", 1<<19),
	} {
		t.Run(name, func(t *testing.T) {
			m := newManager(t, mapper.Options{})
			s := control.NewSession(m, control.Version{})
			var err error
			for range 20 {
				if _, e := s.Write(ctx, []byte(part)); e != nil {
					err = e
				}
			}
			if name == "comments" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if name == "segments" { // of which there are too many before there are too many bytes
				if mapper.Errno(err) != unix.EINVAL {
					t.Errorf("error %.100v", err)
				}
			} else if mapper.Errno(err) != unix.E2BIG {
				t.Errorf("error %.100v", err)
			}
			var mem runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&mem)
			if mem.HeapAlloc > 64<<20 {
				t.Errorf("%d MiB are held", mem.HeapAlloc>>20)
			}
			runtime.KeepAlive(s)
		})
	}
}

// The reply to a command with a word of megabytes does not repeat all of it.
func TestLongErrorsAreCut(t *testing.T) {
	m := newManager(t, mapper.Options{})
	s := control.NewSession(m, control.Version{})
	_, err := s.Write(ctx, []byte(strings.Repeat("\x01", 8<<20)+"\n"))
	if mapper.Errno(err) != unix.EINVAL {
		t.Errorf("error %.100v", err)
	}
	if reply, _ := s.Reply(); len(reply) > 1<<16 || !strings.HasPrefix(reply, "error: unknown command") || !strings.HasSuffix(reply, " ...\n") {
		t.Errorf("a reply of %d bytes: %.100q", len(reply), reply)
	}
}

// A command that waits is interrupted, and the session goes on: a writer that writes the rest again runs each command once.
func TestInterruptedCommand(t *testing.T) {
	m := newManager(t, mapper.Options{})
	s := control.NewSession(m, control.Version{})
	interrupted, cancel := context.WithCancelCause(ctx)
	cancel(mapper.ErrInterrupted)
	const first, waits, last = "create a 0 8 zero\n", "wait name=a 0\n", "create b 0 8 zero\n"
	if n, err := s.Write(interrupted, []byte(first+waits+last)); n != len(first) || err != nil {
		t.Errorf("took %d bytes, %v; want the first command's %d", n, err, len(first))
	}
	if n, err := s.Write(interrupted, []byte(waits+last)); n != 0 || !errors.Is(err, mapper.ErrInterrupted) {
		t.Errorf("took %d bytes, %v; want an interrupt", n, err)
	}
	if m.ByName("b") != nil {
		t.Error("what follows an interrupted command has run")
	}
	if err := m.Rename("a", "c"); err != nil { // ends the next wait at once
		t.Fatal(err)
	}
	if _, err := s.Write(ctx, []byte(strings.Replace(waits, "=a", "=c", 1)+last)); err != nil || m.ByName("b") == nil {
		t.Errorf("written again: %v", err)
	}
}

// A command of several writes whose last is interrupted is completed by writing that again.
func TestInterruptedTable(t *testing.T) {
	m := newManager(t, mapper.Options{})
	s := control.NewSession(m, control.Version{})
	interrupted, cancel := context.WithCancelCause(ctx)
	if _, err := s.Write(ctx, []byte("create a 0 8 zero\nwait na")); err != nil {
		t.Fatal(err)
	}
	cancel(mapper.ErrInterrupted)
	const rest = "me=a 0\ncreate d {\n0 8 zero\n}\n"
	if n, err := s.Write(interrupted, []byte(rest)); n != 0 || !errors.Is(err, mapper.ErrInterrupted) {
		t.Fatalf("took %d bytes, %v; want an interrupt", n, err)
	}
	if err := m.SetUUID("a", "U"); err != nil { // ends the wait
		t.Fatal(err)
	}
	if n, err := s.Write(ctx, []byte(rest)); n != len(rest) || err != nil || m.ByName("d") == nil {
		t.Errorf("took %d bytes, %v; want all, and a device", n, err)
	}
	if log := m.Log().Text(); strings.Contains(log, "interrupted") {
		t.Errorf("the log has\n%s", log)
	}
}
