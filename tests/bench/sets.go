package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A benchSet is servers that are measured side by side for one kind of target.
type benchSet struct {
	servers  []starter
	ratios   [][2]string // of which servers, the first by the second
	readOnly bool
	// fresh is servers with nothing written, under the names of those above where they are the like. Each first write is measured on one that was
	// made for it.
	fresh []starter
}

// A starter makes a server with its files in dir.
type starter struct {
	name  string
	start func(o options, dir string) (server, error)
}

var sets = map[string]benchSet{
	"crypt": {
		servers: []starter{{"linear", startLinear}, {"luks", luks("512")}, {"luks-4k", luks("4096")}, {"qsd-luks", startQSDLUKS}},
		ratios:  [][2]string{{"luks", "linear"}, {"luks-4k", "linear"}, {"luks", "qsd-luks"}, {"luks-4k", "qsd-luks"}},
	},
	"verity": {
		servers:  []starter{{"linear", startLinear}, {"verity", verity("")}, {"verity-once", verity(" 1 check_at_most_once")}},
		ratios:   [][2]string{{"verity", "linear"}, {"verity-once", "linear"}},
		readOnly: true,
	},
	"snapshot": {
		servers: []starter{{"linear", startLinear}, {"fresh", startFresh}, {"kept", startKept}},
		ratios:  [][2]string{{"fresh", "linear"}, {"kept", "linear"}},
	},
	"thin": {
		servers: []starter{{"linear", startLinear}, {"thin", startFilledThin}, {"thin-broken", startBrokenThin}, {"qcow2", startFilledQcow2}},
		ratios:  [][2]string{{"thin", "linear"}, {"thin-broken", "linear"}, {"thin", "qcow2"}},
		fresh:   []starter{{"linear", startSparse}, {"thin", startThin}, {"qcow2", startQcow2}},
	},
	"raid": {
		servers: []starter{
			{"linear", startLinear}, {"striped", startStriped}, {"raid0", array("raid0", 3, 3, false)}, {"raid1", array("raid1", 2, 1, false)},
			{"raid5", array("raid5_ls", 4, 3, false)}, {"raid6", array("raid6_zr", 5, 3, false)}, {"raid6-lost", array("raid6_zr", 5, 3, true)},
		},
		ratios: [][2]string{{"raid0", "striped"}, {"raid1", "linear"}, {"raid5", "linear"}, {"raid6", "linear"}, {"raid6-lost", "raid6"}},
	},
}

// passphrase opens the containers.
const passphrase = "bench"

// quietly runs a program and returns what it says.
func quietly(stdin, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return string(out), nil
}

// luks formats a LUKS2 container and opens it.
func luks(sector string) func(o options, dir string) (server, error) {
	return func(o options, dir string) (server, error) {
		file := filepath.Join(dir, "luks.img")
		const headerMiB = 16
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			return server{}, err
		}
		if err := os.Truncate(file, (headerMiB+fileMiB)<<20); err != nil {
			return server{}, err
		}
		if _, err := quietly(passphrase, "cryptsetup", "luksFormat", "-q", "--type", "luks2", "--cipher", "aes-xts-plain64", "--key-size", "512",
			"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--sector-size", sector, "--key-file", "-", file); err != nil {
			return server{}, err
		}
		s, err := startDmfs(o, dir, "create below 0 1 zero\n")
		if err != nil {
			return server{}, err
		}
		cmd := exec.Command(o.dmfs, "open", file, "vol", "--key-file", "-")
		cmd.Stdin = strings.NewReader(passphrase)
		cmd.Env = append(os.Environ(), "DMFS_MOUNT="+filepath.Dir(s.file))
		if out, err := cmd.CombinedOutput(); err != nil {
			return server{}, errors.Join(fmt.Errorf("open: %w: %s", err, out), s.stop())
		}
		return filled(s)
	}
}

// filled writes to all of a server's file, so that reads find data.
func filled(s server) (server, error) {
	if _, err := quietly("", "dd", "if=/dev/zero", "of="+s.file, "bs=1M", fmt.Sprintf("count=%d", fileMiB), "conv=notrunc,fsync", "status=none"); err != nil {
		return server{}, errors.Join(err, s.stop())
	}
	return s, nil
}

// startQSDLUKS is a container of QEMU's, LUKS1 with the same cipher, through its export.
func startQSDLUKS(_ options, dir string) (server, error) {
	file, export := filepath.Join(dir, "luks.img"), filepath.Join(dir, "export")
	secret := "secret,id=s,data=" + passphrase
	var err error
	for range 5 { // it measures its own speed, which fails now and then
		if _, err = quietly("", "qemu-img", "create", "-q", "-f", "luks", "--object", secret,
			"-o", "key-secret=s,cipher-alg=aes-256,cipher-mode=xts,ivgen-alg=plain64,iter-time=1000", file, fmt.Sprintf("%dM", fileMiB)); err == nil {
			break
		}
	}
	if err != nil {
		return server{}, err
	}
	if err := os.WriteFile(export, nil, 0o600); err != nil {
		return server{}, err
	}
	s, err := daemon(export, exec.Command("qemu-storage-daemon", "--object", secret, "--blockdev", "driver=file,node-name=f,filename="+file,
		"--blockdev", "driver=luks,node-name=l,file=f,key-secret=s", "--export", "type=fuse,id=e,node-name=l,writable=on,mountpoint="+export))
	if err != nil {
		return server{}, err
	}
	return filled(s)
}

// verity makes a tree with veritysetup and maps the image with options.
func verity(more string) func(o options, dir string) (server, error) {
	return func(o options, dir string) (server, error) {
		file, err := backing(dir, "data.img")
		if err != nil {
			return server{}, err
		}
		said, err := quietly("", "veritysetup", "format", file, filepath.Join(dir, "hash.img"))
		if err != nil {
			return server{}, err
		}
		_, rest, _ := strings.Cut(said, "Root hash:")
		table, err := quietly("", o.dmfs, "verity-table", file, filepath.Join(dir, "hash.img"), strings.Fields(rest)[0])
		if err != nil {
			return server{}, err
		}
		return startDmfs(o, dir, "create vol ro "+strings.TrimSpace(table)+more+"\n")
	}
}

func startFresh(o options, dir string) (server, error) { return startSnapshot(o, dir, "N") }

func startKept(o options, dir string) (server, error) {
	s, err := startSnapshot(o, dir, "P")
	if err != nil {
		return server{}, err
	}
	return filled(s)
}

// startSnapshot maps a snapshot with a store of that kind.
func startSnapshot(o options, dir, kind string) (server, error) {
	file, err := backing(dir, "origin.img")
	if err != nil {
		return server{}, err
	}
	store := filepath.Join(dir, "store.img")
	if err := errors.Join(os.WriteFile(store, nil, 0o600), os.Truncate(store, (fileMiB+32)<<20)); err != nil {
		return server{}, err
	}
	return startDmfs(o, dir, fmt.Sprintf("create vol 0 %d snapshot %s %s %s 128\n", fileMiB*2048, file, store, kind))
}
