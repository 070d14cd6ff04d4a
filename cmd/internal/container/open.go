package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"dmfs/targets/crypt/luks"
)

// Options say what to open and how.
type Options struct {
	Data, Name string   // Name is not wanted by Test
	Hash       string   // the disk with the tree of a verity image; "" for Data
	More       []string // further members of a software RAID
	Type       string   // "luks", "luks1", "luks2", "verity", "md"; "" to find out
	Header     string   // a detached header; "" if it is on Data
	Key        KeySource
	VolumeKey  string // a file with the volume key, in place of a passphrase
	Slot       int    // negative: all
	ReadOnly   bool
	Force      bool // write to an array that lacks a member, or was not closed
	Activation Activation
	Verity     VerityOptions

	Test     bool // only find out whether the passphrase is right
	Print    bool // print the tables, change nothing
	ShowKeys bool // print them with the key
	JSON     bool
}

// Activation are the flags with which crypt and integrity devices are made, beside those that the header has.
type Activation = activation

// An Env is what an invocation has from its surroundings.
type Env struct {
	Stdin          *os.File
	Stdout, Stderr io.Writer
	// Mount returns the mount point to load into.
	Mount func() (string, error)
	// Complain tells the user about what is not fatal.
	Complain func(error)
}

// Open opens a container. It blocks as long as the key derivation takes, and ends with ctx; Argon2 may then go on until the process ends.
func Open(ctx context.Context, env Env, o Options) error {
	if o.Name != "" || !o.Test {
		if err := checkName(o.Name); err != nil {
			return err
		}
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("keys would be in core dumps: %w", err)
	}
	data, err := openDisk(ctx, o.Data)
	if err != nil {
		return err
	}
	defer data.close() //nolint:errcheck // it was only read
	isVerity := o.Type == "verity" || o.Type == "" && (o.Hash != "" || o.Verity.Root != "")
	if isVerity {
		return openVerity(ctx, env, o, data)
	}
	if o.Type == "" || o.Type == "md" {
		if found, err := openMembers(ctx, env, o, data); found {
			return err
		}
	}
	return openLUKS(ctx, env, o, data)
}

// checkName refuses names that are not stored as they are.
func checkName(name string) error {
	const most = 127 - len(integritySuffix)
	if name == "" || len(name) > most || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789#+-.:=@_") != "" {
		return fmt.Errorf("NAME %.128q: want 1 to %d letters, digits and #+-.:=@_", name, most)
	}
	return nil
}

func openVerity(ctx context.Context, env Env, o Options, data *disk) error {
	if err := o.suits("verity"); err != nil {
		return err
	}
	hash := data
	if o.Hash != "" {
		var err error
		if hash, err = openDisk(ctx, o.Hash); err != nil {
			return err
		}
		defer hash.close() //nolint:errcheck // it was only read
	}
	p, err := planVerity(data, hash, o.Name, o.Verity)
	if err != nil {
		return err
	}
	mnt, err := p.mount(env, o, data)
	if err != nil {
		return err
	}
	return p.finish(env, o, mnt, nil)
}

