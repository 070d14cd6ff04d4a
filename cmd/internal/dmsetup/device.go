package dmsetup

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"dmfs/fs/control"
	"dmfs/mapper"

	"golang.org/x/sys/unix"
)

// A ref is a device as the user named it: by name, by uuid or by number. Name and uuid are as stored.
type ref struct {
	name, uuid   string
	numbered     bool
	major, minor uint32
	path         string // as given, if a path was
}

// selector returns r as the control file's query and wait take it.
func (r ref) selector() string {
	switch {
	case r.numbered:
		return fmt.Sprintf("dev=%d:%d", r.major, r.minor)
	case r.uuid != "" && r.name == "":
		return quote("uuid=" + r.uuid)
	}
	return quote("name=" + r.name)
}

// String returns r as libdevmapper puts it into messages: the name, and the number or the uuid, if given.
func (r ref) String() string {
	second := r.uuid
	if r.numbered {
		second = fmt.Sprintf("(%d:%d)", r.major, r.minor)
	}
	return r.name + " " + second
}

func quote(word string) string { return mapper.QuoteArg(word) }

// errMissing is what a query of a named device that does not exist gives.
var errMissing = errors.New("no such device")

// send carries out one command, made of words that are already quoted. A refusal is reported as libdevmapper
// reports a failed ioctl named call on r, and is an errFailed.
func (s *session) send(call string, r ref, words ...string) (string, error) {
	m, err := s.connect()
	if err != nil {
		return "", err
	}
	reply, err := m.Do(s.ctx, strings.Join(words, " "))
	if err != nil {
		return "", s.ioctlFailed(call, r, err)
	}
	return reply, nil
}

// ioctlFailed reports err as libdevmapper reports a failed ioctl and keeps its reason for people.
func (s *session) ioctlFailed(call string, r ref, err error) error {
	var refused *refusal
	if errors.As(err, &refused) && refused.reason != "" {
		s.reason = refused.reason
		if r.name != "" && !strings.HasPrefix(s.reason, r.name+": ") {
			s.reason = r.name + ": " + s.reason
		}
	}
	return s.failf("device-mapper: %s ioctl on %s failed: %s", call, r, strerror(err))
}

// ask sends a query and returns its document. A missing device is errMissing, other refusals are reported.
func (s *session) ask(call string, r ref, words ...string) (control.Document, error) {
	var doc control.Document
	m, err := s.connect()
	if err != nil {
		return doc, err
	}
	reply, err := m.Do(s.ctx, strings.Join(words, " "))
	switch {
	case errors.Is(err, unix.ENXIO):
		return doc, errMissing
	case err != nil:
		return doc, s.ioctlFailed(call, r, err)
	}
	if err := json.Unmarshal([]byte(reply), &doc); err != nil {
		return doc, s.failf("%s: the reply of %s makes no sense: %v", s.Args0, m.Path(), err)
	}
	return doc, nil
}

// queryWords returns the words of a query with those options of the command line that change its answer.
func (s *session) queryWords(words ...string) []string {
	words = append([]string{"query"}, words...)
	for _, o := range []string{"inactive", "noflush", "showkeys"} {
		if s.opts.has(o) {
			words = append(words, o)
		}
	}
	return words
}

// query returns one device. extra are "table" or "status".
func (s *session) query(call string, r ref, extra ...string) (control.Device, error) {
	if !r.numbered && r.name == "" && r.uuid == "" {
		return control.Device{}, errMissing
	}
	doc, err := s.ask(call, r, s.queryWords(append([]string{r.selector()}, extra...)...)...)
	if err == nil && len(doc.Devices) == 0 {
		err = errMissing
	}
	if errors.Is(err, errMissing) && r.path != "" {
		return control.Device{}, s.failf("Device %s not found", r.path)
	}
	if err != nil {
		return control.Device{}, err
	}
	return doc.Devices[0], nil
}

// queryAll returns all devices by name, as the kernel lists them. Names that cannot be shown in the mangling mode are
// reported and fail it.
func (s *session) queryAll(extra ...string) ([]control.Device, error) {
	doc, err := s.ask("names", ref{}, s.queryWords(extra...)...)
	if err != nil {
		return nil, err
	}
	devices := doc.Devices
	sort.SliceStable(devices, func(i, j int) bool { return devices[i].Name < devices[j].Name })
	failed := false
	for _, d := range devices {
		if _, err := s.mangle.unmangle("name", d.Name); err != nil {
			s.errorf("%v", err)
			failed = true
		}
	}
	if failed {
		return nil, errFailed
	}
	return devices, nil
}

// storedDevices returns the devices that operands, as stored, or -u or -j and -m name, all if there are none of these.
func (s *session) storedDevices(operands []string) ([]control.Device, error) {
	keep := s.mangle
	s.mangle = mangleNone
	defer func() { s.mangle = keep }()
	refs, err := s.refs(operands)
	if err != nil {
		return nil, err
	}
	if refs == nil {
		return s.queryAll()
	}
	var list []control.Device
	for _, r := range refs {
		d, err := s.query("info", r)
		if err != nil {
			return nil, errFailed
		}
		list = append(list, d)
	}
	return list, nil
}

