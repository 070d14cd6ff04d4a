// Bench measures dmfs side by side with what people compare it with, on the same files, in one run.
//
// Each round plays every workload on every server in turn, so that a slow moment of the machine hits all alike; what
// is compared are ratios of medians over the rounds. The servers:
//
//	raw       the backing file itself
//	linear    dmfs, one linear segment over the file
//	striped   dmfs, three files, chunks of 64 KiB
//	qsd-AIO   qemu-storage-daemon's FUSE export, for each AIO that works here
//	nbdfuse   nbdkit's file plugin through nbdfuse
//
// With -set another set of servers is measured beside linear:
//
//	crypt     luks and luks-4k, containers that dmfs opened, and qsd-luks, the like through qemu-storage-daemon
//	verity    verity, each block verified whenever it is read, and verity-once, with check_at_most_once; only read
//	snapshot  fresh, a transient snapshot of which every block is the origin's, and kept, a persistent one that has all for itself
//	thin      thin, all of it mapped, thin-broken, which has written over all that a snapshot shared, and qcow2 through qemu-storage-daemon;
//	          and first writes to fresh ones
//	raid      arrays of three to five files, raid1 of two, and raid6-lost, without its last member
//
// Usage: go run ./tests/bench -dmfs PATH [-set NAME] [-dir DIR]... [-rounds N] [-seconds S] [-json FILE]
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A workload is one fio job.
type workload struct {
	Name string
	args []string
	unit string // "IOPS" or "MiB/s"
}

var workloads = []workload{
	{"4k randread QD1", []string{"--rw=randread", "--bs=4k", "--ioengine=psync"}, "IOPS"},
	{"4k randwrite QD1", []string{"--rw=randwrite", "--bs=4k", "--ioengine=psync"}, "IOPS"},
	{"4k randread QD32", []string{"--rw=randread", "--bs=4k", "--ioengine=libaio", "--iodepth=32"}, "IOPS"},
	{"4k randwrite QD32", []string{"--rw=randwrite", "--bs=4k", "--ioengine=libaio", "--iodepth=32"}, "IOPS"},
	{"1M read", []string{"--rw=read", "--bs=1M", "--ioengine=psync"}, "MiB/s"},
	{"1M write", []string{"--rw=write", "--bs=1M", "--ioengine=psync"}, "MiB/s"},
}

// fileMiB is the size of each backing file.
const fileMiB = 256

type dirs []string

func (d *dirs) String() string     { return strings.Join(*d, " ") }
func (d *dirs) Set(s string) error { *d = append(*d, s); return nil }

type options struct {
	dmfs    string
	dirs    dirs
	rounds  int
	seconds float64
	json    string
	set     string
}

func main() {
	var o options
	flag.StringVar(&o.dmfs, "dmfs", "build/dmfs", "the program to measure")
	flag.Var(&o.dirs, "dir", "directory for the backing files; may be given several times (default /dev/shm and the working directory)")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds")
	flag.Float64Var(&o.seconds, "seconds", 1, "length of each measurement")
	flag.StringVar(&o.json, "json", "", "write the report to this file as well")
	flag.StringVar(&o.set, "set", "", "the set of servers, see the package comment")
	flag.Parse()
	if _, ok := sets[o.set]; !ok && o.set != "" {
		fmt.Fprintf(os.Stderr, "bench: no set %q: want %s\n", o.set, strings.Join(slices.Sorted(maps.Keys(sets)), ", "))
		os.Exit(2)
	}
	if len(o.dirs) == 0 {
		o.dirs = dirs{"/dev/shm", "."}
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A report is what -json writes.
type report struct {
	Command []string         `json:"command"`
	Kernel  string           `json:"kernel"`
	Rounds  int              `json:"rounds"`
	Seconds float64          `json:"seconds"`
	Places  []place          `json:"places"`
	Service map[string]value `json:"service"`
	LeftOut []string         `json:"left_out"`
}

// A value is a figure and its unit.
type value struct {
	Median float64 `json:"median"`
	Unit   string  `json:"unit"`
}

// A place is the results on one file system.
type place struct {
	Dir        string                        `json:"dir"`
	FileSystem string                        `json:"file_system"`
	Results    map[string]map[string]float64 `json:"medians"` // by workload and server
}

func run(o options) error {
	if _, err := exec.LookPath("fio"); err != nil {
		return fmt.Errorf("%w: install the package fio", err)
	}
	dmfs, err := filepath.Abs(o.dmfs)
	if err != nil {
		return err
	}
	o.dmfs = dmfs
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return err
	}
	r := report{
		Command: os.Args, Kernel: strings.TrimSpace(string(release)), Rounds: o.rounds, Seconds: o.seconds,
		Service: make(map[string]value),
	}
	for _, dir := range o.dirs {
		p, err := measurePlace(o, dir, &r)
		if err != nil {
			return err
		}
		r.Places = append(r.Places, *p)
		if o.set == "" {
			printPlace(p)
		} else {
			printSet(p, sets[o.set])
		}
	}
	if o.set == "" {
		if err := measureService(o, &r); err != nil {
			return err
		}
		printService(&r)
	}
	if o.json == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, append(text, '\n'), 0o644)
}

// measurePlace plays all workloads on all servers with their files in dir.
func measurePlace(o options, dir string, r *report) (p *place, err error) {
	tmp, err := os.MkdirTemp(dir, "dmfs-bench-")
	if err != nil {
		return nil, err
	}
	tmp, err = filepath.Abs(tmp)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // nothing depends on it
	servers, leftOut := start(o, tmp)
	played := workloads
	if sets[o.set].readOnly {
		played = slices.DeleteFunc(slices.Clone(workloads), func(w workload) bool { return strings.Contains(w.Name, "write") })
	}
	defer func() {
		for _, s := range servers {
			if e := s.stop(); e != nil && err == nil {
				err = e
			}
		}
	}()
	for _, l := range leftOut {
		fmt.Println("left out:", l)
	}
	r.LeftOut = append(r.LeftOut, leftOut...)
	samples := make(map[string]map[string][]float64)
	for _, w := range played {
		samples[w.Name] = make(map[string][]float64)
	}
	fresh := sets[o.set].fresh
	for _, w := range firstWrites {
		if len(fresh) > 0 {
			samples[w.Name] = make(map[string][]float64)
		}
	}
	for round := range o.rounds {
		for _, w := range played {
			for i := range servers {
				s := &servers[(i+round)%len(servers)]
				progress("%s: round %d of %d: %s, %s", dir, round+1, o.rounds, w.Name, s.name)
				v, err := fio(w, s.file, o.seconds)
				if err != nil {
					return nil, fmt.Errorf("%s on %s: %w", w.Name, s.name, err)
				}
				samples[w.Name][s.name] = append(samples[w.Name][s.name], v)
			}
		}
		for i := range len(firstWrites) * len(fresh) {
			w, c := firstWrites[i/len(fresh)], fresh[(i+round)%len(fresh)]
			progress("%s: round %d of %d: %s, %s", dir, round+1, o.rounds, w.Name, c.name)
			v, err := measureFirst(o, tmp, w, c)
			if err != nil {
				return nil, fmt.Errorf("%s on %s: %w", w.Name, c.name, err)
			}
			samples[w.Name][c.name] = append(samples[w.Name][c.name], v)
		}
	}
	progress("")
	p = &place{Dir: dir, FileSystem: fileSystem(dir), Results: make(map[string]map[string]float64)}
	for name, of := range samples {
		p.Results[name] = make(map[string]float64)
		for server, values := range of {
			p.Results[name][server] = median(values)
		}
	}
	return p, nil
}
