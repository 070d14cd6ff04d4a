package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"

	"golang.org/x/sys/unix"

	"dmfs/cmd/internal/container"
	"dmfs/cmd/internal/dmsetup"
	"dmfs/cmd/internal/mount"
)

// openCommand is `dmfs open [OPTION…] DATA NAME`, `dmfs open [OPTION…] --root-hash HEX DATA [HASH] NAME` for verity, or `dmfs open [--force]
// MEMBER… NAME` for a software RAID.
func openCommand(ctx context.Context, args []string) int {
	const name = "dmfs open"
	ctx, cancel := signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM)
	defer cancel()
	mnt := ""
	o, err := parseOpen(args, &mnt)
	if err == nil {
		err = container.Open(ctx, container.Env{
			Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
			Mount:    func() (string, error) { return chooseMount(mnt) },
			Complain: func(err error) { complain(name, err) },
		}, o)
	}
	if err != nil {
		complain(name, err)
	}
	return container.Status(err)
}

// numbers are options whose values are numbers, each with where it goes.
type numbers []struct {
	option string
	text   *string
	to     *int64
}

// read reads those that were given.
func (n numbers) read() error {
	for _, o := range n {
		if *o.text == "" {
			continue
		}
		v, err := strconv.ParseInt(*o.text, 10, 63)
		if err != nil || v < 0 {
			return fmt.Errorf("%s %q: want a number", o.option, *o.text)
		}
		*o.to = v
	}
	return nil
}

// parseOpen reads the command line. mnt becomes the mount that it names.
func parseOpen(args []string, mnt *string) (container.Options, error) {
	o := container.Options{Slot: -1, Key: container.KeySource{FD: -1, Tries: 3}}
	slot, fd, tries, roots := int64(-1), int64(-1), int64(3), int64(container.DefaultRoots)
	texts := make([]string, 8)
	n := numbers{
		{"--key-slot", &texts[0], &slot}, {"--key-fd", &texts[1], &fd}, {"--tries", &texts[2], &tries},
		{"--keyfile-offset", &texts[3], &o.Key.FileOffset}, {"--keyfile-size", &texts[4], &o.Key.FileSize},
		{"--hash-offset", &texts[5], &o.Verity.HashOffset}, {"--fec-offset", &texts[6], &o.Verity.FECOffset}, {"--fec-roots", &texts[7], &roots},
	}
	text := func(to *string) func(string) { return func(v string) { *to = v } }
	set := func(to *bool) func() { return func() { *to = true } }
	feature := func(name string) func() {
		return func() { o.Verity.Features = append(o.Verity.Features, name) }
	}
	words, err := parseArgs(args, []flag{
		{names: "-m --mount", take: text(mnt)},
		{names: "-M --type", take: text(&o.Type)},
		{names: "--header", take: text(&o.Header)},
		{names: "-d --key-file", take: text(&o.Key.File)},
		{names: "--keyfile-offset", take: text(&texts[3])},
		{names: "-l --keyfile-size", take: text(&texts[4])},
		{names: "--key-fd", take: text(&texts[1])},
		{names: "-S --key-slot", take: text(&texts[0])},
		{names: "-T --tries", take: text(&texts[2])},
		{names: "--volume-key-file --master-key-file", take: text(&o.VolumeKey)},
		{names: "-r --readonly", set: set(&o.ReadOnly)},
		{names: "--force", set: set(&o.Force)},
		{names: "--test-passphrase", set: set(&o.Test)},
		{names: "--print", set: set(&o.Print)},
		{names: "--showkeys", set: set(&o.ShowKeys)},
		{names: "--json", set: set(&o.JSON)},
		{names: "--disable-keyring", set: func() {}},
		{names: "--allow-discards", set: set(&o.Activation.AllowDiscards)},
		{names: "--perf-same_cpu_crypt", set: set(&o.Activation.SameCPU)},
		{names: "--perf-submit_from_crypt_cpus", set: set(&o.Activation.SubmitFromCPUs)},
		{names: "--perf-no_read_workqueue", set: set(&o.Activation.NoReadQueue)},
		{names: "--perf-no_write_workqueue", set: set(&o.Activation.NoWriteQueue)},
		{names: "--integrity-no-journal", set: set(&o.Activation.NoJournal)},
		{names: "--root-hash", take: text(&o.Verity.Root)},
		{names: "--hash-offset", take: text(&texts[5])},
		{names: "--fec-device", take: text(&o.Verity.FEC)},
		{names: "--fec-offset", take: text(&texts[6])},
		{names: "--fec-roots", take: text(&texts[7])},
		{names: "--ignore-corruption", set: feature("ignore_corruption")},
		{names: "--restart-on-corruption", set: feature("restart_on_corruption")},
		{names: "--panic-on-corruption", set: feature("panic_on_corruption")},
		{names: "--ignore-zero-blocks", set: feature("ignore_zero_blocks")},
		{names: "--check-at-most-once", set: feature("check_at_most_once")},
		{names: "-h --help", set: func() { os.Exit(help([]string{"open"})) }},
	})
	if err == nil {
		err = n.read()
	}
	if err != nil {
		return o, err
	}
	const mostInt = 1<<31 - 1
	if max(slot, fd, tries, roots) > mostInt {
		return o, errors.New("--key-slot, --key-fd, --tries and --fec-roots: want smaller numbers")
	}
	o.Slot, o.Key.FD, o.Key.Tries, o.Verity.FECRoots = int(slot), int(fd), int(tries), int(roots)
	return o, placeWords(&o, words)
}

