package container

import "fmt"

// DefaultRoots is how many bytes of parity a codeword of a verity image has, if nobody says.
const DefaultRoots = 2

// A given is an option that one kind of container knows, and whether it was given.
type given struct {
	option string
	is     bool
}

// suits refuses options that mean nothing for a container of a kind, "LUKS", "verity" or "md". Whoever gave them would take them to hold.
func (o *Options) suits(kind string) error {
	var foreign []given
	if kind != "LUKS" {
		foreign = append(foreign, given{"--key-slot", o.Slot >= 0}, given{"--key-file", o.Key.File != ""}, given{"--key-fd", o.Key.FD >= 0},
			given{"--keyfile-offset", o.Key.FileOffset > 0}, given{"--keyfile-size", o.Key.FileSize > 0},
			given{"--volume-key-file", o.VolumeKey != ""}, given{"--header", o.Header != ""}, given{"--test-passphrase", o.Test},
			given{"--allow-discards and other flags of LUKS", o.Activation != Activation{}})
	}
	if kind != "md" {
		foreign = append(foreign, given{"--force", o.Force})
	}
	v := &o.Verity
	if kind != "verity" {
		foreign = append(foreign, given{"--hash-offset", v.HashOffset > 0}, given{"--fec-device", v.FEC != ""}, given{"--ignore-corruption and other features of verity", len(v.Features) > 0})
	}
	if kind != "verity" || v.FEC == "" {
		foreign = append(foreign, given{"--fec-offset", v.FECOffset > 0}, given{"--fec-roots", v.FECRoots != 0 && v.FECRoots != DefaultRoots})
	}
	for _, g := range foreign {
		if g.is {
			return fmt.Errorf("%s: not for %s", g.option, kind)
		}
	}
	return nil
}
