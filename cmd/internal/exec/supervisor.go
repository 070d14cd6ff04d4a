package exec

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/cmd/internal/exec/sandbox"
	"dmfs/cmd/internal/exec/seccomp"
	"dmfs/fs/control"
)

// SupervisorName is what this program is called (argv[0]) when it is to be Supervise.
const SupervisorName = "dmfs-exec-supervisor"

// sockets is the environment variable with the numbers of the supervisor's sockets: to the client, to the stage.
const sockets = "DMFS_EXEC_SOCKETS"

// An order is what the client tells the supervisor.
type order struct {
	Mount  string
	Blocks []Block
}

// A reply is what the supervisor tells the client, first of all.
type reply struct {
	Error string
	Locks string
}

// What they tell each other when the command has ended.
const (
	wordEnded  = "ended"
	wordStayed = "stayed"
)

// A supervisor serves one session.
type supervisor struct {
	ctx        context.Context // its own, which does not end
	mount      *mount
	version    control.Version
	world      *world
	listener   *seccomp.Listener
	readers    readers
	nodes      *nodes
	loops      *loops
	keys       *keys
	tree       *tree
	host       map[number]bool   // what is mounted outside, whose numbers are not given to other devices
	aliases    map[string]string // names in /dev that the user has given to disks
	held       []int             // the disks of --block
	devicesDir string
	ahead      sync.Map // what tools have said to read ahead: sectors, uint64, by ID of the device, uint64

	soon       chan struct{} // wakes watch
	changed    atomic.Int64  // when a tool of the session changed a mapped device last, in nanoseconds since 1970
	refreshing sync.Mutex    // held while the tree is made to be as the devices are
}

// Supervise is what a process does that Run started as a supervisor. It returns when nobody is left to be served.
func Supervise() int {
	var client, stage int
	if _, err := fmt.Sscan(os.Getenv(sockets), &client, &stage); err != nil {
		fmt.Fprintf(os.Stderr, "%s is run by dmfs exec, not by hand\n", SupervisorName)
		return exitFailed
	}
	os.Unsetenv(sockets)
	unix.CloseOnExec(client)
	unix.CloseOnExec(stage)
	closeInherited()
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})        // keys pass through here
	_ = os.WriteFile("/proc/self/comm", []byte("dmfs-exec"), 0) // who keeps the mount busy; prctl(2) would name this thread
	unix.Umask(0)
	conn := os.NewFile(uintptr(client), "client")
	in := bufio.NewReader(conn)
	tell := func(r reply) { _ = json.NewEncoder(conn).Encode(r) } // a client that has gone is seen below
	s := &supervisor{ctx: context.Background(), aliases: make(map[string]string), soon: make(chan struct{}, 1)}
	locks, err := s.begin(in)
	if err != nil {
		tell(reply{Error: err.Error()})
		return exitFailed
	}
	defer locks.leave()
	tell(reply{Locks: locks.dir})
	listener, trees, namespace, err := sandbox.Receive(stage)
	if err != nil {
		return exitFailed // the stage has said why
	}
	s.listener = seccomp.NewListener(listener)
	if err := s.fill(trees); err != nil {
		fmt.Fprintln(conn, err)
		return exitFailed
	}
	if err := sandbox.Go(stage); err != nil {
		return exitFailed
	}
	unix.Close(stage) //nolint:errcheck // all is said
	go s.watch()
	go s.answerClient(conn, in, namespace)
	if err := s.serve(); err != nil {
		fmt.Fprintln(conn, err)
		return exitFailed
	}
	s.loops.sweep(s.ctx)
	s.letGo(s.ctx)
	return exitDone
}

// guard has nobody look into this process, as its user may: it is about to have a key in memory. Until then others of his may see what it has
// open, for instance who asks why a mount is busy.
var guard = sync.OnceFunc(func() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) })

// closeInherited closes what the user passes to the command: a pipe that is open here would keep its reader waiting as long as daemons
// are served. What this process opens itself has close-on-exec set.
func closeInherited() {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd < 3 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd) //nolint:errcheck // nothing was written to it here
		}
	}
}

// begin does what can be done before there is a session: reach the mount, attach the disks.
func (s *supervisor) begin(in *bufio.Reader) (l *locks, err error) {
	var o order
	line, err := in.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &o)
	}
	if err != nil {
		return nil, fmt.Errorf("the client has gone: %w", err)
	}
	if s.mount, err = openMount(o.Mount); err != nil {
		return nil, err
	}
	if s.version, err = s.mount.version(s.ctx); err != nil {
		return nil, err
	}
	major, err := mapperMajor(s.version.Major)
	if err != nil {
		return nil, err
	}
	s.world, s.host = newWorld(s.mount, major), mountedNumbers()
	s.loops = newLoops(s)
	s.keys = newKeys(s)
	s.devicesDir = sandbox.DevicesDir()
	for _, b := range o.Blocks {
		if err := s.attach(s.ctx, b); err != nil {
			return nil, err
		}
	}
	if err := s.holdAll(s.ctx); err != nil {
		return nil, err
	}
	if _, err := s.world.look(s.ctx); err != nil {
		return nil, err
	}
	return joinLocks(s.mount.dev)
}

