package dmsetup

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"dmfs/fs/control"

	"golang.org/x/sys/unix"
)

// libraryVersion is the dmsetup whose output this package reproduces.
const libraryVersion = "1.02.185 (2022-05-18)"

// askJSON sends a command and decodes its reply.
func (s *session) askJSON(command string, into any) error {
	m, err := s.connect()
	if err != nil {
		return err
	}
	reply, err := m.Do(s.ctx, command)
	if err != nil {
		return s.ioctlFailed(command, ref{}, err)
	}
	if err := json.Unmarshal([]byte(reply), into); err != nil {
		return s.failf("%s: the reply of %s makes no sense: %v", s.Args0, m.Path(), err)
	}
	return nil
}

func (s *session) serverVersion() (control.Version, error) {
	var v control.Version
	err := s.askJSON("version", &v)
	return v, err
}

// versionJSON is the JSON form of version.
type versionJSON struct {
	Library string `json:"library"`
	control.Version
}

func (s *session) version([]string) error {
	if s.opts.has("json") {
		v, err := s.serverVersion()
		return s.printJSON(versionJSON{libraryVersion, v}, err)
	}
	s.printf("Library version:   %s\n", libraryVersion)
	v, err := s.serverVersion()
	if err != nil {
		return err
	}
	s.printf("Driver version:    %s\n", v.Driver)
	if !s.Strict {
		s.printf("Program version:   dmfs %s\n", v.Program)
	}
	return nil
}

// targetTypes returns the target types, the newest registered first, as the kernel lists them.
func (s *session) targetTypes() ([]control.TargetVersion, error) {
	list := []control.TargetVersion{}
	err := s.askJSON("targets", &list)
	slices.Reverse(list)
	return list, err
}

func (s *session) targets([]string) error {
	list, err := s.targetTypes()
	if s.opts.has("json") {
		return s.printJSON(list, err)
	}
	for _, t := range list {
		s.printTarget(t)
	}
	return err
}

func (s *session) printTarget(t control.TargetVersion) {
	s.printf("%-16s v%d.%d.%d\n", t.Name, t.Version[0], t.Version[1], t.Version[2])
}

func (s *session) targetVersion(names []string) error {
	list, err := s.targetTypes()
	if err != nil {
		return err
	}
	found := []control.TargetVersion{}
	for _, name := range names {
		i := slices.IndexFunc(list, func(t control.TargetVersion) bool { return t.Name == name })
		if i < 0 {
			return s.ioctlFailed("target-version", ref{name: name}, unix.EINVAL)
		}
		found = append(found, list[i])
		if !s.opts.has("json") {
			s.printTarget(list[i])
		}
	}
	if s.opts.has("json") {
		return s.printJSON(found, nil)
	}
	return nil
}

// udevFlagNames are the flags in the upper half of a udev cookie, from bit 0; those of the
// subsystem follow from bit 8.
var udevFlagNames = [8]string{
	"DM_UDEV_DISABLE_DM_RULES_FLAG", "DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG", "DM_UDEV_DISABLE_DISK_RULES_FLAG",
	"DM_UDEV_DISABLE_OTHER_RULES_FLAG", "DM_UDEV_LOW_PRIORITY_FLAG", "DM_UDEV_DISABLE_LIBRARY_FALLBACK_FLAG",
	"DM_UDEV_PRIMARY_SOURCE_FLAG", "DM_UDEV_FLAG7",
}

// udevFlags prints the flags of a cookie. It is arithmetic: no udev is needed.
func (s *session) udevFlags(operands []string) error {
	cookie, ok := parseCookie(operands[0])
	if !ok {
		return s.failf("Incorrect cookie value")
	}
	const flagBits, ownBits = 16, 8
	for bit := range flagBits {
		switch {
		case cookie>>(flagBits+bit)&1 == 0:
		case bit < ownBits:
			s.printf("%s='1'\n", udevFlagNames[bit])
		default:
			s.printf("DM_SUBSYSTEM_UDEV_FLAG%d='1'\n", bit-ownBits)
		}
	}
	return nil
}

func parseCookie(text string) (uint32, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 0, 32)
	return uint32(n), err == nil && n != 0
}

// noUdev returns a verb that needs udev, which has no part in dmfs.
func noUdev(name string) func(*session, []string) error {
	return func(s *session, _ []string) error {
		return s.failf("%s: dmfs does not use udev: there are no cookies", name)
	}
}
