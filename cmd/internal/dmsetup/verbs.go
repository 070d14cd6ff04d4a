package dmsetup

import "strings"

// A Verb is one command, for help texts and shell completion.
type Verb struct {
	Name     string
	Synopsis string // operands and options, as the usage text shows them; may have several lines
	Help     string // one line
}

// A verb is a Verb with what it takes to run it.
type verb struct {
	Verb
	min, max int // operands; max < 0: any number
	run      func(s *session, operands []string) error
}

const (
	synCreate = "<dev_name>\n" +
		"\t    [-j|--major <major> -m|--minor <minor>]\n" +
		"\t    [-U|--uid <uid>] [-G|--gid <gid>] [-M|--mode <octal_mode>]\n" +
		"\t    [-u|--uuid <uuid>] [--addnodeonresume|--addnodeoncreate]\n" +
		"\t    [--readahead {[+]<sectors>|auto|none}]\n" +
		"\t    [-n|--notable|--table {<table>|<table_file>}]\n" +
		"\tcreate --concise [<concise_device_spec_list>]"
	synResume = "[--noflush] [--nolockfs] <device>...\n" +
		"\t       [--addnodeonresume|--addnodeoncreate]\n" +
		"\t       [--readahead {[+]<sectors>|auto|none}]"
	synDevices = "[<device>...]"
	synTable   = "<device> [<table>|<table_file>]"
)

// verbs returns all verbs in the order of the usage text. It is a function since help, which is one of
// them, needs the list.
func verbs() []verb {
	return []verb{
		{Verb{"help", "[-c|-C|--columns]", "show the verbs, with -c also the report fields"}, 0, 0, func(s *session, _ []string) error { return s.help() }},
		{Verb{"create", synCreate, "create a device, load its table and start it"}, 0, 2, (*session).create},
		{Verb{"remove", "[--deferred] [-f|--force] [--retry] <device>...", "remove devices"}, 0, -1, (*session).remove},
		{Verb{"remove_all", "[-f|--force]", "remove every device that is not in use"}, 0, 0, (*session).removeAll},
		{Verb{"suspend", "[--noflush] [--nolockfs] <device>...", "hold back I/O"}, 0, -1, (*session).suspend},
		{Verb{"resume", synResume, "let I/O flow, through the table loaded last"}, 0, -1, (*session).resume},
		{Verb{"load", synTable, "load a table, to be used at the next resume"}, 0, 2, (*session).load},
		{Verb{"clear", "<device>", "drop the table that was loaded and not resumed"}, 0, -1, (*session).clear},
		{Verb{"reload", synTable, "the same as load"}, 0, 2, (*session).load},
		{Verb{"wipe_table", "[-f|--force] [--noflush] [--nolockfs] <device>...", "replace the table by one that fails all I/O"}, 0, -1, (*session).wipeTable},
		{Verb{"rename", "<device> [--setuuid] <new_name_or_uuid>", "change the name, or set the uuid"}, 1, 2, (*session).rename},
		{Verb{"measure", synDevices, "show what would be measured (not built)"}, 0, -1, notBuilt("measure")},
		{Verb{"message", "<device> <sector> <message>", "send a message to a target"}, 2, -1, (*session).message},
		{Verb{"ls", "[--target <target_type>] [--exec <command>] [-o <options>] [--tree]", "list the devices"}, 0, 0, (*session).ls},
		{Verb{"info", synDevices, "show the state of devices"}, 0, -1, (*session).info},
		{Verb{"deps", "[-o <options>] [<device>...]", "show what devices stand on"}, 0, -1, (*session).deps},
		{Verb{"stats", "<command> [<options>] [<device>...]", "count I/O in regions of devices"}, 0, -1, (*session).stats},
		{Verb{"status", "[<device>...] [--noflush] [--target <target_type>]", "show the status of the targets"}, 0, -1, (*session).status},
		{Verb{"table", "[<device>...] [--concise] [--target <target_type>] [--showkeys]", "show the tables"}, 0, -1, (*session).table},
		{Verb{"wait", "<device> [<event_nr>] [--noflush]", "wait for an event"}, 0, 2, (*session).wait},
		{Verb{"mknodes", synDevices, "make device nodes (there are none to make)"}, 0, -1, func(*session, []string) error { return nil }},
		{Verb{"mangle", synDevices, "bring names into their mangled form"}, 0, -1, (*session).mangleVerb},
		{Verb{"udevcreatecookie", "", "make a cookie (there is no udev to wait for)"}, 0, 0, (*session).udevCreateCookie},
		{Verb{"udevreleasecookie", "[<cookie>]", "release a cookie"}, 0, 1, (*session).udevReleaseCookie},
		{Verb{"udevflags", "<cookie>", "show the flags in a udev cookie"}, 1, 1, (*session).udevFlags},
		{Verb{"udevcomplete", "<cookie>", "only for udev rules (not built)"}, 1, 1, noUdev("udevcomplete")},
		{Verb{"udevcomplete_all", "[<age_in_minutes>]", "only for udev rules (not built)"}, 0, 1, noUdev("udevcomplete_all")},
		{Verb{"udevcookies", "", "list cookies (there are none)"}, 0, 0, (*session).udevCookies},
		{Verb{"target-version", "[<target>...]", "show the version of target types"}, 1, -1, (*session).targetVersion},
		{Verb{"targets", "", "show the target types and their versions"}, 0, 0, (*session).targets},
		{Verb{"version", "", "show the version of the program and of the interface"}, 0, 0, (*session).version},
		{Verb{"setgeometry", "<device> <cyl> <head> <sect> <start>", "set the geometry of a device"}, 5, 5, (*session).setGeometry},
		{Verb{"splitname", "<device> [<subsystem>]", "take a name of LVM's apart"}, 1, 2, (*session).splitNameVerb},
	}
}

