package dmerror

import (
	"context"
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

func TestConformance(t *testing.T) {
	mappertest.TestTarget(t, &Type, mappertest.Setup{Len: 64, Kind: mappertest.Fails})
	mappertest.TestTarget(t, &Type, mappertest.Setup{Len: 64, Kind: mappertest.Fails, Args: []string{"any", "thing"}})
}

func FuzzArgs(f *testing.F) {
	f.Fuzz(func(t *testing.T, a, b string) {
		if _, err := newTarget(context.Background(), &mappertest.Host{}, mapper.Spec{Len: 8, Args: []string{a, b}}); err != nil {
			t.Errorf("refused %q %q: %v", a, b, err)
		}
	})
}
