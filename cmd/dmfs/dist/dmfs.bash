# Completion of dmfs for bash.

# _dmfs_devices prints the names of the mapped devices of the caller's mount.
_dmfs_devices() {
	dmfs ls 2>/dev/null | cut -f 1
}

_dmfs() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb='' w i
	local own='mount umount open close exec log-replay verity-table help --version'
	local verbs='create remove remove_all suspend resume load reload clear wipe_table rename message ls info deps
		status table wait mknodes mangle targets version setgeometry splitname stats'
	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		w=${COMP_WORDS[i]}
		case $w in
		-m) ((i++)) ;;
		-*) ;;
		*)
			verb=$w
			break
			;;
		esac
	done
	case $prev in
	-m)
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		return
		;;
	-c | --config)
		if [ "$verb" = mount ]; then
			mapfile -t COMPREPLY < <(compgen -f -X '!*.toml' -- "$cur"; compgen -d -- "$cur")
			return
		fi
		;;
	-o | --options)
		if [ "$verb" = mount ]; then
			mapfile -t COMPREPLY < <(compgen -W 'ro rw allow_other allow_root default_permissions config=' -- "$cur")
			return
		fi
		;;
	-M | --type)
		mapfile -t COMPREPLY < <(compgen -W 'luks luks1 luks2 verity' -- "$cur")
		return
		;;
	--check)
		mapfile -t COMPREPLY < <(compgen -W 'every-write flush fua mark end' -- "$cur")
		return
		;;
	esac
	case $verb in
	'') mapfile -t COMPREPLY < <(compgen -W "-m $own $verbs" -- "$cur") ;;
	stats)
		case $prev in
		stats) mapfile -t COMPREPLY < <(compgen -W 'clear create delete group help list print report ungroup version' -- "$cur") ;;
		*) mapfile -t COMPREPLY < <(compgen -W "$(_dmfs_devices)" -- "$cur") ;;
		esac
		;;
	mount)
		case $cur in
		-*) mapfile -t COMPREPLY < <(compgen -W '-f --foreground -o --options -c --config -h --help' -- "$cur") ;;
		*) mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
		esac
		;;
	umount)
		case $cur in
		-*) mapfile -t COMPREPLY < <(compgen -W '-l --lazy -q --quiet -h --help' -- "$cur") ;;
		*) mapfile -t COMPREPLY < <(compgen -W "$(awk '$9 == "fuse.dmfs" || $8 == "fuse.dmfs" { print $5 }' /proc/self/mountinfo)" -- "$cur") ;;
		esac
		;;
	open)
		case $cur in
		-*) mapfile -t COMPREPLY < <(compgen -W '-M --type --header -d --key-file --keyfile-offset -l --keyfile-size --key-fd --volume-key-file
			-S --key-slot -T --tries -r --readonly --allow-discards --integrity-no-journal --perf-same_cpu_crypt --perf-submit_from_crypt_cpus
			--perf-no_read_workqueue --perf-no_write_workqueue --disable-keyring --test-passphrase --print --showkeys --json -m --mount
			--root-hash --hash-offset --fec-device --fec-offset --fec-roots --ignore-corruption --restart-on-corruption --panic-on-corruption
			--ignore-zero-blocks --check-at-most-once --force -h --help' -- "$cur") ;;
		*) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
		esac
		;;
	exec)
		case $prev in
		-b | --block) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
		*)
			case $cur in
			-*) mapfile -t COMPREPLY < <(compgen -W '-b --block -m --mount -h --help' -- "$cur") ;;
			*) mapfile -t COMPREPLY < <(compgen -c -- "$cur"; compgen -f -- "$cur") ;;
			esac
			;;
		esac
		;;
	close)
		case $cur in
		-*) mapfile -t COMPREPLY < <(compgen -W '--deferred -m --mount -h --help' -- "$cur") ;;
		*) mapfile -t COMPREPLY < <(compgen -W "$(_dmfs_devices)" -- "$cur") ;;
		esac
		;;
	log-replay)
		case $cur in
		-*) mapfile -t COMPREPLY < <(compgen -W '--start-entry --start-mark --end-mark --limit --next-flush --next-fua --fsck --check --in-place
			--bisect --no-discard --json --num-entries --find -v --verbose --log --replay -h --help' -- "$cur") ;;
		*) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
		esac
		;;
	verity-table)
		case $cur in
		-*) mapfile -t COMPREPLY < <(compgen -W '--hash-offset -h --help' -- "$cur") ;;
		*) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
		esac
		;;
	help) mapfile -t COMPREPLY < <(compgen -W 'mount umount open close log-replay verity-table' -- "$cur") ;;
	*)
		case $cur in
		-*) mapfile -t COMPREPLY < <(compgen -W '--table --uuid --minor --readonly --notable --noflush --nolockfs --force --deferred --tree --target --showkeys --concise --inactive --json -c -o' -- "$cur") ;;
		*) mapfile -t COMPREPLY < <(compgen -W "$(_dmfs_devices)" -- "$cur") ;;
		esac
		;;
	esac
}

complete -o filenames -F _dmfs dmfs