// Verbs returns all verbs in the order of the usage text.
func Verbs() []Verb {
	var list []Verb
	for _, v := range verbs() {
		list = append(list, v.Verb)
	}
	return list
}

// IsVerb reports whether name is a verb of dmsetup.
func IsVerb(name string) bool { return lookup(name) != nil }

func lookup(name string) *verb {
	for _, v := range verbs() {
		if v.Name == name {
			return &v
		}
	}
	return nil
}

// notBuilt returns a verb that says that it is missing.
func notBuilt(name string) func(*session, []string) error {
	return func(s *session, _ []string) error { return s.failf("%s: not built yet", name) }
}

const (
	usageOptions = `        [--version] [-h|--help [-c|-C|--columns]]
        [-v|--verbose [-v|--verbose ...]] [-f|--force]
        [--checks] [--manglename {none|hex|auto}]
        [-r|--readonly] [--noopencount] [--noflush] [--nolockfs] [--inactive]
        [--udevcookie <cookie>] [--noudevrules] [--noudevsync] [--verifyudev]
        [-y|--yes] [--readahead {[+]<sectors>|auto|none}] [--retry]
        [-c|-C|--columns] [-o <fields>] [-O|--sort <sort_fields>]
        [-S|--select <selection>] [--nameprefixes] [--noheadings]
        [--separator <separator>]
`
	usageOwnOptions = "        [-m|--mount <mount_point>] [--json]\n"
	usageNotes      = `
<device> may be device name or (if only one) -u <uuid> or -j <major> -m <minor>
<mangling_mode> is one of 'none', 'auto' and 'hex'.
<fields> are comma-separated.  Use 'help -c' for list.
<concise_device_specification> has single-device entries separated by semi-colons:
    <name>,<uuid>,<minor>,<flags>,<table>
        where <flags> is 'ro' or 'rw' (the default) and any of <uuid>, <minor>
        and <flags> may be empty. Separate extra table lines with commas.
    E.g.: dev1,,,,0 100 linear 253:1 0,100 100 error;dev2,,,ro,0 1 error
Table_file contents may be supplied on stdin.
Options are: devno, devname, blkdevname.
Tree specific options are: ascii, utf, vt100; compact, inverted, notrunc;
                           blkdevname, [no]device, active, open, rw and uuid.

`
)

// usage prints the usage text where dmsetup does: to standard error.
func (s *session) usage() {
	var b strings.Builder
	b.WriteString("Usage:\n\n" + s.program() + "\n" + usageOptions)
	if !s.Strict {
		b.WriteString(usageOwnOptions)
	}
	b.WriteString("\n")
	for _, v := range verbs() {
		b.WriteString("\t" + v.Name + " " + v.Synopsis + "\n")
	}
	b.WriteString(usageNotes)
	_, _ = s.Stderr.Write([]byte(b.String()))
}

func (s *session) help() error {
	s.usage()
	if s.opts.has("columns") {
		s.fieldHelp(false)
	}
	return nil
}
