package dmsetup

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"dmfs/mapper"

	"golang.org/x/sys/unix"
)

// How often and how long apart --retry tries to remove a busy device.
const (
	removeTries = 25
	removePause = 200 * time.Millisecond
)

// flagWords returns those options that are words of commands too.
func (s *session) flagWords(names ...string) []string {
	var words []string
	for _, n := range names {
		if s.opts.has(n) {
			words = append(words, n)
		}
	}
	return words
}

func (s *session) suspend(operands []string) error {
	return s.each(operands, func(r ref) error { return s.actAndShow("suspend", r, s.flagWords("noflush", "nolockfs")...) })
}

func (s *session) resume(operands []string) error {
	return s.each(operands, func(r ref) error { return s.actAndShow("resume", r, s.flagWords("noflush", "nolockfs")...) })
}

func (s *session) clear(operands []string) error {
	return s.each(operands, func(r ref) error { return s.actAndShow("clear", r) })
}

func (s *session) actAndShow(verb string, r ref, words ...string) error {
	if _, err := s.act(verb, verb, r, words...); err != nil {
		return err
	}
	return s.showIfVerbose(r)
}

func (s *session) remove(operands []string) error {
	return s.each(operands, func(r ref) error {
		if s.opts.has("force") {
			_ = s.wipe(r) // reported; the removal says whether it matters
		}
		return s.removeOne(r)
	})
}

func (s *session) removeOne(r ref) error {
	tries := 1
	if s.opts.has("retry") {
		tries = removeTries
	}
	for {
		_, err := s.act("remove", "remove", r, s.flagWords("deferred")...)
		tries--
		if err == nil || tries == 0 || !s.isBusy(r) {
			return err
		}
		select {
		case <-time.After(removePause):
		case <-s.ctx.Done():
			return err
		}
	}
}

// isBusy reports whether r exists, so that another try to remove it may do.
func (s *session) isBusy(r ref) bool {
	_, err := s.query("info", r)
	return err == nil
}

func (s *session) removeAll([]string) error {
	words := append([]string{"remove_all"}, s.flagWords("force", "deferred")...)
	_, err := s.send("remove_all", ref{}, words...)
	return err
}

func (s *session) wipeTable(operands []string) error {
	return s.each(operands, s.wipe)
}

// wipe puts an error table of the same size in place of r's.
func (s *session) wipe(r ref) error {
	d, err := s.query("table", r)
	if errors.Is(err, errMissing) {
		_ = s.ioctlFailed("table", r, unix.ENXIO)
	} else if err != nil {
		return err
	}
	if err := s.loadTable(r, errorTable(d.Sectors)); err != nil {
		return err
	}
	if !d.Suspended {
		if _, err := s.act("suspend", "suspend", r, s.flagWords("noflush", "nolockfs")...); err != nil {
			return err
		}
	}
	_, err = s.act("resume", "resume", r)
	return err
}

// rename changes the name of a device or sets its uuid. The interface knows devices to be renamed by name alone.
func (s *session) rename(operands []string) error {
	r, rest, err := s.takeDevice(operands, "No device specified.")
	switch {
	case err != nil:
		return err
	case len(rest) == 0:
		return s.failf("No device specified.")
	case len(rest) > 1:
		return errCount
	}
	to := rest[0]
	if s.opts.has("setuuid") {
		return s.setUUID(r, to)
	}
	switch {
	case strings.Contains(to, "/"):
		return s.failf("Name \"%s\" invalid. It contains \"/\".", to)
	case to == "":
		return s.failf("Non empty new name is required.")
	case len(to) > maxName:
		return s.failf("Name \"%s\" too long", to)
	}
	stored, err := s.mangle.mangle("new name", to, maxName)
	if err != nil {
		s.errorf("%v", err)
		return s.failf("Failed to mangle new device name \"%s\"", to)
	}
	if r.name == "" {
		return s.ioctlFailed("rename", r, unix.ENXIO)
	}
	_, err = s.act("rename", "rename", r, quote(stored))
	return err
}

func (s *session) setUUID(r ref, uuid string) error {
	if len(uuid) > maxUUID {
		return s.failf("Uuid \"%s\" too long", uuid)
	}
	stored, err := s.mangle.mangle("new UUID", uuid, maxUUID)
	if err != nil {
		s.errorf("%v", err)
		return s.failf("Failed to mangle new device UUID \"%s\"", uuid)
	}
	switch {
	case stored == "":
		return s.ioctlFailed("rename", r, unix.EINVAL)
	case r.name == "":
		return s.ioctlFailed("rename", r, unix.ENXIO)
	}
	_, err = s.act("rename", "setuuid", r, quote(stored))
	return err
}

// message sends the words after the sector to the target at it, and prints the answer.
func (s *session) message(operands []string) error {
	r, rest, err := s.takeDevice(operands, "")
	if err != nil {
		return err
	}
	if len(rest) == 0 || s.opts.any("uuid", "major") && len(rest) < 2 {
		return errCount
	}
	sector, err := strconv.ParseUint(rest[0], 10, 64)
	if err != nil {
		return s.failf("Invalid sector.")
	}
	if len(rest) == 1 {
		s.errorf("No message supplied.")
	}
	words, err := mapper.SplitArgs(strings.Join(rest[1:], " "))
	if err != nil {
		s.reason = err.Error()
		return s.ioctlFailed("message", r, unix.EINVAL)
	}
	for i := range words {
		words[i] = quote(words[i])
	}
	reply, err := s.act("message", "message", r, append([]string{strconv.FormatUint(sector, 10)}, words...)...)
	if err != nil {
		return err
	}
	if reply = strings.TrimRight(reply, "\n"); reply != "" && reply != "ok" {
		s.printf("%s\n", reply)
	}
	return nil
}

// setGeometry leaves it to the mount to refuse what is no number.
func (s *session) setGeometry(operands []string) error {
	r, err := s.ref(operands[0])
	if err != nil {
		return err
	}
	var words []string
	for _, o := range operands[1:] {
		words = append(words, quote(o))
	}
	_, err = s.act("setgeometry", "setgeometry", r, words...)
	return err
}
