"""The rules of the package for a deployment, held against rendered manifests (enclave chapter, 7.5)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from uid2.packaging.aks_render import AZURE_EPC, INTEL_EPC, OPS_PORT, SERVICE_PORT, TOKENS, Manifest
from uid2.packaging.aks_values import NODE_EPC_MIB, NODE_SIZE

_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_HELPER_VARIABLE: Final = {"name": "SGX_AESM_ADDR", "value": "1"}
_PROBES: Final = ("startupProbe", "readinessProbe", "livenessProbe")
_SHORTEST_START_SECONDS: Final = 600
_KINDS: Final = ("Namespace", "ServiceAccount", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy")


def violations(manifests: Sequence[Manifest]) -> tuple[str, ...]:
    """Every rule that the manifests break, in words; empty when they break none."""
    found = [f"no {kind}" for kind in _KINDS if not any(_kind(manifest) == kind for manifest in manifests)]
    if any(_kind(manifest) == "Secret" for manifest in manifests):
        found.append("a Secret in plain text")
    for manifest in manifests:
        match _kind(manifest):
            case "Deployment":
                found += _broken(manifest, _DEPLOYMENT)
            case "Service":
                found += _broken(manifest, _SERVICE)
            case "PodDisruptionBudget":
                found += _broken(manifest, _BUDGET)
            case "NetworkPolicy":
                found += _broken(manifest, _NETWORK)
    return tuple(found)


def _kind(manifest: Manifest) -> Any:
    return manifest.get("kind")


Rule = tuple[str, Callable[[Manifest], bool]]


def _broken(manifest: Manifest, rules: Sequence[Rule]) -> Iterator[str]:
    for text, kept in rules:
        try:
            good = kept(manifest)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            good = False
        if not good:
            yield text


def _pod(deployment: Manifest) -> Manifest:
    pod: Manifest = deployment["spec"]["template"]["spec"]
    return pod


def _containers(deployment: Manifest) -> list[Manifest]:
    pod = _pod(deployment)
    return [*pod["containers"], *pod.get("initContainers", [])]


def _operator(deployment: Manifest) -> Manifest:
    container: Manifest = _pod(deployment)["containers"][0]
    return container


def _epc_mib(deployment: Manifest) -> int:
    limits = _operator(deployment)["resources"]["limits"]
    if AZURE_EPC in limits:
        return int(limits[AZURE_EPC])
    return int(limits[INTEL_EPC].removesuffix("Mi"))


def _only_that_size(deployment: Manifest) -> bool:
    terms = _pod(deployment)["affinity"]["nodeAffinity"][_REQUIRED]["nodeSelectorTerms"]
    size = {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": [NODE_SIZE]}
    return bool(terms) and all(size in term["matchExpressions"] for term in terms)


def _apart(deployment: Manifest) -> bool:
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    return any(
        term["topologyKey"] == "kubernetes.io/hostname"
        and bool(term["labelSelector"]["matchLabels"])
        and term["labelSelector"]["matchLabels"].items() <= labels.items()
        for term in _pod(deployment)["affinity"]["podAntiAffinity"][_REQUIRED]
    )


def _tokens_from_secret(deployment: Manifest) -> bool:
    given = {variable["name"]: variable for variable in _operator(deployment)["env"]}
    return all("secretKeyRef" in given[name]["valueFrom"] and "value" not in given[name] for name in TOKENS)


def _nothing_else(deployment: Manifest) -> bool:
    operator = _operator(deployment)
    rest = [variable for variable in operator["env"] if variable["name"] not in TOKENS]
    return rest in ([], [_HELPER_VARIABLE]) and "envFrom" not in operator


def _plain_pod(deployment: Manifest) -> bool:
    pod = _pod(deployment)
    contexts = [container["securityContext"] for container in _containers(deployment)]
    return (
        not any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"))
        and not any(context.get("privileged") or context.get("allowPrivilegeEscalation", True) for context in contexts)
        and all(context["capabilities"] == {"drop": ["ALL"]} for context in contexts)
    )


def _only_aesm_of_host(deployment: Manifest) -> bool:
    paths = [volume["hostPath"]["path"] for volume in _pod(deployment).get("volumes", []) if "hostPath" in volume]
    helper = _HELPER_VARIABLE in _operator(deployment)["env"]
    return paths == (["/var/run/aesmd"] if helper else [])


def _ports(deployment: Manifest) -> bool:
    ports = {port["containerPort"] for port in _operator(deployment)["ports"]}
    host = any("hostPort" in port for port in _operator(deployment)["ports"])
    return ports == {SERVICE_PORT, OPS_PORT} and not host


def _probes(deployment: Manifest) -> bool:
    names = {port["name"]: port["containerPort"] for port in _operator(deployment)["ports"]}
    return all(names.get(_operator(deployment)[probe]["httpGet"]["port"]) == OPS_PORT for probe in _PROBES)


def _patient_start(deployment: Manifest) -> bool:
    probe = _operator(deployment)["startupProbe"]
    return bool(probe["periodSeconds"] * probe["failureThreshold"] >= _SHORTEST_START_SECONDS)


def _drains(deployment: Manifest) -> bool:
    command = _operator(deployment)["lifecycle"]["preStop"]["exec"]["command"][-1]
    sleeps = int(command.rpartition("sleep ")[2])
    return "POST /ops/drain" in command and _pod(deployment)["terminationGracePeriodSeconds"] > sleeps


def _by_digest(deployment: Manifest) -> bool:
    return all("@sha256:" in container["image"] for container in _containers(deployment))


_DEPLOYMENT: Final[tuple[Rule, ...]] = (
    ("the operator has no limit of SGX memory: it could land on any node", lambda d: _epc_mib(d) > 0),
    ("two operators fit into one node's SGX memory", lambda d: NODE_EPC_MIB < 2 * _epc_mib(d) <= 2 * NODE_EPC_MIB),
    (f"nodes other than {NODE_SIZE} are allowed", _only_that_size),
    ("two operators may share a node", _apart),
    ("core_api_token or optout_api_token does not come from a Secret", _tokens_from_secret),
    ("variables other than the tokens are set", _nothing_else),
    (
        "a surge pod is allowed: it would wait for ever",
        lambda d: d["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0,
    ),
    ("fewer than two replicas", lambda d: d["spec"]["replicas"] >= 2),
    ("an image is not named by digest", _by_digest),
    ("a container is privileged or may become so", _plain_pod),
    ("a folder of the host is mounted", _only_aesm_of_host),
    (f"the ports are not exactly {SERVICE_PORT} and {OPS_PORT}", _ports),
    ("a probe is missing or not on the ops port", _probes),
    ("the start-up probe gives up before ten minutes", _patient_start),
    ("no drain before the stop, or no time for it", _drains),
    ("the pod gets a service account token", lambda d: _pod(d)["automountServiceAccountToken"] is False),
)
_SERVICE: Final[tuple[Rule, ...]] = (
    (
        "the Service shows another port than the API's",
        lambda s: [p["targetPort"] for p in s["spec"]["ports"]] == ["http"],
    ),
    (
        "a LoadBalancer without address ranges",
        lambda s: s["spec"]["type"] == "ClusterIP" or bool(s["spec"]["loadBalancerSourceRanges"]),
    ),
)
_BUDGET: Final[tuple[Rule, ...]] = (
    ("more than one operator may be evicted at a time", lambda b: b["spec"]["maxUnavailable"] == 1),
)
_NETWORK: Final[tuple[Rule, ...]] = (
    (
        "the NetworkPolicy does not govern both directions",
        lambda n: (
            set(n["spec"]["policyTypes"]) == {"Ingress", "Egress"} and bool(n["spec"]["podSelector"]["matchLabels"])
        ),
    ),
    ("the NetworkPolicy lets anyone in", lambda n: all(rule.get("from") for rule in n["spec"]["ingress"])),
    (
        "the NetworkPolicy lets traffic out to any port",
        lambda n: all(rule.get("ports") for rule in n["spec"]["egress"]),
    ),
)
