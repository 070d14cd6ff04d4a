package main

import (
	"errors"
	"os"
	"path/filepath"

	"dmfs/cmd/internal/exec"
)

// execCommand is `dmfs exec [-m MNT] [--block FILE[=NAME]]… [--] COMMAND…`.
func execCommand(args []string) int {
	const name = "dmfs exec"
	o, err := parseExec(args)
	if err == nil && len(o.Args) == 0 {
		err = errors.New("no command given: want `dmfs exec [--block FILE]… -- COMMAND…`")
	}
	if err != nil {
		complain(name, err)
		return exitExec
	}
	status, err := exec.Run(o)
	if err != nil {
		complain(name, err)
	}
	return status
}

// parseExec reads the options, which end where the command begins.
func parseExec(args []string) (o exec.Options, err error) {
	mnt := ""
	var blocks []string
	flags := []flag{
		{names: "-m --mount", take: func(v string) { mnt = v }},
		{names: "-b --block", take: func(v string) { blocks = append(blocks, v) }},
		{names: "-h --help", set: func() { os.Exit(help([]string{"exec"})) }},
	}
	own := ownArgs(args, flags)
	if _, err := parseArgs(args[:own], flags); err != nil {
		return o, err
	}
	o.Args = args[own:]
	if len(o.Args) > 0 && o.Args[0] == "--" {
		o.Args = o.Args[1:]
	}
	for _, text := range blocks {
		b, err := exec.ParseBlock(text)
		if err != nil {
			return o, err
		}
		if b.File, err = filepath.Abs(b.File); err != nil {
			return o, err
		}
		if b.File, err = filepath.EvalSymlinks(b.File); err != nil {
			return o, err
		}
		o.Blocks = append(o.Blocks, b)
	}
	if o.Mount, err = chooseMount(mnt); err != nil {
		return o, err
	}
	o.Mount, err = filepath.Abs(o.Mount)
	return o, err
}

// ownArgs returns how many of args are ours: those before "--" or the first word that is neither an option nor the value of one.
func ownArgs(args []string, flags []flag) int {
	for i := 0; i < len(args); i++ {
		if args[i] == "--" || len(args[i]) < 2 || args[i][0] != '-' {
			return i
		}
		if f := find(flags, args[i]); f != nil && f.take != nil {
			i++
		}
	}
	return len(args)
}
