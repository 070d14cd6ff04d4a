package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// firstWrites are played once over the whole of a fresh device.
var firstWrites = []workload{
	{"64k first write QD1", []string{"--rw=randwrite", "--bs=64k", "--ioengine=psync"}, "IOPS"},
	{"64k first write QD32", []string{"--rw=randwrite", "--bs=64k", "--ioengine=libaio", "--iodepth=32"}, "IOPS"},
	{"1M first write", []string{"--rw=write", "--bs=1M", "--ioengine=psync"}, "MiB/s"},
}

// hollow makes a file of that many MiB with nothing in it.
func hollow(path string, mib int64) error {
	return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, mib<<20))
}

// startSparse is linear over a file with nothing in it.
func startSparse(o options, dir string) (server, error) {
	file := filepath.Join(dir, "sparse.img")
	if err := hollow(file, fileMiB); err != nil {
		return server{}, err
	}
	return startDmfs(o, dir, fmt.Sprintf("create vol 0 %d linear %s 0\n", fileMiB*2048, file))
}

// startThin is a thin device with blocks of 64 KiB that are not zeroed, in a pool that has room for it twice.
func startThin(o options, dir string) (server, error) {
	const poolMiB = 2*fileMiB + 64
	meta, data := filepath.Join(dir, "meta.img"), filepath.Join(dir, "data.img")
	if err := errors.Join(hollow(meta, 16), hollow(data, poolMiB)); err != nil {
		return server{}, err
	}
	return startDmfs(o, dir, fmt.Sprintf("create pool 0 %d thin-pool %s %s 128 0 1 skip_block_zeroing\nmessage pool 0 create_thin 0\n"+
		"create vol 0 %d thin pool 0\n", poolMiB*2048, meta, data, fileMiB*2048))
}

func startFilledThin(o options, dir string) (server, error) {
	s, err := startThin(o, dir)
	if err != nil {
		return s, err
	}
	return filled(s)
}

// startBrokenThin is a thin device that has written over all that it shared with a snapshot.
func startBrokenThin(o options, dir string) (server, error) {
	s, err := startFilledThin(o, dir)
	if err != nil {
		return s, err
	}
	const snap = "suspend vol\nmessage pool 0 create_snap 1 0\nresume vol\n"
	if err := os.WriteFile(filepath.Join(filepath.Dir(s.file), "control"), []byte(snap), 0); err != nil {
		return server{}, errors.Join(err, s.stop())
	}
	return filled(s)
}

// startQcow2 is a new qcow2 image, with the clusters of 64 KiB that are its custom, through QEMU's export.
func startQcow2(_ options, dir string) (server, error) {
	file, export := filepath.Join(dir, "vol.qcow2"), filepath.Join(dir, "export")
	if _, err := quietly("", "qemu-img", "create", "-q", "-f", "qcow2", file, fmt.Sprintf("%dM", fileMiB)); err != nil {
		return server{}, err
	}
	if err := os.WriteFile(export, nil, 0o600); err != nil {
		return server{}, err
	}
	return daemon(export, exec.Command("qemu-storage-daemon", "--blockdev", "driver=file,node-name=f,filename="+file,
		"--blockdev", "driver=qcow2,node-name=q,file=f", "--export", "type=fuse,id=e,node-name=q,writable=on,mountpoint="+export))
}

func startFilledQcow2(o options, dir string) (server, error) {
	s, err := startQcow2(o, dir)
	if err != nil {
		return s, err
	}
	return filled(s)
}

// measureFirst plays w on a server that is made for it, with its files in tmp, and removes it.
func measureFirst(o options, tmp string, w workload, c starter) (v float64, err error) {
	dir := filepath.Join(tmp, "first")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := c.start(o, dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	return fio(w, s.file, 0)
}
