package mappertest

import (
	"context"

	"dmfs/mapper"
)

// A Null is a disk that does nothing at no cost, for measuring what stands on it.
type Null struct {
	Name string
	Size mapper.Sector
}

// Submit succeeds and leaves Data as it is.
func (Null) Submit(context.Context, mapper.Request) error { return nil }

// Sectors returns Size.
func (d Null) Sectors() mapper.Sector { return d.Size }

// Limits returns DefaultLimits.
func (Null) Limits() mapper.Limits { return DefaultLimits }

// DiskName returns Name.
func (d Null) DiskName() string { return d.Name }
