"""Kubernetes manifests of the operator on AKS (enclave chapter, 7.2 to 7.6). The only source of the committed files."""

from typing import Any, Final

import yaml

from uid2.packaging.aks_values import NODE_SIZE, AksValues

SERVICE_PORT: Final = 8080
OPS_PORT: Final = 9080
AZURE_EPC: Final = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
INTEL_EPC: Final = "sgx.intel.com/epc"
AESM_FOLDER: Final = "/var/run/aesmd"
TOKENS: Final = ("core_api_token", "optout_api_token")
_METADATA_ADDRESS: Final = "169.254.169.254/32"
_PRIVATE: Final = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16")
_LAST_SECONDS: Final = 40

Manifest = dict[str, Any]


def render_manifests(values: AksValues) -> list[Manifest]:
    """Everything but the Secret: applying a placeholder would overwrite the tokens that run."""
    return [
        _namespace(values),
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": _metadata(values),
            "automountServiceAccountToken": False,
        },
        _deployment(values),
        _service(values),
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": _metadata(values),
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": _labels(values)}},
        },
        _network_policy(values),
    ]


def render_text(manifests: list[Manifest], headline: str) -> str:
    """YAML documents under comment lines; the same text for the same manifests."""
    comment = "".join(f"# {line}\n" for line in headline.splitlines())
    documents = (yaml.dump(manifest, Dumper=_PlainDumper, sort_keys=False, width=110) for manifest in manifests)
    return comment + "---\n".join(documents)


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the library's signature
        return True


def _labels(values: AksValues) -> dict[str, str]:
    return {"app": values.name}


def _metadata(values: AksValues) -> dict[str, Any]:
    return {"name": values.name, "namespace": values.namespace, "labels": _labels(values)}


def _namespace(values: AksValues) -> Manifest:
    # The quote helper's socket is a host path, which the stricter level forbids.
    level = "privileged" if values.quoting == "quote-helper" else "baseline"
    labels = {"pod-security.kubernetes.io/enforce": level, "pod-security.kubernetes.io/warn": "baseline"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": values.namespace, "labels": labels}}


def _deployment(values: AksValues) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(values),
        "spec": {
            "replicas": values.replicas,
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": 1800,
            # A surge pod would wait for ever: every suitable node has its operator.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "selector": {"matchLabels": _labels(values)},
            "template": {"metadata": {"labels": _labels(values)}, "spec": _pod(values)},
        },
    }


def _pod(values: AksValues) -> Manifest:
    pod: Manifest = {
        "serviceAccountName": values.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": values.drain_seconds + _LAST_SECONDS,
        "affinity": {"nodeAffinity": _on_sgx_nodes(), "podAntiAffinity": _one_a_node(values)},
        "tolerations": [
            {"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in (AZURE_EPC, INTEL_EPC, "uid2.com/sgx")
        ],
        "containers": [_container(values)],
    }
    if values.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in values.pull_secrets]
    if values.quoting == "quote-helper":
        pod["volumes"] = [{"name": "aesmd", "hostPath": {"path": AESM_FOLDER, "type": "Directory"}}]
    return pod


def _on_sgx_nodes() -> Manifest:
    size = {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": [NODE_SIZE]}
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [size]}]}}


def _one_a_node(values: AksValues) -> Manifest:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": _labels(values)}}
    return {"requiredDuringSchedulingIgnoredDuringExecution": [term]}


def _container(values: AksValues) -> Manifest:
    epc = {AZURE_EPC: values.epc_mib} if values.sgx_resources == "azure" else {INTEL_EPC: f"{values.epc_mib}Mi"}
    container: Manifest = {
        "name": values.name,
        "image": values.image,
        "imagePullPolicy": "IfNotPresent",
        # Named here because an imported image has no entry point.
        "command": ["/bin/bash", "/root/run.sh"],
        "args": ["occlum", "run", "/bin/launcher"],
        "env": _environment(values),
        "ports": [
            {"name": "http", "containerPort": SERVICE_PORT, "protocol": "TCP"},
            {"name": "ops", "containerPort": OPS_PORT, "protocol": "TCP"},
        ],
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/bash", "-c", _drain_command(values)]}}},
        # Twenty minutes: adding and hashing the enclave's pages, and the first load.
        "startupProbe": _probe("/ops/live", period=10, failures=120),
        "readinessProbe": _probe("/ops/ready", period=10, failures=2),
        "livenessProbe": _probe("/ops/live", period=30, failures=5),
        "resources": {
            "requests": {"cpu": values.cpu, "memory": values.memory_request, **epc},
            "limits": {"memory": values.memory_limit, **epc},
        },
        "securityContext": {
            "privileged": False,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if values.quoting == "quote-helper":
        container["volumeMounts"] = [{"name": "aesmd", "mountPath": AESM_FOLDER}]
    return container


def _environment(values: AksValues) -> list[Manifest]:
    keys = zip(TOKENS, (values.core_token_key, values.optout_token_key), strict=True)
    environment: list[Manifest] = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": values.secret_name, "key": key}}} for name, key in keys
    ]
    if values.quoting == "quote-helper":
        environment.append({"name": "SGX_AESM_ADDR", "value": "1"})
    return environment


def _drain_command(values: AksValues) -> str:
    """The host's SIGTERM never reaches an enclave: the drain is asked for over the loopback interface."""
    request = r"POST /ops/drain HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    return f"exec 3<>/dev/tcp/127.0.0.1/{OPS_PORT}; printf '{request}' >&3; sleep {values.drain_seconds}"


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "ops"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _service(values: AksValues) -> Manifest:
    spec: Manifest = {
        "type": values.service_type,
        "selector": _labels(values),
        "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
    }
    if values.service_type == "LoadBalancer":
        spec |= {"externalTrafficPolicy": "Local", "loadBalancerSourceRanges": list(values.ingress_cidrs)}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(values), "spec": spec}


def _network_policy(values: AksValues) -> Manifest:
    callers = [{"namespaceSelector": {"matchLabels": {"uid2.com/ingress": "true"}}}]
    callers += [{"ipBlock": {"cidr": cidr}} for cidr in values.ingress_cidrs]  # type: ignore[dict-item]  # other shape
    monitors = [{"namespaceSelector": {"matchLabels": {"uid2.com/monitoring": "true"}}}]
    names = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}]
    egress: list[Manifest] = [
        {"to": names, "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
        {
            "to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": list(_PRIVATE)}}],
            "ports": [{"port": 443, "protocol": "TCP"}],
        },
    ]
    if values.quoting == "in-process":
        # The quote provider library asks the machine's metadata service where its certificates are.
        egress.append({"to": [{"ipBlock": {"cidr": _METADATA_ADDRESS}}], "ports": [{"port": 80, "protocol": "TCP"}]})
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(values),
        "spec": {
            "podSelector": {"matchLabels": _labels(values)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {"from": callers, "ports": [{"port": SERVICE_PORT, "protocol": "TCP"}]},
                {"from": monitors, "ports": [{"port": OPS_PORT, "protocol": "TCP"}]},
            ],
            "egress": egress,
        },
    }
