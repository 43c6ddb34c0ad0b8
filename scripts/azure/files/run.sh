#!/usr/bin/env bash
# The container's program: checks what an enclave needs of its surroundings, then starts it. The checks only advise;
# the start itself is the judge. Messages go to stderr, secrets to nowhere.
set -u
instance=${UID2_INSTANCE:-/root/uid2-operator}
root=${UID2_HOST_ROOT:-}

advise() {
    echo "warning: $1" >&2
    echo "  fix: $2" >&2
}

check_devices() {
    if [ -e "$root/dev/sgx/enclave" ] || [ -e "$root/dev/sgx_enclave" ]; then :; else
        advise "no SGX enclave device in this container" \
            "run on an SGX node: --device /dev/sgx/enclave, on AKS a limit for kubernetes.azure.com/sgx_epc_mem_in_MiB"
    fi
    if [ -n "${SGX_AESM_ADDR-}" ]; then
        [ -S "$root/var/run/aesmd/aesm.socket" ] ||
            advise "SGX_AESM_ADDR is set, but there is no /var/run/aesmd/aesm.socket" \
                "mount the host's /var/run/aesmd, and enable the SGX quote helper; or unset SGX_AESM_ADDR"
    elif [ ! -e "$root/dev/sgx/provision" ] && [ ! -e "$root/dev/sgx_provision" ]; then
        advise "no SGX provision device: quotes fail with 0xe002 or 0xe00d" \
            "add --device /dev/sgx/provision, or set SGX_AESM_ADDR=1 and mount the quote helper's socket"
    fi
}

check_token() {
    local name=$1 value=${!1-}
    if [ -z "$value" ]; then
        advise "the variable $name is empty" "set it from a Secret: the operator key that UID2 gave you"
    elif [ ${#value} -gt 512 ]; then
        advise "$name is longer than 512 characters" "check the Secret: it must hold the operator key alone"
    elif [[ $value == *[![:ascii:]]* || $value == *[[:cntrl:]]* || $value == *' '* ]]; then
        advise "$name holds characters that no operator key has" "check the Secret for quotes, spaces and line ends"
    fi
}

check_memory() {
    local line total
    line=$(grep -s '^MemTotal:' "$root/proc/meminfo") || return 0
    total=$(echo "$line" | tr -dc '0-9')
    [ "$total" -ge 25165824 ] ||
        advise "this machine has $((total / 1048576)) GiB of memory" "use Standard_DC8_v2; smaller nodes are not supported"
}

if [ "${2-}" = run ] && [ "${3-}" = /bin/launcher ]; then
    check_token core_api_token
    check_token optout_api_token
fi
check_devices
check_memory

export AZDCAP_DEBUG_LOG_LEVEL=FATAL
if [ -z "${SGX_AESM_ADDR-}" ] && [ -x /opt/occlum/start_aesm.sh ]; then
    /opt/occlum/start_aesm.sh
fi
cd "$instance" || {
    echo "error: no enclave in $instance" >&2
    echo "  next step: use the image as it was built" >&2
    exit 2
}
[ $# -gt 0 ] || set -- occlum run /bin/launcher
exec "$@"
