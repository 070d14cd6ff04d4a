package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
)

// maxCommand bounds one command, in bytes.
const maxCommand = 16 << 20

// ErrUnfinished says that a command was begun and its end never written.
var ErrUnfinished error = &mapper.ArgError{Reason: "unfinished command", Detail: "a command ends with a newline, a table with }"}

var errTooLong error = &mapper.ArgError{
	Reason: "command too long", Detail: fmt.Sprintf("more than %d bytes; open the file anew", maxCommand), Errno: unix.E2BIG,
}

// A Session is one open control file. It is not safe for concurrent use: the caller serialises.
type Session struct {
	m       *mapper.Manager
	version Version
	lex     lexer
	partial []byte // of a line
	tooLong bool
	reply   string
	ran     bool
}

// NewSession returns a session on m. version is what the version command answers.
func NewSession(m *mapper.Manager, version Version) *Session {
	return &Session{m: m, version: version}
}

// Write takes the next bytes of the command stream and runs the commands that they complete. On an error what
// follows the failed command in p is dropped; the commands before it have run. p is not kept.
// ctx ends the waits of commands.
func (s *Session) Write(ctx context.Context, p []byte) error {
	if s.tooLong {
		return s.answer("", errTooLong)
	}
	for len(p) > 0 {
		line, rest, complete := bytes.Cut(p, []byte{'\n'})
		s.lex.size += len(p) - len(rest)
		if s.lex.size > maxCommand {
			s.tooLong = true
			s.drop()
			return s.answer("", errTooLong)
		}
		s.partial = append(s.partial, line...)
		if !complete {
			return nil
		}
		text := string(s.partial)
		s.partial = s.partial[:0]
		c, err := s.lex.line(text)
		if err == nil && c == nil {
			if !s.lex.open {
				s.lex.size = 0
			}
			p = rest
			continue
		}
		if err == nil {
			var reply string
			reply, err = s.run(ctx, c)
			if s.answer(reply, err) == nil {
				p = rest
				continue
			}
		}
		s.drop()
		return s.answer("", err)
	}
	return nil
}

// drop forgets a command that was begun.
func (s *Session) drop() {
	s.lex = lexer{}
	s.partial = nil
}

// answer keeps the reply to a command and returns its error.
func (s *Session) answer(reply string, err error) error {
	s.ran = true
	switch {
	case err != nil:
		s.reply = "error: " + cut(err.Error()) + "\n"
	case reply == "":
		s.reply = "ok\n"
	default:
		s.reply = reply
		if reply[len(reply)-1] != '\n' {
			s.reply += "\n"
		}
	}
	return err
}

// cut shortens the text of an error, which may quote a word of megabytes.
func cut(text string) string {
	const most = 8 << 10
	if len(text) <= most {
		return text
	}
	return text[:most] + " ..."
}

// Reply returns the reply to the last command. ran is false if there was none yet.
func (s *Session) Reply() (text string, ran bool) { return s.reply, s.ran }

// Unfinished reports whether a command was begun and not completed.
func (s *Session) Unfinished() bool { return s.lex.open || len(s.partial) > 0 }

// Abandon drops an unfinished command and says so in the log.
func (s *Session) Abandon() {
	if !s.Unfinished() {
		return
	}
	begun := string(s.partial)
	if s.lex.open {
		begun = s.lex.cur.raw
	}
	const most = 60
	if len(begun) > most {
		begun = begun[:most] + " ..."
	}
	s.m.Log().Printf("dmfs: control: unfinished command dropped: %q", begun)
	s.drop()
}

// run carries out c and logs its failure, unless somebody interrupted it.
func (s *Session) run(ctx context.Context, c *command) (string, error) {
	if len(c.words) == 0 {
		return "", mapper.BadArg("a table without a command", "a { begins the line")
	}
	verb, ok := verbs[c.words[0]]
	if !ok {
		return "", mapper.BadArg("unknown command", "%q", c.words[0])
	}
	reply, err := verb(ctx, s, &args{command: c, words: c.words[1:]})
	if err != nil && !errors.Is(err, mapper.ErrInterrupted) {
		s.m.Log().Printf("dmfs: control: %s: %v", c.words[0], err)
	}
	return reply, err
}
