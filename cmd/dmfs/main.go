// Dmfs is the Linux device mapper as an ordinary program: it serves mapped devices as files of a FUSE mount.
//
// It answers to several names. Called as dmsetup it knows dmsetup's verbs and nothing else; as
// mount.fuse.dmfs and umount.fuse.dmfs it is the helper of mount(8) and umount(8). Two more names are for what it starts itself.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"dmfs/cmd/internal/dmsetup"
	"dmfs/cmd/internal/exec"
	"dmfs/cmd/internal/exec/sandbox"
	"dmfs/cmd/internal/mount"
)

// Exit statuses. exitMount is mount(8)'s for a mount that failed, exitExec that of a session that could not be made.
const (
	exitOK    = 0
	exitFail  = 1
	exitMount = 32
	exitExec  = 125
)

func main() {
	nameProcess(filepath.Base(os.Args[0]))
	os.Exit(run(context.Background(), os.Args))
}

// nameProcess gives a process its name that was started as /proc/self/exe, as ours start each other: ps, pgrep and those who list who has a file
// open would know it as "exe".
func nameProcess(name string) {
	const own = "/proc/self/comm" // of the process, where prctl(2) names a thread
	if comm, err := os.ReadFile(own); err == nil && string(comm) == "exe\n" {
		_ = os.WriteFile(own, []byte(name), 0) // it works under any
	}
}

// run does what the program's name and arguments ask for and returns the exit status.
func run(ctx context.Context, argv []string) int {
	name, args := filepath.Base(argv[0]), argv[1:]
	switch name {
	case "dmsetup", "dmstats":
		return verb(ctx, name, args, true)
	case "mount.fuse.dmfs", "mount.dmfs":
		return mountHelper(ctx, name, args)
	case "umount.fuse.dmfs", "umount.dmfs":
		return umountHelper(ctx, name, args)
	case sandbox.StageName:
		return sandbox.Stage(args, exec.Rules())
	case exec.SupervisorName:
		return exec.Supervise()
	case exec.WardenName:
		return exec.Guard()
	}
	if len(args) == 0 {
		usage(os.Stderr)
		return exitFail
	}
	switch args[0] {
	case "mount":
		return mountCommand(ctx, args)
	case "umount", "unmount":
		return umountCommand(ctx, args[1:])
	case "log-replay":
		return logReplayCommand(ctx, args[1:])
	case "verity-table":
		return verityTableCommand(args[1:])
	case "open":
		return openCommand(ctx, args[1:])
	case "close":
		return closeCommand(args[1:])
	case "exec":
		return execCommand(args[1:])
	case "help", "--help", "-h":
		return help(args[1:])
	case "--version", "-V":
		fmt.Println("dmfs", versionString())
		return exitOK
	}
	if !strings.HasPrefix(args[0], "-") && !dmsetup.IsVerb(args[0]) {
		complain("dmfs", fmt.Errorf("unknown command %q: see `dmfs help`", args[0]))
		return exitFail
	}
	return verb(ctx, "dmfs", args, false)
}

// verb runs one of dmsetup's verbs.
func verb(ctx context.Context, name string, args []string, strict bool) int {
	return dmsetup.Run(ctx, dmsetup.Env{
		Args0: name, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Getenv: os.Getenv, Mounts: mount.Find, Strict: strict,
	}, args)
}

// complain tells the user about err, each line of it under the name of what failed.
func complain(name string, err error) { complainTo(os.Stderr, name, err) }

func complainTo(w io.Writer, name string, err error) {
	for _, line := range strings.Split(strings.TrimSpace(err.Error()), "\n") {
		if strings.HasPrefix(line, "  ") {
			fmt.Fprintln(w, line)
		} else {
			fmt.Fprintf(w, "%s: %s\n", name, line)
		}
	}
}
