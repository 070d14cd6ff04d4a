package nbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// A server is nbdkit or qemu-nbd as a process.
type server struct {
	t    testing.TB
	argv []string
	sock string
	cmd  *exec.Cmd
}

// startServer runs argv, in which SOCKET stands for the path of its socket, until the test ends.
func startServer(t testing.TB, argv ...string) *server {
	t.Helper()
	if _, err := exec.LookPath(argv[0]); err != nil {
		t.Skipf("needs %s: %v", argv[0], err)
	}
	s := &server{t: t, sock: filepath.Join(t.TempDir(), "s")}
	for _, a := range argv {
		s.argv = append(s.argv, strings.ReplaceAll(a, "SOCKET", s.sock))
	}
	s.start()
	t.Cleanup(s.kill)
	return s
}

func (s *server) start() {
	s.t.Helper()
	os.Remove(s.sock)
	s.cmd = exec.Command(s.argv[0], s.argv[1:]...)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for range 500 {
		if c, err := net.Dial("unix", s.sock); err == nil {
			c.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Fatalf("%q does not serve", s.argv)
}

// kill is kill -9.
func (s *server) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

func (s *server) open(query string) *Disk {
	s.t.Helper()
	d, err := Open(s.t.Context(), mapper.DiskConfig{Path: "nbd+unix:///?socket=" + s.sock + query})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { d.Close() })
	return d
}

// servers are the ways to serve 4 MiB; the file is there for those that want one.
func servers(t *testing.T) map[string][]string {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	kit := func(args ...string) []string { return append([]string{"nbdkit", "-f", "-U", "SOCKET"}, args...) }
	qemu := func(args ...string) []string {
		return append([]string{"qemu-nbd", "-k", "SOCKET", "-t", "-f", "raw"}, append(args, file)...)
	}
	return map[string][]string{
		"nbdkit memory":      kit("memory", "4M"),
		"nbdkit file":        kit("file", file),
		"nbdkit no sr":       append([]string{"nbdkit", "--no-sr"}, kit("memory", "4M")[1:]...),
		"nbdkit old options": append([]string{"nbdkit", "--mask-handshake=0"}, kit("memory", "4M")[1:]...),
		"nbdkit delay":       kit("--filter=delay", "memory", "4M", "wdelay=1ms", "rdelay=1ms"),
		"nbdkit blocks":      kit("--filter=blocksize-policy", "memory", "4M", "blocksize-minimum=4096", "blocksize-maximum=8192", "blocksize-error-policy=error"),
		"nbdkit plain":       kit("--filter=fua", "--filter=nozero", "--filter=noextents", "memory", "4M", "fuamode=discard", "zeromode=none"),
		"qemu-nbd":           qemu("--cache=writeback", "--discard=unmap"),
		"qemu-nbd direct":    qemu("--cache=none", "--aio=threads"),
	}
}

// Real servers store what is written by several at once, and zeroes and holes read as such.
func TestServers(t *testing.T) {
	for name, argv := range servers(t) {
		t.Run(name, func(t *testing.T) {
			d := startServer(t, argv...).open("")
			seed := mappertest.Seed(t)
			const workers = 4
			share := d.Sectors() / workers
			var wg sync.WaitGroup
			for w := range mapper.Sector(workers) {
				wg.Go(func() {
					if err := exercise(d, w*share, share, rand.New(rand.NewPCG(seed, uint64(w)))); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		})
	}
}

// exercise compares a range of d with a model.
func exercise(d *Disk, first, n mapper.Sector, rnd *rand.Rand) error {
	block := d.Limits().LogicalSectors()
	model := make([]byte, n.Bytes())
	for s := mapper.Sector(0); s < n; s += 256 {
		r := mapper.Request{Op: mapper.OpWrite, Start: first + s, Count: 256, Data: mappertest.Stamped(first+s, 256, 1)}
		copy(model[s.Bytes():], r.Data)
		if err := d.Submit(context.Background(), r); err != nil {
			return err
		}
	}
	for serial := range uint64(150) {
		s := mapper.Sector(rnd.Uint64N(uint64(n/block))) * block
		count := min(n-s, block*mapper.Sector(1+rnd.IntN(32)))
		r := mapper.Request{Op: mapper.Op(rnd.IntN(5)), Start: first + s, Count: count, Flags: mapper.Flags(rnd.IntN(2))}
		part := model[s.Bytes():][:count.Bytes()]
		switch r.Op {
		case mapper.OpRead:
			r.Data = make([]byte, len(part))
		case mapper.OpWrite:
			r.Data = mappertest.Stamped(first+s, count, serial+2)
			copy(part, r.Data)
		case mapper.OpFlush:
			r = mapper.Request{Op: mapper.OpFlush}
		case mapper.OpDiscard:
			continue // leaves anything
		case mapper.OpWriteZeroes:
			r.Flags |= mapper.Flags(rnd.IntN(2)) * mapper.FlagNoUnmap
		}
		err := d.Submit(context.Background(), r)
		if r.Op == mapper.OpWriteZeroes && (err == nil || errors.Is(err, mapper.ErrNotSupported)) {
			if err == nil {
				clear(part)
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("%s of %d at %d: %w", r.Op, r.Count, r.Start, err)
		}
		if r.Op == mapper.OpRead && !bytes.Equal(r.Data, part) {
			return fmt.Errorf("read of %d at %d differs from what was written", r.Count, r.Start)
		}
	}
	return nil
}

// Holes of a sparse file are told.
func TestHolesOfAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sparse")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 4<<20); err != nil {
		t.Fatal(err)
	}
	for name, argv := range map[string][]string{
		"nbdkit":   {"nbdkit", "-f", "-U", "SOCKET", "file", file},
		"qemu-nbd": {"qemu-nbd", "-k", "SOCKET", "-t", "-f", "raw", file},
	} {
		t.Run(name, func(t *testing.T) {
			d := startServer(t, argv...).open("")
			if err := errors.Join(write(d, 2048, 128, 0), flush(d, 0)); err != nil {
				t.Fatal(err)
			}
			if run, data, err := d.Extent(t.Context(), 0, 8192); run != 2048 || data || err != nil {
				t.Errorf("at 0: %d %v %v", run, data, err)
			}
			if run, data, err := d.Extent(t.Context(), 2048, 8192-2048); run != 128 || !data || err != nil {
				t.Errorf("at 2048: %d %v %v", run, data, err)
			}
		})
	}
}

// An error of the server's storage is an error of the request alone.
func TestErrorFilter(t *testing.T) {
	d := startServer(t, "nbdkit", "-f", "-U", "SOCKET", "--filter=error", "memory", "4M", "error=ENOSPC", "error-rate=50%", "error-pwrite-rate=100%", "error-pread-rate=0").open("")
	if err := write(d, 0, 8, 0); !errors.Is(err, mapper.ErrNoSpace) {
		t.Errorf("got %v", err)
	}
	if _, err := read(t.Context(), d, 0, 8); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// kill -9 of the server ends the requests under way; restarted, it serves the next, and a flush says what may have been lost.
func TestServerKilled(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, "nbdkit", "-f", "-U", "SOCKET", "--filter=delay", "file", file, "wdelay=5ms")
	d := s.open("")
	if err := errors.Join(write(d, 0, 8, 0), flush(d, 0)); err != nil {
		t.Fatal(err)
	}
	results := make(chan error, 16)
	for range cap(results) {
		go func() {
			for {
				if err := write(d, 0, 8, 0); err != nil {
					results <- err
					return
				}
			}
		}()
	}
	time.Sleep(20 * time.Millisecond)
	s.kill()
	for range cap(results) {
		select {
		case err := <-results:
			if !errors.Is(err, mapper.ErrIO) {
				t.Errorf("got %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("a request still waits")
		}
	}
	s.start()
	if err := write(d, 0, 8, mapper.FlagFUA); err != nil {
		t.Errorf("after the restart: %v", err)
	}
	if err := flush(d, 0); !errors.Is(err, mapper.ErrIO) {
		t.Errorf("flush after acknowledged writes may be lost: %v", err)
	}
}

// With reconnect-delay nobody notices.
func TestServerKilledAndAwaited(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, "nbdkit", "-f", "-U", "SOCKET", "file", file)
	d := s.open("&reconnect-delay=60")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range mapper.Sector(4) {
		wg.Go(func() {
			for serial := uint64(1); ; serial++ {
				select {
				case <-stop:
					return
				default:
				}
				r := mapper.Request{Op: mapper.OpWrite, Flags: mapper.FlagFUA, Start: w * 8, Count: 8, Data: mappertest.Stamped(w*8, 8, serial)}
				if err := d.Submit(context.Background(), r); err != nil {
					t.Errorf("write: %v", err)
					return
				}
				p, err := read(context.Background(), d, w*8, 8)
				if err == nil {
					err = mappertest.CheckStamp(p, w*8, serial)
				}
				if err != nil {
					t.Errorf("read: %v", err)
					return
				}
			}
		})
	}
	for range 3 {
		time.Sleep(20 * time.Millisecond)
		s.kill()
		s.start()
	}
	time.Sleep(20 * time.Millisecond)
	close(stop)
	wg.Wait()
	if err := flush(d, 0); err != nil {
		t.Errorf("flush, after durable writes alone: %v", err)
	}
}

func TestSubmitDoesNotAllocate(t *testing.T) {
	d := startServer(t, "nbdkit", "-f", "-U", "SOCKET", "memory", "4M").open("")
	r := mapper.Request{Op: mapper.OpWrite, Start: 16, Count: 8, Data: make([]byte, 4096)}
	if n := testing.AllocsPerRun(200, func() { _ = d.Submit(context.Background(), r) }); n >= 1 {
		t.Errorf("%v allocations for a write, want none", n)
	}
	r.Op = mapper.OpRead
	if n := testing.AllocsPerRun(200, func() { _ = d.Submit(context.Background(), r) }); n >= 1 {
		t.Errorf("%v allocations for a read, want none", n)
	}
}

func BenchmarkSubmit(b *testing.B) {
	for _, op := range []mapper.Op{mapper.OpRead, mapper.OpWrite} {
		for _, n := range []mapper.Sector{8, 256, 2048} {
			for _, workers := range []int{1, 16} {
				b.Run(fmt.Sprintf("%s/%dK/%d", op, n/2, workers), func(b *testing.B) {
					d := startServer(b, "nbdkit", "-f", "-U", "SOCKET", "memory", "64M").open("")
					b.SetBytes(n.Bytes())
					b.ReportAllocs()
					b.SetParallelism(max(1, workers/2))
					b.RunParallel(func(pb *testing.PB) {
						r := mapper.Request{Op: op, Count: n, Data: make([]byte, n.Bytes())}
						for pb.Next() {
							if err := d.Submit(context.Background(), r); err != nil {
								b.Error(err)
								return
							}
						}
					})
				})
			}
		}
	}
}
