package dmsetup

import (
	"errors"
	"strconv"
	"strings"

	"dmfs/mapper"

	"golang.org/x/sys/unix"
)

// A newDevice is what create is asked to make.
type newDevice struct {
	name, uuid string // as given
	numbered   bool   // a minor was asked for
	minor      int
	readOnly   bool
	specs      []mapper.Spec
}

// create makes one device, or several from a concise description.
func (s *session) create(operands []string) error {
	if s.opts.has("concise") {
		return s.createConcise(operands)
	}
	if len(operands) == 0 {
		return s.failf("Please provide a name for the new device.")
	}
	d := newDevice{
		name:     operands[0],
		uuid:     s.opts.get("uuid"),
		numbered: s.opts.has("minor"),
		minor:    s.opts.number("minor"),
		readOnly: s.opts.has("readonly"),
	}
	if !s.opts.has("notable") {
		var err error
		if d.specs, err = s.tableText(operands[1:]); err != nil {
			return err
		}
	}
	return s.make(d)
}

// make creates d in libdevmapper's three steps, so that each failure is reported as it reports it, and removes the
// device again if it could not be started.
func (s *session) make(d newDevice) error {
	r, err := s.newRef(d)
	if err != nil {
		return err
	}
	words := []string{"create", quote(r.name), "notable"}
	if r.uuid != "" {
		words = append(words, quote("uuid="+r.uuid))
	}
	if d.numbered {
		words = append(words, "minor="+strconv.Itoa(d.minor))
	}
	if d.readOnly {
		words = append(words, "ro")
	}
	if _, err := s.send("create", r, words...); err != nil {
		return err
	}
	if len(d.specs) > 0 {
		if err := s.start(r, d); err != nil {
			return err
		}
	}
	return s.showIfVerbose(ref{name: r.name})
}

// newRef checks the name and uuid of a device to be made.
func (s *session) newRef(d newDevice) (ref, error) {
	if strings.Contains(d.name, "/") {
		return ref{}, s.failf("Name \"%s\" invalid. It contains \"/\".", d.name)
	}
	if len(d.name) > maxName {
		return ref{}, s.failf("Name \"%s\" too long.", d.name)
	}
	name, err := s.mangle.mangle("name", d.name, maxName)
	if err != nil {
		s.errorf("%v", err)
		return ref{}, s.failf("Failed to mangle device name \"%s\".", d.name)
	}
	uuid, err := s.mangle.mangle("UUID", d.uuid, maxUUID)
	if err != nil {
		s.errorf("%v", err)
		return ref{}, s.failf("Failed to mangle device uuid \"%s\".", d.uuid)
	}
	r := ref{name: name, uuid: uuid}
	if !d.numbered {
		return r, nil
	}
	r.numbered, r.minor = true, uint32(max(d.minor, 0))
	v, err := s.serverVersion()
	r.major = v.Major
	if err == nil && s.opts.has("major") && s.opts.number("major") != int(v.Major) {
		r.major = uint32(s.opts.number("major"))
		return ref{}, s.ioctlFailed("create", r, unix.ENXIO)
	}
	return r, err
}

// start loads and resumes the new device r; if that fails it is removed.
func (s *session) start(r ref, d newDevice) error {
	made, err := s.query("info", ref{name: r.name})
	if err != nil {
		return s.ioctlFailed("reload", r, unix.ENXIO)
	}
	asked := ref{name: r.name, numbered: r.numbered, major: r.major, minor: r.minor} // as libdevmapper resumes it: the uuid is gone by then
	r.numbered, r.major, r.minor = true, made.Major, made.Minor
	load := []string{"load", quote(r.name)}
	if d.readOnly {
		load = append(load, "ro")
	}
	_, err = s.send("reload", r, append(load, formatTable(d.specs))...)
	if err == nil {
		_, err = s.send("resume", asked, "resume", quote(r.name))
	}
	if err == nil {
		return nil
	}
	reason := s.reason
	if _, undo := s.send("remove", r, "remove", quote(r.name)); undo != nil {
		s.errorf("Failed to revert device creation.")
	}
	s.reason = reason
	return err
}

// load loads a table into the inactive slot.
func (s *session) load(operands []string) error {
	r, file, err := s.takeDevice(operands, "Please specify device.")
	if err != nil {
		return err
	}
	if len(file) > 1 {
		return errCount
	}
	specs, err := s.tableText(file)
	if err != nil {
		return err
	}
	if err := s.loadTable(r, formatTable(specs)); err != nil {
		return err
	}
	return s.showIfVerbose(r)
}

func (s *session) loadTable(r ref, table string) error {
	words := []string{table}
	if s.opts.has("readonly") {
		words = []string{"ro", table}
	}
	_, err := s.act("reload", "load", r, words...)
	return err
}

// createConcise makes the devices of a concise description, each when its entry is complete.
func (s *session) createConcise(operands []string) error {
	if s.opts.any("table", "notable", "minor", "uuid", "inactive") {
		return s.failf("--concise is incompatible with --[no]table, --minor, --uuid and --inactive.")
	}
	var text string
	switch len(operands) {
	case 0:
		var err error
		if text, err = readAll(s.Stdin); err != nil {
			return s.failf("reading from stdin: %v", err)
		}
		text = strings.TrimRight(text, "\n")
	case 1:
		text = operands[0]
	default:
		return s.failf("dmsetup create --concise takes at most one argument")
	}
	for text != "" {
		entry, rest, err := nextConcise(text)
		var bad *conciseError
		if errors.As(err, &bad) {
			s.errorf("%s", bad.reason)
			return s.failf("%s", bad.parsed())
		}
		d, err := s.conciseDevice(entry)
		if err != nil {
			return err
		}
		if err := s.make(d); err != nil {
			return err
		}
		text = rest
	}
	return nil
}

// conciseDevice checks the fields of an entry.
func (s *session) conciseDevice(f conciseEntry) (newDevice, error) {
	d := newDevice{name: f[0], uuid: f[1], numbered: f[2] != "", minor: leadingInt(f[2])}
	switch f[3] {
	case "", "rw":
		d.readOnly = s.opts.has("readonly")
	case "ro":
		d.readOnly = true
	default:
		return d, s.failf("Invalid flags parameter '%s' must be 'ro' or 'rw' or empty.", f[3])
	}
	var err error
	d.specs, err = s.parseTable(strings.NewReader(f[4]), "")
	return d, err
}
