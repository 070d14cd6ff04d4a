// Package config reads dmfs' configuration, a TOML file that names disks and devices:
//
//	certificates = ["publisher.pem"]   # whose signatures count
//
//	[disks]
//	data = "data.img"
//	fast = { path = "/srv/fast.img", direct = true, readonly = false }
//
//	[keys]
//	private = "private.key"   # tables call it :SIZE:user:private
//	other = { fd = 3 }
//
//	[devices.vol0]
//	uuid = "…"            # optional
//	readonly = false      # optional
//	table = """
//	0 204800 linear data 0
//	204800 204800 linear fast 2048
//	"""
//
// It knows names and shapes, never what a target does: a word of a table line that names another
// device of the file, bare, as /dev/mapper/NAME or by its path in the mount, makes that device a
// prerequisite, and Config.Devices is sorted accordingly. A bare word of digits only is taken for a
// number, so a device whose name is a number is used by a path. Whether a word is an argument of
// another meaning ("writeback") is not known here either: where that closes a ring that is none,
// the device needs another name.
//
// Every mistake is reported with the line it is on, see Error; a file is read to its end, so that
// one run shows all of them.
//
// Relative paths of disks resolve against the directory of the file. Files beyond MaxBytes and
// structures nested deeper than maxNesting are refused before they are parsed, because the TOML
// parser recurses.
package config
