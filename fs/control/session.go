package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

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
	keys    []func() // release what addkey brought
	spoilt  error    // what is written after cannot be told from the rest of a key
}

// NewSession returns a session on m. version is what the version command answers.
func NewSession(m *mapper.Manager, version Version) *Session {
	return &Session{m: m, version: version}
}

// A mark is a state to which a session can go back: where a command begins, in what is written.
type mark struct {
	lex     lexer
	partial []byte
	at      int // in what is written
}

// mark returns the state after so many bytes of what is written.
func (s *Session) mark(at int) mark { return mark{s.lex, bytes.Clone(s.partial), at} }

// Write takes the next bytes of the command stream and runs the commands that they complete. On an error what
// follows the failed command in p is dropped; the commands before it have run. p is not kept.
//
// ctx ends the waits of commands. One that was interrupted has done nothing and is not taken: n is how many bytes of p belong to
// commands before it, and only if that is 0 is the interrupt an error. So a writer that goes on where it was interrupted runs each
// command once.
func (s *Session) Write(ctx context.Context, p []byte) (n int, err error) {
	if s.tooLong {
		return 0, s.answer("", errTooLong)
	}
	if s.spoilt != nil {
		return 0, s.answer("", s.spoilt)
	}
	begin := s.mark(0)
	for rest := p; len(rest) > 0; {
		line, after, complete := bytes.Cut(rest, []byte{'\n'})
		s.lex.size += len(rest) - len(after)
		if s.lex.size > maxCommand {
			s.tooLong = true
			s.drop()
			return 0, s.answer("", errTooLong)
		}
		var err error
		if s.isAddKey(line) {
			err = s.addKey(line, complete)
		} else {
			s.partial = append(s.partial, line...)
			if !complete {
				break
			}
			err = s.runLine(ctx)
		}
		rest = after
		if errors.Is(err, mapper.ErrInterrupted) {
			s.lex, s.partial = begin.lex, begin.partial
			if begin.at > 0 {
				err = nil
			}
			return begin.at, err
		}
		if err != nil {
			s.drop()
			return 0, err
		}
		if !s.lex.open {
			s.lex.size = 0
			begin = s.mark(len(p) - len(rest))
		}
	}
	return len(p), nil
}

// runLine takes the line that is complete, and runs the command that it completes.
func (s *Session) runLine(ctx context.Context) error {
	text := string(s.partial)
	s.partial = s.partial[:0]
	c, err := s.lex.line(text)
	if err != nil {
		return s.answer("", err)
	}
	if c == nil {
		return nil
	}
	reply, err := s.run(ctx, c)
	return s.answer(reply, err)
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
	const shown = 2 // the verb and the name; what follows may be a key
	words := strings.Fields(begun)
	begun = strings.Join(words[:min(shown, len(words))], " ")
	s.m.Log().Printf("dmfs: control: unfinished command dropped: %s", mapper.ShowArg(begun))
	s.drop()
}

// run carries out c and logs its failure, unless somebody interrupted it or it asked for a device that there is not.
func (s *Session) run(ctx context.Context, c *command) (string, error) {
	if len(c.words) == 0 {
		return "", mapper.BadArg("a table without a command", "a { begins the line")
	}
	verb, ok := verbs[c.words[0]]
	if !ok {
		return "", mapper.BadArg("unknown command", "%s", mapper.ShowArg(c.words[0]))
	}
	reply, err := verb(ctx, s, &args{command: c, words: c.words[1:]})
	lookUp := c.words[0] == "query" && errors.Is(err, mapper.ErrNotFound) // which is an answer, and LVM asks by the hundred
	if err != nil && !lookUp && !errors.Is(err, mapper.ErrInterrupted) {
		s.m.Log().Printf("dmfs: control: %s: %v", c.words[0], err)
	}
	return reply, err
}
