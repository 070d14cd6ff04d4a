// Package e2e tests dmfs from the outside: the built program, real mounts, real processes.
//
// TestMain builds the program once. Each test works in a bench of its own, a directory with images and a mount
// point, whose end removes what the test left mounted or running, and fails the test if there was anything.
// What a machine lacks (/dev/fuse, fusermount3, the right to be another user) is a skip that names it.
package e2e
