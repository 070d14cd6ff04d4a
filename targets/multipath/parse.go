package multipath

import (
	"context"
	"strings"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/targets/internal/args"
)

// A setup is what the features and the hardware handler of a table say.
type setup struct {
	initRetries uint64
	initDelay   uint64 // milliseconds; defaultDelay if not given
	retain      bool
	bio         bool
	handler     string
}

// defaultDelay stands for a pg_init_delay_msecs that was not given.
const defaultDelay = ^uint64(0)

const (
	maxFeatureWords = 8
	maxWords        = 1024 // handlers, groups, paths and arguments, each
)

// words are the arguments that are still to be read.
type words struct{ rest []string }

// next takes a word, "" if there is none.
func (w *words) next() string {
	if len(w.rest) == 0 {
		return ""
	}
	s := w.rest[0]
	w.rest = w.rest[1:]
	return s
}

// number takes a number from least to most.
func (w *words) number(least, most uint64, reason string) (uint64, error) {
	if len(w.rest) == 0 {
		return 0, mapper.BadArg(reason, "it is missing")
	}
	s := w.next()
	n, ok := args.Uint64(s)
	if !ok || n < least || n > most {
		return 0, mapper.BadArg(reason, "%q: want a number from %d to %d", s, least, most)
	}
	return n, nil
}

// counted takes a number and that many words.
func (w *words) counted(most uint64, reason string) (words, error) {
	n, err := w.number(0, most, reason)
	if err != nil {
		return words{}, err
	}
	if n > uint64(len(w.rest)) {
		return words{}, mapper.BadArg(reason, "%d are announced, %d words follow", n, len(w.rest))
	}
	return w.take(int(n)), nil
}

// take takes n words, which are there.
func (w *words) take(n int) words {
	taken := words{w.rest[:n:n]}
	w.rest = w.rest[n:]
	return taken
}

func newTarget(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
	t := &target{host: h, length: s.Len, fresh: true, changed: make(chan struct{})}
	t.setup.initDelay = defaultDelay
	w := &words{s.Args}
	if err := t.parseFeatures(w); err != nil {
		return nil, err
	}
	handler, err := w.counted(maxWords, "invalid number of hardware handler args")
	if err != nil {
		return nil, err
	}
	t.setup.handler = handler.next()
	groups, err := w.number(0, maxWords, "invalid number of priority groups")
	if err != nil {
		return nil, err
	}
	first, err := w.number(0, maxWords, "invalid initial priority group number")
	if err != nil {
		return nil, err
	}
	if (groups == 0) != (first == 0) {
		return nil, mapper.BadArg("invalid initial priority group", "%d of %d groups, which count from 1", first, groups)
	}
	for len(w.rest) > 0 {
		g := &group{number: len(t.groups) + 1}
		if err := t.parseGroup(ctx, g, w); err != nil {
			return nil, err
		}
		t.groups = append(t.groups, g)
		t.valid += len(g.paths)
		if uint64(g.number) == first {
			t.next = g
		}
	}
	if uint64(len(t.groups)) != groups {
		return nil, mapper.BadArg("priority group count mismatch", "%d are announced, %d follow", groups, len(t.groups))
	}
	return t, nil
}

// parseFeatures reads the features. Their names are in any case, as in the kernel.
func (t *target) parseFeatures(w *words) error {
	f, err := w.counted(maxFeatureWords, "invalid number of feature args")
	if err != nil {
		return err
	}
	for len(f.rest) > 0 {
		name := f.next()
		switch word := strings.ToLower(name); {
		case word == "queue_if_no_path":
			t.queueing = true
		case word == "retain_attached_hw_handler":
			t.setup.retain = true
		case word == "pg_init_retries" && len(f.rest) > 0:
			t.setup.initRetries, err = f.number(1, 50, "pg_init_retries must be between 1 and 50")
		case word == "pg_init_delay_msecs" && len(f.rest) > 0:
			t.setup.initDelay, err = f.number(0, 60000, "pg_init_delay_msecs must be between 0 and 60000")
		case word == "queue_mode" && len(f.rest) > 0:
			err = t.setup.parseMode(f.next())
		default:
			return mapper.BadArg("Unrecognised multipath feature request",
				"%q: want queue_if_no_path, retain_attached_hw_handler, pg_init_retries N, pg_init_delay_msecs N or queue_mode MODE", name)
		}
		if err != nil {
			return err
		}
	}
	if t.setup.bio {
		t.setup.retain = true // as the kernel has it: a table of this mode says so
	}
	return nil
}

func (s *setup) parseMode(mode string) error {
	switch strings.ToLower(mode) {
	case "bio":
		s.bio = true
	case "rq", "mq":
		s.bio = false
	default:
		return mapper.BadArg("Unknown 'queue_mode' requested", "%q: want bio, rq or mq", mode)
	}
	return nil
}

// parseGroup reads SELECTOR #ARGS ARGS #PATHS #PATHARGS and the paths.
func (t *target) parseGroup(ctx context.Context, g *group, w *words) error {
	if len(w.rest) < 2 {
		return mapper.BadArg("not enough priority group arguments", "want SELECTOR #ARGS ARGS... #PATHS #PATHARGS paths")
	}
	name := w.next()
	if g.kind = kinds[name]; g.kind == nil {
		return mapper.BadArg("unknown path selector type", "%q: want round-robin, queue-length, service-time, historical-service-time or io-affinity", name)
	}
	own, err := w.counted(maxWords, "invalid number of path selector args")
	if err != nil {
		return err
	}
	if g.selector, err = g.kind.make(own.rest); err != nil {
		return err
	}
	count, err := w.number(1, maxWords, "invalid number of paths")
	if err != nil {
		return err
	}
	each, err := w.number(0, maxWords, "invalid number of selector args")
	if err != nil {
		return err
	}
	for range count {
		if uint64(len(w.rest)) < 1+each {
			return mapper.BadArg("not enough path parameters", "%d words, want DISK and %d more", len(w.rest), each)
		}
		if err := t.parsePath(ctx, g, w.take(int(1+each))); err != nil {
			return err
		}
	}
	return nil
}

func (t *target) parsePath(ctx context.Context, g *group, w words) error {
	disk, err := args.Open(ctx, t.host, w.next(), "error getting device")
	if err != nil {
		return err
	}
	if t.setup.handler != "" {
		return &mapper.ArgError{Reason: "error attaching hardware handler", Errno: unix.ENODEV,
			Detail: mapper.QuoteArg(t.setup.handler) + ": hardware handlers talk to SCSI disks, and there are none here: write 0 for the handler"}
	}
	p := &path{disk: disk, name: mapper.DiskName(disk), group: g, active: true}
	if err := g.selector.add(t.host, p, w.rest); err != nil {
		return err
	}
	g.paths = append(g.paths, p)
	g.order = append(g.order, p)
	g.valid.Store(int32(len(g.order)))
	return nil
}
