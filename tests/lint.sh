#!/usr/bin/env bash
# Runs the linters, each for the reason given. They are pinned in go.mod, so everybody has the same.
# Exit status: 0 clean, 1 something was found.
set -u
cd "$(dirname "$0")/.." || exit 1
status=0
mapfile -t go_files < <(git ls-files '*.go')
mapfile -t texts < <(git ls-files '*.go' '*.md' '*.sh' 'docs/man/*')
mapfile -t scripts < <(git ls-files '*.sh' .ci/run cmd/dmfs/dist/dmfs.bash)

go mod download # so that no tool reports a download

# step NAME COMMAND…: runs a linter whose silence is success.
step() {
	local name=$1 out
	shift
	if ! out=$("$@" 2>&1) || [ -n "$out" ]; then
		printf '%s:\n%s\n' "$name" "$out"
		status=1
	fi
}

# shellcheck disable=SC2317 # step calls it
errcheck() { go tool errcheck -ignoretests -exclude tests/errcheck.txt ./... | grep -v '//nolint:errcheck // ' || true; }

# shellcheck disable=SC2317 # step calls it
unexplained() { git grep -n '//nolint' -- '*.go' | grep -v '//nolint:[a-z0-9]* // ' || true; }

# left_out TOOL WHY: says what this machine cannot check.
left_out() { printf 'left out: %s: %s\n' "$1" "$2"; }

# One layout, so that no diff is about layout.
step gofmt gofmt -l "${go_files[@]}"
# Mistakes that are nearly always bugs: copied locks, wrong format verbs, lost cancels.
step 'go vet' go vet ./...
# Bugs, dead code (unused) and what the standard library has simpler. ST1000, ST1020 to ST1022: every package
# and every exported name has a comment that begins as it should. Not ST1005, how error texts begin and end:
# dmsetup's and the kernel's are spoken word for word.
step staticcheck go tool staticcheck -checks 'inherit,ST1000,ST1020,ST1021,ST1022,-ST1005' ./...
# A value that is never read is a forgotten check.
step ineffassign go tool ineffassign ./...
# A forgotten error loses data. Excluded are calls whose error means nothing (see the file), lines that say so and why,
# and tests, which check what matters and whose clean-up may find nothing to clean.
step errcheck errcheck
# An exception has a reason.
step nolint unexplained
# Texts are part of the program. A Statuser is an interface of ours.
step misspell go tool misspell -error -i statuser "${texts[@]}"
# go.mod says what the code needs, neither more nor less.
step 'go mod tidy' go mod tidy -diff

# Shell scripts fail where nobody looks: quoting, unset variables.
if command -v shellcheck >/dev/null; then
	step shellcheck shellcheck "${scripts[@]}"
else
	left_out shellcheck 'not installed (package shellcheck)'
fi
# Man pages are read through mandoc and groff alike; mandoc says what one of them would not take.
if command -v mandoc >/dev/null; then
	step mandoc mandoc -Tlint -Wwarning docs/man/*
else
	left_out mandoc 'not installed (package mandoc)'
fi

[ $status = 0 ] && echo 'lint: clean'
exit $status
