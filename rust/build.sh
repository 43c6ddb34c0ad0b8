#!/usr/bin/env bash
# Build the native module into the virtual environment given as $1; with `lint` as $2, check the sources of all crates
# instead; with `enclave FOLDER`, build module, launcher and sgx_quote for glibc 2.31 into FOLDER.
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
    if [ "$task" = enclave ]; then
        echo "error: no cargo, and the programs of the enclave are written in Rust" >&2
        echo "  next step: install Rust (1.88 or newer) and put cargo on PATH" >&2
        exit 2
    fi
    [ "$task" = lint ] || echo "native module not built: cargo not found; the pure-Python reference serves"
    exit 0
fi
if [ "$task" = lint ]; then
    for name in native launcher sgx_quote; do
        cd "$root/rust/$name" || exit 1
        if "$cargo" fmt --version >/dev/null 2>&1; then "$cargo" fmt --check || exit 1; fi
        if "$cargo" clippy --version >/dev/null 2>&1; then "$cargo" clippy --quiet --locked -- -D warnings || exit 1; fi
        [ "$name" = native ] || "$cargo" test --quiet --locked >/dev/null || exit 1
    done
    exit 0
fi

# The same bytes wherever it is built: no path of the machine, no build id, one compilation unit.
if [ "$task" = enclave ]; then
    set -e
    out=$3 zig_target=x86_64-unknown-linux-gnu
    target=${CARGO_TARGET_DIR:-$root/rust/target}
    PATH=$(cd "$venv/bin" && pwd):$PATH
    export PATH CARGO_TARGET_DIR=$target PYO3_NO_PYTHON=1 SOURCE_DATE_EPOCH=0
    export ZIG_GLOBAL_CACHE_DIR=$target/zig ZIG_LOCAL_CACHE_DIR=$target/zig
    export CARGO_ZIGBUILD_CACHE_DIR=$target/zigbuild
    flags=(--remap-path-prefix "$root/rust=/source" --remap-path-prefix "${CARGO_HOME:-$HOME/.cargo}=/cargo"
        --remap-path-prefix "$target=/target" --remap-path-prefix "$(rustc --print sysroot)=/rust"
        -Cdebuginfo=0 -Cstrip=symbols "-Clink-arg=-Wl,--build-id=none")
    CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; echo "${flags[*]}")
    export CARGO_ENCODED_RUSTFLAGS
    mkdir -p "$out"
    for name in native launcher sgx_quote; do
        echo "building $name for glibc 2.31"
        (cd "$root/rust/$name" && "$cargo" zigbuild --quiet --release --locked --target "$zig_target.2.31")
    done
    install -m 755 "$target/$zig_target/release/launcher" "$target/$zig_target/release/sgx_quote" "$out"
    install -m 644 "$target/$zig_target/release/libuid2_native.so" "$out/uid2_native.abi3.so"
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
