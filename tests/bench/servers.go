package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A server shows a file to be measured.
type server struct {
	name string
	file string
	stop func() error
}

// start makes the backing files in tmp and starts all servers that this machine has. It says what
// had to be left out.
func start(o options, tmp string) (servers []server, leftOut []string) {
	add := func(name string, f func(dir string) (server, error)) {
		dir := filepath.Join(tmp, name)
		err := os.Mkdir(dir, 0o700)
		var s server
		if err == nil {
			s, err = f(dir)
		}
		if err != nil {
			leftOut = append(leftOut, fmt.Sprintf("%s: %v", name, err))
			return
		}
		s.name = name
		servers = append(servers, s)
	}
	if set, ok := sets[o.set]; ok {
		for _, c := range set.servers {
			add(c.name, func(dir string) (server, error) { return c.start(o, dir) })
		}
		return servers, leftOut
	}
	add("raw", func(dir string) (server, error) {
		file, err := backing(dir, "raw.img")
		return server{file: file, stop: func() error { return nil }}, err
	})
	add("linear", func(dir string) (server, error) { return startLinear(o, dir) })
	add("striped", func(dir string) (server, error) { return startStriped(o, dir) })
	for _, aio := range []string{"threads", "native", "io_uring"} {
		add("qsd-"+aio, func(dir string) (server, error) { return startQSD(dir, aio) })
	}
	add("nbdfuse", startNBD)
	return servers, leftOut
}

// backing makes a file with data in all of it.
func backing(dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	block := make([]byte, 1<<20)
	for i := range fileMiB {
		for j := range block {
			block[j] = byte(i + j*7)
		}
		if _, err := f.Write(block); err != nil {
			return "", errors.Join(err, f.Close())
		}
	}
	return path, errors.Join(f.Sync(), f.Close())
}

func startLinear(o options, dir string) (server, error) {
	file, err := backing(dir, "linear.img")
	if err != nil {
		return server{}, err
	}
	return startDmfs(o, dir, fmt.Sprintf("create vol 0 %d linear %s 0\n", fileMiB*2048, file))
}

func startStriped(o options, dir string) (server, error) {
	const stripes, chunk = 3, 128
	table := fmt.Sprintf("create vol 0 %d striped %d %d", stripes*fileMiB*2048, stripes, chunk)
	for i := range stripes {
		file, err := backing(dir, fmt.Sprintf("stripe%d.img", i))
		if err != nil {
			return server{}, err
		}
		table += " " + file + " 0"
	}
	return startDmfs(o, dir, table+"\n")
}

// startDmfs mounts dmfs in dir and creates the device vol.
func startDmfs(o options, dir, create string) (server, error) {
	mnt := filepath.Join(dir, "mnt")
	if err := os.Mkdir(mnt, 0o700); err != nil {
		return server{}, err
	}
	if out, err := exec.Command(o.dmfs, "mount", mnt).CombinedOutput(); err != nil {
		return server{}, fmt.Errorf("mount: %w: %s", err, out)
	}
	stop := func() error {
		if out, err := exec.Command(o.dmfs, "umount", mnt).CombinedOutput(); err != nil {
			return fmt.Errorf("umount: %w: %s", err, out)
		}
		return nil
	}
	if err := os.WriteFile(filepath.Join(mnt, "control"), []byte(create), 0); err != nil {
		return server{}, errors.Join(err, stop())
	}
	return server{file: filepath.Join(mnt, "vol"), stop: stop}, nil
}

func startQSD(dir, aio string) (server, error) {
	file, err := backing(dir, "qsd.img")
	if err != nil {
		return server{}, err
	}
	export := filepath.Join(dir, "export")
	if err := os.WriteFile(export, nil, 0o600); err != nil {
		return server{}, err
	}
	blockdev := "driver=file,node-name=f,filename=" + file + ",aio=" + aio
	if aio == "native" {
		blockdev += ",cache.direct=on"
	}
	return daemon(export, exec.Command("qemu-storage-daemon", "--blockdev", blockdev,
		"--export", "type=fuse,id=e,node-name=f,writable=on,mountpoint="+export))
}

func startNBD(dir string) (server, error) {
	file, err := backing(dir, "nbd.img")
	if err != nil {
		return server{}, err
	}
	mnt := filepath.Join(dir, "mnt")
	if err := os.Mkdir(mnt, 0o700); err != nil {
		return server{}, err
	}
	return daemon(filepath.Join(mnt, "nbd"), exec.Command("nbdfuse", mnt, "--command", "nbdkit", "-s", "--exit-with-parent", "file", file))
}

// daemon starts cmd, which shows the disk as file until it is told to end, and waits until it does.
func daemon(file string, cmd *exec.Cmd) (server, error) {
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return server{}, err
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	for range 200 {
		if st, err := os.Stat(file); err == nil && st.Size() == fileMiB<<20 {
			return server{file: file, stop: func() error {
				if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
					return err
				}
				<-gone //nolint:errcheck // it was told to end, so how it does is no matter
				return nil
			}}, nil
		}
		select {
		case err := <-gone:
			return server{}, fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
		case <-time.After(25 * time.Millisecond):
		}
	}
	cmd.Process.Kill() //nolint:errcheck // it is gone or it ends
	<-gone             //nolint:errcheck // likewise
	return server{}, fmt.Errorf("%s did not appear: %s", file, strings.TrimSpace(said.String()))
}
