// Package targets is the one list of every target.
package targets

import (
	"dmfs/mapper"
	"dmfs/targets/crypt"
	"dmfs/targets/delay"
	"dmfs/targets/dmerror"
	"dmfs/targets/dmswitch"
	"dmfs/targets/dust"
	"dmfs/targets/ebs"
	"dmfs/targets/flakey"
	"dmfs/targets/inject"
	"dmfs/targets/integrity"
	"dmfs/targets/linear"
	"dmfs/targets/logwrites"
	"dmfs/targets/mirror"
	"dmfs/targets/multipath"
	"dmfs/targets/powercut"
	"dmfs/targets/raid"
	"dmfs/targets/snapshot"
	"dmfs/targets/striped"
	"dmfs/targets/thin"
	"dmfs/targets/unstriped"
	"dmfs/targets/verity"
	"dmfs/targets/zero"
)

// Register adds every target type to g, in the order of the manual.
func Register(g *mapper.Registry) {
	g.Register(&linear.Type)
	g.Register(&striped.Type)
	g.Register(&unstriped.Type)
	g.Register(&mirror.Type)
	g.Register(&raid.Type)
	g.Register(&raid.MDType)
	g.Register(&dmswitch.Type)
	g.Register(&ebs.Type)
	for _, t := range snapshot.NewTypes() {
		g.Register(t)
	}
	g.Register(&multipath.Type)
	for _, t := range thin.NewTypes() {
		g.Register(t)
	}
	g.Register(&verity.Type)
	g.Register(&integrity.Type)
	g.Register(&crypt.Type)
	g.Register(&zero.Type)
	g.Register(&dmerror.Type)
	g.Register(&delay.Type)
	g.Register(&flakey.Type)
	g.Register(&dust.Type)
	g.Register(logwrites.NewType())
	g.Register(powercut.NewType())
	g.Register(&inject.Type)
}
