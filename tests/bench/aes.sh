#!/usr/bin/env bash
# Plays AES-256 in XTS and CBC as we have it and as openssl has it, one thread each, in alternating rounds, and prints
# medians in GB/s (10^9 bytes) and the ratio of our best implementation to openssl.
#
#   tests/bench/aes.sh [ROUNDS]
#
# Ours works on 1 MiB in units of 512 or 4096 bytes; openssl in calls of as many bytes, always the same ones.
set -eu
cd "$(dirname "$0")/../.."
rounds=${1:-5}
command -v openssl >/dev/null || {
	echo 'aes.sh: openssl is not installed' >&2
	exit 1
}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# one MODE: a round of it, as lines of "MODE WHO WAY UNIT GB/s".
one() {
	local mode=$1 unit way decrypt
	for unit in 512 4096; do
		for way in enc dec; do
			decrypt=()
			[ $way = enc ] || decrypt=(-decrypt)
			openssl speed -elapsed -seconds 1 -bytes $unit -evp "aes-256-$mode" "${decrypt[@]}" 2>/dev/null |
				awk -v k="$mode openssl $way $unit" '/^AES-256-/ { print k, $2 / 1e6 }'
			"$dir/$mode" -test.run NONE -test.bench "/^(vaes512|vaes256|aesni|arm64)\$/^$way\$/^$unit\$" -test.benchtime 0.5s |
				awk -v mode="$mode" -v k="$way $unit" '{ for (i = 2; i <= NF; i++) if ($i == "MB/s") { split($1, n, "/"); print mode, n[2], k, $(i-1) / 1e3 } }'
		done
	done
}

for mode in xts cbc; do
	go test -c -o "$dir/$mode" "./targets/internal/aes$mode"
done
for ((round = 1; round <= rounds; round++)); do
	one xts
	one cbc
done >"$dir/all"

sort -k1,4 -k5,5g "$dir/all" | awk -v rounds="$rounds" '
	function emit() { if (n) median[key] = n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2; n = 0 }
	{ k = $1 " " $2 " " $3 " " $4; if (k != key) { emit(); key = k } v[++n] = $5; seen[$1 " " $2] = 1 }
	END {
		emit()
		printf "medians of %d rounds, GB/s\n", rounds
		table("xts")
		table("cbc")
	}
	function table(mode,   i, names, best) {
		printf "%12s %8s %8s %8s %8s\n", mode, "enc 512", "dec 512", "enc 4096", "dec 4096"
		split("vaes512 vaes256 aesni arm64 openssl", names, " ")
		for (i = 1; i <= 5; i++) if (mode " " names[i] in seen) {
			if (best == "") best = names[i]
			line(mode, names[i], 0)
		}
		line(mode, best, 1)
	}
	function line(mode, name, ratio,   i, ways, k) {
		split("enc 512,dec 512,enc 4096,dec 4096", ways, ",")
		printf "%12s", ratio ? "ratio" : name
		for (i = 1; i <= 4; i++) {
			k = median[mode " " name " " ways[i]]
			printf " %8.2f", ratio ? k / median[mode " openssl " ways[i]] : k
		}
		print ""
	}'
