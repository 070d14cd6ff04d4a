// Package ioctls holds calls of /dev/mapper/control, bit by bit, and what the kernel made of them: tests/kernel records it and
// cmd/internal/dmioctl is compared with it.
//
// A golden is a text. A call begins with "= WHAT", its second line is the number of the ioctl and the caller's buffer, its third
// the errno and what the buffer was after, or "same". Buffers are in hexadecimal; a byte that comes often in a row is BYTE*COUNT.
package ioctls
