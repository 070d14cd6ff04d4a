package dmsetup

import (
	"errors"
	"slices"
	"time"

	"dmfs/fs/control"
)

// info shows the state of devices, as a list of properties or as a report, as often as --count asks.
func (s *session) info(operands []string) error {
	show := s.infoLong
	switch {
	case s.opts.has("json"):
		show = s.infoJSON
	case s.opts.has("columns"):
		show = s.infoColumns
	}
	for left := s.rounds(); ; left-- {
		if err := show(operands); err != nil || left == 1 {
			return err
		}
		if s.opts.has("columns") {
			s.printf("\n")
		}
		select {
		case <-time.After(s.interval()):
		case <-s.ctx.Done():
			return nil
		}
	}
}

// rounds returns how often a report is made; 0 or less is without end.
func (s *session) rounds() int {
	switch {
	case s.opts.has("count"):
		return s.opts.number("count")
	case s.opts.has("interval"):
		return 0
	}
	return 1
}

func (s *session) interval() time.Duration {
	return time.Duration(max(s.opts.number("interval"), 1)) * time.Second
}

func (s *session) infoLong(operands []string) error {
	return s.forDevices(operands, nil, "info", func(d control.Device, _ string) error {
		s.showInfo(d)
		return nil
	})
}

func (s *session) infoJSON(operands []string) error {
	list := []control.Device{}
	var chosen []string
	if s.opts.has("select") { // which dmsetup takes with --columns alone
		var err error
		if chosen, err = s.selected(); err != nil {
			return err
		}
	}
	err := s.forDevices(operands, nil, "info", func(d control.Device, _ string) error {
		if s.opts.has("select") && !slices.Contains(chosen, d.Name) {
			return nil
		}
		d.Name, d.UUID, d.Deps = s.show(d.Name), s.show(d.UUID), s.shownDeps(d)
		list = append(list, d)
		return nil
	})
	return s.printJSON(list, err)
}

// forDevices calls f for each device that the command line names, for all if it names none, with what to put before
// its lines if there may be several: its name, or the path it was named by. call is the ioctl that
// dmsetup would use: "info" and "status" have a text of their own for a missing device.
func (s *session) forDevices(operands, extra []string, call string, f func(d control.Device, label string) error) error {
	refs, err := s.chosenFor(call, operands)
	if err != nil {
		return err
	}
	if refs == nil {
		devices, err := s.queryAll(extra...)
		if err != nil {
			return err
		}
		if len(devices) == 0 && !s.opts.has("json") {
			return s.noDevices()
		}
		for _, d := range devices {
			if err := f(d, s.show(d.Name)); err != nil {
				return err
			}
		}
		return nil
	}
	several := len(refs) > 1 || s.opts.has("select")
	for _, r := range refs {
		d, err := s.query(call, r, extra...)
		if errors.Is(err, errMissing) {
			return s.missing(call, r)
		}
		if err != nil {
			return err
		}
		label := ""
		if several {
			label = choose(r.path != "", r.path, s.show(d.Name))
		}
		if err := f(d, label); err != nil {
			return err
		}
	}
	return nil
}

// chosenFor returns the devices of the command line; -S does not select for info, whose reports select by themselves.
func (s *session) chosenFor(call string, operands []string) ([]ref, error) {
	if call == "info" {
		return s.refs(operands)
	}
	return s.chosen(operands)
}

// showIfVerbose shows the state of r after a verb that changed it, if -v was given.
func (s *session) showIfVerbose(r ref) error {
	if !s.opts.has("verbose") {
		return nil
	}
	d, err := s.query("info", r)
	if errors.Is(err, errMissing) {
		return s.missing("info", r)
	}
	if err == nil {
		s.showInfo(d)
	}
	return err
}

// showInfo prints the properties of d, each on a line, and an empty line.
func (s *session) showInfo(d control.Device) {
	s.hasFile(d)
	d.Name, d.UUID = s.show(d.Name), s.show(d.UUID)
	s.printf("%s\n", control.InfoText(d))
}

// hasFile reports whether d can be opened; dmsetup, which asks the node for its read ahead, says so if not.
func (s *session) hasFile(d control.Device) bool {
	if !d.HasNode && s.Strict {
		s.errorf("/dev/mapper/%s: open failed: No such file or directory", d.Name)
	}
	return d.HasNode
}
