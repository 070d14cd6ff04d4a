package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"dmfs/cmd/internal/mount"
	"dmfs/config"
	"dmfs/mapper"
	"dmfs/mapper/disk"
	"dmfs/mapper/keyring"
	"dmfs/targets"
)

// A mountRequest is what the command line of a mount asks for.
type mountRequest struct {
	point   string
	config  string // "" for a mount without devices
	front   bool
	options mount.Options
}

// mountCommand is `dmfs mount [-f] [-o OPT,…] [--config FILE] MNT`; args begin with "mount".
func mountCommand(ctx context.Context, args []string) int {
	const name = "dmfs mount"
	var r mountRequest
	var lists []string
	words, err := parseArgs(args[1:], []flag{
		{names: "-f --foreground", set: func() { r.front = true }},
		{names: "-o --options", take: func(v string) { lists = append(lists, v) }},
		{names: "-c --config", take: func(v string) { r.config = v }},
		{names: "-h --help", set: func() { os.Exit(help([]string{"mount"})) }},
	})
	if err == nil {
		r.options, err = mount.ParseOptions(lists...)
	}
	switch {
	case err != nil:
	case len(words) == 0:
		err = errors.New("no mount point given: want `dmfs mount [--config FILE] MNT`")
	case len(words) > 1:
		err = fmt.Errorf("one mount point, please: found %q", words)
	case r.config != "" && r.options.Config != "" && r.config != r.options.Config:
		err = errors.New("--config and -o config= name different files")
	}
	if err != nil {
		complain(name, err)
		return exitFail
	}
	r.point = words[0]
	if r.config == "" {
		r.config = r.options.Config
	}
	if !r.front {
		return background(name, append([]string{"mount", "-f"}, args[1:]...), exitFail)
	}
	return serve(ctx, name, r, exitFail)
}

// background starts the daemon and reports how that went.
func background(name string, args []string, failure int) int {
	err := mount.Background(args, os.Stderr)
	if err == nil {
		return exitOK
	}
	if !errors.Is(err, mount.ErrTold) {
		complain(name, err)
	}
	return failure
}

// serve makes the mount and returns when it has ended.
func serve(ctx context.Context, name string, r mountRequest, failure int) int {
	daemon := mount.AsDaemon()
	stderr := daemon.Stderr()
	source := "dmfs"
	if r.config != "" {
		abs, err := filepath.Abs(r.config)
		if err != nil {
			complain(name, err)
			return failure
		}
		r.config, source = abs, abs
	}
	err := mount.Serve(ctx, mount.Job{
		Point: r.point, Source: source, Version: versionString(), Options: r.options,
		Devices: r.devices,
		Note:    func(text string) { complainTo(stderr, name, errors.New(text)) },
		Ready:   daemon.Ready,
	})
	if err != nil {
		complainTo(stderr, name, err)
		return failure
	}
	return exitOK
}

// devices makes the manager and all devices of the configuration. On error nothing is left of them.
func (r mountRequest) devices(ctx context.Context, point string) (*mapper.Manager, error) {
	c := new(config.Config)
	var err error
	if r.config != "" {
		c, err = config.Load(r.config, point)
	} else {
		c.Dir, err = os.Getwd()
	}
	if err != nil {
		return nil, err
	}
	keys, err := keyring.New(c.Keys, c.Certificates)
	if err != nil {
		return nil, err
	}
	registry := new(mapper.Registry)
	targets.Register(registry)
	m := mapper.NewManager(registry, mapper.Options{
		MountPoint: point, Dir: c.Dir, Disks: c.Disks, Files: disk.Opener{}, ReadOnly: r.options.ReadOnly, Keys: keys,
	})
	for _, d := range c.Devices {
		if _, err := m.Create(ctx, d.NewDevice); err != nil {
			return nil, errors.Join(c.Locate(err, d.Name), m.Close(context.WithoutCancel(ctx)))
		}
	}
	return m, nil
}

// mountHelper is what mount(8) runs: `mount.fuse.dmfs CONFIG MNT [-sfnv] [-N NAMESPACE] [-o OPT,…] [-t TYPE]`.
// CONFIG "none" or "dmfs" stands for a mount without devices.
func mountHelper(ctx context.Context, name string, args []string) int {
	r := mountRequest{}
	var lists []string
	fake, verbose := false, false
	words, err := parseArgs(args, []flag{
		{names: "-s", set: func() {}}, // sloppy: an unknown option is an error all the same, as it may matter
		{names: "-n", set: func() {}}, // no mtab: there is none
		{names: "-f", set: func() { fake = true }},
		{names: "-v", set: func() { verbose = true }},
		{names: "-N", take: func(string) {}}, // mount(8) has entered the namespace
		{names: "-t", take: func(string) {}},
		{names: "-o", take: func(v string) { lists = append(lists, v) }},
	})
	if err == nil {
		r.options, err = mount.ParseOptions(lists...)
	}
	if err == nil && len(words) != 2 {
		err = fmt.Errorf("want CONFIG and MNT, found %q", words)
	}
	if err != nil {
		complain(name, err)
		return exitFail
	}
	forward := []string{"mount", "-f"}
	for _, l := range lists {
		forward = append(forward, "-o", l)
	}
	if c := words[0]; c != "none" && c != "dmfs" {
		forward = append(forward, "--config", c)
	}
	if verbose {
		fmt.Printf("%s: %s on %s\n", name, words[0], words[1])
	}
	if fake {
		return exitOK
	}
	return background(name, append(forward, "--", words[1]), exitMount)
}
