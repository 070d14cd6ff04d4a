package dmsetup

import (
	"fmt"
	"strconv"
	"strings"
)

// options are what the command line gave, by the long name of the option.
type options struct {
	count map[string]int
	value map[string]string // the last one given
}

func (o options) has(name string) bool     { return o.count[name] > 0 }
func (o options) get(name string) string   { return o.value[name] }
func (o options) set(name, value string)   { o.count[name]++; o.value[name] = value }
func (o options) number(name string) int   { return leadingInt(o.value[name]) }
func (o options) any(names ...string) bool { return anyOf(names, o.has) }

func anyOf(names []string, has func(string) bool) bool {
	for _, n := range names {
		if has(n) {
			return true
		}
	}
	return false
}

// leadingInt returns the decimal number that s begins with, 0 if there is none, as C's atoi.
func leadingInt(s string) int {
	s = strings.TrimLeft(s, " \t\n")
	end := 0
	for end < len(s) && (s[end] >= '0' && s[end] <= '9' || end == 0 && (s[0] == '-' || s[0] == '+')) {
		end++
	}
	n, _ := strconv.Atoi(s[:end])
	return n
}

// A longOption is an option by its long name. Their order is dmsetup's, since the message
// about an ambiguous abbreviation lists them.
type longOption struct {
	name string
	arg  bool
}

var longOptions = []longOption{
	{"alias", true}, {"alldevices", false}, {"allprograms", false}, {"allregions", false}, {"area", false},
	{"areas", true}, {"areasize", true}, {"addnodeonresume", false}, {"addnodeoncreate", false},
	{"bounds", true}, {"checks", false}, {"clear", false}, {"columns", false}, {"concise", false}, {"count", true},
	{"deferred", false}, {"exec", true}, {"filemap", false}, {"follow", true}, {"force", false},
	{"foreground", false}, {"gid", true}, {"group", false}, {"groupid", true}, {"help", false},
	{"histogram", false}, {"inactive", false}, {"interval", true}, {"length", true}, {"manglename", true},
	{"major", true}, {"minor", true}, {"mode", true}, {"nameprefixes", false}, {"nogroup", false},
	{"noflush", false}, {"noheadings", false}, {"nolockfs", false}, {"noopencount", false}, {"nosuffix", false},
	{"notable", false}, {"notimesuffix", false}, {"nomonitor", false}, {"noudevrules", false},
	{"noudevsync", false}, {"options", true}, {"precise", false}, {"programid", true}, {"readonly", false},
	{"raw", false}, {"readahead", true}, {"region", false}, {"regions", true}, {"regionid", true},
	{"relative", false}, {"retry", false}, {"rows", false}, {"select", true}, {"segments", false},
	{"separator", true}, {"setuuid", false}, {"showkeys", false}, {"sort", true}, {"start", true},
	{"table", true}, {"target", true}, {"tree", false}, {"udevcookie", true}, {"uid", true}, {"units", true},
	{"uuid", true}, {"unbuffered", false}, {"unquoted", false}, {"userdata", true}, {"verbose", false},
	{"verifyudev", false}, {"version", false}, {"yes", false},
}

// ownOptions are those that dmfs adds to dmsetup's.
var ownOptions = []longOption{{"json", false}, {"mount", true}}

var shortOptions = map[byte]longOption{
	'c': {"columns", false}, 'C': {"columns", false}, 'f': {"force", false}, 'h': {"help", false},
	'n': {"notable", false}, 'r': {"readonly", false}, 'v': {"verbose", false}, 'y': {"yes", false},
	'j': {"major", true}, 'm': {"minor", true}, 'o': {"options", true}, 'u': {"uuid", true}, 'G': {"gid", true},
	'M': {"mode", true}, 'O': {"sort", true}, 'S': {"select", true}, 'U': {"uid", true},
}

// parseOptions takes args apart as getopt_long does: options may stand between operands, "--" ends
// them, long ones may be abbreviated. The error is getopt's text without the program's name.
func parseOptions(args []string, long []longOption) (options, []string, error) {
	opts := options{make(map[string]int), make(map[string]string)}
	var operands []string
	for len(args) > 0 {
		a := args[0]
		args = args[1:]
		var err error
		switch {
		case a == "--":
			return opts, append(operands, args...), nil
		case strings.HasPrefix(a, "--"):
			args, err = parseLong(opts, a, args, long)
		case len(a) > 1 && a[0] == '-':
			args, err = parseShort(opts, a[1:], args)
		default:
			operands = append(operands, a)
		}
		if err != nil {
			return opts, nil, err
		}
	}
	return opts, operands, nil
}

