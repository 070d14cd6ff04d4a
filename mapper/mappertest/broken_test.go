package mappertest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"dmfs/mapper"
)

// plain is a lawful target, linear over a whole disk; hook may make a broken one of it.
type plain struct {
	disk mapper.Disk
	hook func(ctx context.Context, below mapper.Disk, r mapper.Request) error
	name string
}

func (t *plain) Submit(ctx context.Context, r mapper.Request) error {
	if t.hook != nil {
		return t.hook(ctx, t.disk, r)
	}
	return t.disk.Submit(ctx, r)
}

func (t *plain) Remap(s mapper.Sector) (d mapper.Disk, at, run mapper.Sector) {
	if t.name == "wrong remap" && s > 70 {
		s++
	}
	return t.disk, s, 10
}

func (t *plain) Table(bool) []string {
	if t.name == "wrong table" {
		return []string{"7:1"}
	}
	return []string{mapper.DiskName(t.disk)}
}

func (t *plain) Hints(l *mapper.Limits) { l.Split = 64 }

// broken are the ways to break the contract that TestTarget must find.
var broken = map[string]func(ctx context.Context, below mapper.Disk, r mapper.Request) error{
	"wrong remap":      nil,
	"wrong table":      nil,
	"writes in New":    nil,
	"plain errors":     nil,
	"reads next door":  on(mapper.OpRead, func(r *mapper.Request) { r.Start ^= 64 }),
	"drops FUA":        on(mapper.OpWrite, func(r *mapper.Request) { r.Flags = 0 }),
	"changes the data": on(mapper.OpWrite, func(r *mapper.Request) { r.Data[100] ^= 1 }),
	"discards more":    on(mapper.OpDiscard, func(r *mapper.Request) { r.Count++ }),
	"zeroes less":      on(mapper.OpWriteZeroes, func(r *mapper.Request) { r.Count = max(1, r.Count/2) }),
	"leaves a hole": func(ctx context.Context, below mapper.Disk, r mapper.Request) error {
		if r.Op == mapper.OpWrite && r.Start <= 100 && r.End() > 100 {
			return nil
		}
		return below.Submit(ctx, r)
	},
	"swallows errors": func(ctx context.Context, below mapper.Disk, r mapper.Request) error {
		_ = below.Submit(ctx, r)
		return nil
	},
	"swallows errors of flushes": func(ctx context.Context, below mapper.Disk, r mapper.Request) error {
		err := below.Submit(ctx, r)
		if r.Op == mapper.OpFlush {
			return nil
		}
		return err
	},
	"ignores flushes": func(ctx context.Context, below mapper.Disk, r mapper.Request) error {
		if r.Op == mapper.OpFlush {
			return nil
		}
		return below.Submit(ctx, r)
	},
	"flushes twice": func(ctx context.Context, below mapper.Disk, r mapper.Request) error {
		if r.Op == mapper.OpFlush {
			_ = below.Submit(ctx, r)
		}
		return below.Submit(ctx, r)
	},
	"keeps the data": func(ctx context.Context, below mapper.Disk, r mapper.Request) error {
		if r.Op != mapper.OpWrite {
			return below.Submit(ctx, r)
		}
		go func() {
			time.Sleep(200 * time.Microsecond)
			_ = below.Submit(context.Background(), r)
		}()
		return nil
	},
	"fills late": func(ctx context.Context, below mapper.Disk, r mapper.Request) error {
		if r.Op == mapper.OpRead {
			go func() {
				time.Sleep(200 * time.Microsecond)
				r.Data[0] = 1
			}()
		}
		return below.Submit(ctx, r)
	},
	"leaks a goroutine": func(ctx context.Context, below mapper.Disk, r mapper.Request) error {
		go func() { select {} }()
		return below.Submit(ctx, r)
	},
	"sends nonsense": on(mapper.OpFlush, func(r *mapper.Request) { r.Count = 1 }),
}

// on changes the requests of one operation.
func on(op mapper.Op, change func(r *mapper.Request)) func(context.Context, mapper.Disk, mapper.Request) error {
	return func(ctx context.Context, below mapper.Disk, r mapper.Request) error {
		if r.Op == op {
			change(&r)
		}
		return below.Submit(ctx, r)
	}
}

func plainType(name string) *mapper.Type {
	return &mapper.Type{Name: "plain", New: func(ctx context.Context, h mapper.Host, s mapper.Spec) (mapper.Target, error) {
		if len(s.Args) != 1 {
			return nil, mapper.BadArg("Invalid argument count", "want DISK")
		}
		d, err := h.Open(ctx, s.Args[0])
		if err != nil && name == "plain errors" {
			return nil, errors.New("no")
		} else if err != nil {
			return nil, &mapper.ArgError{Reason: "Device lookup failed", Errno: mapper.Errno(err)}
		}
		if name == "writes in New" {
			_ = d.Submit(ctx, mapper.Request{Op: mapper.OpWriteZeroes, Count: 1})
		}
		return &plain{disk: d, hook: broken[name], name: name}, nil
	}}
}

var plainSetup = Setup{
	Disks: []DiskSpec{{Name: "7:0", Sectors: 256}, {Name: "7:1", Sectors: 256}},
	Len:   256, Args: []string{"7:0"},
}

func TestLawfulTargetPasses(t *testing.T) { TestTarget(t, plainType(""), plainSetup) }

// TestBrokenTargetsFail runs TestTarget on broken targets, in a process of its own since it has to fail.
func TestBrokenTargetsFail(t *testing.T) {
	if name := os.Getenv("MAPPERTEST_BROKEN"); name != "" {
		TestTarget(t, plainType(name), plainSetup)
		return
	}
	for name := range broken {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBrokenTargetsFail$", "-test.failfast", "-test.timeout=60s")
			cmd.Env = append(os.Environ(), "MAPPERTEST_BROKEN="+name)
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, io.Discard
			err := cmd.Run()
			if err == nil {
				t.Error("TestTarget found nothing wrong")
			} else if !strings.Contains(out.String(), "--- FAIL: ") {
				t.Errorf("%v, and no test failed: %s", err, out.String())
			}
		})
	}
}
