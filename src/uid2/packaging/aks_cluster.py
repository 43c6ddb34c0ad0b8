"""Manifests beside the deployment: scaling by load, and admission rules that the cluster itself enforces."""

from typing import Final

from uid2.packaging.aks_render import AZURE_EPC, INTEL_EPC, Manifest
from uid2.packaging.aks_values import NODE_SIZE, AksValues

_POLICY: Final = "uid2-operator-rules"


def render_autoscaler(values: AksValues) -> list[Manifest]:
    """More pods under load; each waits for a node of its own, which the cluster autoscaler then adds."""
    return [
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": values.name, "namespace": values.namespace},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": values.name},
                "minReplicas": values.replicas,
                "maxReplicas": values.most_replicas,
                "metrics": [
                    {
                        "type": "Resource",
                        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
                    }
                ],
                "behavior": {
                    # A node and an enclave take minutes to start: one at a time, and not away again at once.
                    "scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 300}]},
                    "scaleDown": {
                        "stabilizationWindowSeconds": 3600,
                        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 900}],
                    },
                },
            },
        }
    ]


def render_admission(values: AksValues) -> list[Manifest]:
    """A ValidatingAdmissionPolicy over the namespace's Deployments, and its binding."""
    operator = "object.spec.template.spec.containers[0]"
    rules = (
        (
            f"['{AZURE_EPC}', '{INTEL_EPC}'].exists(n, n in {operator}.?resources.?limits.orValue({{}}))",
            "an operator needs a limit of SGX memory",
        ),
        (
            "object.spec.template.spec.?affinity.?nodeAffinity.?requiredDuringSchedulingIgnoredDuringExecution"
            ".?nodeSelectorTerms.orValue([]).exists(t, true)"
            " && object.spec.template.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
            ".nodeSelectorTerms.all(t, has(t.matchExpressions) && t.matchExpressions.exists(e,"
            f" e.key == 'node.kubernetes.io/instance-type' && e.operator == 'In' && e.values == ['{NODE_SIZE}']))",
            f"an operator runs on {NODE_SIZE} only",
        ),
        (
            "object.spec.template.spec.?affinity.?podAntiAffinity.?requiredDuringSchedulingIgnoredDuringExecution"
            ".orValue([]).exists(t, t.topologyKey == 'kubernetes.io/hostname')",
            "one operator on a node",
        ),
        (
            "has(object.spec.strategy.rollingUpdate) && object.spec.strategy.rollingUpdate.maxSurge == 0",
            "maxSurge is 0: a surge pod would wait for ever",
        ),
        (
            "object.spec.template.spec.containers.all(c, c.image.contains('@sha256:'))",
            "images are named by digest",
        ),
        (
            "object.spec.template.spec.containers.all(c, has(c.securityContext)"
            " && !c.securityContext.?privileged.orValue(false)"
            " && !c.securityContext.?allowPrivilegeEscalation.orValue(true))",
            "no privileged container",
        ),
        (
            f"{operator}.?env.orValue([]).all(v, !v.name.endsWith('_api_token') || has(v.valueFrom))",
            "tokens come from a Secret",
        ),
    )
    labels = {"matchLabels": {"kubernetes.io/metadata.name": values.namespace}}
    return [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": _POLICY},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {
                    "resourceRules": [
                        {
                            "apiGroups": ["apps"],
                            "apiVersions": ["v1"],
                            "operations": ["CREATE", "UPDATE"],
                            "resources": ["deployments"],
                        }
                    ]
                },
                "validations": [{"expression": expression, "message": message} for expression, message in rules],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": _POLICY},
            "spec": {
                "policyName": _POLICY,
                "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": labels},
            },
        },
    ]
