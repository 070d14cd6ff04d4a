package kernel

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"dmfs/tests/ioctls"
	"dmfs/tests/scenario"
)

// Bounds of what the guest may take.
const (
	bootTime = 60 * time.Second
	playTime = 60 * time.Second // one scenario
)

// errSilent: a guest does not come to an end. errEnded: it panicked.
var (
	errSilent = errors.New("the guest said nothing")
	errEnded  = errors.New("the guest ended")
)

// A Guest is a running kernel. Its methods are called by one goroutine at a time.
type Guest struct {
	Release string // of the kernel: "6.1.176"

	dir     string // the job directory
	cmd     *exec.Cmd
	console io.WriteCloser
	lines   chan string   // of the console; closed at its end
	ended   chan struct{} // closed when the process is gone
	last    int           // number of the last scenario
}

// Missing says what this machine lacks to run a guest, "" if nothing.
func Missing() string {
	if _, err := exec.LookPath("linux.uml"); err != nil {
		return "needs linux.uml (package user-mode-linux)"
	}
	if _, err := modules(); err != nil {
		return err.Error()
	}
	return ""
}

// modules returns the directory of the kernel's modules.
func modules() (string, error) {
	dirs, err := filepath.Glob("/usr/lib/uml/modules/*/modules.dep")
	if err != nil || len(dirs) == 0 {
		return "", errors.New("needs the modules of linux.uml in /usr/lib/uml/modules (package user-mode-linux)")
	}
	return filepath.Dir(dirs[len(dirs)-1]), nil
}

// Boot builds the guest's program and boots it. Close must be called.
func Boot() (_ *Guest, err error) {
	dir, err := os.MkdirTemp("", "dmfs-kernel-")
	if err != nil {
		return nil, err
	}
	g := &Guest{dir: dir, lines: make(chan string, 16), ended: make(chan struct{})}
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	initPath := filepath.Join(dir, "guest")
	build := exec.Command("go", "build", "-o", initPath, "dmfs/tests/kernel/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return g, fmt.Errorf("go build: %w\n%s", err, out)
	}
	if err := g.start(initPath); err != nil {
		return g, err
	}
	line, err := g.answer("ready ", bootTime)
	g.Release = line
	return g, err
}

// start starts the kernel with what is to be its init.
func (g *Guest) start(initPath string) error {
	mods, err := modules()
	if err != nil {
		return err
	}
	g.cmd = exec.Command("linux.uml", "mem=256M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "init="+initPath,
		"con=null", "con0=fd:0,fd:1", "quiet", "loglevel=1", "panic=1", "random.trust_cpu=on",
		"uml_dir="+g.dir+"/uml", "umid=guest", "dmfs_job="+g.dir, "dmfs_modules="+mods)
	// A session of its own is a process group of its own, which takes the kernel's helpers along when it is killed. If this process
	// dies it cannot do that; then a SIGTERM has the kernel end its helpers itself.
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
	if g.console, err = g.cmd.StdinPipe(); err != nil {
		return err
	}
	output, w, err := os.Pipe()
	if err != nil {
		return err
	}
	g.cmd.Stdout, g.cmd.Stderr = w, w
	started := make(chan error)
	go func() {
		// The death signal is sent when the thread that started the process ends, so that thread waits for it.
		runtime.LockOSThread()
		err := g.cmd.Start()
		w.Close()
		started <- err
		if err == nil {
			g.cmd.Wait() //nolint:errcheck // how it ended is of no interest
			close(g.ended)
		}
	}()
	if err := <-started; err != nil {
		return errors.Join(err, output.Close())
	}
	go g.listen(output)
	return nil
}

// listen passes on the lines of the console. At its end it closes lines.
func (g *Guest) listen(output io.ReadCloser) {
	defer output.Close()
	defer close(g.lines)
	console := bufio.NewScanner(output)
	for console.Scan() {
		g.lines <- strings.TrimSpace(console.Text())
	}
}

