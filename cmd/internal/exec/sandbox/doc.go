// Package sandbox makes the surroundings in which a command finds block devices that the kernel does not have: a user
// namespace and a mount namespace of its own, where /dev, the parts of /sys and /proc that speak of block devices, /run and
// /etc/lvm are directories in memory. They end with the last process that sees them, however it ends, and are filled by
// whoever is sent their descriptors.
//
//  1. Command returns a command that starts this program again, in the namespaces.
//  2. There, Stage mounts the directories, then puts the filter on itself, sends directories and listener through a
//     socket, waits for the answer that all is ready, and becomes the command.
//
// Files that only forward what the kernel has (/dev/null, /run/user) are bind mounts.
package sandbox
