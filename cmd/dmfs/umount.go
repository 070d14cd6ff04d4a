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

// umountCommand is `dmfs umount [-lq] MNT…`.
func umountCommand(ctx context.Context, args []string) int {
	u := umountRequest{name: "dmfs umount", failure: exitFail}
	words, err := parseArgs(args, []flag{
		{names: "-l --lazy", set: func() { u.lazy = true }},
		{names: "-q --quiet", set: func() { u.quiet = true }},
		{names: "-h --help", set: func() { os.Exit(help([]string{"umount"})) }},
	})
	if err == nil && len(words) == 0 {
		err = errors.New("no mount point given: want `dmfs umount MNT`")
	}
	if err != nil {
		complain(u.name, err)
		return exitFail
	}
	return u.run(ctx, words)
}

// umountHelper is what umount(8) runs: `umount.fuse.dmfs MNT [-flnrv] [-N NAMESPACE] [-t TYPE]`.
func umountHelper(ctx context.Context, name string, args []string) int {
	u := umountRequest{name: name, failure: exitMount}
	words, err := parseArgs(args, []flag{
		{names: "-l", set: func() { u.lazy = true }},
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
	return u.run(ctx, words)
}

// A umountRequest is what the command line of an unmount asks for.
type umountRequest struct {
	name    string // to complain under
	failure int    // the exit status then
	lazy    bool
	quiet   bool // a point that is not mounted is no error
}

// run unmounts all points, also after one failed.
func (u umountRequest) run(ctx context.Context, points []string) int {
	ctx, cancel := signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM)
	defer cancel()
	status := exitOK
	for _, p := range points {
		note := func(text string) { complain(u.name, errors.New(text)) }
		err := mount.Unmount(ctx, p, u.lazy, note)
		if err == nil || (u.quiet && errors.Is(err, mount.ErrNotMounted)) {
			continue
		}
		complain(u.name, err)
		status = u.failure
	}
	return status
}
