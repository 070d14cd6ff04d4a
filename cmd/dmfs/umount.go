package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"dmfs/cmd/internal/mount"
)

// umountCommand is `dmfs umount [-l] MNT…`.
func umountCommand(ctx context.Context, args []string) int {
	lazy := false
	words, err := parseArgs(args, []flag{
		{names: "-l --lazy", set: func() { lazy = true }},
		{names: "-h --help", set: func() { os.Exit(help([]string{"umount"})) }},
	})
	if err == nil && len(words) == 0 {
		err = errors.New("no mount point given: want `dmfs umount MNT`")
	}
	if err != nil {
		complain("dmfs umount", err)
		return exitFail
	}
	return umount(ctx, "dmfs umount", words, lazy, exitFail)
}

// umountHelper is what umount(8) runs: `umount.fuse.dmfs MNT [-flnrv] [-N NAMESPACE] [-t TYPE]`.
func umountHelper(ctx context.Context, name string, args []string) int {
	lazy := false
	words, err := parseArgs(args, []flag{
		{names: "-l", set: func() { lazy = true }},
		{names: "-f", set: func() {}}, // force: a dmfs that hangs is ended with kill
		{names: "-n", set: func() {}},
		{names: "-r", set: func() {}},
		{names: "-v", set: func() {}},
		{names: "-N", take: func(string) {}},
		{names: "-t", take: func(string) {}},
	})
	if err == nil && len(words) != 1 {
		err = fmt.Errorf("want MNT, found %q", words)
	}
	if err != nil {
		complain(name, err)
		return exitFail
	}
	return umount(ctx, name, words, lazy, exitMount)
}

// umount unmounts all points, also after one failed.
func umount(ctx context.Context, name string, points []string, lazy bool, failure int) int {
	ctx, cancel := signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM)
	defer cancel()
	status := exitOK
	for _, p := range points {
		note := func(text string) { complain(name, errors.New(text)) }
		if err := mount.Unmount(ctx, p, lazy, note); err != nil {
			complain(name, err)
			status = failure
		}
	}
	return status
}
