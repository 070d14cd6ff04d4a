package multipath

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

var ctx = context.Background()

// Two paths over one disk: what fails on one of them goes down the other.
func TestConformance(t *testing.T) {
	disk := []mappertest.DiskSpec{{Name: "7:0", Sectors: 600}}
	for name, args := range map[string]string{
		"round-robin":             "0 0 1 1 round-robin 0 2 0 7:0 7:0",
		"queue-length":            "1 queue_if_no_path 0 1 1 queue-length 0 2 1 7:0 1 7:0 1",
		"service-time":            "2 queue_mode bio 0 2 1 service-time 0 1 2 7:0 1 3 service-time 0 2 0 7:0 7:0",
		"historical-service-time": "0 0 1 1 historical-service-time 2 900 2 2 0 7:0 7:0",
		"io-affinity":             "0 0 2 1 io-affinity 0 1 1 7:0 1 round-robin 0 1 0 7:0",
	} {
		t.Run(name, func(t *testing.T) {
			mappertest.TestTarget(t, &Type, mappertest.Setup{Disks: disk, Len: 512, Args: strings.Fields(args)})
		})
	}
	t.Run("4096-byte blocks", func(t *testing.T) {
		mappertest.TestTarget(t, &Type, mappertest.Setup{
			Disks: []mappertest.DiskSpec{{Name: "7:0", Sectors: 512, Limits: mapper.Limits{LogicalBlock: 4096, VolatileCache: true}}},
			Len:   512, Args: strings.Fields("0 0 1 1 round-robin 0 2 0 7:0 7:0"),
		})
	})
}

// A bed is a target over faulty disks a, b, … that are views of one storage.
type bed struct {
	t     testing.TB
	host  *mappertest.Host
	disks []*way
	*target
}

// A way is a way to the storage that can be cut and held up.
type way struct {
	*mappertest.Faulty
	stall *mappertest.Stall
	name  string
}

func (p *way) DiskName() string { return p.name }

func newBed(t testing.TB, args string) *bed {
	t.Helper()
	storage := mappertest.NewDisk("storage", 1024)
	b := &bed{t: t, host: &mappertest.Host{Disks: map[string]mapper.Disk{}}}
	for _, name := range []string{"a", "b", "c"} {
		stall := mappertest.NewStall(storage)
		p := &way{Faulty: mappertest.NewFaulty(stall), stall: stall, name: name}
		b.host.Disks[name] = p
		b.disks = append(b.disks, p)
	}
	got, err := newTarget(ctx, b.host, mapper.Spec{Len: 1024, Args: strings.Fields(args)})
	if err != nil {
		t.Fatal(err)
	}
	b.target = got.(*target)
	return b
}

func (b *bed) write(s mapper.Sector, serial uint64) error {
	return b.Submit(ctx, mapper.Request{Op: mapper.OpWrite, Start: s, Count: 4, Data: mappertest.Stamped(s, 4, serial)})
}

func (b *bed) check(s mapper.Sector, serial uint64) {
	b.t.Helper()
	buf := make([]byte, mapper.Sector(4).Bytes())
	if err := b.Submit(ctx, mapper.Request{Op: mapper.OpRead, Start: s, Count: 4, Data: buf}); err != nil {
		b.t.Fatal(err)
	}
	if err := mappertest.CheckStamp(buf, s, serial); err != nil {
		b.t.Error(err)
	}
}

func (b *bed) say(words string) {
	b.t.Helper()
	if _, err := b.Message(ctx, strings.Fields(words)); err != nil {
		b.t.Fatalf("%s: %v", words, err)
	}
}

func (b *bed) status() string {
	s, _ := b.Status(ctx, false)
	return s
}