// refs returns what operands name, else what -u or -j and -m name, else nil.
func (s *session) refs(operands []string) ([]ref, error) {
	var list []ref
	for _, o := range operands {
		r, err := s.ref(o)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	if list == nil && s.opts.any("uuid", "major") {
		r, err := s.optionRef()
		return []ref{r}, err
	}
	return list, nil
}

// optionRef returns the device that -u or -j and -m name.
func (s *session) optionRef() (ref, error) {
	if !s.opts.has("major") {
		uuid, err := s.mangle.mangle("UUID", s.opts.get("uuid"), maxUUID)
		if err != nil {
			s.errorf("%v", err)
			return ref{}, s.failf("Failed to mangle device uuid \"%s\".", s.opts.get("uuid"))
		}
		if uuid == "" {
			return ref{}, nil
		}
		return ref{uuid: uuid}, nil
	}
	major := s.opts.number("major")
	if major <= 0 {
		s.errorf("Missing major number for persistent device.")
		return ref{}, s.failf("Couldn't create ioctl argument.")
	}
	return ref{numbered: true, major: uint32(major), minor: uint32(s.opts.number("minor"))}, nil
}

// ref returns the device that an operand names. A path that leads nowhere is reported.
func (s *session) ref(operand string) (ref, error) {
	dir, base := filepath.Split(operand)
	switch {
	case dir == "":
		return s.nameRef(operand)
	case s.isDeviceDir(dir):
		r := ref{name: base}
		if base != "" {
			r.path = operand
		}
		return r, nil
	case dir == "/dev/":
		if r, ok := s.kernelName(base); ok {
			r.path = operand
			return r, nil
		}
		return ref{}, s.failf("Device %s not found", base)
	}
	return ref{}, s.failf("Device %s not found", operand)
}

// nameRef returns the device of a name, or, beyond dmsetup, of dm-N if no device is called that.
func (s *session) nameRef(name string) (ref, error) {
	stored, err := s.mangle.mangle("name", name, maxName)
	if err != nil {
		s.errorf("%v", err)
		return ref{}, s.failf("Failed to mangle device name \"%s\".", name)
	}
	r := ref{name: stored}
	if byNumber, ok := s.kernelName(name); ok && !s.Strict {
		if _, err := s.ask("info", r, "query", r.selector()); errors.Is(err, errMissing) {
			return byNumber, nil
		}
	}
	return r, nil
}

// isDeviceDir reports whether dir, which ends with a slash, is one where a device is a file of its name.
func (s *session) isDeviceDir(dir string) bool {
	dir = filepath.Clean(dir)
	if dir == "/dev/mapper" || dir == filepath.Join(s.Getenv("DM_DEV_DIR"), "mapper") {
		return true
	}
	m, err := s.connect()
	if err != nil {
		return false
	}
	here, err1 := os.Stat(dir)
	there, err2 := os.Stat(m.Path())
	return filepath.Clean(m.Path()) == dir || err1 == nil && err2 == nil && os.SameFile(here, there)
}

// kernelName returns the device of a name like dm-N.
func (s *session) kernelName(name string) (ref, bool) {
	digits, ok := strings.CutPrefix(name, "dm-")
	minor, err := strconv.ParseUint(digits, 10, 20)
	if !ok || err != nil {
		return ref{}, false
	}
	v, err := s.serverVersion()
	if err != nil {
		return ref{}, false
	}
	return ref{numbered: true, major: v.Major, minor: uint32(minor)}, true
}

// storedName returns the name that commands need, looking it up for a device given otherwise.
func (s *session) storedName(call string, r ref) (string, error) {
	if !r.numbered && r.path == "" && (r.name != "" || r.uuid == "") {
		return r.name, nil
	}
	d, err := s.query(call, r)
	if errors.Is(err, errMissing) {
		return "", s.ioctlFailed(call, r, unix.ENXIO)
	}
	return d.Name, err
}

// act sends the command "verb NAME words" about r.
func (s *session) act(call, verb string, r ref, words ...string) (string, error) {
	name, err := s.storedName(call, r)
	if err != nil {
		return "", err
	}
	return s.send(call, r, append([]string{verb, quote(name)}, words...)...)
}

// takeDevice returns the device of a verb that works on one: -u or -j and -m if given, else
// the first operand; and the operands that are left.
func (s *session) takeDevice(operands []string, missing string) (ref, []string, error) {
	if s.opts.any("uuid", "major") {
		r, err := s.optionRef()
		return r, operands, err
	}
	if len(operands) == 0 {
		return ref{}, nil, s.failf("%s", missing)
	}
	r, err := s.ref(operands[0])
	return r, operands[1:], err
}

// each runs f for each device that the command line names by operands, options or a selection, and stops at the first
// failure, unless a selection named them. Without any it is an error.
func (s *session) each(operands []string, f func(r ref) error) error {
	refs, err := s.chosen(operands)
	if err != nil {
		return err
	}
	if refs == nil {
		return s.failf("No device specified.")
	}
	var failed error
	for _, r := range refs {
		if err := f(r); err != nil {
			failed = err
		}
		if failed != nil && !s.opts.has("select") {
			break
		}
	}
	return failed
}

// chosen returns what refs does, cut down to the selection if there is one. A selection
// that matches nothing gives an empty list, not nil.
func (s *session) chosen(operands []string) ([]ref, error) {
	refs, err := s.refs(operands)
	if err != nil || !s.opts.has("select") {
		return refs, err
	}
	names, err := s.selected()
	if err != nil {
		return nil, err
	}
	chosen := []ref{}
	for _, n := range names {
		if refs == nil || refersTo(refs, n) {
			chosen = append(chosen, ref{name: n})
		}
	}
	return chosen, nil
}

func refersTo(refs []ref, name string) bool {
	for _, r := range refs {
		if r.name == name {
			return true
		}
	}
	return false
}

func (s *session) noDevices() error {
	s.printf("No devices found\n")
	return nil
}
