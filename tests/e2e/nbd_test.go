package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// An nbdServer is a server process that can be killed and started again.
type nbdServer struct {
	b    *bench
	uri  string
	argv []string
	dial [2]string
	cmd  *exec.Cmd
}

// serveNBD starts a server that is reached at uri.
func (b *bench) serveNBD(uri, network, address string, argv ...string) *nbdServer {
	b.t.Helper()
	requireTool(b.t, argv[0])
	s := &nbdServer{b: b, uri: uri, argv: argv, dial: [2]string{network, address}}
	s.start()
	b.t.Cleanup(s.kill)
	return s
}

func (s *nbdServer) start() {
	s.b.t.Helper()
	if s.dial[0] == "unix" {
		os.Remove(s.dial[1])
	}
	s.cmd = s.b.command(s.argv[0], s.argv[1:]...)
	must(s.b.t, s.cmd.Start())
	s.b.waitFor(s.argv[0]+" serves", func() bool {
		c, err := net.Dial(s.dial[0], s.dial[1])
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// kill is kill -9.
func (s *nbdServer) kill() {
	if s.cmd.ProcessState == nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
	}
}

// nbdkit serves an image of the bench over TCP.
func (b *bench) nbdkit(image string) *nbdServer {
	b.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(b.t, err)
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	return b.serveNBD(fmt.Sprintf("nbd://127.0.0.1:%d/", port), "tcp", fmt.Sprintf("127.0.0.1:%d", port),
		"nbdkit", "-f", "-i", "127.0.0.1", "-p", fmt.Sprint(port), "file", image)
}

// qemuNBD serves an image of the bench over a Unix socket.
func (b *bench) qemuNBD(image string) *nbdServer {
	b.t.Helper()
	sock := b.path("right.sock")
	return b.serveNBD("nbd+unix:///disk?socket="+sock, "unix", sock, "qemu-nbd", "-t", "-e", "8", "-x", "disk", "-k", sock, "-f", "raw", image)
}

// A load is writers that stamp blocks of a device in turn and read them back, each in a region of its own.
type load struct {
	t       *testing.T
	file    *os.File
	region  int
	last    [][]uint64 // by writer and block: the serial that is on the disk
	done    atomic.Int64
	stop    atomic.Bool
	slowest atomic.Int64 // the longest that a request took since somebody set it to 0, in ns
	wg      sync.WaitGroup
}

const blockSectors = 8

func startLoad(t *testing.T, device string, writers, blocks int) *load {
	t.Helper()
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	must(t, err)
	l := &load{t: t, file: f, region: blocks, last: make([][]uint64, writers)}
	t.Cleanup(func() { // of a test that failed: writers that wait for a path would keep the mount busy
		l.stop.Store(true)
		_ = os.WriteFile(filepath.Join(filepath.Dir(device), "control"), []byte("message vol0 0 fail_if_no_path\n"), 0)
		l.wg.Wait()
		f.Close()
	})
	for w := range writers {
		l.last[w] = make([]uint64, blocks)
		l.wg.Go(func() { l.write(w) })
	}
	return l
}

func (l *load) sector(w, block int) mapper.Sector {
	return mapper.Sector((w*l.region + block) * blockSectors)
}

func (l *load) write(w int) {
	p := make([]byte, mapper.Sector(blockSectors).Bytes())
	for serial := uint64(1); !l.stop.Load(); serial++ {
		block := int(serial) % l.region
		s := l.sector(w, block)
		err := l.timed(func() error {
			_, err := l.file.WriteAt(mappertest.Stamped(s, blockSectors, serial), s.Bytes())
			return err
		})
		l.last[w][block] = serial
		if err == nil && serial%8 == 0 {
			err = l.timed(l.file.Sync)
		}
		if err == nil {
			err = l.timed(func() error {
				_, err := l.file.ReadAt(p, s.Bytes())
				return err
			})
		}
		if err == nil {
			err = mappertest.CheckStamp(p, s, serial)
		}
		if err != nil {
			l.t.Errorf("writer %d, block %d, serial %d: %v", w, block, serial, err)
			return
		}
		l.done.Add(1)
	}
}

// timed calls f and notes how long that took.
func (l *load) timed(f func() error) error {
	began := time.Now()
	err := f()
	took := int64(time.Since(began))
	for have := l.slowest.Load(); took > have && !l.slowest.CompareAndSwap(have, took); have = l.slowest.Load() {
	}
	return err
}

// end stops the writers and compares everything, on the device and in the image.
func (l *load) end(check func(), image string) {
	l.t.Helper()
	l.stop.Store(true)
	l.wg.Wait()
	l.compare(l.file)
	must(l.t, l.file.Close())
	check()
	f, err := os.Open(image)
	must(l.t, err)
	defer f.Close()
	l.compare(f)
}

func (l *load) compare(f *os.File) {
	l.t.Helper()
	p := make([]byte, mapper.Sector(blockSectors).Bytes())
	for w := range l.last {
		for block, serial := range l.last[w] {
			s := l.sector(w, block)
			if _, err := f.ReadAt(p, s.Bytes()); err != nil {
				l.t.Fatal(err)
			}
			if serial == 0 {
				continue
			}
			if err := mappertest.CheckStamp(p, s, serial); err != nil {
				l.t.Errorf("%s: %v", f.Name(), err)
			}
		}
	}
}

// goesOn waits until n more rounds of the writers are done.
func (b *bench) goesOn(l *load, n int64) {
	b.t.Helper()
	from := l.done.Load()
	b.waitFor("the writers go on", func() bool { return b.t.Failed() || l.done.Load() >= from+n })
	if b.t.Failed() {
		b.t.FailNow()
	}
}

// mountMultipath mounts vol0, which has two paths, and returns the servers of both.
func (b *bench) mountMultipath(features string) (image string, servers map[string]*nbdServer) {
	b.t.Helper()
	image = b.image("disk.img", 32768)
	servers = map[string]*nbdServer{"left": b.nbdkit(image), "right": b.qemuNBD(image)}
	b.mount(b.file("dmfs.toml", fmt.Sprintf("[disks]\nleft = %q\nright = { path = %q }\n\n[devices.vol0]\ntable = '0 32768 multipath %s 0 1 1 round-robin 0 2 0 left right'\n\n"+
		"[devices.vol1]\ntable = '0 32768 linear vol0 0'\n",
		servers["left"].uri, servers["right"].uri, features)))
	return image, servers
}

// paths returns the states of the two paths, as in "AF".
func (b *bench) paths() string {
	words := strings.Fields(b.run(program, "status", "vol0"))
	at := slices.Index(words, "multipath")
	return words[at+12] + words[at+15]
}

// One server after the other is killed under load: no error, nothing lost, and the writers go on; restarted and reinstated, it is used again.
func TestMultipathSurvivesItsServers(t *testing.T) {
	b := newBench(t)
	image, servers := b.mountMultipath("0")
	l := startLoad(t, filepath.Join(b.mnt, "vol0"), 4, 64)
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	var failovers []time.Duration
	for round := range rounds {
		b.goesOn(l, 100)
		name := []string{"left", "right"}[round%2]
		l.slowest.Store(0)
		servers[name].kill()
		b.goesOn(l, 100)
		failovers = append(failovers, time.Duration(l.slowest.Load()))
		if want := []string{"FA", "AF"}[round%2]; b.paths() != want {
			t.Errorf("round %d: paths %s, want %s", round, b.paths(), want)
		}
		servers[name].start()
		b.control("message vol0 0 reinstate_path " + name + "\n")
		b.goesOn(l, 100)
		if b.paths() != "AA" {
			t.Errorf("round %d: after reinstate_path: paths %s, want AA", round, b.paths())
		}
	}
	l.end(func() { b.run(program, "umount", b.mnt) }, image)
	slices.Sort(failovers)
	if !t.Failed() {
		t.Logf("%d servers killed under 4 writers, %d writes, 0 lost, 0 errors; the longest that a request took around each: median %v, most %v",
			rounds, l.done.Load(), failovers[len(failovers)/2], failovers[len(failovers)-1])
	}
}

// With no path left the writers wait and can be killed; when a server is back and reinstated they go on, and nothing is lost.
func TestMultipathQueues(t *testing.T) {
	b := newBench(t)
	image, servers := b.mountMultipath("1 queue_if_no_path")
	vol0 := filepath.Join(b.mnt, "vol0")
	l := startLoad(t, vol0, 4, 64)
	b.goesOn(l, 100)
	servers["left"].kill()
	servers["right"].kill()
	b.waitFor("both paths have failed", func() bool { return b.paths() == "FF" })
	// By another device: of several writers to one file all but one wait for each other in the kernel, where nothing interrupts them.
	victim, out := b.start("dd", "if=/dev/zero", "of="+filepath.Join(b.mnt, "vol1"), "bs=4096", "seek=4000", "count=1", "conv=notrunc,fsync")
	stuck := l.done.Load()
	time.Sleep(300 * time.Millisecond)
	if n := l.done.Load(); n != stuck {
		t.Errorf("%d writes were done without any path", n-stuck)
	}
	if victim.ProcessState != nil {
		t.Fatalf("dd ended: %s", out)
	}
	gone := make(chan error, 1)
	must(t, victim.Process.Kill())
	go func() { gone <- victim.Wait() }()
	select {
	case <-gone:
	case <-time.After(patience):
		t.Fatal("a process that waits for a path cannot be killed")
	}
	for _, name := range []string{"right", "left"} {
		servers[name].start()
		b.control("message vol0 0 reinstate_path " + name + "\n")
		b.goesOn(l, 100)
	}
	if b.paths() != "AA" {
		t.Errorf("paths %s, want AA", b.paths())
	}
	l.end(func() { b.run(program, "umount", b.mnt) }, image)
}

// Network disks are called by their URI wherever they appear, and that can be replayed.
func TestNetworkDiskNames(t *testing.T) {
	b := newBench(t)
	image := b.image("disk.img", 2048)
	s := b.nbdkit(image)
	b.mount("")
	b.run(program, "create", "vol0", "--table", "0 2048 linear "+s.uri+" 0")
	table := b.run(program, "table", "vol0")
	if want := "0 2048 linear " + s.uri + " 0\n"; table != want {
		t.Errorf("table %q, want %q", table, want)
	}
	if deps := b.run(program, "deps", "vol0"); !strings.Contains(deps, s.uri) {
		t.Errorf("deps %q", deps)
	}
	saved, err := os.ReadFile(filepath.Join(b.mnt, "control"))
	must(t, err)
	b.run(program, "remove", "vol0")
	b.control(string(saved))
	p := bytes.Repeat([]byte("network "), 512)
	must(t, os.WriteFile(filepath.Join(b.mnt, "vol0"), p, 0))
	b.run(program, "umount", b.mnt)
	have, err := os.ReadFile(image)
	must(t, err)
	if !bytes.Equal(have[:len(p)], p) {
		t.Error("the image does not hold what was written")
	}
}

// The worked example of docs/nbd.md works.
func TestExampleOfNetworkDisks(t *testing.T) {
	b := newBench(t)
	for _, tool := range []string{"nbdkit", "qemu-nbd", "bash"} {
		requireTool(t, tool)
	}
	b.env = append(b.env, "DMFS="+program)
	script, err := filepath.Abs("../../docs/examples/nbd.sh")
	must(t, err)
	out := b.run("bash", script, b.dir)
	for _, want := range []string{"left.sock F 1", "left.sock A 1", "all of it is there"} {
		if !strings.Contains(out, want) {
			t.Errorf("the example did not say %q:\n%s", want, out)
		}
	}
}

// What cannot be opened is refused with its reason, and nothing is left.
func TestNetworkDisksThatAreRefused(t *testing.T) {
	b := newBench(t)
	s := b.qemuNBD(b.image("disk.img", 2048))
	b.mount("")
	for uri, want := range map[string]string{
		"nbds://localhost/x":                         "TLS is not supported",
		"nbd://localhost/x?tls-verify-peer=1":        "TLS is not supported",
		strings.Replace(s.uri, "/disk", "/other", 1): "no such export",
		"nbd+unix:///x?socket=" + b.path("nowhere"):  "no such file",
		"nbd://127.0.0.1:1/":                         "connection refused",
		"nbd+unix:///x":                              "want ?socket=PATH",
		"http://localhost/":                          "unknown scheme",
	} {
		b.fails(1, want, program, "create", "vol0", "--table", "0 2048 linear "+uri+" 0")
	}
	b.run(program, "umount", b.mnt)
}