// Which errors are a path's fault.
func TestErrorsThatFailAPath(t *testing.T) {
	for _, tt := range []struct {
		err  error
		path bool
	}{
		{mapper.ErrIO, true}, {mapper.ErrTimeout, true}, {mapper.ErrClosed, true}, {unix.ECONNRESET, true}, {errors.New("odd"), true},
		{&mapper.Error{Err: mapper.ErrIO}, true},
		{mapper.ErrNoSpace, false}, {mapper.ErrNotSupported, false}, {mapper.ErrMedium, false}, {mapper.ErrProtection, false},
		{mapper.ErrReadOnly, false}, {&mapper.Error{Err: mapper.ErrNoSpace}, false}, {fmt.Errorf("x: %w", mapper.ErrMedium), false},
	} {
		b := newBed(t, "0 0 1 1 round-robin 0 2 0 a b")
		b.disks[0].Inject(mappertest.Fault{Err: tt.err})
		err := b.write(0, 1)
		if tt.path {
			if err != nil || !strings.Contains(b.status(), "a F 1 b A 0") || b.host.Events() != 1 {
				t.Errorf("%v: got %v, status %q, %d events; want that path a fails", tt.err, err, b.status(), b.host.Events())
			}
		} else if !errors.Is(err, tt.err) || !strings.Contains(b.status(), "a A 0 b A 0") {
			t.Errorf("%v: got %v, status %q; want the error and no failed path", tt.err, err, b.status())
		}
	}
}

// A request tries each path once and fails with what the last of them said.
func TestAttemptsAreBounded(t *testing.T) {
	b := newBed(t, "0 0 2 1 round-robin 0 2 0 a b queue-length 0 1 0 c")
	for _, d := range b.disks {
		d.Inject(mappertest.Fault{Err: fmt.Errorf("by %s: %w", d.name, mapper.ErrIO)})
	}
	err := b.write(0, 1)
	if err == nil || !strings.Contains(err.Error(), "by c") {
		t.Errorf("got %v, want the error of c", err)
	}
	for _, d := range b.disks {
		if d.IOs() != 1 {
			t.Errorf("%s had %d requests, want 1", d.name, d.IOs())
		}
	}
	if b.host.Events() != 3 {
		t.Errorf("%d events, want 3", b.host.Events())
	}
	if err := b.write(0, 1); !errors.Is(err, mapper.ErrIO) {
		t.Errorf("got %v, want an I/O error", err)
	}
}

