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
complete -c dmfs -n __fish_use_subcommand -a open -d 'map a LUKS container or a verity image'
complete -c dmfs -n __fish_use_subcommand -a close -d 'take a container away'
complete -c dmfs -n __fish_use_subcommand -a exec -d 'run the tools of the distribution on a mount'
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

complete -c dmfs -n '__fish_seen_subcommand_from stats' -a 'clear create delete group help list print report ungroup version'

complete -c dmfs -n '__fish_seen_subcommand_from verity-table' -F
complete -c dmfs -n '__fish_seen_subcommand_from verity-table' -l hash-offset -x -d 'where the superblock is'

complete -c dmfs -n '__fish_seen_subcommand_from open' -F
complete -c dmfs -n '__fish_seen_subcommand_from open' -s M -l type -x -a 'luks luks1 luks2 verity md' -d 'what it is'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l header -r -F -d 'detached header'
complete -c dmfs -n '__fish_seen_subcommand_from open' -s d -l key-file -r -F -d 'the passphrase as it is'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l keyfile-offset -x -d 'bytes to leave out'
complete -c dmfs -n '__fish_seen_subcommand_from open' -s l -l keyfile-size -x -d 'bytes to take'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l key-fd -x -d 'its first line is the passphrase'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l volume-key-file -r -F -d 'the volume key'
complete -c dmfs -n '__fish_seen_subcommand_from open' -s S -l key-slot -x -d 'try it alone'
complete -c dmfs -n '__fish_seen_subcommand_from open' -s T -l tries -x -d 'how often'
complete -c dmfs -n '__fish_seen_subcommand_from open' -s r -l readonly -d 'make it read-only'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l allow-discards -d 'pass discards on'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l integrity-no-journal -d 'no journal'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l perf-same_cpu_crypt -d 'flag of the table'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l perf-submit_from_crypt_cpus -d 'flag of the table'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l perf-no_read_workqueue -d 'flag of the table'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l perf-no_write_workqueue -d 'flag of the table'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l disable-keyring -d 'done anyway'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l test-passphrase -d 'only test it'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l print -d 'print the tables'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l showkeys -d 'with keys'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l json -d 'as JSON'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l force -d 'write to what is not whole'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l root-hash -x -d 'root digest'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l hash-offset -x -d 'where the superblock is'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l fec-device -r -F -d 'parity'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l fec-offset -x -d 'where the parity is'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l fec-roots -x -d 'of the parity'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l ignore-corruption -d 'option of verity'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l restart-on-corruption -d 'option of verity'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l panic-on-corruption -d 'option of verity'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l ignore-zero-blocks -d 'option of verity'
complete -c dmfs -n '__fish_seen_subcommand_from open' -l check-at-most-once -d 'option of verity'

complete -c dmfs -n '__fish_seen_subcommand_from exec' -s b -l block -r -F -d 'a file that is a disk'
complete -c dmfs -n '__fish_seen_subcommand_from exec' -a '(__fish_complete_subcommand)'

complete -c dmfs -n '__fish_seen_subcommand_from close' -a '(__dmfs_devices)'
complete -c dmfs -n '__fish_seen_subcommand_from close' -l deferred -d 'as soon as nobody uses it'

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
