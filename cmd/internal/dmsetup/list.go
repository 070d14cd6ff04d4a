package dmsetup

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"dmfs/fs/control"
)

// Words of -o that choose how deps and ls show devices.
const (
	showNumber = "devno"
	showBlock  = "blkdevname"
	showName   = "devname"
)

// display returns how devices are to be shown; the last word given that is not devno wins.
func (s *session) display() string {
	shown := showNumber
	for _, w := range splitWords(s.opts.get("options")) {
		if w != showNumber {
			shown = w
		}
	}
	return shown
}

// kernelDisks returns the disks of d in the order in which the kernel lists them: the one opened last first.
func kernelDisks(d control.Device) []control.Dep {
	disks := slices.Clone(d.Deps)
	slices.Reverse(disks)
	return disks
}

// blockName returns the kernel's name of a disk, or the last element of the path of a file.
func blockName(dep control.Dep) string {
	if dep.BlockName == "" && dep.Path != "" {
		return filepath.Base(dep.Path)
	}
	if dep.BlockName == "" && dep.Device != "" {
		return fmt.Sprintf("dm-%d", dep.Minor)
	}
	return dep.BlockName
}

// diskNumber returns the number of a disk with sep between its parts, or the path of a file.
func diskNumber(dep control.Dep, sep string) string {
	if dep.Path != "" {
		return dep.Path
	}
	return fmt.Sprintf("%d%s%d", dep.Major, sep, dep.Minor)
}

// dependencies is the JSON form of what one device stands on.
type dependencies struct {
	Name string        `json:"name"`
	Deps []control.Dep `json:"deps"`
}

func (s *session) deps(operands []string) error {
	list := []dependencies{}
	err := s.forDevices(operands, nil, "deps", func(d control.Device, label string) error {
		if s.opts.has("json") {
			list = append(list, dependencies{s.show(d.Name), append([]control.Dep{}, d.Deps...)})
			return nil
		}
		verbose := s.opts.has("verbose")
		if verbose {
			s.showInfo(d)
		} else if label != "" {
			s.printf("%s: ", label)
		}
		s.printf("%d dependencies\t:", len(d.Deps))
		for _, dep := range kernelDisks(d) {
			s.printf(" (%s)", s.shownDisk(dep))
		}
		s.printf("\n")
		if label != "" && verbose {
			s.printf("\n")
		}
		return nil
	})
	if s.opts.has("json") {
		return s.printJSON(list, err)
	}
	return err
}

func (s *session) shownDisk(dep control.Dep) string {
	shown := s.display()
	if shown == showName && dep.Device != "" {
		return s.show(dep.Device)
	}
	if name := blockName(dep); shown != showNumber && name != "" {
		return name
	}
	return diskNumber(dep, ", ")
}

// listed is the JSON form of one device of ls.
type listed struct {
	Name  string `json:"name"`
	UUID  string `json:"uuid"`
	Major uint32 `json:"major"`
	Minor uint32 `json:"minor"`
}

func (s *session) ls([]string) error {
	var extra []string
	if s.opts.has("target") {
		extra = []string{"status"}
	}
	devices, err := s.queryAll(extra...)
	switch {
	case err != nil:
		return err
	case s.opts.has("json"):
		return s.lsJSON(devices)
	case len(devices) == 0:
		return s.noDevices()
	case s.opts.has("tree") && !s.opts.any("target", "exec"):
		return s.lsTree(devices)
	}
	for _, d := range devices {
		if _, any := s.onlyTarget(d.Status); !any {
			continue
		}
		switch {
		case s.opts.has("exec"):
			err = s.execFor(d)
		case s.opts.has("target"):
			s.printf("%s\t(%d, %d)\n", s.show(d.Name), d.Major, d.Minor)
		default:
			s.printf("%s\t(%s)\n", s.show(d.Name), s.shownDevice(d))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *session) shownDevice(d control.Device) string {
	switch shown := s.display(); {
	case shown == showName && d.HasNode:
		return s.show(d.Name)
	case shown == showBlock && d.HasNode:
		return fmt.Sprintf("dm-%d", d.Minor)
	}
	return fmt.Sprintf("%d:%d", d.Major, d.Minor)
}

func (s *session) lsJSON(devices []control.Device) error {
	list := []listed{}
	for _, d := range devices {
		if _, any := s.onlyTarget(d.Status); any {
			list = append(list, listed{s.show(d.Name), s.show(d.UUID), d.Major, d.Minor})
		}
	}
	return s.printJSON(list, nil)
}

// execFor runs the command of --exec with the path of d's file, which is where dmsetup's would be when called as dmsetup.
// That the command fails is nobody's concern.
func (s *session) execFor(d control.Device) error {
	dir := "/dev/mapper"
	if !s.Strict {
		m, err := s.connect()
		if err != nil {
			return err
		}
		dir = m.Path()
	}
	words := append(strings.Fields(s.opts.get("exec")), dir+"/"+s.show(d.Name))
	cmd := exec.CommandContext(s.ctx, words[0], words[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.Stdin, s.Stdout, s.Stderr
	var status *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &status) && !s.Strict {
		s.errorf("%s: %v", s.Args0, err)
	}
	return nil
}
