// Package kernel runs the real device mapper: Debian's user-mode-linux, a Linux kernel that is a process, with a program of ours as
// its init that plays scenarios (package guest). One boot serves any number of scenarios.
//
// The guest sees the host's files read-only, has one directory for what is exchanged, and keeps everything else in memory. It powers
// off when its console ends, is killed with its process group by Close, also after a scenario that took too long, and ends with the
// process that started it, of whose sudden death only a directory is left.
package kernel
