package zero

import (
	"context"
	"errors"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

func TestConformance(t *testing.T) {
	mappertest.TestTarget(t, &Type, mappertest.Setup{Len: 333, Kind: mappertest.ReadsZero})
}

func TestRefusesArguments(t *testing.T) {
	_, err := newTarget(context.Background(), &mappertest.Host{}, mapper.Spec{Len: 8, Args: []string{""}})
	var arg *mapper.ArgError
	if !errors.As(err, &arg) || arg.Reason != "No arguments required" {
		t.Errorf("got %v", err)
	}
}

func TestDiscardIsNotSupported(t *testing.T) {
	err := target{}.Submit(context.Background(), mapper.Request{Op: mapper.OpDiscard, Count: 8})
	if !errors.Is(err, mapper.ErrNotSupported) {
		t.Errorf("got %v, want ErrNotSupported", err)
	}
}

func FuzzArgs(f *testing.F) {
	f.Fuzz(func(t *testing.T, arg string) {
		if _, err := newTarget(context.Background(), &mappertest.Host{}, mapper.Spec{Len: 8, Args: []string{arg}}); err == nil {
			t.Errorf("took the argument %q", arg)
		}
	})
}
