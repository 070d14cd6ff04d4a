package dmsetup

import (
	"strconv"
	"strings"
)

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
		return s.failf("Incorrect cookie value.")
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

// There is no udev to wait for, so cookies are made and released as dmsetup does it where udev is not in use: a script
// that brackets its commands with a cookie runs, and nothing else does.

func (s *session) udevCreateCookie([]string) error { return nil }

func (s *session) udevReleaseCookie(operands []string) error {
	if len(operands) == 0 && s.Getenv("DM_UDEV_COOKIE") == "" {
		return s.failf("No udev transaction cookie given.")
	}
	return nil
}

func (s *session) udevCookies([]string) error {
	s.printf("Cookie       Semid      Value      Last semop time           Last change time\n")
	return nil
}

// noUdev returns a verb that only udev's own rules call.
func noUdev(name string) func(*session, []string) error {
	return func(s *session, _ []string) error {
		return s.failf("%s: dmfs does not use udev: there are no cookies", name)
	}
}