// answer waits for a line that begins with prefix and returns the rest of it. What else the console says is for the
// error, if there is one.
func (g *Guest) answer(prefix string, within time.Duration) (string, error) {
	var said []string
	timer := time.NewTimer(within)
	defer timer.Stop()
	for {
		select {
		case line, ok := <-g.lines:
			if !ok {
				return "", fmt.Errorf("%w; its console:\n%s", errEnded, strings.Join(said, "\n"))
			}
			if rest, ok := strings.CutPrefix(line, prefix); ok {
				return rest, nil
			}
			said = append(said, line)
		case <-timer.C:
			return "", fmt.Errorf("%w for %v; its console:\n%s", errSilent, within, strings.Join(said, "\n"))
		}
	}
}

// Images are directories of disks' content by name: From before, To after a scenario. "" means none. While it is played they are
// moved to where the guest sees them.
type Images struct{ From, To string }

// lend moves the directories to the guest and returns the function that moves them back.
func (m Images) lend(base string) (back func() error, err error) {
	var moved [][2]string
	back = func() (err error) {
		for _, m := range moved {
			err = errors.Join(err, os.Rename(m[1], m[0]))
		}
		return err
	}
	for _, m := range [][2]string{{m.From, base + ".from"}, {m.To, base + ".to"}} {
		if m[0] == "" {
			continue
		}
		if err := os.Rename(m[0], m[1]); err != nil {
			return back, err
		}
		moved = append(moved, m)
	}
	return back, nil
}

// Play plays a scenario. After an error other than that of scenario.IsCannot the guest is of no use.
func (g *Guest) Play(s *scenario.Scenario, images Images) (t scenario.Transcript, err error) {
	g.last++
	back, err := images.lend(g.base())
	defer func() { err = errors.Join(err, back()) }()
	if err != nil {
		return nil, err
	}
	out, err := g.do("play", s.Text())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	return scenario.ParseTranscript(out)
}

// Call carries out calls of the device mapper's control device and returns what the kernel made of them. After an error the guest is
// of no use.
func (g *Guest) Call(calls []ioctls.Call) ([]ioctls.Call, error) {
	g.last++
	out, err := g.do("call", ioctls.Format("", calls))
	if err != nil {
		return nil, err
	}
	return ioctls.Parse(out)
}

// Shell runs a shell script as root, with the host's programs, and returns what it printed. It finds the images in $FROM, and
// leaves what it is to leave in $TO. After an error the guest is of no use.
func (g *Guest) Shell(script string, images Images) (out string, err error) {
	g.last++
	back, err := images.lend(g.base())
	defer func() { err = errors.Join(err, back()) }()
	if err != nil {
		return "", err
	}
	return g.do("sh", script)
}

// base returns the path of the files of the last job, without what their names end with.
func (g *Guest) base() string { return filepath.Join(g.dir, strconv.Itoa(g.last)) }

// do has the guest do the last job, and returns what came of it.
func (g *Guest) do(what, input string) (string, error) {
	base := g.base()
	if err := os.WriteFile(base+".in", []byte(input), 0o644); err != nil {
		return "", err
	}
	defer os.Remove(base + ".in")
	defer os.Remove(base + ".out")
	if _, err := fmt.Fprintf(g.console, "%s %d\n", what, g.last); err != nil {
		return "", err
	}
	if _, err := g.answer(fmt.Sprintf("played %d", g.last), playTime); err != nil {
		return "", err
	}
	out, err := os.ReadFile(base + ".out")
	if err != nil {
		return "", err
	}
	first, rest, _ := strings.Cut(string(out), "\n")
	if why, ok := strings.CutPrefix(first, "cannot: "); ok {
		return "", scenario.Cannot(why)
	}
	if first != "played" {
		return "", errors.New(string(out))
	}
	return rest, nil
}

// Close ends the guest and removes what it left.
func (g *Guest) Close() {
	if g.cmd != nil && g.cmd.Process != nil {
		g.console.Close()
		var drained sync.WaitGroup
		drained.Go(func() {
			for range g.lines {
			}
		})
		select {
		case <-g.ended:
		case <-time.After(3 * time.Second):
		}
		syscall.Kill(-g.cmd.Process.Pid, syscall.SIGKILL) //nolint:errcheck // most often nothing is left
		<-g.ended
		drained.Wait()
	}
	os.RemoveAll(g.dir)
}
