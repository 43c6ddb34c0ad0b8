#!/usr/bin/env bash
# Make an AKS cluster with SGX nodes and start the operator on it. --dry-run prints every command and runs none.
set -euo pipefail
cd "$(dirname "$0")"

usage() {
    cat <<'TEXT'
usage: deploy-aks.sh --group NAME --cluster NAME --region REGION [--values FILE] [--nodes N] [--most-nodes N]
                     [--quote-helper] [--dry-run]

Needs az (logged in), kubectl and uid2. The environment variables core_api_token and optout_api_token hold the tokens
for the Secret; they are passed on standard input, never on a command line.
TEXT
}

fail() {
    echo "error: $1" >&2
    echo "  next step: $2" >&2
    exit 2
}

group='' cluster='' region='' values=aks/values.yml nodes=2 most_nodes=6 helper='' dry=''
while [ $# -gt 0 ]; do
    case $1 in
        --group | --cluster | --region | --values | --nodes | --most-nodes)
            [ $# -ge 2 ] || fail "$1 needs a value" "see --help"
            case $1 in
                --group) group=$2 ;;
                --cluster) cluster=$2 ;;
                --region) region=$2 ;;
                --values) values=$2 ;;
                --nodes) nodes=$2 ;;
                --most-nodes) most_nodes=$2 ;;
            esac
            shift 2
            ;;
        --quote-helper) helper=yes && shift ;;
        --dry-run) dry=yes && shift ;;
        -h | --help) usage && exit 0 ;;
        *) fail "unknown argument $1" "see --help" ;;
    esac
done
if [ -z "$group" ] || [ -z "$cluster" ] || [ -z "$region" ]; then
    fail "--group, --cluster and --region are needed" "see --help"
fi
case "$nodes$most_nodes" in *[!0-9]*) fail "--nodes and --most-nodes are numbers" "correct them" ;; esac
[ "$nodes" -ge 2 ] || fail "--nodes $nodes: two operators need two nodes" "give 2 or more"
[ "$most_nodes" -ge "$nodes" ] || fail "--most-nodes is below --nodes" "give $nodes or more"
[ -f "$values" ] || fail "no values file $values" "copy aks/values.yml and name your image in it"
[ "$values" != aks/values-quote-helper.yml ] || helper=yes
version=$(cat aks/kubernetes-version)
for name in core_api_token optout_api_token; do
    value=${!name-}
    [ -n "$value" ] || [ -n "$dry" ] || fail "$name is empty" "export $name"
    [ ${#value} -le 512 ] || fail "$name is longer than 512 characters" "check it"
    case $value in *[![:ascii:]]* | *[[:cntrl:]]*) fail "$name holds characters that no token has" "check it" ;; esac
done

run() {
    if [ -n "$dry" ]; then
        printf '+'
        printf ' %q' "$@"
        printf '\n'
    else
        "$@"
    fi
}

if [ -z "$dry" ]; then
    for tool in az kubectl uid2; do
        command -v "$tool" >/dev/null || fail "no $tool on this machine" "install it, or look with --dry-run"
    done
    rendered=$(mktemp)
    trap 'rm -f "$rendered"' EXIT
    uid2 aks render --values "$values" >"$rendered"
else
    rendered="<(uid2 aks render --values $values)"
fi

run az group create --name "$group" --location "$region"
run az aks create --resource-group "$group" --name "$cluster" --kubernetes-version "$version" --generate-ssh-keys \
    --enable-addons confcom ${helper:+--enable-sgxquotehelper} --network-plugin azure --network-policy azure \
    --nodepool-name system --node-count 2
run az aks nodepool add --resource-group "$group" --cluster-name "$cluster" --name sgxpool --mode User \
    --node-vm-size Standard_DC8_v2 --node-count "$nodes" \
    --enable-cluster-autoscaler --min-count "$nodes" --max-count "$most_nodes" \
    --labels uid2.com/role=operator --node-taints uid2.com/sgx=true:NoSchedule
run az aks get-credentials --resource-group "$group" --name "$cluster"
run kubectl wait --for=condition=Ready node --selector agentpool=sgxpool --timeout=15m
run kubectl apply --server-side --filename aks/admission-policy.yml

namespace=$(sed -n 's/^namespace: *//p' "$values")
secret=$(sed -n 's/^secret_name: *//p' "$values")
core_key=$(sed -n 's/^core_token_key: *//p' "$values")
optout_key=$(sed -n 's/^optout_token_key: *//p' "$values")
namespace=${namespace:-uid2} secret=${secret:-uid2-operator-secret}
core_key=${core_key:-OPERATOR_API_KEY} optout_key=${optout_key:-OPERATOR_API_KEY}
if [ "$core_key" = "$optout_key" ] && [ "${core_api_token-}" != "${optout_api_token-}" ]; then
    fail "two different tokens for one key of the Secret" "give core_token_key and optout_token_key different names"
fi

secret_manifest() {
    printf 'apiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\n  namespace: %s\ntype: Opaque\ndata:\n' "$secret" "$namespace"
    printf '  %s: %s\n' "$core_key" "$(printf %s "$core_api_token" | base64 -w0)"
    [ "$core_key" = "$optout_key" ] || printf '  %s: %s\n' "$optout_key" "$(printf %s "$optout_api_token" | base64 -w0)"
}

if [ -n "$dry" ]; then
    run kubectl create namespace "$namespace"
    echo "+ kubectl apply --filename - <<< Secret $namespace/$secret with $core_key${optout_key:+ and $optout_key} from the environment"
    echo "+ kubectl apply --filename $rendered"
else
    kubectl get namespace "$namespace" >/dev/null 2>&1 || kubectl create namespace "$namespace"
    secret_manifest | kubectl apply --filename -
    kubectl apply --filename "$rendered"
fi
run kubectl apply --filename aks/autoscaler.yml
run kubectl rollout status --namespace "$namespace" deployment/uid2-operator --timeout=30m
