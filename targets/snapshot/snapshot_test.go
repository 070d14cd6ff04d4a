package snapshot

import (
	"testing"

	"dmfs/mapper"
	"dmfs/mapper/mappertest"
)

// typeNamed returns one of the types of a mount.
func typeNamed(name string) *mapper.Type {
	for _, t := range NewTypes() {
		if t.Name == name {
			return t
		}
	}
	return nil
}

func TestConformance(t *testing.T) {
	// Sectors are those of the device, whose segment begins at 4096.
	const origin = 4096 + 600
	for _, c := range []struct {
		name, typ string
		len       mapper.Sector
		args      []string
		disks     []mappertest.DiskSpec
		change    func(s *mappertest.Setup)
	}{
		{"snapshot P", "snapshot", 400, []string{"7:0", "7:1", "P", "16"}, []mappertest.DiskSpec{{Name: "7:0", Sectors: origin}, {Name: "7:1", Sectors: 2048}}, nil},
		{"snapshot PO, odd end", "snapshot", 301, []string{"7:0", "7:1", "PO", "8", "1", "discard_zeroes_cow"}, []mappertest.DiskSpec{{Name: "7:0", Sectors: 4096 + 301}, {Name: "7:1", Sectors: 2048}}, nil},
		{"snapshot N", "snapshot", 400, []string{"7:0", "7:1", "N", "4"}, []mappertest.DiskSpec{{Name: "7:0", Sectors: origin}, {Name: "7:1", Sectors: 2048, NoFlush: true}}, func(s *mappertest.Setup) { s.Forgets = true }},
		{"origin", "snapshot-origin", 400, []string{"7:0"}, []mappertest.DiskSpec{{Name: "7:0", Sectors: origin}}, nil},
		{"merge", "snapshot-merge", 400, []string{"7:0", "7:1", "P", "8"}, []mappertest.DiskSpec{{Name: "7:0", Sectors: origin}, {Name: "7:1", Sectors: 2048}}, func(s *mappertest.Setup) { s.NoReload = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			setup := mappertest.Setup{Disks: c.disks, Len: c.len, Args: c.args, FlushesMore: true}
			if c.change != nil {
				c.change(&setup)
			}
			mappertest.TestTarget(t, typeNamed(c.typ), setup)
		})
	}
}
