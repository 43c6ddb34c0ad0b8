#!/usr/bin/env bash
# Prepare an Azure VM (Standard_DC8_v2, Ubuntu LTS) to build the operator's enclave: Docker, SGX driver check, quote
# provider, Occlum's image by digest, Rust. Runs again without harm. --dry-run prints the commands and changes nothing.
set -euo pipefail

# Occlum's last release; the digest is checked by Docker on every pull. OCCLUM_IMAGE names another mirror of it.
occlum_version=0.31.0
ubuntu=20.04
tested_size=Standard_DC8_v2
dry_run=''

fail() {
    echo "error: $1" >&2
    echo "  next step: $2" >&2
    exit 2
}

warn() {
    echo "warning: $1" >&2
    echo "  fix: $2" >&2
}

run() {
    echo "+ $*"
    [ -n "$dry_run" ] || "$@"
}

while [ $# -gt 0 ]; do
    case $1 in
        --dry-run) dry_run=yes ;;
        -h | --help)
            echo "usage: OCCLUM_IMAGE=NAME@sha256:… setup_build_vm.sh [--dry-run]"
            exit 0
            ;;
        *) fail "unknown flag $1" "usage: setup_build_vm.sh [--dry-run]" ;;
    esac
    shift
done

image=${OCCLUM_IMAGE-}
[ -n "$image" ] || fail "OCCLUM_IMAGE is not set" \
    "set it to Occlum $occlum_version for Ubuntu $ubuntu by digest: docker buildx imagetools inspect shows it"
[[ $image =~ @sha256:[0-9a-f]{64}$ ]] || fail "OCCLUM_IMAGE names no digest: a tag can change under you" \
    "write it as NAME@sha256: and 64 hex digits"

check_machine() {
    local release=${OS_RELEASE:-/etc/os-release} size id version
    id=$(sed -n 's/^ID=//p' "$release" | tr -d '"') version=$(sed -n 's/^VERSION_ID=//p' "$release" | tr -d '"')
    [ "$id" = ubuntu ] || warn "this is $id, not Ubuntu" "use an Ubuntu LTS image of the Server variant"
    case $version in 20.04 | 22.04 | 24.04) ;; *) warn "Ubuntu $version is no LTS release that was tested" "use 20.04, 22.04 or 24.04" ;; esac
    size=$(curl --silent --max-time 2 --header Metadata:true \
        "http://169.254.169.254/metadata/instance/compute/vmSize?api-version=2021-02-01&format=text" || true)
    [ "$size" = "$tested_size" ] || warn "this machine is ${size:-no Azure VM}" "the tested size is $tested_size"
    grep -q -w sgx "${CPUINFO:-/proc/cpuinfo}" || warn "the processor shows no SGX" "use a generation 2 VM of the DC series"
    if [ ! -e /dev/sgx_enclave ] && [ ! -e /dev/sgx/enclave ]; then
        warn "no SGX device" "take a kernel of 5.11 or newer, which has the driver, or install Intel's DCAP driver"
    fi
}

privileged=()
[ "$(id -u)" -eq 0 ] || privileged=(sudo)

check_machine
run "${privileged[@]}" apt-get update
run "${privileged[@]}" apt-get install --yes --no-install-recommends \
    bubblewrap ca-certificates curl docker.io git jq make python3 python3-venv
run "${privileged[@]}" systemctl enable --now docker
# On Azure its provider finds the collateral; Intel's default one must not be installed beside it.
if apt-cache show az-dcap-client >/dev/null 2>&1; then
    run "${privileged[@]}" apt-get remove --yes libsgx-dcap-default-qpl
    run "${privileged[@]}" apt-get install --yes --no-install-recommends az-dcap-client libsgx-dcap-ql libsgx-quote-ex
else
    warn "apt knows no az-dcap-client" "add the package sources of Microsoft and Intel for this Ubuntu, then run this again"
fi
run "${privileged[@]}" docker pull "$image"
run mkdir -p "$HOME/occlum"
echo "+ docker create $image; docker export > $HOME/occlum/base.tar"
if [ -z "$dry_run" ]; then
    container=$("${privileged[@]}" docker create "$image")
    "${privileged[@]}" docker export "$container" >"$HOME/occlum/base.tar"
    "${privileged[@]}" docker rm "$container" >/dev/null
fi
command -v cargo >/dev/null || warn "no cargo: launcher, sgx_quote and the native module are written in Rust" \
    "install Rust 1.88 or newer"
echo "next: run the build inside the image, with the repository and $HOME/occlum mounted, and"
echo "      ENCLAVE_BASE=$HOME/occlum/base.tar ENCLAVE_SIGN_KEY=… ENCLAVE_PROVENANCE_KEY=… ./build.sh prod"
