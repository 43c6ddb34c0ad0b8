#!/usr/bin/env bash
# Build the operator's enclave and its container image from the parts that `make package PROFILE=azure` made.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
image=dev.docker.adsrvr.org/uid2/operator/occlum

fail() {
    echo "error: $1" >&2
    echo "  next step: $2" >&2
    exit "${3:-2}"
}

usage="usage: build.sh [local|sim|integ|prod] [--push] [--build-version X] [--fast] [--debug]"
config='' push='' fast='' words=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help)
            echo "$usage"
            echo "Signing, where Occlum is: ENCLAVE_SIGN_KEY and ENCLAVE_PROVENANCE_KEY name PEM files."
            exit 0
            ;;
        --push) push=yes ;;
        --fast) fast=yes words+=(--fast) ;;
        --debug) words+=(--debug) ;;
        --build-version)
            [ $# -gt 1 ] || fail "--build-version needs a value" "$usage" 1
            words+=(--build-version "$2")
            shift
            ;;
        -*) fail "unknown flag $1" "$usage" 1 ;;
        *)
            [ -z "$config" ] || fail "two configurations: $config and $1" "$usage" 1
            config=$1
            ;;
    esac
    shift
done
config=${config:-local}
case $config in local | sim | integ | prod) ;; *) fail "unknown configuration $config" "$usage" 1 ;; esac

uid2=$root/.venv/bin/uid2
[ -x "$uid2" ] || fail "the operator is not built" "in $root: export enclave_platform=azure-sgx; ./setup_dependencies.sh && make package PROFILE=azure"

occlum=$(command -v occlum || echo /opt/occlum/build/bin/occlum)
if [ ! -x "$occlum" ]; then
    [ -z "$push" ] || fail "a simulated enclave cannot be pushed: Occlum is not on this machine" "prepare one with setup_build_vm.sh"
else
    [ -n "${ENCLAVE_SIGN_KEY-}" ] || fail "no signing key" "set ENCLAVE_SIGN_KEY to an RSA key: openssl genrsa -3 -out key.pem 3072"
    [ -n "${ENCLAVE_PROVENANCE_KEY-}" ] || fail "no provenance key" "set ENCLAVE_PROVENANCE_KEY: openssl genpkey -algorithm ed25519"
    words+=(--sign-key "$ENCLAVE_SIGN_KEY" --provenance-key "$ENCLAVE_PROVENANCE_KEY")
    [ -z "${ENCLAVE_BASE-}" ] || words+=(--base "$ENCLAVE_BASE")
fi

cd "$root"
"$uid2" enclave build "$config" --out "$here/build" --parts "$root/dist/azure" "${words[@]}"

if [ -x "$occlum" ] && [ -z "$fast" ] && command -v docker >/dev/null; then
    docker load --input "$here/build/uid2-operator-azure-sgx.docker.tar.gz"
    [ -z "$push" ] || docker push --all-tags "$image"
fi

echo "identity of the enclave, by a quote of its own:"
if "$here/run.sh" occlum run /bin/sgx_quote >"$here/build/sgx_quote.txt"; then
    cat "$here/build/sgx_quote.txt"
else
    echo "no quote could be made here; this is what its signature says:"
    "$uid2" enclave inspect "$here/build/uid2-operator/uid2-operator.tar.gz" | tee "$here/build/sgx_quote.txt"
fi
