package dmsetup

import (
	"fmt"
	"strings"
)

// A mangleMode says how names and uuids are turned into what is stored.
type mangleMode int

const (
	mangleAuto mangleMode = iota // mangle what is not mangled yet, refuse a mixture
	mangleHex                    // always mangle
	mangleNone                   // store as given
)

var mangleModes = map[string]mangleMode{"auto": mangleAuto, "hex": mangleHex, "none": mangleNone}

const (
	maxName    = 127 // bytes of a stored name
	maxUUID    = 128 // bytes of a stored uuid
	hexDigits  = "0123456789abcdef"
	mangledLen = 4 // \xNN
)

// plain reports whether c is stored as it is.
func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("#+-.:=@_", c) >= 0
}

// mangledAt returns the byte that the \xNN at the start of s stands for.
func mangledAt(s string) (byte, bool) {
	if len(s) < mangledLen || s[0] != '\\' || s[1] != 'x' {
		return 0, false
	}
	hi, lo := unhex(s[2]), unhex(s[3])
	return byte(hi<<4 | lo), hi >= 0 && lo >= 0
}

func unhex(c byte) int {
	if c >= 'A' && c <= 'F' {
		c += 'a' - 'A'
	}
	return strings.IndexByte(hexDigits, c)
}

// mangleHexed returns s with every byte outside the whitelist as \xNN.
func mangleHexed(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if plain(s[i]) {
			b.WriteByte(s[i])
			continue
		}
		b.WriteString(`\x`)
		b.WriteByte(hexDigits[s[i]>>4])
		b.WriteByte(hexDigits[s[i]&15])
	}
	return b.String()
}

// mangle returns s as it is stored. what is "name" or "UUID" and goes into the error.
func (m mangleMode) mangle(what, s string, limit int) (string, error) {
	if m == mangleNone {
		return s, nil
	}
	out := mangleHexed(s)
	if m == mangleAuto {
		raw, mangled := census(s)
		switch {
		case raw && mangled:
			return "", fmt.Errorf("The %s \"%s\" contains mixed mangled and unmangled characters or it's already mangled improperly.", what, s)
		case mangled:
			out = s
		}
	}
	if len(out) > limit {
		return "", fmt.Errorf("Mangled form of the %s too long for \"%s\".", what, s)
	}
	return out, nil
}

// census reports whether s holds bytes that need mangling, and whether it holds mangled ones.
func census(s string) (raw, mangled bool) {
	for i := 0; i < len(s); i++ {
		if plain(s[i]) {
			continue
		}
		if _, ok := mangledAt(s[i:]); ok {
			mangled = true
			i += mangledLen - 1
			continue
		}
		raw = true
	}
	return raw, mangled
}

// unmangled returns s with every \xNN as the byte it stands for.
func unmangled(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c, ok := mangledAt(s[i:]); ok {
			b.WriteByte(c)
			i += mangledLen - 1
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// twiceMangled reports whether s is the mangled form of something mangled.
func twiceMangled(s string) bool { return strings.Contains(s, `\x5cx`) }

// unmangle returns the stored s as it is shown.
func (m mangleMode) unmangle(what, s string) (string, error) {
	if m == mangleNone {
		return s, nil
	}
	if raw, _ := census(s); raw {
		return "", fmt.Errorf("The %s \"%s\" should be mangled but it contains blacklisted characters.", what, s)
	}
	if m == mangleAuto && twiceMangled(s) {
		return "", fmt.Errorf("The %s \"%s\" seems to be mangled more than once. This is not allowed in auto mode.", what, s)
	}
	return unmangled(s), nil
}

// show returns a stored name or uuid for a listing whose devices were checked before: what
// cannot be unmangled is shown as stored.
func (s *session) show(stored string) string {
	out, err := s.mangle.unmangle("name", stored)
	if err != nil {
		return stored
	}
	return out
}

// mangleVerb brings the names of devices into the form that the mangling mode asks for.
func (s *session) mangleVerb(operands []string) error {
	doc, err := s.storedDevices(operands)
	if err != nil {
		return err
	}
	if len(doc) == 0 {
		return s.noDevices()
	}
	failed := false
	for _, d := range doc {
		if err := s.mangleOne(d.Name, d.UUID); err != nil {
			failed = true
		}
	}
	if failed {
		return errFailed
	}
	return nil
}

func (s *session) mangleOne(name, uuid string) error {
	if s.mangle == mangleAuto && twiceMangled(name) {
		return s.failf("The name \"%s\" seems to be mangled more than once. Manual intervention required to rename the device.", name)
	}
	form := func(stored string) string {
		if s.mangle == mangleNone {
			return unmangled(stored)
		}
		return mangleHexed(unmangled(stored))
	}
	if form(uuid) != uuid {
		s.errorf("%s: %s: UUID in incorrect form. ", name, uuid)
		return s.failf("Unable to change device UUID. The device must be deactivated first.")
	}
	switch {
	case form(name) != name:
		s.printf("%s: renaming to %s\n", name, form(name))
		_, err := s.send("rename", ref{name: name}, "rename", quote(name), quote(form(name)))
		return err
	case uuid == "":
		s.printf("%s: [no UUID]: name already in correct form\n", name)
	default:
		s.printf("%s: %s: name and UUID already in correct form\n", name, uuid)
	}
	return nil
}