// fill makes the directories of the session show what there is.
func (s *supervisor) fill(dirs sandbox.Trees) error {
	var err error
	if s.nodes, err = newNodes(dirs.Dev); err != nil {
		return err
	}
	kernel, err := kernelFiles(s.world.major)
	if err != nil {
		return err
	}
	s.tree = &tree{s: s, dirs: dirs, kernel: kernel, shown: make(map[uint64]*shown), written: make(map[string]string)}
	if err := s.tree.start(); err != nil {
		return err
	}
	return s.tree.update(true)
}

// refresh looks at the devices and shows them. changed is false if they are as they were.
func (s *supervisor) refresh(ctx context.Context) (changed bool, err error) {
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	changed, err = s.world.look(ctx)
	if err != nil || !changed {
		return changed, err
	}
	return true, s.tree.update(false)
}

// show shows the devices as they are, also if it is known already that they have changed.
func (s *supervisor) show(ctx context.Context) error {
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	_, err := s.world.look(ctx)
	return errors.Join(err, s.tree.update(false))
}

// lookEach is how often it is looked what others do with the mount.
const lookEach = time.Second

// lookSoon has watch look when what is under way may be over, a close for instance, which nobody tells of.
func (s *supervisor) lookSoon() {
	select {
	case s.soon <- struct{}{}:
	default:
	}
}

// watch shows what others do with the mount.
func (s *supervisor) watch() {
	wait := lookEach
	for {
		select {
		case <-time.After(wait):
			wait = min(2*wait, lookEach)
		case <-s.soon:
			wait = lookEach / 100
			continue
		}
		s.refreshing.Lock()
		if _, err := s.world.look(s.ctx); err == nil {
			s.tidyParts(s.ctx, false)
			// Tools of the session that have just been told of a change are about to make the nodes, and would be disturbed.
			theirs := time.Since(time.Unix(0, s.changed.Load())) < lookEach
			_ = s.tree.update(!theirs) // what cannot be shown is tried again
		}
		s.refreshing.Unlock()
	}
}

// answerClient tells the client, when the command has ended, if others are left to be served. That none are is told by the socket, which
// ends with this process.
func (s *supervisor) answerClient(conn *os.File, in *bufio.Reader, namespace string) {
	defer conn.Close()
	line, err := in.ReadString('\n')
	if err != nil || strings.TrimSpace(line) != wordEnded {
		startWarden(namespace)
		return // it was killed
	}
	if over, err := s.listener.Over(0); err == nil && !over {
		startWarden(namespace)
		fmt.Fprintln(conn, wordStayed) //nolint:errcheck // it may have been killed
		return
	}
	select {} // the end is near
}

// mountedNumbers returns the devices that are mounted outside. Tools find them in lists of mounts, and would take others of
// these numbers for them.
func mountedNumbers() map[number]bool {
	found := make(map[number]bool)
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return found
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 2 {
			if n, ok := parseNumber(f[2]); ok {
				if n.major == diskMajor {
					n.minor -= n.minor % diskMinors
				}
				found[n] = true
			}
		}
	}
	return found
}

// locks is the directory in which all sessions of a user on a mount lock.
type locks struct {
	dir string
	fd  int
}

// joinLocks makes the directory, unless another session has. What a session that was killed has left in it is nobody's: the number of its mount may
// be another's by now.
func joinLocks(dev uint64) (*locks, error) {
	uid, parent := os.Geteuid(), os.TempDir()
	for _, run := range []string{"/run", "/run/user/" + strconv.Itoa(uid)} { // the first is root's alone
		if unix.Access(run, unix.W_OK) == nil {
			parent = run
			break
		}
	}
	dir := fmt.Sprintf("%s/dmfs-exec-%d-%d.%d", parent, uid, unix.Major(dev), unix.Minor(dev))
	const tries = 20
	for range tries {
		if err := unix.Mkdir(dir, 0o700); err != nil && err != unix.EEXIST {
			return nil, &os.PathError{Op: "mkdir", Path: dir, Err: err}
		}
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT {
			continue // the last session has just ended
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: dir, Err: err}
		}
		alone := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil
		var st, again unix.Stat_t
		err = unix.Fstat(fd, &st)
		if err == nil && alone && st.Uid == uint32(uid) {
			empty(dir)
		}
		err = errors.Join(err, unix.Flock(fd, unix.LOCK_SH))
		switch {
		case err == nil && (st.Uid != uint32(uid) || st.Mode&0o077 != 0):
			err = fmt.Errorf("%s belongs to somebody else", dir)
		case err == nil && (unix.Lstat(dir, &again) != nil || again.Ino != st.Ino):
			unix.Close(fd) //nolint:errcheck // the last session removed it meanwhile
			continue
		}
		if err != nil {
			unix.Close(fd) //nolint:errcheck // nothing was written to it
			return nil, err
		}
		return &locks{dir, fd}, nil
	}
	return nil, fmt.Errorf("%s: %w", dir, unix.EBUSY)
}

// empty removes what is in a directory.
func empty(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		_ = os.RemoveAll(dir + "/" + e.Name()) // a few files, which would be taken for those of today
	}
}

// leave removes the directory, unless another session uses it.
func (l *locks) leave() {
	if unix.Flock(l.fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
		_ = os.RemoveAll(l.dir) // a few empty files in a directory for temporary ones
	}
	unix.Close(l.fd) //nolint:errcheck // nothing was written to it
}