// placeWords puts DATA, HASH and NAME in their places and refuses what does not go together.
func placeWords(o *container.Options, words []string) error {
	switch {
	case len(words) == 1 && o.Test:
		o.Data = words[0]
	case len(words) == 2:
		o.Data, o.Name = words[0], words[1]
	case len(words) == 3 && (o.Type == "verity" || o.Verity.Root != ""):
		o.Data, o.Hash, o.Name = words[0], words[1], words[2]
	case len(words) > 2 && (o.Type == "" || o.Type == "md"):
		o.Data, o.More, o.Name = words[0], words[1:len(words)-1], words[len(words)-1]
	default:
		return fmt.Errorf("%d arguments: want DATA NAME, for verity DATA HASH NAME, or the members of a RAID and NAME", len(words))
	}
	verity := o.Type == "verity" || o.Hash != "" || o.Verity.Root != ""
	sources := 0
	for _, given := range []bool{o.Key.File != "", o.Key.FD >= 0, o.VolumeKey != ""} {
		if given {
			sources++
		}
	}
	switch o.Type {
	case "", "luks", "luks1", "luks2", "verity", "md":
	default:
		return fmt.Errorf("--type %q: luks, luks1, luks2, verity and md are known; for plain and others write the table: dmfs create", o.Type)
	}
	switch {
	case verity && o.Type != "" && o.Type != "verity":
		return fmt.Errorf("--root-hash and HASH are for verity, not for --type %s", o.Type)
	case verity && (sources > 0 || o.Header != "" || o.Test):
		return errors.New("a verity image has no passphrase and no --header: it has --root-hash, and HASH")
	case o.Type == "md" && (sources > 0 || o.Header != "" || o.Test):
		return errors.New("a software RAID has no passphrase and no --header")
	case sources > 1:
		return errors.New("one of --key-file, --key-fd and --volume-key-file, please")
	case o.VolumeKey != "" && (o.Key.FileOffset > 0 || o.Key.FileSize > 0):
		return errors.New("--keyfile-offset and --keyfile-size are for passphrases: a --volume-key-file is read from its beginning")
	case o.ShowKeys && !o.Print && !o.JSON:
		return errors.New("--showkeys goes with --print or --json")
	case o.Test && (o.Print || o.JSON):
		return errors.New("--test-passphrase prints nothing: leave --print and --json out")
	}
	return nil
}

// closeCommand is `dmfs close [--deferred] NAME`.
func closeCommand(args []string) int {
	const name = "dmfs close"
	mnt, deferred := "", false
	words, err := parseArgs(args, []flag{
		{names: "-m --mount", take: func(v string) { mnt = v }},
		{names: "--deferred", set: func() { deferred = true }},
		{names: "-h --help", set: func() { os.Exit(help([]string{"close"})) }},
	})
	if err == nil && len(words) != 1 {
		err = fmt.Errorf("%d arguments: want NAME", len(words))
	}
	if err == nil {
		err = closeContainer(mnt, words[0], deferred)
	}
	if err != nil {
		complain(name, err)
	}
	return container.Status(err)
}

func closeContainer(mnt, name string, deferred bool) error {
	dir, err := chooseMount(mnt)
	if err != nil {
		return err
	}
	return container.Close(dir, name, deferred)
}

// chooseMount returns the mount that a command line names, or else that of the surroundings.
func chooseMount(named string) (string, error) {
	if named != "" {
		return named, nil
	}
	return dmsetup.Env{Getenv: os.Getenv, Mounts: mount.Find}.ChooseMount()
}
