package exec

import "golang.org/x/sys/unix"

// legacyCalls are those that newer architectures do not have.
var legacyCalls = map[uintptr]handler{
	unix.SYS_OPEN:   func(s *supervisor, c *call) { s.open(c, atCWD, c.Args[0], c.Args[1]) },
	unix.SYS_CREAT:  func(s *supervisor, c *call) { s.open(c, atCWD, c.Args[0], unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC) },
	unix.SYS_STAT:   func(s *supervisor, c *call) { s.stat(c, atCWD, c.Args[0], c.Args[1], 0) },
	unix.SYS_LSTAT:  func(s *supervisor, c *call) { s.stat(c, atCWD, c.Args[0], c.Args[1], unix.AT_SYMLINK_NOFOLLOW) },
	unix.SYS_MKNOD:  func(s *supervisor, c *call) { s.mknod(c, atCWD, c.Args[0], c.Args[1], c.Args[2]) },
	unix.SYS_CHOWN:  func(s *supervisor, c *call) { s.chown(c, atCWD, c.Args[0], 0) },
	unix.SYS_LCHOWN: func(s *supervisor, c *call) { s.chown(c, atCWD, c.Args[0], unix.AT_SYMLINK_NOFOLLOW) },
}

const sysNewfstatat = unix.SYS_NEWFSTATAT
