# shellcheck shell=bash
# Sourced by ops/up, ops/test and .ci/run; bash 3.2 (macOS) is enough.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
oldest_rust="$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$root/Cargo.toml")"

COMPANION_PARTS="${COMPANION_PARTS:-$HOME/.cache/companion}"
case "$COMPANION_PARTS" in
/*) ;;
*) COMPANION_PARTS="$PWD/$COMPANION_PARTS" ;;
esac
export COMPANION_PARTS

fail() {
    echo "${0##*/}: $1" >&2
    exit "${2:-1}"
}

# A missing tool is named with the way to get it, before anything slow is begun.
need_tools() {
    command -v python3 >/dev/null ||
        fail "python3 is missing: install it with \`sudo apt-get install python3 python3-pip\` (Debian, Ubuntu) or \`brew install python3\` (macOS)."
    command -v cc >/dev/null ||
        fail "a C compiler (cc) is missing: install it with \`sudo apt-get install build-essential\` (Debian, Ubuntu) or \`xcode-select --install\` (macOS)."
    command -v cargo >/dev/null ||
        fail "cargo is missing: install Rust from https://rustup.rs, open a new shell and run this again."
    local version
    version="$(cargo --version | cut -d ' ' -f 2)" || exit 1
    [ "$(printf '%s\n' "$oldest_rust" "$version" | sort -V | head -n 1)" = "$oldest_rust" ] ||
        fail "cargo $version is too old, $oldest_rust or newer is needed: run \`rustup update stable\` (https://rustup.rs)."
}

# step NAME COMMAND…: runs the command and says how long it took.
step() {
    local name="$1" begun=$SECONDS
    shift
    echo "==> $name"
    "$@"
    echo "==> $name: done in $((SECONDS - begun)) s"
}

# Cargo is asked, because the folder may come from the environment or from the user's own settings.
target_folder() {
    cargo metadata --no-deps --format-version 1 |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])'
}
