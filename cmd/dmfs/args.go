package main

import (
	"fmt"
	"strings"
)

// A flag is one option of a subcommand. Exactly one of set and take is used.
type flag struct {
	names string             // "-o --options", separated by blanks
	set   func()             // without a value
	take  func(value string) // with one
}

// parseArgs reads options, which may stand before, between and after the other words, and returns those.
// Short options may be joined ("-fn"), values attached ("-oro", "--config=x"); "--" ends them.
func parseArgs(args []string, flags []flag) ([]string, error) {
	var words []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "--":
			return append(words, args[i+1:]...), nil
		case strings.HasPrefix(a, "--"):
			name, value, attached := strings.Cut(a, "=")
			used, err := apply(flags, name, value, attached, args[i+1:])
			if err != nil {
				return nil, err
			}
			i += used
		case len(a) > 1 && a[0] == '-':
			used, err := applyShort(flags, a[1:], args[i+1:])
			if err != nil {
				return nil, err
			}
			i += used
		default:
			words = append(words, a)
		}
	}
	return words, nil
}

// applyShort applies joined one-letter options and returns how many of rest they took.
func applyShort(flags []flag, letters string, rest []string) (int, error) {
	for i := range letters {
		f := find(flags, "-"+letters[i:i+1])
		if f == nil || f.take == nil {
			if _, err := apply(flags, "-"+letters[i:i+1], "", false, nil); err != nil {
				return 0, err
			}
			continue
		}
		value := letters[i+1:]
		return apply(flags, "-"+letters[i:i+1], value, value != "", rest)
	}
	return 0, nil
}

// apply applies one option; its value, unless attached, is the first of rest. It returns how many of
// rest it took.
func apply(flags []flag, name, value string, attached bool, rest []string) (int, error) {
	f := find(flags, name)
	switch {
	case f == nil:
		return 0, fmt.Errorf("unknown option %s", name)
	case f.set != nil && attached:
		return 0, fmt.Errorf("option %s takes no value", name)
	case f.set != nil:
		f.set()
		return 0, nil
	case attached:
		f.take(value)
		return 0, nil
	case len(rest) == 0:
		return 0, fmt.Errorf("option %s needs a value", name)
	}
	f.take(rest[0])
	return 1, nil
}

func find(flags []flag, name string) *flag {
	for i := range flags {
		for _, n := range strings.Fields(flags[i].names) {
			if n == name {
				return &flags[i]
			}
		}
	}
	return nil
}
