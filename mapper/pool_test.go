package mapper_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
	"dmfs/targets"
)

// A slowFiles has network disks: each open waits for a word, and what it opens counts how often it was closed.
type slowFiles struct {
	opened, closed atomic.Int32
	last           atomic.Value // mapper.DiskConfig of the last that was opened
	begun          chan struct{}
	result         chan error
}

type closer struct {
	mapper.Disk
	f *slowFiles
}

func (c *closer) Close() error { c.f.closed.Add(1); return nil }

func (f *slowFiles) Identify(path string) (mapper.FileID, error) {
	return mapper.FileID{URI: path}, nil
}
func (f *slowFiles) BlockDevicePath(uint32, uint32) (string, error) {
	return "", mapper.ErrNoDevice
}

func (f *slowFiles) Open(ctx context.Context, c mapper.DiskConfig) (mapper.Disk, error) {
	f.opened.Add(1)
	f.last.Store(c)
	f.begun <- struct{}{}
	select {
	case err := <-f.result:
		return &closer{mappertest.NewDisk(c.Path, 64), f}, err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func newSlowFiles() (*slowFiles, *mapper.Manager) {
	f := &slowFiles{begun: make(chan struct{}, 8), result: make(chan error, 8)}
	registry := new(mapper.Registry)
	targets.Register(registry)
	return f, mapper.NewManager(registry, mapper.Options{Files: f})
}

func linearOn(name, disk string) mapper.NewDevice {
	return mapper.NewDevice{Name: name, Minor: -1, Table: []mapper.Spec{{Len: 8, Type: "linear", Args: []string{disk, "0"}}}}
}

// A file is opened past the page cache if the table says so before its path, and beside that as others have it.
func TestDirectPrefix(t *testing.T) {
	f, m := newSlowFiles()
	for i, tt := range []struct {
		word string
		want mapper.DiskConfig
	}{
		{"direct:/a/b", mapper.DiskConfig{Path: "/a/b", Direct: true}},
		{"/a/b", mapper.DiskConfig{Path: "/a/b"}},
		{"/a/direct:/b", mapper.DiskConfig{Path: "/a/direct:/b"}},
		{"direct:/a/b/../c", mapper.DiskConfig{Path: "/a/c", Direct: true}},
	} {
		f.result <- nil
		if _, err := m.Create(context.Background(), linearOn(string(rune('a'+i)), tt.word)); err != nil {
			t.Fatal(err)
		}
		if got := f.last.Load(); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.word, got, tt.want)
		}
	}
	f.result <- nil
	if _, err := m.Create(context.Background(), linearOn("e", "direct:a")); err != nil {
		t.Fatal(err)
	}
	if got := f.last.Load().(mapper.DiskConfig); got.Direct {
		t.Errorf("a relative path: %+v", got)
	}
}

// While a server makes one disk wait, other disks are opened; whoever wants the same disk waits and shares it.
func TestSlowOpenHoldsUpNobodyElse(t *testing.T) {
	f, m := newSlowFiles()
	ctx := context.Background()
	var wg sync.WaitGroup
	create := func(name, disk string) {
		wg.Go(func() {
			if _, err := m.Create(ctx, linearOn(name, disk)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	create("a", "nbd://slow/x")
	<-f.begun
	create("b", "nbd://slow/x")
	create("c", "nbd://quick/x")
	<-f.begun // c has come past a
	f.result <- nil
	f.result <- nil
	wg.Wait()
	if n := f.opened.Load(); n != 2 {
		t.Errorf("%d disks were opened, want 2", n)
	}
	for _, name := range []string{"a", "b", "c"} {
		if err := m.Remove(ctx, name, mapper.RemoveOptions{}); err != nil {
			t.Error(err)
		}
	}
	if n := f.closed.Load(); n != 2 {
		t.Errorf("%d disks were closed, want 2", n)
	}
}

// An open whose command is interrupted ends, and the disk can be opened by the next.
func TestSlowOpenIsInterrupted(t *testing.T) {
	f, m := newSlowFiles()
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(time.Millisecond, cancel)
	if _, err := m.Create(ctx, linearOn("a", "nbd://slow/x")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was interrupted", err)
	}
	f.result <- nil
	if _, err := m.Create(context.Background(), linearOn("a", "nbd://slow/x")); err != nil {
		t.Error(err)
	}
	if err := m.Remove(context.Background(), "a", mapper.RemoveOptions{}); err != nil {
		t.Error(err)
	}
}

func TestIsURI(t *testing.T) {
	for name, want := range map[string]bool{
		"nbd://h/x": true, "nbd+unix:///x?socket=/s": true, "nbds://h": true,
		"": false, "a.img": false, "/a://b": false, "://x": false, "a b://c": false, "8:0": false,
	} {
		if got := mapper.IsURI(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}
