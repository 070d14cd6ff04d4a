package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/cmd/internal/logreplay"
)

// exitTrouble is the status of a log-replay that could not be done, where exitFail says that a check failed.
const exitTrouble = 2

// A replayRequest is what the command line of a log-replay asks for.
type replayRequest struct {
	job           logreplay.Job
	log           string
	json, count   bool
	find, verbose bool
	points        string
	start, limit  string
}

// logReplayCommand is `dmfs log-replay [OPTION…] LOG [TARGET]`.
func logReplayCommand(ctx context.Context, args []string) int {
	const name = "dmfs log-replay"
	r, err := parseReplay(args)
	if err == nil {
		ctx, cancel := signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM)
		defer cancel()
		err = r.run(ctx)
	}
	var failure *logreplay.Failure
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &failure):
		r.explain(os.Stderr, name, failure)
		return exitFail
	}
	complain(name, err)
	return exitTrouble
}

func parseReplay(args []string) (*replayRequest, error) {
	r := &replayRequest{points: "end"}
	j, checks := &r.job, false
	words, err := parseArgs(args, []flag{
		{names: "--log", take: func(v string) { r.log = v }},
		{names: "--replay", take: func(v string) { j.Target = v }},
		{names: "--start-entry", take: func(v string) { r.start = v }},
		{names: "--start-mark", take: func(v string) { j.Range.StartMark = v }},
		{names: "--end-mark", take: func(v string) { j.Range.EndMark = v }},
		{names: "--limit", take: func(v string) { r.limit = v }},
		{names: "--next-flush", set: func() { j.Range.NextFlush = true }},
		{names: "--next-fua", set: func() { j.Range.NextFUA = true }},
		{names: "--find", set: func() { r.find = true }},
		{names: "--num-entries", set: func() { r.count = true }},
		{names: "--no-discard", set: func() { j.NoDiscard = true }},
		{names: "--fsck", take: func(v string) { j.Command = v }},
		{names: "--check", take: func(v string) { r.points, checks = v, true }},
		{names: "--in-place", set: func() { j.InPlace = true }},
		{names: "--bisect", set: func() { j.Bisect = true }},
		{names: "--json", set: func() { r.json = true }},
		{names: "-v --verbose", set: func() { r.verbose = true }},
		{names: "-h --help", set: func() { os.Exit(help([]string{"log-replay"})) }},
	})
	if err != nil {
		return r, err
	}
	for _, place := range []*string{&r.log, &j.Target} {
		if *place == "" && len(words) > 0 {
			*place, words = words[0], words[1:]
		}
	}
	if j.Range.StartEntry, err = replayNumber("--start-entry", r.start); err != nil {
		return r, err
	}
	if j.Range.Limit, err = replayNumber("--limit", r.limit); err != nil {
		return r, err
	}
	if j.Points, err = logreplay.ParsePoints(r.points); err != nil {
		return r, err
	}
	looks := r.json || r.count || r.find
	switch {
	case r.log == "":
		return r, errors.New("no log given: want `dmfs log-replay LOG [TARGET]`")
	case len(words) > 0:
		return r, fmt.Errorf("LOG and TARGET, please: found %q besides", words)
	case r.limit != "" && j.Range.Limit == 0:
		return r, errors.New("--limit: want a number above 0")
	case looks && j.Target != "":
		return r, errors.New("--json, --num-entries and --find look at the log; they take no TARGET")
	case (j.Command != "" || r.verbose) && j.Target == "":
		return r, errors.New("no target given to replay onto: want `dmfs log-replay LOG TARGET`")
	case j.Command == "" && (checks || j.InPlace || j.Bisect):
		return r, errors.New("--check, --in-place and --bisect need --fsck COMMAND")
	case j.InPlace && j.Bisect:
		return r, errors.New("--in-place and --bisect: a check that changes the target cannot be repeated by halves")
	case j.Command != "" && !j.InPlace && logreplay.NamesTarget(j.Command, j.Target):
		return r, fmt.Errorf("the command names %s, and is to check a copy of it: write $DISK, or give --in-place", j.Target)
	}
	return r, nil
}

