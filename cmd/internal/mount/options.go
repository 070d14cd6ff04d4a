package mount

import (
	"fmt"
	"strings"
)

// Options are what -o asks for.
type Options struct {
	// ReadOnly is for the devices. The mount itself stays writable, or nothing could be asked of it through
	// its control file.
	ReadOnly              bool
	AllowOther, AllowRoot bool

	Config string   // config=FILE
	Kernel []string // for the kernel, such as noexec
}

// ignored are options of mount(8), fstab(5) and libfuse that mean nothing to dmfs or what it does anyway:
// a mount holds neither device nodes nor set-user-id programs, keeps no access times and checks permissions.
var ignored = map[string]bool{
	"defaults": true, "auto": true, "noauto": true, "user": true, "users": true, "nouser": true,
	"owner": true, "group": true, "_netdev": true, "nofail": true, "fail": true, "async": true,
	"dev": true, "suid": true, "exec": true, "loud": true, "silent": true, "mand": true, "nomand": true,
	"default_permissions": true, "atime": true, "noatime": true, "nodiratime": true, "relatime": true, "norelatime": true, "strictatime": true, "nostrictatime": true,
	"diratime": true, "lazytime": true, "nolazytime": true, "iversion": true, "noiversion": true,
	"nodev": true, "nosuid": true, "subtype=dmfs": true,
}

// ignoredPrefixes are the beginnings of such options.
var ignoredPrefixes = []string{"x-", "X-", "comment=", "user=", "uhelper=", "helper="}

// kernelOptions are passed on.
var kernelOptions = map[string]bool{
	"noexec": true, "sync": true, "dirsync": true,
}

// contexts are the options by which SELinux labels a mount; they are passed on.
var contexts = []string{"context=", "fscontext=", "defcontext=", "rootcontext="}

// ParseOptions reads the arguments of any number of -o. Of options that contradict each other the last
// one counts.
func ParseOptions(lists ...string) (Options, error) {
	var o Options
	for _, list := range lists {
		for _, word := range splitOptions(list) {
			if err := o.add(word); err != nil {
				return Options{}, err
			}
		}
	}
	if o.AllowOther && o.AllowRoot {
		return Options{}, fmt.Errorf("options allow_other and allow_root exclude each other")
	}
	return o, nil
}

// add takes one option.
func (o *Options) add(word string) error {
	name, value, hasValue := strings.Cut(word, "=")
	switch {
	case word == "":
	case word == "ro":
		o.ReadOnly = true
	case word == "rw":
		o.ReadOnly = false
	case word == "allow_other":
		o.AllowOther = true
	case word == "allow_root":
		o.AllowRoot = true
	case name == "config" && hasValue:
		if value == "" {
			return fmt.Errorf("option config= names no file")
		}
		o.Config = value
	case kernelOptions[word] || hasPrefix(word, contexts):
		o.Kernel = append(o.Kernel, word)
	case ignored[word] || hasPrefix(word, ignoredPrefixes):
	default:
		return fmt.Errorf("unknown mount option %q", word)
	}
	return nil
}

func hasPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// splitOptions splits at commas as mount(8) does: not within double quotes, which it drops, and not after a
// backslash, which makes the comma part of the value.
func splitOptions(list string) []string {
	var words []string
	var word strings.Builder
	quoted := false
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c == '\\' && i+1 < len(list) && (list[i+1] == ',' || list[i+1] == '\\'):
			i++
			word.WriteByte(list[i])
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			words = append(words, word.String())
			word.Reset()
		default:
			word.WriteByte(c)
		}
	}
	return append(words, word.String())
}
