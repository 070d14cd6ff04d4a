package main

import (
	"fmt"
	"io"
	"os"
)

const usageText = `dmfs: the Linux device mapper as an ordinary program

  dmfs mount [-f] [-o OPT,…] [--config FILE] MNT   make a mount; each device is a file in it
  dmfs umount [-lq] MNT…                           flush, unmount, wait until all is written
  dmfs VERB …                                      dmsetup's verbs, on the caller's mount

Making and changing devices
  create NAME [--table TABLE]    make a device from a table, a file or standard input
  load NAME [--table TABLE]      load a table beside the live one (also: reload)
  resume NAME                    put the loaded table in service
  suspend NAME [--noflush]       hold back I/O
  clear NAME                     drop the loaded table
  rename NAME NEW                give another name; with --setuuid a uuid
  message NAME SECTOR WORDS…     talk to a target
  remove NAME [--deferred]       take a device away; remove_all takes all

Looking
  ls [--tree] [--target TYPE]    the devices
  info [-c -o FIELDS] [NAME]     state, open count, number, uuid
  table [--concise] [NAME]       tables as they can be loaded again
  status [NAME]                  what the targets say
  deps [NAME]                    what devices stand on
  targets, version               what this dmfs can do
  wait NAME [EVENT]              until something happens to a device

  -m MNT, $DMFS_MOUNT            which mount, if there are several
  --json                         with every verb that looks
  dmfs help mount | umount       more on these; dmsetup(8) on the verbs
  dmfs --version

A table is lines of START LENGTH TARGET ARGS…, in sectors of 512 bytes:
  0 204800 linear disk.img 0
`

const mountText = `dmfs mount [-f] [-o OPT,…] [--config FILE] MNT

Creates the devices of FILE and mounts them on the directory MNT. It returns when the mount serves; on
any error nothing is mounted. Without --config the mount begins empty: see "dmfs create" and MNT/control.

  -f, --foreground      stay in front; SIGTERM and SIGINT unmount in order
  -c, --config FILE     disks and devices, see dmfs.toml(5)
  -o OPT,…              ro, rw          all devices read-only, or not
                        allow_other     let other users in (for ordinary users: see /etc/fuse.conf)
                        allow_root      let root in
                        config=FILE     as --config
                        noexec, sync, dirsync, context=…
                        and, without effect, what mount(8) and fstab(5) use for themselves

Ordinary users mount through fusermount3 (package fuse3), or inside "unshare -Urm" without it.
`

const umountText = `dmfs umount [-lq] MNT…

Flushes every device, unmounts, and returns when the daemon has ended and everything is written. If flushing
fails, or while somebody uses the mount, it stays, and the message says why. A stale mount, left
by a daemon that died, is unmounted too.

  -l, --lazy            detach a busy mount; the daemon serves those who use it until they are done
  -q, --quiet           say nothing if MNT is not mounted
`

// help is `dmfs help [COMMAND]`.
func help(args []string) int {
	text := usageText
	if len(args) > 0 {
		switch args[0] {
		case "mount":
			text = mountText
		case "umount", "unmount":
			text = umountText
		}
	}
	fmt.Fprint(os.Stdout, text)
	return exitOK
}

func usage(w io.Writer) { fmt.Fprint(w, usageText) }
