#!/bin/sh
# Tests the checks natively with the compiler alone, optimized, with many more rounds of random
# input than `cargo test` makes; then surveys a folder if one is given:
#
#   test.sh [FOLDER [FILES_MAX [CHECK]]]
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

rustc=${RUSTC:-rustc}
"$rustc" --edition 2024 --test -O -D warnings -o "$out/checks" "$here/../../tests/checks.rs"
"$out/checks"
if [ $# -gt 0 ]; then
    "$rustc" --edition 2024 -O -A warnings -o "$out/survey" "$here/tests/survey.rs"
    "$out/survey" "$@"
fi
