#!/usr/bin/env bash
# Runs `go test` with the arguments given, and prints a line for each package, whatever failed in full, and the
# tests that were skipped with their reasons. With STRICT=1 a skipped test is a failure.
set -u
cd "$(dirname "$0")/.." || exit 1
mkdir -p build
log=build/test.log
go test -timeout 25m -v "$@" >"$log" 2>&1
status=$?
if [ $status != 0 ]; then
	grep -vE '^(=== (RUN|PAUSE|CONT|NAME)|[[:space:]]*--- (PASS|SKIP)|PASS$|\?)' "$log"
fi
grep -E '^(ok|FAIL|---[[:space:]]FAIL)[[:space:]]' "$log"

# A skipped test has said why on the line before, "    file_test.go:12: why".
skipped=$(awk '
	/^[ \t]*--- SKIP: / { sub(/^[ \t]*--- SKIP: /, ""); sub(/ \(.*/, ""); test = $0; if (why != "") print "skipped: " test ": " why; why = ""; next }
	/^[ \t]+[a-zA-Z0-9_]+\.go:[0-9]+: / { why = $0; sub(/^[ \t]+[^ ]+: /, "", why) }
' "$log")
passed=$(grep -cE '^[[:space:]]*--- PASS' "$log")
if [ -n "$skipped" ]; then
	printf '%s\n' "$skipped"
	[ "${STRICT:-}" = 1 ] && status=1
fi
echo "tests: $passed passed, $(grep -cE '^[[:space:]]*--- FAIL' "$log") failed, $(grep -cE '^[[:space:]]*--- SKIP' "$log") skipped (all of it in $log)"
exit $status
