package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// array makes an array with chunks of 64 KiB and metadata, waits until it is in sync, and fills it. lost then takes its last member away.
func array(kind string, members, data int, lost bool) func(o options, dir string) (server, error) {
	return func(o options, dir string) (server, error) {
		chunk := "128"
		if kind == "raid1" {
			chunk = "0"
		}
		var disks []string
		for i := range members {
			file, err := backing(dir, fmt.Sprintf("leg%d.img", i))
			if err != nil {
				return server{}, err
			}
			meta := filepath.Join(dir, fmt.Sprintf("meta%d.img", i))
			if err := os.WriteFile(meta, make([]byte, 1<<20), 0o600); err != nil {
				return server{}, err
			}
			disks = append(disks, meta, file)
		}
		table := func() string {
			return fmt.Sprintf("0 %d raid %s 1 %s %d %s", data*fileMiB*2048, kind, chunk, members, strings.Join(disks, " "))
		}
		s, err := startDmfs(o, dir, "create vol "+table()+"\n")
		if err != nil {
			return server{}, err
		}
		mnt := filepath.Dir(s.file)
		if err := synced(o, mnt); err != nil {
			return server{}, errors.Join(err, s.stop())
		}
		if s, err = filled(s); err != nil || !lost {
			return s, err
		}
		disks[2*members-2], disks[2*members-1] = "-", "-"
		for _, words := range [][]string{{"reload", "vol", "--table", table()}, {"resume", "vol"}} {
			if _, err := quietly("", o.dmfs, append(words, "-m", mnt)...); err != nil {
				return server{}, errors.Join(err, s.stop())
			}
		}
		return s, nil
	}
}

// synced waits until the array of a mount has nothing to do.
func synced(o options, mnt string) error {
	for range 600 {
		out, err := exec.Command(o.dmfs, "status", "-m", mnt, "vol").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if words := strings.Fields(string(out)); len(words) < 8 || words[2] == "raid" && words[7] == "idle" {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("the array is not in sync after a minute")
}
