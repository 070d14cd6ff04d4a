package mapper

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestGateShutWaitsForThoseInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		ctx := t.Context()
		if err := g.enter(ctx); err != nil {
			t.Fatal(err)
		}
		var shut atomic.Bool
		go func() {
			if err := g.shut(ctx); err != nil {
				t.Error(err)
			}
			shut.Store(true)
		}()
		synctest.Wait()
		if shut.Load() {
			t.Fatal("shut with a request inside")
		}
		g.leave()
		synctest.Wait()
		if !shut.Load() {
			t.Fatal("not shut though the last request has left")
		}
		var passed atomic.Bool
		go func() {
			if err := g.enter(ctx); err != nil {
				t.Error(err)
			}
			passed.Store(true)
			g.leave()
		}()
		synctest.Wait()
		if passed.Load() {
			t.Fatal("passed a shut gate")
		}
		g.open()
		synctest.Wait()
		if !passed.Load() {
			t.Fatal("did not pass an open gate")
		}
	})
}

// A shut that is abandoned leaves the gate open for those who came meanwhile.
func TestGateShutInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		if err := g.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, ErrInterrupted)
		defer cancel()
		waited := make(chan error, 1)
		go func() {
			time.Sleep(time.Millisecond)
			waited <- g.enter(t.Context())
		}()
		if err := g.shut(ctx); !errors.Is(err, ErrInterrupted) {
			t.Fatalf("got %v, want ErrInterrupted", err)
		}
		if err := <-waited; err != nil {
			t.Fatal(err)
		}
		g.leave()
		g.leave()
		if err := g.shut(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestGateWaiterInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		if err := g.shut(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, ErrInterrupted)
		defer cancel()
		if err := g.enter(ctx); !errors.Is(err, ErrInterrupted) {
			t.Fatalf("got %v, want ErrInterrupted", err)
		}
		g.open()
		if n := g.state.Load(); n != 0 {
			t.Fatalf("%d inside an empty gate", n)
		}
	})
}

// Many pass while the gate is shut and opened: nobody is inside while it is shut.
func TestGateExcludes(t *testing.T) {
	var g gate
	var inside atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := g.enter(context.Background()); err != nil {
					t.Error(err)
					return
				}
				inside.Add(1)
				inside.Add(-1)
				g.leave()
			}
		})
	}
	for range 2000 {
		if err := g.shut(context.Background()); err != nil {
			t.Fatal(err)
		}
		if n := inside.Load(); n != 0 {
			t.Errorf("%d inside a shut gate", n)
		}
		g.open()
	}
	close(stop)
	wg.Wait()
}

func BenchmarkGate(b *testing.B) {
	var g gate
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if err := g.enter(ctx); err != nil {
			b.Fatal(err)
		}
		g.leave()
	}
}
