# Completion of dmfs for fish.

function __dmfs_devices
    dmfs ls 2>/dev/null | cut -f 1
end

function __dmfs_mounts
    awk '$8 == "fuse.dmfs" || $9 == "fuse.dmfs" { print $5 }' /proc/self/mountinfo
end

set -l verbs create remove remove_all suspend resume load reload clear wipe_table rename message ls info deps status table wait mknodes mangle targets version setgeometry splitname stats

complete -c dmfs -f
complete -c dmfs -n __fish_use_subcommand -a mount -d 'make a mount'
complete -c dmfs -n __fish_use_subcommand -a umount -d 'flush, unmount, wait until all is written'
complete -c dmfs -n __fish_use_subcommand -a log-replay -d 'list, replay and check a log of writes'
complete -c dmfs -n __fish_use_subcommand -a verity-table -d 'the table line of an image of veritysetup'
complete -c dmfs -n __fish_use_subcommand -a help -d explain
complete -c dmfs -n __fish_use_subcommand -a "$verbs"
complete -c dmfs -n __fish_use_subcommand -l version -d 'show the version'
complete -c dmfs -s m -x -a '(__dmfs_mounts)' -d 'which mount'

complete -c dmfs -n '__fish_seen_subcommand_from mount' -s f -l foreground -d 'stay in front'
complete -c dmfs -n '__fish_seen_subcommand_from mount' -s o -l options -x -a 'ro rw allow_other allow_root default_permissions' -d 'mount options'
complete -c dmfs -n '__fish_seen_subcommand_from mount' -s c -l config -r -F -d 'disks and devices'
complete -c dmfs -n '__fish_seen_subcommand_from mount' -a '(__fish_complete_directories)'

complete -c dmfs -n '__fish_seen_subcommand_from umount' -s l -l lazy -d 'detach a busy mount'
complete -c dmfs -n '__fish_seen_subcommand_from umount' -s q -l quiet -d 'not mounted is no error'
complete -c dmfs -n '__fish_seen_subcommand_from umount' -a '(__dmfs_mounts)'

complete -c dmfs -n '__fish_seen_subcommand_from verity-table' -F
complete -c dmfs -n '__fish_seen_subcommand_from verity-table' -l hash-offset -x -d 'where the superblock is'

complete -c dmfs -n '__fish_seen_subcommand_from log-replay' -F
complete -c dmfs -n '__fish_seen_subcommand_from log-replay' -l start-entry -x -d 'begin with it'
complete -c dmfs -n '__fish_seen_subcommand_from log-replay' -l start-mark -x -d 'begin behind it'
complete -c dmfs -n '__fish_seen_subcommand_from log-replay' -l end-mark -x -d 'end behind it'
complete -c dmfs -n '__fish_seen_subcommand_from log-replay' -l limit -x -d 'at most so many entries'
complete -c dmfs -n '__fish_seen_subcommand_from log-replay' -l next-flush -d 'end behind the first flush'
complete -c dmfs -n '__fish_seen_subcommand_from log-replay' -l next-fua -d 'end behind the first FUA'
complete -c dmfs -n '__fish_seen_subcommand_from log-replay' -l fsck -x -d check
complete -c dmfs -n '__fish_seen_subcommand_from log-replay' -l check -x -a 'every-write flush fua mark end' -d when
complete -c dmfs -n '__fish_seen_subcommand_from log-replay' -l in-place -d 'check the target itself'
complete -c dmfs -n '__fish_seen_subcommand_from log-replay' -l bisect -d 'look by halves'
complete -c dmfs -n '__fish_seen_subcommand_from log-replay' -l no-discard -d 'pass over discards'
complete -c dmfs -n '__fish_seen_subcommand_from log-replay' -l json -d 'list as JSON'
complete -c dmfs -n '__fish_seen_subcommand_from log-replay' -l num-entries -d 'how many'
complete -c dmfs -n '__fish_seen_subcommand_from log-replay' -l find -d 'the last entry of the range'
complete -c dmfs -n '__fish_seen_subcommand_from log-replay' -s v -l verbose -d 'print each entry'

complete -c dmfs -n "__fish_seen_subcommand_from $verbs" -a '(__dmfs_devices)'
complete -c dmfs -n "__fish_seen_subcommand_from $verbs" -l json -d 'as JSON'
complete -c dmfs -n '__fish_seen_subcommand_from create load reload' -l table -x -d 'a table'
