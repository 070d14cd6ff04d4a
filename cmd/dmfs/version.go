package main

import "runtime/debug"

// version is set when the program is linked: -ldflags "-X main.version=1.2.3".
var version string

// versionString returns what this build is called: the version it was linked with, else that of the
// module it was built from, else the commit.
func versionString() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}
