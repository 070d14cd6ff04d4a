// Package dmioctl speaks the ioctls of /dev/mapper/control, as dm-ioctl.c of Linux 6.1 answers them (version 4.47), on top of the
// control file of a dmfs mount. It is a codec with the kernel's rules and nothing else: whoever has the caller's buffer, by
// whatever way, hands it to Server.Handle and copies back what the Reply says.
//
// # How a call runs
//
//	Handle        version, size, the flags that only come out         server.go, params.go
//	find          name, uuid or number: query, and is it hidden?      state.go
//	the command   on SELECTOR VERB ...: one command of the mount      device.go, table.go, list.go
//	the reply     written over the copy of the request, as in the kernel, so that what nobody writes to comes back as it was
//
// A Server keeps nothing between calls and holds no lock: any number of loads and waits run beside each other.
//
// # Hostile callers
//
// A buffer is looked at only where its header says it is, and no further than it goes; what is allocated is a few times its size. Words of
// tables and messages are split as the kernel does and are quoted one by one, so that the control file takes each for one word; a
// line break, which it cannot quote, is refused. FuzzHandle and FuzzWords try.
//
// # Keys
//
// Parameters may hold keys. The copy of the buffer is wiped behind the reply, or wholly when the call fails; the text of a command is wiped when the
// mount has had it; words that look like keys are shown to nobody. What is left: the lines of a table with its keys (the kernel shows
// them, and so must we) pass as JSON, through strings that only the collector takes away; and the control file's own end,
// in the daemon, has a command as a string until it has run. Reply.Data is the caller's to wipe.
//
// # Differences from the kernel
//
//   - Names of devices that the mount refuses are refused: "control", ".dm", with control characters, and uuids with a slash.
//   - A table of which the text is longer than a command of the control file (16 MiB) is refused with E2BIG.
//   - A word with a line break (which a backslash made part of it) is refused with EINVAL, and so are numbers of a geometry that do not fit.
//   - A message to a target of a device without a table fails with ENXIO, where the kernel does nothing and succeeds.
//   - A table that would make a ring of devices is refused when it is loaded.
//   - Reply.Secure is of the whole buffer; the kernel leaves what lies behind the header if the command looks at no more.
//   - There is no measurement (IMA): a status with its flag is refused with EINVAL. No device is suspended internally.
//   - Arming poll(2) succeeds and does no more, as the open file is not ours.
//   - A wait that a removal ends tells of a device without a table.
//   - Disks that have no number for the caller are not among the dependencies; in tables they are paths.
package dmioctl
