#!/bin/sh
# Builds the guest programs: every <group>/<name>.rs becomes <group>/<name>.wasm beside it.
#
#   build.sh                     builds all guests
#   build.sh probe/hello ...     builds the named guests
#   build.sh --check [NAME ...]  builds elsewhere and compares with the committed files;
#                                exits 1 on a difference or a missing file
#
# The output depends on the compiler, so comparing is meaningful only with the release in
# `toolchain`. With another one, or without the wasm32-wasip1 target, --check says SKIPPED and why,
# and exits 0.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cd "$here"
target=wasm32-wasip1
wanted=$(cat toolchain)
check=no
if [ "${1:-}" = --check ]; then
    check=yes
    shift
fi

skip() {
    if [ "$check" = yes ]; then
        echo "SKIPPED guests/build.sh --check: $1"
        exit 0
    fi
    echo "guests/build.sh: $1" >&2
    exit 1
}

rustc=${RUSTC:-rustc}
command -v "$rustc" >/dev/null 2>&1 || skip "no rustc"
version=$("$rustc" --version | cut -d ' ' -f 1-2)
sysroot=$("$rustc" --print sysroot)
[ -d "$sysroot/lib/rustlib/$target/lib" ] ||
    skip "no standard library for $target (rustup target add $target)"
[ "$version" = "$wanted" ] || [ "$check" = no ] ||
    skip "the committed files are from $wanted, this is $version"

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

if [ $# -eq 0 ]; then
    set -- $(find . -mindepth 2 -maxdepth 2 -name '*.rs' | sort | sed 's|^\./||; s|\.rs$||')
fi

differing=0
for guest in "$@"; do
    name=$(basename "$guest" | tr - _)
    mkdir -p "$out/$(dirname "$guest")"
    "$rustc" --edition 2024 --crate-type bin --crate-name "$name" --target "$target" \
        -C opt-level=s -C lto=fat -C codegen-units=1 -C panic=abort -C strip=symbols \
        -C debuginfo=0 -D warnings \
        --remap-path-prefix "$here=/guests" --remap-path-prefix "$sysroot=/rustc" \
        -o "$out/$guest.wasm" "$guest.rs"
    if [ "$check" = no ]; then
        cp "$out/$guest.wasm" "$guest.wasm"
        echo "built $guest.wasm $(wc -c <"$guest.wasm") bytes"
    elif [ ! -f "$guest.wasm" ]; then
        echo "MISSING $guest.wasm"
        differing=1
    elif cmp -s "$out/$guest.wasm" "$guest.wasm"; then
        echo "same $guest.wasm"
    else
        echo "DIFFERENT $guest.wasm"
        differing=1
    fi
done
exit $differing
