package logreplay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"dmfs/targets/logwrites"
)

// Points says behind which entries a check is run.
type Points struct {
	kind  string
	every uint64
}

// ParsePoints reads what --check takes: every-write, write, flush, fua, mark, end, or a number N for every N-th entry.
func ParsePoints(s string) (Points, error) {
	switch s {
	case "every-write":
		s = "write"
	case "write", "flush", "fua", "mark", "end":
	default:
		n, err := strconv.ParseUint(s, 10, 63)
		if err != nil || n == 0 {
			return Points{}, fmt.Errorf("check %q: want every-write, flush, fua, mark, end, or a number of entries", s)
		}
		return Points{kind: "number", every: n}, nil
	}
	return Points{kind: s}, nil
}

// after reports whether to check behind item, the n-th entry of the range, counted from 1.
func (p Points) after(item Item, n uint64) bool {
	switch p.kind {
	case "write":
		return item.N > 0
	case "flush":
		return item.Flags&logwrites.FlagFlush != 0
	case "fua":
		return item.Flags&logwrites.FlagFUA != 0
	case "mark":
		return item.Kind() == "mark"
	case "number":
		return n%p.every == 0
	}
	return false
}

// A Job is a replay.
type Job struct {
	Log     *Log
	Range   Range
	Target  string // path
	Command string // run by sh at each point; "": none
	Points  Points
	InPlace bool // the command gets the target itself, and not a copy
	Bisect  bool // look for the first point that fails by halves, instead of trying all

	NoDiscard bool
	Replayed  func(Item)             // is told of each entry; may be nil
	Progress  func(n, checks uint64) // may be nil
	Output    func(out []byte)       // gets what a command that failed has said; may be nil

	replayer Replayer
	target   *File
	copy     *copied // nil until the first check
	checks   uint64
}

// A Failure is a check that failed.
type Failure struct {
	At      Item   // the entry behind which it failed
	Entries uint64 // of the range, up to there
	Passed  *Item  // the last point before that passed, nil if there was none
	Err     error  // of the command
}

// Error says where the check failed.
func (f *Failure) Error() string { return fmt.Sprintf("the check failed behind %s: %v", f.At, f.Err) }

var (
	errStop  = errors.New("stop") // ends a walk over the log where it has all it wants
	errEmpty = errors.New("there is no entry in the range, and so nothing to check")
)

// Run replays and checks. The error is a *Failure if a check failed; the target is then what the check was about.
func (j *Job) Run(ctx context.Context) (err error) {
	if j.target, err = OpenFile(j.Target); err != nil {
		return err
	}
	defer func() {
		if j.copy != nil {
			err = errors.Join(err, j.copy.remove())
		}
		if e := j.target.Sync(); e != nil && !errors.Is(e, os.ErrInvalid) {
			err = errors.Join(err, e)
		}
		err = errors.Join(err, j.target.Close())
	}()
	j.replayer = Replayer{Log: j.Log, NoDiscard: j.NoDiscard}
	if j.Bisect {
		return j.bisect(ctx)
	}
	return j.linear(ctx)
}

// linear replays all of the range, and checks at each point.
func (j *Job) linear(ctx context.Context) error {
	var n uint64
	var last, passed *Item
	check := func(item Item) error {
		err := j.check(ctx, item)
		if err != nil && ctx.Err() == nil {
			var failed *exec.ExitError
			if errors.As(err, &failed) {
				return &Failure{item, n, passed, err}
			}
		}
		passed = &item
		return err
	}
	err := j.Log.Each(j.Range, func(item Item) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n++
		if err := j.apply(item); err != nil {
			return err
		}
		last = &item
		if j.Progress != nil {
			j.Progress(n, j.checks)
		}
		if j.Command != "" && j.Points.after(item, n) {
			return check(item)
		}
		return nil
	})
	if err != nil || j.Command == "" || j.Points.kind != "end" {
		return err
	}
	if last == nil {
		return errEmpty
	}
	return check(*last)
}

// apply replays item onto the target, and onto the copy if there is one.
func (j *Job) apply(item Item) error {
	if err := j.replayer.Apply(j.target, item); err != nil {
		return err
	}
	if j.Replayed != nil {
		j.Replayed(item)
	}
	if j.copy != nil {
		return j.replayer.Apply(j.copy, item)
	}
	return nil
}

// check runs the command on a copy of the target. A copy that it has changed is made anew.
func (j *Job) check(ctx context.Context, item Item) (err error) {
	j.checks++
	if j.InPlace {
		return j.command(ctx, j.Target, item)
	}
	if j.copy == nil {
		if j.copy, err = copyOf(j.target); err != nil {
			return err
		}
	}
	if err := j.copy.seal(); err != nil {
		return err
	}
	result := j.command(ctx, j.copy.path, item)
	if j.copy.changed() {
		err = j.copy.remove()
		if j.copy = nil; errors.Is(err, os.ErrNotExist) {
			err = nil // the command has removed it
		}
	}
	return errors.Join(result, err)
}

// DiskVariable is the environment variable with the path of what a command is to check.
const DiskVariable = "DISK"

// Others that a command finds.
const (
	entryVariable = "ENTRY" // the number of the last entry that was replayed
	markVariable  = "MARK"  // the mark, if that entry is one
)

// NamesTarget reports whether a command would pass by the copy that it is to check.
func NamesTarget(command, target string) bool { return strings.Contains(command, target) }

// maxOutput bounds what is kept of a command's output, in bytes: the end of it.
const maxOutput = 64 << 10

func (j *Job) command(ctx context.Context, path string, item Item) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", j.Command)
	cmd.Env = append(os.Environ(), DiskVariable+"="+path, entryVariable+"="+strconv.FormatUint(item.Number, 10), markVariable+"="+item.Mark)
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second // for what the command has left behind with its output open
	err := cmd.Run()
	if err != nil && j.Output != nil {
		j.Output(out.buf.Bytes())
	}
	if code := cmd.ProcessState.ExitCode(); code == 126 || code == 127 {
		return fmt.Errorf("%s cannot be run: sh says %d", j.Command, code)
	}
	return err
}

// A tail keeps the end of what is written to it.
type tail struct{ buf bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	n, err := t.buf.Write(p)
	if over := t.buf.Len() - maxOutput; over > maxOutput {
		t.buf.Next(over)
	}
	return n, err
}
