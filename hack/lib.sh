# What the scripts of hack/ share; sourced, not run.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
die() { say "$*"; exit 1; }

# packages NAME... - installs by apt the packages that are missing.
packages() {
    local name missing=()
    for name in "$@"; do
        dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q '^install ok installed' || missing+=("$name")
    done
    [ ${#missing[@]} = 0 ] && return 0
    [ "$(id -u)" = 0 ] || die "missing packages: ${missing[*]} (root installs them by itself)"
    say "installing ${missing[*]}"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -y "${missing[@]}" >/dev/null
}

# suite_packages - what the suites of integration/ name as their packages.
suite_packages() {
    grep -hzoP '(?m)^PACKAGES=\(\K[^)]*' "$top"/integration/*/run | tr '\0\n' '  '
}

# need_cargo - Rust is the one thing that is expected to be there.
need_cargo() {
    command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH
    command -v cargo >/dev/null || die "cargo is missing: install Rust 1.95 or newer (https://rustup.rs)"
    packages gcc libc6-dev
}

# release_target - the target of release builds: musl where its standard library is (or can be) installed.
# Its programs start in a third of the time of static glibc ones; both are one static file.
release_target() {
    local musl
    musl=$(uname -m)-unknown-linux-musl
    if command -v rustup >/dev/null && ! rustup target list --installed | grep -qx "$musl"; then
        rustup -q target add "$musl" >&2 || true
    fi
    if [ -d "$(rustc --print sysroot)/lib/rustlib/$musl/lib" ]; then
        echo "$musl"
    else
        rustc -vV | sed -n 's/^host: //p'
    fi
}

# build_release - builds the release binary and prints its path.
build_release() {
    local target
    target=$(release_target)
    (cd "$top" && cargo build --quiet --release --target "$target" >&2)
    echo "${CARGO_TARGET_DIR:-$top/target}/$target/release/orlop"
}
