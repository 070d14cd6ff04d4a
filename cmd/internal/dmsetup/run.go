package dmsetup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"
)

// An Env is what an invocation has from its surroundings.
type Env struct {
	Args0          string // as called; begins messages about options
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	// Mounts returns the mount points of the caller's dmfs mounts.
	Mounts func() ([]string, error)
	// Strict: called as dmsetup. No verbs, options or extra lines beyond dmsetup's.
	Strict bool
}

// Errors that a verb returns after it has said what is wrong.
var (
	errFailed = errors.New("failed")       // Run adds "Command failed."
	errSaid   = errors.New("said it all")  // Run adds nothing
	errParse  = errors.New("bad options")  // Run adds "Couldn't process command line."
	errCount  = errors.New("bad operands") // Run adds "Incorrect number of arguments." and the usage
)

// A complaint is an error in dmsetup's own sentence.
type complaint string

func (c complaint) Error() string { return string(c) }

func complain(format string, args ...any) error { return complaint(fmt.Sprintf(format, args...)) }

// A session is one invocation.
type session struct {
	Env
	ctx    context.Context
	opts   options
	mangle mangleMode
	conn   mount  // nil until a verb needs it
	reason string // why the last command was refused, for people
	// sampling is how long the figures of a report of statistics were collected.
	sampling time.Duration
	dial     func(path string) mount
}

// Run does what args ask (the program's name is not among them) and returns the exit status. It blocks as
// long as the verb takes; when ctx is done it returns, and a command that was already sent may still take effect.
func Run(ctx context.Context, env Env, args []string) int {
	s := &session{Env: env, ctx: ctx, dial: openControl}
	if filepath.Base(env.Args0) == dmstats {
		args = append([]string{"stats"}, args...)
	}
	return s.run(args)
}

func (s *session) run(args []string) int {
	operands, err := s.parse(args)
	if err == nil {
		err = s.dispatch(operands)
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errParse):
		s.errorf("Couldn't process command line.")
	case errors.Is(err, errCount):
		s.errorf("Incorrect number of arguments.")
		s.usage()
	case errors.Is(err, errFailed):
		s.errorf("Command failed.")
		if s.reason != "" && !s.Strict {
			s.errorf("dmfs: %s", s.reason)
		}
	}
	return 1
}

func (s *session) dispatch(operands []string) error {
	switch {
	case s.opts.has("help"):
		return s.help()
	case s.opts.has("version"):
		return (*session).version(s, nil)
	case len(operands) == 0:
		s.usage()
		return errSaid
	}
	v := lookup(operands[0])
	if v == nil {
		s.errorf("Unknown command.")
		s.usage()
		return errSaid
	}
	operands = operands[1:]
	if len(operands) < v.min || v.max >= 0 && len(operands) > v.max {
		return errCount
	}
	return v.run(s, operands)
}

// printf writes to standard output. Its errors are nobody's to act on: a closed pipe ends the program.
func (s *session) printf(format string, args ...any) { fmt.Fprintf(s.Stdout, format, args...) }

// errorf writes one line to standard error.
func (s *session) errorf(format string, args ...any) { fmt.Fprintf(s.Stderr, format+"\n", args...) }

// failf says what is wrong in one line and returns errFailed.
func (s *session) failf(format string, args ...any) error {
	s.errorf(format, args...)
	return errFailed
}

// dmstats is the name as which the program is its verb stats.
const dmstats = "dmstats"

// program returns the name that usage texts carry.
func (s *session) program() string {
	if filepath.Base(s.Args0) == dmstats {
		return dmstats
	}
	if s.Strict {
		return "dmsetup"
	}
	return filepath.Base(s.Args0)
}
