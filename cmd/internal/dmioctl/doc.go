// Package dmioctl speaks the ioctls of /dev/mapper/control, as the kernel's dm-ioctl.c answers them (version 4.47), on
// top of the control file of a dmfs mount. It is a codec with the kernel's rules and nothing else: whoever has the
// caller's buffer, by whatever way, hands it to Server.Handle and copies back what the Reply says.
package dmioctl
