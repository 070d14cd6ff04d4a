#!/bin/sh
# record.sh - record what the real dmsetup says to the command lines of *.scenario, as *.golden beside them.
#
#   record.sh RUN-IN-KERNEL [SCENARIO...]
#
# RUN-IN-KERNEL is the script that runs another as root inside a real Linux kernel (user-mode-linux) with two
# empty 64 MiB disks, /dev/ubda and /dev/ubdb, and without udev. Each scenario starts with no mapped devices. A
# golden holds, for each line, "$ LINE", standard output after "1|", standard error after "2|", and
# the exit status. The usage text and the list of report fields are folded into one line, except in help.golden.
set -eu
kernel=${1:?usage: record.sh RUN-IN-KERNEL [SCENARIO...]}
shift
cd "$(dirname "$0")"
here=$(pwd -P)
[ $# -gt 0 ] || set -- *.scenario
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
truncate -s 64M "$work/a" "$work/b"
cat > "$work/guest" <<'EOG'
cd "$1"
name=$2
echo "# $name.scenario played by Linux $(uname -r), $(dmsetup version | tr -s ' ' | tr '\n' ' ')"
while IFS= read -r line || [ -n "$line" ]; do
	case $line in ''|\#*) continue;; esac
	printf '$ %s\n' "$line"
	rc=0
	( eval "$line" ) >/run/tmp/out 2>/run/tmp/err </dev/null || rc=$?
	sed 's/^/1|/' /run/tmp/out
	sed 's/^/2|/' /run/tmp/err
	echo "rc=$rc"
done < "$name.scenario"
EOG
for scenario; do
	name=$(basename "$scenario" .scenario)
	sh "$kernel" -d "$work/a" -d "$work/b" "$work/guest" "$here" "$name" > "$work/raw"
	if [ "$name" = help ]; then
		cp "$work/raw" "$name.golden"
		continue
	fi
	awk '
		/^2\|Usage:$/ { print "2|(usage)"; usage = 1; next }
		usage { if (/and uuid\.$/) usage = 2; else if (usage == 2) usage = 0; next }
		/^2\|Mapped Device Name Fields$/ { print "2|(fields)"; fields = 1; next }
		fields { if (/^2\|  \?/) fields = 2; else if (fields == 2) fields = 0; next }
		/^2\|Selection operands$/ { print "2|(operators)"; ops = 1; next }
		ops { if (/List subset end$/) ops = 2; else if (ops == 2) ops = 0; next }
		{ print }
	' "$work/raw" > "$name.golden"
done