// replayNumber reads the number of an option, 0 if it was not given.
func replayNumber(option, value string) (uint64, error) {
	if value == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(value, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%s %q: want a number", option, value)
	}
	return n, nil
}

func (r *replayRequest) run(ctx context.Context) error {
	f, err := os.Open(r.log)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only read
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if r.job.Log, err = logreplay.Open(r.log, f, size); err != nil {
		return err
	}
	switch {
	case r.count:
		fmt.Println(r.job.Log.Super.Entries)
		return nil
	case r.find:
		return r.findEnd()
	case r.json:
		return r.job.Log.ListJSON(os.Stdout, r.job.Range)
	case r.job.Target == "":
		return r.job.Log.List(os.Stdout, r.job.Range)
	}
	if r.verbose {
		r.job.Replayed = func(i logreplay.Item) { fmt.Printf("%s: bytes %d+%d\n", i, i.Start, i.N) }
	}
	r.job.Output = func(out []byte) { os.Stderr.Write(out) } //nolint:errcheck // nowhere to report it
	done := r.showProgress()
	defer done()
	return r.job.Run(ctx)
}

// findEnd prints the last entry of the range and the log sector it is in, as ENTRY@SECTOR.
func (r *replayRequest) findEnd() error {
	var last *logreplay.Item
	err := r.job.Log.Each(r.job.Range, func(i logreplay.Item) error {
		last = &i
		return nil
	})
	if err == nil && last == nil {
		err = errors.New("the range is empty")
	}
	if err == nil {
		fmt.Printf("%d@%d\n", last.Number, last.At/int64(r.job.Log.SectorSize))
	}
	return err
}

// showProgress shows how far the replay is if somebody watches, and returns what ends that.
func (r *replayRequest) showProgress() (done func()) {
	if _, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS); err != nil || r.verbose {
		return func() {}
	}
	var shown time.Time
	r.job.Progress = func(n, checks uint64) {
		if time.Since(shown) < 100*time.Millisecond {
			return
		}
		shown = time.Now()
		fmt.Fprintf(os.Stderr, "\r%d of %d entries, %d checks\x1b[K", n, r.job.Log.Super.Entries, checks)
	}
	return func() {
		if !shown.IsZero() {
			fmt.Fprint(os.Stderr, "\r\x1b[K")
		}
	}
}

// explain says where a check failed and how to see it again.
func (r *replayRequest) explain(w io.Writer, name string, f *logreplay.Failure) {
	fmt.Fprintf(w, "%s: %v\n", name, f)
	if f.Passed != nil {
		fmt.Fprintf(w, "%s: the point before, behind %s, passed\n", name, f.Passed)
	} else {
		fmt.Fprintf(w, "%s: no point before it passed\n", name)
	}
	words := []string{"dmfs", "log-replay", "--limit", strconv.FormatUint(f.Entries, 10)}
	if r.job.Range.StartEntry > 0 {
		words = append(words, "--start-entry", r.start)
	}
	if r.job.Range.StartMark != "" {
		words = append(words, "--start-mark", shellQuote(r.job.Range.StartMark))
	}
	if r.job.NoDiscard {
		words = append(words, "--no-discard")
	}
	words = append(words, shellQuote(r.log), shellQuote(r.job.Target))
	fmt.Fprintf(w, "%s: %s holds that state; to make and check it again from what it held before:\n  %s &&\n  %s=%s sh -c %s\n",
		name, r.job.Target, strings.Join(words, " "), logreplay.DiskVariable, shellQuote(r.job.Target), shellQuote(r.job.Command))
}

// shellQuote returns s as one word of a shell.
func shellQuote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+=:,@%", r)
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
