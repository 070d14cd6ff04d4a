// Package exec is dmfs exec: it runs a program for which the mapped devices of a dmfs mount are block devices, with a
// /dev/mapper/control that speaks to the mount. Nothing of it needs root or a kernel with the device mapper.
//
// # The parts of a session
//
//   - The client (session.go) is what the user started. It starts the others, waits for the command and exits as it did.
//   - The stage (package sandbox) makes the namespaces and becomes the command.
//   - The supervisor (supervisor.go) is asked, through a seccomp listener, about the system calls that the namespaces cannot
//     answer: what a file is, opening a device, its ioctls, making a node, adding a key. It lives as long as a process of the
//     command does, so daemons that the command leaves behind are served when the client has long returned.
//   - The warden (warden.go) is there when the client is not, and ends the session if the supervisor is killed.
//
// # Where the state is
//
// In the mount, and nowhere else: a session may be killed at any moment, and several see the same. The file of --block and a
// bound loop device each are a mapped device of the mount, linear over the sectors of the file, with a name that begins
// with [reserved]; callers see it under the number of a SCSI disk or loop device. So it has an inode, a size and a count
// of its users, tables and open files alike, in one place. A partition is such a device, too, linear over that of its disk.
// A loop device that nobody has bound is a device whose I/O fails;
// whoever has it open when it is bound sees the file from then on. What is to go when its last user has gone (a --block
// file with its sessions, a loop device with autoclear) is removed deferred. Keys live as long as the control file that
// they were given through is open.
//
// # What a device is known by
//
// A node in /dev is an empty file in memory, of which the supervisor knows the number; it may outlive its device. An open
// device is its file in the mount: callers get a descriptor of that, so their I/O never passes the supervisor, and its
// inode says which device it is, wherever the descriptor went. A file of the mount is the device by whatever path it is
// reached.
package exec
