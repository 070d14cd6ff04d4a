package dmsetup

import "strings"

// nameParts are what a subsystem's naming scheme makes of a device name. Their JSON form is the
// answer of splitname --json.
type nameParts struct {
	Subsystem string `json:"subsystem"`
	VG        string `json:"vg_name"`
	LV        string `json:"lv_name"`
	Layer     string `json:"lv_layer"`
}

const subsystemLVM = "LVM"

// subsystemOf returns the subsystem that a uuid says it belongs to: what stands before the first dash.
func subsystemOf(uuid string) string {
	subsystem, _, found := strings.Cut(uuid, "-")
	if !found {
		return ""
	}
	return subsystem
}

// splitName takes name apart as subsystem builds it. Only LVM's scheme is known.
func splitName(subsystem, name string) nameParts {
	parts := nameParts{Subsystem: subsystem}
	if subsystem != subsystemLVM {
		return parts
	}
	parts.VG, name = nextPart(name)
	parts.LV, name = nextPart(name)
	parts.Layer, _ = nextPart(name)
	return parts
}

// nextPart returns what stands before the first single dash, with doubled dashes made single, and what follows. A
// dash at the very end belongs to the part.
func nextPart(name string) (part, rest string) {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		switch {
		case name[i] != '-' || i+1 == len(name):
			b.WriteByte(name[i])
		case name[i+1] == '-':
			b.WriteByte('-')
			i++
		default:
			return b.String(), name[i+1:]
		}
	}
	return b.String(), ""
}

// splitNameVerb reports the parts of a name.
func (s *session) splitNameVerb(operands []string) error {
	subsystem := subsystemLVM
	if len(operands) > 1 {
		subsystem = operands[1]
	}
	parts := splitName(subsystem, operands[0])
	if s.opts.has("json") {
		return s.printJSON(parts, nil)
	}
	rep, err := s.newReport("vg_name,lv_name,lv_layer", true)
	if rep == nil {
		return err
	}
	if err := rep.add(&object{parts: parts}); err != nil {
		return err
	}
	rep.print()
	return nil
}