func parseLong(opts options, a string, rest []string, long []longOption) ([]string, error) {
	name, value, attached := strings.Cut(a[2:], "=")
	var found []longOption
	for _, o := range long {
		if o.name == name {
			found = []longOption{o}
			break
		}
		if strings.HasPrefix(o.name, name) {
			found = append(found, o)
		}
	}
	switch {
	case len(found) == 0:
		return nil, fmt.Errorf("unrecognized option '%s'", a)
	case len(found) > 1:
		text := "option '" + a + "' is ambiguous; possibilities:"
		for _, o := range found {
			text += " '--" + o.name + "'"
		}
		return nil, fmt.Errorf("%s", text)
	}
	o := found[0]
	switch {
	case attached && !o.arg:
		return nil, fmt.Errorf("option '--%s' doesn't allow an argument", o.name)
	case o.arg && !attached:
		if len(rest) == 0 {
			return nil, fmt.Errorf("option '--%s' requires an argument", o.name)
		}
		value, rest = rest[0], rest[1:]
	}
	opts.set(o.name, value)
	return rest, nil
}

func parseShort(opts options, letters string, rest []string) ([]string, error) {
	for i := 0; i < len(letters); i++ {
		o, known := shortOptions[letters[i]]
		if !known {
			return nil, fmt.Errorf("invalid option -- '%c'", letters[i])
		}
		if !o.arg {
			opts.set(o.name, "")
			continue
		}
		if value := letters[i+1:]; value != "" {
			opts.set(o.name, value)
			return rest, nil
		}
		if len(rest) == 0 {
			return nil, fmt.Errorf("option requires an argument -- '%c'", letters[i])
		}
		opts.set(o.name, rest[0])
		return rest[1:], nil
	}
	return rest, nil
}

// parse reads the command line into s and returns the operands, the verb first.
func (s *session) parse(args []string) ([]string, error) {
	long := longOptions
	if !s.Strict {
		long = append(append([]longOption(nil), longOptions...), ownOptions...)
	}
	opts, operands, err := parseOptions(args, long)
	if err != nil {
		s.errorf("%s: %v", s.Args0, err)
		return nil, errParse
	}
	s.opts = opts
	s.takeMount()
	if err := s.checkOptions(operands); err != nil {
		return nil, err
	}
	return operands, nil
}

// takeMount moves the value of -m that is no number to --mount: dmsetup's -m is --minor, and a user of dmfs
// expects it to name the mount.
func (s *session) takeMount() {
	v := s.opts.get("minor")
	if s.Strict || !s.opts.has("minor") || v != "" && strings.Trim(v, "0123456789") == "" {
		return
	}
	s.opts.set("mount", v)
	delete(s.opts.count, "minor")
	delete(s.opts.value, "minor")
}

// checkOptions refuses values and combinations that dmsetup refuses before it looks at the verb.
func (s *session) checkOptions(operands []string) error {
	o := s.opts
	refuse := func(format string, args ...any) error {
		s.errorf(format, args...)
		return errParse
	}
	if o.has("manglename") {
		mode, ok := mangleModes[o.get("manglename")]
		if !ok {
			return refuse("Unknown name mangling mode.")
		}
		s.mangle = mode
	} else if mode, ok := mangleModes[s.Getenv("DM_DEFAULT_NAME_MANGLING_MODE")]; ok {
		s.mangle = mode
	}
	if mode := o.get("mode"); o.has("mode") {
		if _, err := strconv.ParseUint(mode, 8, 32); err != nil {
			return refuse("Invalid argument for --mode: %s. ", mode)
		}
	}
	switch {
	case o.has("count") && o.number("count") < 0:
		return refuse("Count must be zero or greater.")
	case o.has("interval") && o.number("interval") <= 0:
		return refuse("Interval must be a positive integer.")
	case o.has("major") != o.has("minor"):
		return refuse("Please specify both major number and minor number.")
	case o.has("table") && o.has("notable"):
		return refuse("--table and --notable are incompatible.")
	case o.has("addnodeonresume") && o.has("addnodeoncreate"):
		return refuse("--addnodeonresume and --addnodeoncreate are incompatible.")
	}
	return s.checkDisplay(operands)
}

// checkDisplay refuses words of -o where it chooses how devices are shown, rather than fields.
func (s *session) checkDisplay(operands []string) error {
	if !s.opts.has("options") || s.opts.has("columns") || len(operands) > 0 && (operands[0] == "splitname" || operands[0] == "stats") {
		return nil
	}
	if len(operands) > 0 && operands[0] == "ls" && s.opts.has("tree") {
		if word := (&treeStyle{}).parse(s.opts.get("options")); word != "" {
			s.errorf("Tree options not recognised: %s.", word)
			return errParse
		}
		return nil
	}
	for _, word := range splitWords(s.opts.get("options")) {
		switch word {
		case showNumber, showBlock, showName:
		default:
			s.errorf("Option not recognised: %s.", word)
			return errParse
		}
	}
	return nil
}

// splitWords splits a list at commas and drops empty words.
func splitWords(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}