// Under load with paths that fail and come back nothing is lost, and afterwards nothing counts as in flight.
func TestCountersUnderErrors(t *testing.T) {
	for _, selector := range []string{"queue-length", "service-time", "historical-service-time", "round-robin"} {
		b := newBed(t, "1 queue_if_no_path 0 1 1 "+selector+" 0 3 0 a b c")
		stop := make(chan struct{})
		var chaos, load sync.WaitGroup
		chaos.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				d := b.disks[i%3]
				d.FailNth(3)
				time.Sleep(200 * time.Microsecond)
				d.Heal()
				_, _ = b.Message(ctx, []string{"reinstate_path", d.name})
			}
		})
		for w := range mapper.Sector(4) {
			load.Go(func() {
				for i := range uint64(500) {
					if err := b.write(w*4, i+1); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		load.Wait()
		close(stop)
		chaos.Wait()
		for w := range mapper.Sector(4) {
			b.check(w*4, 500)
		}
		for _, p := range b.groups[0].paths {
			if p.load.Load() != 0 || p.bytes.Load() != 0 {
				t.Errorf("%s: path %s has %d requests of %d bytes in flight", selector, p.name, p.load.Load(), p.bytes.Load())
			}
		}
	}
}

// The reasons of the selectors that are not in the oracle's kernel.
func TestRefusals(t *testing.T) {
	for args, want := range map[string]string{
		"0 0 1 1 historical-service-time 3 1 2 3 1 0 a":         "path selector constructor failed",
		"0 0 1 1 historical-service-time 1 1024 1 0 a":          "path selector constructor failed",
		"0 0 1 1 historical-service-time 1 x 1 0 a":             "path selector constructor failed",
		"0 0 1 1 historical-service-time 2 1 4294967296 1 0 a":  "path selector constructor failed",
		"0 0 1 1 historical-service-time 0 1 2 a 1 1":           "historical-service-time ps: incorrect number of arguments",
		"0 0 1 1 historical-service-time 0 1 1 a x":             "historical-service-time ps: invalid repeat count",
		"0 0 1 1 io-affinity 0 1 0 a":                           "io-affinity ps: invalid number of arguments",
		"0 0 1 1 io-affinity 0 1 1 a x":                         "io-affinity ps: invalid cpumask",
		"0 0 1 1 io-affinity 0 1 1 a 0":                         "io-affinity ps: No new/valid CPU mapping found",
		"0 0 1 1 io-affinity 0 2 1 a 1 b 1":                     "io-affinity ps: No new/valid CPU mapping found",
		"0 1 alua 1 1 round-robin 0 1 0 a":                      "error attaching hardware handler",
		"0 0 1 1 round-robin 0 1 1 a 18446744073709551616":      "round-robin ps: invalid repeat count",
		"0 0 1 1 round-robin 4294967295 1 0 a":                  "invalid number of path selector args",
		"4294967296 0 1 1 round-robin 0 1 0 a":                  "invalid number of feature args",
		"0 0 1 1 round-robin 0 1 0 nosuch":                      "error getting device",
		"0 0 1 1 service-time 0 1 2 a 1 -1":                     "service-time ps: invalid relative_throughput value",
		"3 pg_init_retries 3 bogus 0 1 1 round-robin 0 1 0 a":   "Unrecognised multipath feature request",
		"2 pg_init_retries x 0 1 1 round-robin 0 1 0 a":         "pg_init_retries must be between 1 and 50",
		"2 pg_init_delay_msecs -1 0 1 1 round-robin 0 1 0 a":    "pg_init_delay_msecs must be between 0 and 60000",
		"0 0 1 18446744073709551615 round-robin 0 1 0 a":        "invalid initial priority group number",
		"0 0 1 1 round-robin 0 1 1024 a":                        "not enough path parameters",
		"0 0 1 1 round-robin 0 18446744073709551615 1024 a b c": "invalid number of paths",
	} {
		h := mappertest.NewHost(mappertest.NewDisk("a", 8), mappertest.NewDisk("b", 8))
		_, err := newTarget(ctx, h, mapper.Spec{Len: 8, Args: strings.Fields(args)})
		var arg *mapper.ArgError
		if !errors.As(err, &arg) || arg.Reason != want {
			t.Errorf("%s: got %v, want %q", args, err, want)
		}
	}
}

// A request that waits for a path ends with its context, and leaves the others waiting.
func TestWaitingEndsWithContext(t *testing.T) {
	b := newBed(t, "1 queue_if_no_path 0 1 1 round-robin 0 1 0 a")
	b.say("fail_path a")
	one, kill := context.WithCancel(ctx)
	results := make(chan error, 2)
	go func() { results <- b.Submit(one, mapper.Request{Op: mapper.OpFlush}) }()
	go func() { results <- b.write(0, 1) }()
	time.Sleep(2 * time.Millisecond)
	kill()
	if err := <-results; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	select {
	case err := <-results:
		t.Errorf("the other one ended too: %v", err)
	case <-time.After(5 * time.Millisecond):
	}
	b.say("reinstate_path a")
	if err := <-results; err != nil {
		t.Error(err)
	}
}

// A cancelled request that a disk gives up does not cost a path.
func TestCancelFailsNoPath(t *testing.T) {
	b := newBed(t, "0 0 1 1 round-robin 0 2 0 a b")
	b.disks[0].stall.Hold()
	one, kill := context.WithCancel(ctx)
	result := make(chan error, 1)
	go func() {
		result <- b.Submit(one, mapper.Request{Op: mapper.OpRead, Count: 1, Data: make([]byte, 512)})
	}()
	if err := b.disks[0].stall.WaitHeld(ctx, 1); err != nil {
		t.Fatal(err)
	}
	kill()
	if err := <-result; !errors.Is(err, context.Canceled) || !strings.Contains(b.status(), "a A 0 b A 0") {
		t.Errorf("got %v, status %q", err, b.status())
	}
	b.disks[0].stall.Release()
}

// What waits when a suspend begins goes to the next table or fails, as queue_mode and noflush say; an abandoned suspend leaves
// queueing on.
func TestSuspend(t *testing.T) {
	for _, tt := range []struct {
		mode    string
		noFlush bool
		want    error
	}{
		{"rq", false, mapper.ErrRequeue}, {"rq", true, mapper.ErrRequeue}, {"bio", true, mapper.ErrRequeue}, {"bio", false, mapper.ErrIO},
	} {
		b := newBed(t, "3 queue_if_no_path queue_mode "+tt.mode+" 0 1 1 round-robin 0 1 0 a")
		b.say("fail_path a")
		result := make(chan error, 1)
		go func() { result <- b.write(0, 1) }()
		time.Sleep(2 * time.Millisecond)
		b.PreSuspend(tt.noFlush)
		if err := <-result; !errors.Is(err, tt.want) {
			t.Errorf("queue_mode %s, noflush %v: got %v, want %v", tt.mode, tt.noFlush, err, tt.want)
		}
		b.PreSuspendUndo()
		if !strings.Contains(strings.Join(b.Table(false), " "), "queue_if_no_path") {
			t.Errorf("queue_mode %s, noflush %v: queue_if_no_path is gone after a suspend that was given up", tt.mode, tt.noFlush)
		}
	}
}

// A flush says that the other paths lead to the same storage, and goes down one of them.
func TestFlush(t *testing.T) {
	seen := make(chan mapper.Request, 64)
	h := mappertest.NewHost(recorder{"a", seen}, recorder{"b", seen})
	got, err := newTarget(ctx, h, mapper.Spec{Len: 8, Args: strings.Fields("0 0 1 1 round-robin 0 2 0 a b")})
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Submit(ctx, mapper.Request{Op: mapper.OpFlush}); err != nil {
		t.Error(err)
	}
	if len(seen) != 1 {
		t.Fatalf("%d requests, want 1", len(seen))
	}
	if r := <-seen; r.Op != mapper.OpFlush || r.Flags&mapper.FlagShared == 0 {
		t.Errorf("got %+v", r)
	}
}

// So does the flush of a mapped device, as a path of which a flush is not refused either.
func TestFlushThroughMappedDevices(t *testing.T) {
	seen := make(chan mapper.Request, 64)
	registry := new(mapper.Registry)
	registry.Register(&Type)
	registry.Register(&mapper.Type{Name: "plain", New: func(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
		return h.Open(ctx, s.Args[0]) // a disk does what a target that only forwards does
	}})
	m := mapper.NewManager(registry, mapper.Options{Files: mappertest.NewFiles(recorder{"7:0", seen})})
	for _, n := range []mapper.NewDevice{
		{Name: "low", Minor: -1, Table: []mapper.Spec{{Len: 8, Type: "plain", Args: []string{"7:0"}}}},
		{Name: "high", Minor: -1, Table: []mapper.Spec{{Len: 8, Type: "multipath", Args: strings.Fields("0 0 1 1 round-robin 0 1 0 low")}}},
	} {
		if _, err := m.Create(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.ByName("high").Flush(ctx); err != nil {
		t.Error(err)
	}
	if r := <-seen; r.Op != mapper.OpFlush || r.Flags&mapper.FlagShared == 0 {
		t.Errorf("got %+v", r)
	}
	if err := m.ByName("low").Flush(ctx); err != nil {
		t.Error(err)
	}
	if r := <-seen; r.Flags != 0 {
		t.Errorf("a flush of the device below: %+v", r)
	}
	if err := m.Close(ctx); err != nil {
		t.Error(err)
	}
}

type recorder struct {
	name string
	seen chan mapper.Request
}

func (r recorder) DiskName() string       { return r.name }
func (r recorder) Sectors() mapper.Sector { return 8 }
func (r recorder) Limits() mapper.Limits  { return mapper.Limits{VolatileCache: true} }
func (r recorder) Submit(_ context.Context, q mapper.Request) error {
	r.seen <- q
	return nil
}

// Holes are those of the first disk that knows of any; elsewhere all is data.
func TestExtent(t *testing.T) {
	b := newBed(t, "0 0 1 1 round-robin 0 2 0 a b")
	if run, data, err := b.Extent(ctx, 3, 50); run != 50 || !data || err != nil {
		t.Errorf("got %d %v %v", run, data, err)
	}
	h := mappertest.NewHost(holey{mappertest.Null{Name: "a", Size: 64}})
	got, err := newTarget(ctx, h, mapper.Spec{Len: 64, Args: strings.Fields("0 0 1 1 round-robin 0 1 0 a")})
	if err != nil {
		t.Fatal(err)
	}
	if run, data, err := got.(*target).Extent(ctx, 3, 50); run != 7 || data || err != nil {
		t.Errorf("got %d %v %v", run, data, err)
	}
}

type holey struct{ mappertest.Null }

func (holey) Extent(context.Context, mapper.Sector, mapper.Sector) (mapper.Sector, bool, error) {
	return 7, false, nil
}
