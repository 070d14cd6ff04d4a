package dmsetup

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"dmfs/fs/control"

	"golang.org/x/sys/unix"
)

// segments is the JSON form of one device's table or status.
type segments struct {
	Name     string         `json:"name"`
	Segments []control.Line `json:"segments"`
}

func (s *session) table(operands []string) error {
	if s.opts.has("concise") && !s.opts.has("json") {
		return s.tableConcise(operands)
	}
	return s.lines(operands, "table", func(d control.Device) []control.Line { return d.Table })
}

func (s *session) status(operands []string) error {
	return s.lines(operands, "status", func(d control.Device) []control.Line { return d.Status })
}

// lines prints the lines of devices' tables or statuses, each after the device's name if there may be several.
func (s *session) lines(operands []string, what string, of func(control.Device) []control.Line) error {
	list := []segments{}
	err := s.forDevices(operands, []string{what}, what, func(d control.Device, label string) error {
		found, any := s.onlyTarget(of(d))
		switch {
		case !any:
		case s.opts.has("json"):
			list = append(list, segments{s.show(d.Name), found})
		default:
			s.printLines(d, found, label)
		}
		return nil
	})
	if s.opts.has("json") {
		return s.printJSON(list, err)
	}
	return err
}

func (s *session) printLines(d control.Device, lines []control.Line, label string) {
	verbose := s.opts.has("verbose")
	if verbose {
		s.showInfo(d)
	}
	prefix := ""
	if label != "" && !verbose {
		prefix = label + ": "
	}
	for _, l := range lines {
		s.printf("%s%s\n", prefix, formatLine(l))
	}
	if len(lines) == 0 {
		s.printf("%s\n", prefix)
	}
	if label != "" && verbose {
		s.printf("\n")
	}
}

func formatLine(l control.Line) string {
	return fmt.Sprintf("%d %d %s %s", l.Start, l.Len, l.Target, l.Params)
}

// onlyTarget returns the lines that --target asks for, and whether the device is shown at all.
func (s *session) onlyTarget(lines []control.Line) ([]control.Line, bool) {
	found := []control.Line{}
	for _, l := range lines {
		if !s.opts.has("target") || l.Target == s.opts.get("target") {
			found = append(found, l)
		}
	}
	return found, !s.opts.has("target") || len(found) > 0
}

// tableConcise prints the devices as one description that create --concise takes.
func (s *session) tableConcise(operands []string) error {
	var entries []string
	err := s.forDevices(operands, []string{"table"}, "table", func(d control.Device, _ string) error {
		lines, any := s.onlyTarget(d.Table)
		if !any {
			return nil
		}
		mode := "rw"
		if d.ReadOnly {
			mode = "ro"
		}
		fields := []string{escapeConcise(s.show(d.Name)), escapeConcise(s.show(d.UUID)), strconv.Itoa(int(d.Minor)), mode}
		for _, l := range lines {
			fields = append(fields, escapeConcise(formatLine(l)))
		}
		entries = append(entries, strings.Join(fields, ","))
		return nil
	})
	if len(entries) > 0 {
		s.printf("%s\n", strings.Join(entries, ";"))
	}
	return err
}

// missing reports a device that does not exist. dmsetup asks the kernel for info and status in a way that
// succeeds then, and has a text of its own.
func (s *session) missing(call string, r ref) error {
	if call == "info" || call == "status" {
		return s.failf("Device does not exist.")
	}
	return s.ioctlFailed(call, r, unix.ENXIO)
}

// waited is the JSON form of the end of a wait.
type waited struct {
	Name    string `json:"name"`
	EventNr uint32 `json:"event_nr"`
	Removed bool   `json:"removed"`
}

// wait returns when the event counter of a device differs from the number given, 0 without one.
func (s *session) wait(operands []string) error {
	r, rest, err := s.takeDevice(operands, "No device specified.")
	if err != nil {
		return err
	}
	from := 0
	if len(rest) > 0 {
		from = leadingInt(rest[0])
	}
	words := []string{"wait", r.selector(), strconv.FormatUint(uint64(uint32(from)), 10)}
	if s.opts.has("noflush") {
		words = append(words, "noflush")
	}
	if r.path != "" {
		if _, err := s.storedName("waitevent", r); err != nil {
			return err
		}
	}
	doc, err := s.ask("waitevent", r, words...)
	if errors.Is(err, errMissing) {
		return s.missing("waitevent", r)
	}
	if err != nil {
		return err
	}
	if s.opts.has("json") {
		return s.printJSON(s.waitedOf(doc, r), nil)
	}
	if len(doc.Devices) > 0 && s.opts.has("verbose") {
		d := doc.Devices[0]
		if r.name != "" {
			d.Name = r.name // as it was called when the wait began
		}
		s.showInfo(d)
	}
	return nil
}

// waitedOf looks again whether the device is there: the last event is its removal. It does so by number, since the
// event may have been another name.
func (s *session) waitedOf(doc control.Document, r ref) waited {
	if len(doc.Devices) == 0 {
		return waited{Name: s.show(r.name), Removed: true}
	}
	d := doc.Devices[0]
	_, err := s.query("info", ref{numbered: true, major: d.Major, minor: d.Minor})
	return waited{Name: s.show(d.Name), EventNr: d.EventNr, Removed: errors.Is(err, errMissing)}
}

// printJSON prints v unless err says that it could not be made.
func (s *session) printJSON(v any, err error) error {
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return s.failf("%s: %v", s.Args0, err)
	}
	s.printf("%s\n", data)
	return nil
}
