package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// fio plays w on file and returns IOPS or MiB/s. With 0 seconds it plays until it has been everywhere once.
func fio(w workload, file string, seconds float64) (float64, error) {
	args := append([]string{
		"--name=bench", "--filename=" + file, "--direct=1", "--output-format=json", "--randrepeat=1", fmt.Sprintf("--size=%dM", fileMiB),
	}, w.args...)
	if seconds > 0 {
		args = append(args, "--time_based", fmt.Sprintf("--runtime=%dms", int(seconds*1000)))
	}
	out, err := exec.Command("fio", args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return 0, err
	}
	var result struct {
		Jobs []struct {
			Read, Write struct {
				IOPS float64 `json:"iops"`
				BW   float64 `json:"bw_bytes"`
			}
		}
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return 0, err
	}
	if len(result.Jobs) != 1 {
		return 0, fmt.Errorf("fio answered for %d jobs", len(result.Jobs))
	}
	j := result.Jobs[0]
	if w.unit == "IOPS" {
		return j.Read.IOPS + j.Write.IOPS, nil
	}
	return (j.Read.BW + j.Write.BW) / (1 << 20), nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if len(v) == 0 {
		return 0
	}
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// measureService measures what is no throughput: time to mount and to create a device, memory.
func measureService(o options, r *report) error {
	tmp, err := os.MkdirTemp("/dev/shm", "dmfs-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // nothing depends on it
	var mounts, creates []float64
	const times = 9
	for i := range times {
		progress("mount and create: %d of %d", i+1, times)
		mount, create, err := timeMount(o, filepath.Join(tmp, fmt.Sprint(i)))
		if err != nil {
			return err
		}
		mounts, creates = append(mounts, mount), append(creates, create)
	}
	r.Service["mount ready"] = value{median(mounts), "ms"}
	r.Service["create to usable"] = value{median(creates), "ms"}
	progress("memory")
	defer progress("")
	return measureMemory(o, tmp, r)
}

// timeMount returns the milliseconds that a mount and the creation of a device, up to the first byte
// read from it, take.
func timeMount(o options, dir string) (mount, create float64, err error) {
	mnt := filepath.Join(dir, "mnt")
	if err := os.MkdirAll(mnt, 0o700); err != nil {
		return 0, 0, err
	}
	img := filepath.Join(dir, "img")
	if err := os.WriteFile(img, make([]byte, 1<<20), 0o600); err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if out, err := exec.Command(o.dmfs, "mount", mnt).CombinedOutput(); err != nil {
		return 0, 0, fmt.Errorf("mount: %w: %s", err, out)
	}
	mount = ms(time.Since(began))
	defer func() {
		if out, e := exec.Command(o.dmfs, "umount", mnt).CombinedOutput(); e != nil && err == nil {
			err = fmt.Errorf("umount: %w: %s", e, out)
		}
	}()
	began = time.Now()
	if err := os.WriteFile(filepath.Join(mnt, "control"), []byte("create vol 0 2048 linear "+img+" 0\n"), 0); err != nil {
		return 0, 0, err
	}
	f, err := os.Open(filepath.Join(mnt, "vol"))
	if err != nil {
		return 0, 0, err
	}
	defer f.Close() //nolint:errcheck // read only
	_, err = f.Read(make([]byte, 1))
	return mount, ms(time.Since(began)), err
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// measureMemory measures the daemon's resident memory at rest and its peak under many requests in parallel.
func measureMemory(o options, tmp string, r *report) error {
	dir := filepath.Join(tmp, "memory")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	s, err := startLinear(o, dir)
	if err != nil {
		return err
	}
	defer s.stop() //nolint:errcheck // the figures are there
	pid, err := daemonPID(filepath.Join(filepath.Dir(s.file), "control"))
	if err != nil {
		return err
	}
	rest, err := memory(pid, "VmRSS")
	if err != nil {
		return err
	}
	r.Service["resident at rest"] = value{rest, "MiB"}
	for _, write := range []bool{false, true} {
		if err := flood(s.file, write); err != nil {
			return err
		}
	}
	peak, err := memory(pid, "VmHWM")
	r.Service["peak under 4096 parallel 1 MiB requests"] = value{peak, "MiB"}
	return err
}

// flood has 4,096 threads read or write 1 MiB each at the same time.
func flood(file string, write bool) error {
	const parallel, size = 4096, 1 << 20
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()              //nolint:errcheck // the errors of the requests tell
	shared := make([]byte, size) // all may read it; what reads leave in it does not matter
	fd := f.Fd()
	op := uintptr(syscall.SYS_PREAD64)
	if write {
		op = syscall.SYS_PWRITE64
	}
	var wg sync.WaitGroup
	errs := make(chan error, parallel)
	for i := range parallel {
		wg.Go(func() {
			off := uintptr(i%fileMiB) * size
			_, _, errno := syscall.Syscall6(op, fd, uintptr(unsafe.Pointer(&shared[0])), size, off, 0, 0)
			if errno != 0 {
				errs <- errno
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func daemonPID(control string) (int, error) {
	f, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // nothing is lost
	if _, err := f.WriteString("version\n"); err != nil {
		return 0, err
	}
	reply := make([]byte, 4096)
	n, err := f.ReadAt(reply, 0)
	if n == 0 {
		return 0, err
	}
	var v struct{ PID int }
	err = json.Unmarshal(reply[:n], &v)
	return v.PID, err
}

// memory returns a field of /proc/PID/status in MiB.
func memory(pid int, field string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("no %s in the status of process %d", field, pid)
}

func fileSystem(dir string) string {
	out, err := exec.Command("stat", "-f", "-c", "%T", dir).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
