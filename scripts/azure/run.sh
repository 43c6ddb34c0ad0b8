#!/usr/bin/env bash
# Test-run the built image: ./run.sh starts the operator, ./run.sh occlum run /bin/sgx_quote shows the enclave's identity.
# With Docker, the image and SGX devices it runs in Docker; otherwise in a sandbox that says SIMULATED.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
image=${IMAGE:-dev.docker.adsrvr.org/uid2/operator/occlum:dev}
package=$here/build/uid2-operator/uid2-operator.tar.gz

fail() {
    echo "error: $1" >&2
    echo "  next step: $2" >&2
    exit 2
}

case ${1-} in
    -h | --help)
        echo "usage: run.sh [occlum run PROGRAM …]    default: occlum run /bin/launcher"
        echo "The variables core_api_token and optout_api_token are passed on when they are set."
        exit 0
        ;;
    '' | occlum) ;;
    *) fail "unknown command $1" "give occlum run PROGRAM, or nothing to start the operator" ;;
esac
[ $# -gt 0 ] || set -- occlum run /bin/launcher

passed=()
for name in core_api_token optout_api_token; do
    [ -n "${!name-}" ] || continue
    value=${!name}
    [ ${#value} -le 512 ] || fail "$name is longer than 512 characters" "check it"
    case $value in *[![:ascii:]]* | *[[:cntrl:]]*) fail "$name holds characters that no token has" "check it" ;; esac
    passed+=(--env "$name")
done

devices=()
for pair in enclave provision; do
    if [ -e "/dev/sgx/$pair" ]; then
        devices+=(--device "/dev/sgx/$pair")
    elif [ -e "/dev/sgx_$pair" ]; then
        devices+=(--device "/dev/sgx_$pair:/dev/sgx/$pair")
    fi
done

if [ ${#devices[@]} -eq 4 ] && command -v docker >/dev/null && docker image inspect "$image" >/dev/null 2>&1; then
    terminal=()
    [ ! -t 0 ] || terminal=(-it)
    exec docker run --rm ${terminal[@]+"${terminal[@]}"} "${devices[@]}" ${passed[@]+"${passed[@]}"} \
        -p 8080:8080 -p 9091:9091 "$image" "$@"
fi

[ -f "$package" ] || fail "no package $package" "build one: ./build.sh sim"
uid2=$here/../../.venv/bin/uid2
[ -x "$uid2" ] || uid2=$(command -v uid2) || fail "no command uid2" "run make env in the repository"
exec "$uid2" enclave run --package "$package" --state "${UID2_STATE:-$here/../../.uid2}" ${UID2_CALLS:+--calls} "$@"
