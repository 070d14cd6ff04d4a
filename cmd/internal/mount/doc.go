// Package mount makes, finds and ends dmfs mounts: everything about them that is not a file system.
//
// # The life of a mount
//
//  1. `dmfs mount` starts itself again as `dmfs mount -f` in a session of its own, with a pipe on an
//     inherited descriptor (daemon.go). The child writes to the caller's standard error until it serves.
//  2. The child looks at the mount point (point.go): it must be a directory, and no live dmfs mount may be on it.
//  3. It creates the devices. A mistake ends it here: nothing was mounted, nothing changed.
//  4. A stale mount, left by a daemon that was killed, is unmounted.
//  5. It mounts (serve.go): with mount(2) where it may, else with fusermount3 (privilege.go).
//  6. It says so: down the pipe, whereupon the parent returns 0, and to systemd (notify.go).
//  7. It ends when somebody unmounts, or on SIGTERM or SIGINT, in this order: flush, unmount, and if that is
//     refused because the mount is busy, detach, wait a bounded time for the holders; then the devices are
//     flushed, suspended and released. Its exit status is 1 if writing out failed.
//
// `dmfs umount` (umount.go) flushes through the control file while errors can still be told, unmounts, and
// waits for the daemon to end, so that everything is written when it returns.
//
// Nothing here touches files of a mount that may hang or be stale more than it must: who keeps a mount busy
// (holders.go) is read from /proc and /sys alone.
package mount
