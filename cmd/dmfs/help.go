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
  dmfs open DATA… NAME                             map a LUKS container, a verity image, or the members of a software RAID
  dmfs close NAME                                  take it away
  dmfs exec [--block FILE]… -- COMMAND…            run the distribution's dmsetup, cryptsetup, LVM2
  dmfs log-replay LOG [TARGET] …                   list, replay and check a log of log-writes
  dmfs verity-table DATA HASH ROOT                 the table line of an image of veritysetup

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
  dmfs help mount | umount | open | close | exec | log-replay | verity-table
                                 more on these; dmsetup(8) on the verbs
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

const openText = `dmfs open [OPTION…] DATA NAME
dmfs open [OPTION…] --root-hash HEX DATA [HASH] NAME
dmfs open [OPTION…] MEMBER… NAME

Maps the container on DATA as NAME: a LUKS1 or LUKS2 container of cryptsetup, or a verity image of veritysetup by its superblock; or the array of
Linux software RAID (md) that the members are of, in whatever order. Disks are files, block devices, files of mapped devices, or URIs of network disks. The passphrase is asked for on a terminal; without one it is the first
line of standard input. A LUKS2 container that is being reencrypted is mapped as it is, if its state is authentic; one that was interrupted
while data was written is --readonly until cryptsetup repair has recovered it.

  -M, --type TYPE       luks, luks1, luks2, verity or md; found out if not given
  --header FILE         the header, if it is not on DATA
  -d, --key-file FILE   the passphrase is what is in FILE, newlines and all; - is standard input
  --keyfile-offset N, -l, --keyfile-size N
                        leave N bytes of it out; take N bytes
  --key-fd N            the passphrase is the first line of file descriptor N
  --volume-key-file FILE
                        the volume key itself, in place of a passphrase
  -S, --key-slot N      try this key slot alone, even one that is not tried otherwise
  -T, --tries N         how often a terminal is asked; 3 if not given
  -r, --readonly        the device is read-only
  --allow-discards      pass discards on: who sees the disk then sees what is in use
  --integrity-no-journal
                        no journal on an integrity device: faster, and torn by a power cut
  --perf-same_cpu_crypt, --perf-submit_from_crypt_cpus, --perf-no_read_workqueue, --perf-no_write_workqueue
                        flags of the table, which schedule the kernel's work
  --disable-keyring     done anyway: the key goes to the mount in the table, never through a keyring
  --test-passphrase     only say, by the exit status, whether the passphrase is right; NAME may be left out
  --print               print the tables, change nothing; keys are zeroes
  --showkeys            with --print and --json: the keys
  --json                say in JSON what was made
  -m, --mount MNT       the mount to map it in

A verity image:
  --root-hash HEX       the root digest that veritysetup printed
  --hash-offset BYTES   where the superblock is on HASH, or on DATA if HASH is not given
  --fec-device FILE, --fec-offset BYTES, --fec-roots N
                        where the parity is; N as veritysetup was told, 2 if it was not
  --ignore-corruption, --restart-on-corruption, --panic-on-corruption, --ignore-zero-blocks, --check-at-most-once
                        options of the target

Members of a software RAID:
  --force               write to an array that lacks members or was not closed, which otherwise is read-only; leave out members that failed

Exit status, as cryptsetup's: 0 done; 1 wrong parameters, a malformed header, what is not supported; 2 no key with this
passphrase, no permission; 3 not enough memory; 4 no such disk, mount or device; 5 it exists already or is in use.
`

const closeText = `dmfs close [--deferred] NAME

Takes away what dmfs open made: NAME, and the integrity device below it.

  --deferred            as soon as nobody uses it
  -m, --mount MNT       the mount that it is in

Exit status: as of dmfs open.
`

const execText = `dmfs exec [-m MNT] [--block FILE[=NAME]]… [--] COMMAND…

Runs COMMAND in a session: for it and its children the mapped devices of the mount are block devices in /dev, and /dev/mapper/control
speaks to the mount. So dmsetup, cryptsetup, veritysetup, integritysetup, LVM2, kpartx, losetup and others of the distribution run
as they are, without root. What they make stays in the mount; real disks they do not see.

  -b, --block FILE[=NAME]
                        FILE is a disk in the session: /dev/sda and so on; NAME may be another of these (sdc), or any
                        name, which is then a link
  -m, --mount MNT       the mount

Exit status: COMMAND's; 128 and the signal's number if a signal ended it; 125 if there could be no session, 126 if COMMAND could not be
run, 127 if it was not found. It needs user namespaces and seccomp notification, and says what to do where they are not allowed.
`

const logReplayText = `dmfs log-replay [OPTION…] LOG [TARGET]

Lists LOG, a log of the log-writes target, of the kernel's, or of QEMU's blklogwrites; or replays it onto TARGET, a file or
block device that holds what the logged disk held before, and checks it on the way. Entries are numbered from 0.

  --start-entry N       begin with entry N
  --start-mark MARK     begin behind MARK
  --end-mark MARK       end behind MARK
  --limit N             at most N entries
  --next-flush, --next-fua
                        end behind the first flush, write with FUA
  --fsck COMMAND        check with sh -c COMMAND; in its environment DISK is what to check, ENTRY the last
                        entry and MARK its mark. It gets a copy of TARGET, so it may repair
  --check WHEN          every-write, flush, fua, mark, end (if not given), or N: behind each N-th entry
  --in-place            COMMAND gets TARGET itself; what it changes stays
  --bisect              find the first check that fails by halves; all behind it must fail, too
  --no-discard          pass over discards; else they zero
  --json                list as JSON
  --num-entries         print how many entries there are
  --find                print the last entry of the range, and its sector in the log: ENTRY@SECTOR
  -v, --verbose         print each entry that is replayed
  --log LOG, --replay TARGET
                        LOG and TARGET otherwise

Exit status: 0 done, all checks passed; 1 a check failed, standard error says behind which entry and how to see it
again, and TARGET is left so; 2 it could not be done.
`

const verityTableText = `dmfs verity-table [--hash-offset BYTES] DATA HASH ROOT

Prints the table line for an image of "veritysetup format": DATA is the disk that was hashed, HASH has the superblock and the tree,
and ROOT is the root digest that was printed then. It is no secret, but must come from somebody who is trusted. The table
must be read-only:

  dmfs verity-table data.img hash.img 4ec5…97 | dmfs create --readonly verified

  --hash-offset BYTES   where the superblock is in HASH; 0 if not given
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
		case "open":
			text = openText
		case "close":
			text = closeText
		case "exec":
			text = execText
		case "log-replay":
			text = logReplayText
		case "verity-table":
			text = verityTableText
		}
	}
	fmt.Fprint(os.Stdout, text)
	return exitOK
}

func usage(w io.Writer) { fmt.Fprint(w, usageText) }
