package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// loadModules loads all device mapper modules, md's levels, ciphers and loop from dir, the directory of the running kernel's modules.
// A module that cannot be had is left out: its targets or ciphers are unknown then.
func loadModules(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return err
	}
	needs := make(map[string][]string)
	for line := range strings.Lines(string(text)) {
		module, deps, _ := strings.Cut(strings.TrimSpace(line), ":")
		needs[module] = strings.Fields(deps)
	}
	loaded := make(map[string]bool)
	var load func(module string) error
	load = func(module string) error {
		if loaded[module] {
			return nil
		}
		loaded[module] = true
		for _, d := range needs[module] {
			if err := load(d); err != nil {
				return err
			}
		}
		return insert(filepath.Join(dir, module))
	}
	// The ciphers come first: a module that dm-crypt needs looks for a hash when it is loaded.
	const benchmark = "tcrypt.ko" // it measures all ciphers and then fails
	for _, module := range slices.Sorted(maps.Keys(needs)) {
		if strings.HasPrefix(module, "kernel/crypto/") && filepath.Base(module) != benchmark {
			load(module) //nolint:errcheck // see above
		}
	}
	var failed error
	for _, module := range slices.Sorted(maps.Keys(needs)) {
		name := filepath.Base(module)
		if (name == "dm-mod.ko" || name == "loop.ko") && load(module) != nil {
			failed = errors.Join(failed, fmt.Errorf("no module %s", name))
		}
		if strings.HasPrefix(name, "dm-") || strings.HasPrefix(name, "raid") && strings.Contains(module, "/drivers/md/") {
			load(module) //nolint:errcheck // see above
		}
	}
	return failed
}

func insert(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
