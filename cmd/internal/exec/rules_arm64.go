package exec

import "golang.org/x/sys/unix"

// legacyCalls are none: this architecture has only their successors.
var legacyCalls = map[uintptr]handler{}

const sysNewfstatat = unix.SYS_FSTATAT
