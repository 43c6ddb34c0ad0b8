#!/usr/bin/env bash
# Set up what the build of the operator needs. The variable enclave_platform says which package it is for.
set -euo pipefail
cd "$(dirname "$0")"

fail() {
    echo "error: $1" >&2
    echo "  next step: $2" >&2
    exit 2
}

case ${enclave_platform-} in
    azure-sgx) ;;
    '') fail "enclave_platform is not set" "export enclave_platform=azure-sgx" ;;
    *) fail "unknown enclave_platform $enclave_platform" "export enclave_platform=azure-sgx" ;;
esac
command -v make >/dev/null || fail "no make on this machine" "apt-get install make"
command -v cargo >/dev/null || fail "no cargo: the enclave's programs are written in Rust" "install Rust 1.88 or newer"
make env
echo "next: make package PROFILE=azure"