func openLUKS(ctx context.Context, env Env, o Options, data *disk) error {
	if err := o.suits("LUKS"); err != nil {
		return err
	}
	from := data
	if o.Header != "" {
		var err error
		if from, err = openDisk(ctx, o.Header); err != nil {
			return err
		}
		defer from.close() //nolint:errcheck // it was only read
	}
	h, err := readHeader(from, o)
	if err != nil {
		return err
	}
	if h.Interrupted() {
		if err := h.Resolve(ctx, from, data); err != nil {
			return fmt.Errorf("%s: %w", from.name, err)
		}
		env.Complain(errors.New("its reencryption was interrupted: the data is read as cryptsetup repair will leave it, and nothing is repaired"))
	}
	for _, note := range h.Notes {
		env.Complain(errors.New(note))
	}
	for _, f := range h.Flags {
		if set := o.Activation.flagNames()[f]; set != nil {
			*set = true
			continue
		}
		env.Complain(fmt.Errorf("the header asks for the flag %.64q, which changes nothing here", f))
	}
	p, err := planLUKS(h, data, from, o.Name, o.ReadOnly, o.Activation)
	if err != nil {
		return fmt.Errorf("%s: %w", from.name, err)
	}
	mnt, err := p.mount(env, o, data)
	if err != nil {
		return err
	}
	if h.Keys() == 0 || o.Print && !o.ShowKeys && !o.Test {
		if h.Reencryption != nil {
			env.Complain(errors.New("the container is being reencrypted, and nobody checked its state, for want of the keys"))
		}
		return p.finish(env, o, mnt, unopened(h))
	}
	keys, err := getKeys(ctx, env, h, from, o)
	if err != nil {
		return err
	}
	defer release(keys)
	if h.Reencryption != nil {
		unlock, err := lockReencryption(lockDir, h.UUID)
		if err == nil {
			defer unlock()
			err = authenticate(ctx, h, from, keys)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", from.name, err)
		}
	}
	if o.Test {
		return nil
	}
	if weak := keys[0].secret.Weakness(); weak != nil {
		env.Complain(weak)
	}
	return p.finish(env, o, mnt, keys)
}

// authenticate checks how far a reencryption is: nobody else has made it up, and nobody went on with it since the header was read.
func authenticate(ctx context.Context, h *luks.Header, from *disk, keys []openedKey) error {
	secrets := make([]*luks.Secret, len(keys))
	for n, k := range keys {
		secrets[n] = k.secret
	}
	if err := h.Authenticate(ctx, secrets); err != nil {
		return err
	}
	return h.Unchanged(from, from.size)
}

// readHeader reads the header and refuses what cannot be opened.
func readHeader(from *disk, o Options) (*luks.Header, error) {
	h, err := luks.Read(from, from.size)
	if err == nil && h.Interrupted() { // or somebody is about to write data
		h, err = settled(from, h.UUID)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", from.name, err)
	case o.Type == "luks1" && h.Version != 1 || o.Type == "luks2" && h.Version != 2:
		return nil, fmt.Errorf("%s: it is LUKS%d, not %s", from.name, h.Version, o.Type)
	case o.Header == "" && h.Segments[0].Offset == 0:
		return nil, fmt.Errorf("%s: it is a header without data: give the disk with the data as DATA, and this with --header", from.name)
	}
	if err := h.MayOpen(o.ReadOnly || o.Test); err != nil {
		return nil, fmt.Errorf("%s: %w", from.name, err)
	}
	if h.Keys() > 1 && (o.VolumeKey != "" || o.Slot >= 0) {
		return nil, fmt.Errorf("%s: it is being reencrypted and has two volume keys, in two slots: give the passphrase of both, and leave --volume-key-file and --key-slot out", from.name)
	}
	return h, nil
}

// settled reads a header while nobody is at work on the reencryption.
func settled(from *disk, uuid string) (*luks.Header, error) {
	unlock, err := lockReencryption(lockDir, uuid)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return luks.Read(from, from.size)
}

// mount returns the mount that the plan is to be loaded into, "" if it is not to be loaded.
func (p *plan) mount(env Env, o Options, data *disk) (string, error) {
	if o.Print || o.Test {
		return "", nil
	}
	mnt, err := env.Mount()
	if err != nil {
		return "", failure(NotThere, "%w", err)
	}
	return mnt, p.checkFree(mnt, data.name)
}

// finish loads the plan into the mount, if there is one, and prints it.
func (p *plan) finish(env Env, o Options, mnt string, keys []openedKey) error {
	if mnt != "" {
		if err := p.load(mnt, keys); err != nil {
			return err
		}
	}
	var shown []string
	var slots []int
	for _, k := range keys {
		shown = append(shown, k.shown(o.ShowKeys))
		if k.slot >= 0 {
			slots = append(slots, k.slot)
		}
	}
	switch {
	case o.JSON:
		return p.printJSON(env.Stdout, shown, slots)
	case o.Print:
		return p.printText(env.Stdout, shown)
	}
	return nil
}
