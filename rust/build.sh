#!/usr/bin/env bash
# Build the native module into the virtual environment given as $1; with `lint` as $2, check its sources instead.
# Without a usable cargo, or when the build fails, the pure-Python reference serves and this says so.
set -uo pipefail
venv=$1 task=${2:-build}
root=$(cd "$(dirname "$0")/.." && pwd)
crate=$root/rust/native

works() { "$1" --version >/dev/null 2>&1; }

# A rustup shim works only where RUSTUP_HOME leads to its toolchains: with another HOME they lie next to the shim.
find_cargo() {
    local found home toolchain
    found=$(command -v cargo) || return 1
    if works "$found"; then cargo=$found; return 0; fi
    home=$(cd "$(dirname "$found")/../.." && pwd)
    if RUSTUP_HOME=$home/.rustup works "$found"; then
        export RUSTUP_HOME=$home/.rustup
        cargo=$found
        return 0
    fi
    for toolchain in "$home"/.rustup/toolchains/*/bin; do
        if works "$toolchain/cargo"; then
            export PATH=$toolchain:$PATH
            cargo=$toolchain/cargo
            return 0
        fi
    done
    return 1
}

if ! find_cargo; then
    [ "$task" = lint ] || echo "native module not built: cargo not found; the pure-Python reference serves"
    exit 0
fi
if [ "$task" = lint ]; then
    cd "$crate" || exit 1
    if "$cargo" fmt --version >/dev/null 2>&1; then "$cargo" fmt --check || exit 1; fi
    if "$cargo" clippy --version >/dev/null 2>&1; then "$cargo" clippy --quiet --locked -- -D warnings || exit 1; fi
    exit 0
fi

echo "building the native module"
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
log=$wheels/log
if "$venv/bin/maturin" build --release --locked --compatibility linux --manifest-path "$crate/Cargo.toml" \
        --interpreter "$venv/bin/python" --out "$wheels" >"$log" 2>&1 &&
    "$venv/bin/uv" pip install --quiet --offline --no-deps --reinstall --python "$venv/bin/python" "$wheels"/*.whl >>"$log" 2>&1 &&
    "$venv/bin/python" -c 'import uid2_native' >>"$log" 2>&1; then
    touch "$venv/.stamp-native"
else
    tail -n 20 "$log" >&2
    echo "native module not built: the build failed (above); the pure-Python reference serves; \`make native\` tries again"
    touch "$venv/.stamp-native"
fi
