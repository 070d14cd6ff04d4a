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

complete -c dmfs -n "__fish_seen_subcommand_from $verbs" -a '(__dmfs_devices)'
complete -c dmfs -n "__fish_seen_subcommand_from $verbs" -l json -d 'as JSON'
complete -c dmfs -n '__fish_seen_subcommand_from create load reload' -l table -x -d 'a table'
