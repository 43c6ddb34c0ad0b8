"""Manifests: the committed files, the schemas of Kubernetes, and every rule of the package (enclave chapter, 7.5)."""

import copy
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import msgspec
import pytest
import yaml
from typer.testing import CliRunner

from uid2.cli.main import app
from uid2.packaging.aks_policy import violations
from uid2.packaging.aks_render import render_manifests
from uid2.packaging.aks_values import AksValues, checked_values, read_values
from uid2.protocol.errors import ConfigurationError

AZURE = Path(__file__).parents[3] / "scripts" / "azure"
COMMITTED = {
    "uid2-operator-aks.yml": ["aks/values.yml"],
    "aks/quote-helper.yml": ["aks/values-quote-helper.yml"],
    "aks/newer-sgx.yml": ["aks/values-newer-sgx.yml"],
    "aks/autoscaler.yml": ["aks/values.yml", "--part", "autoscaler"],
    "aks/admission-policy.yml": ["aks/values.yml", "--part", "admission-policy"],
}
IMAGE = "registry.example/operator@sha256:" + "0" * 64
VALUES = AksValues(image=IMAGE)


def newest_versions() -> list[str]:
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    versions = {tuple(map(int, path.name.removeprefix("v").split(".")[:2])) for path in folder.glob("v1.*")}
    return [f"{major}.{minor}" for major, minor in sorted(versions)[-3:]]


def rendered(**changes: Any) -> list[dict[str, Any]]:
    return copy.deepcopy(render_manifests(checked_values(msgspec.structs.replace(VALUES, **changes))))


def of_kind(manifests: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(manifest for manifest in manifests if manifest["kind"] == kind)


def pod(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]
    return spec


def container(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    first: dict[str, Any] = pod(manifests)["containers"][0]
    return first


@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_files_are_what_the_command_prints(name: str) -> None:
    values, *options = COMMITTED[name]
    result = CliRunner().invoke(app, ["aks", "render", "--values", str(AZURE / values), *options])
    assert result.exit_code == 0
    assert result.output == (AZURE / name).read_text()


@pytest.mark.parametrize("version", newest_versions())
@pytest.mark.parametrize("name", COMMITTED)
def test_the_schemas_of_kubernetes_accept_every_manifest(name: str, version: str) -> None:
    documents = list(yaml.safe_load_all((AZURE / name).read_text()))
    assert documents
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)


def test_the_schemas_notice_a_wrong_manifest() -> None:
    deployment = of_kind(rendered(), "Deployment")
    deployment["spec"]["surge"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, newest_versions()[-1], strict=True)


def test_three_versions_are_checked_and_ours_is_not_newer() -> None:
    versions = newest_versions()
    assert len(versions) == 3
    assert (AZURE / "aks" / "kubernetes-version").read_text().strip() in versions


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"quoting": "quote-helper"},
        {"sgx_resources": "intel"},
        {"service_type": "LoadBalancer", "ingress_cidrs": ("10.1.0.0/16",)},
        {"pull_secrets": ("uid2acr",)},
    ],
)
def test_what_is_rendered_breaks_no_rule(changes: dict[str, Any]) -> None:
    assert violations(rendered(**changes)) == ()


def test_the_quote_helper_needs_no_metadata_service_but_its_socket() -> None:
    helper, plain = rendered(quoting="quote-helper"), rendered()
    assert "169.254.169.254" not in str(of_kind(helper, "NetworkPolicy"))
    assert "169.254.169.254/32" in str(of_kind(plain, "NetworkPolicy"))
    assert {"name": "SGX_AESM_ADDR", "value": "1"} in container(helper)["env"]
    assert container(helper)["volumeMounts"] == [{"name": "aesmd", "mountPath": "/var/run/aesmd"}]
    assert "volumes" not in pod(plain)


Change = Callable[[list[dict[str, Any]]], Any]
BREAKS: list[tuple[str, Change]] = [
    (
        "no limit of SGX memory",
        lambda m: container(m)["resources"]["limits"].pop("kubernetes.azure.com/sgx_epc_mem_in_MiB"),
    ),
    (
        "two operators fit",
        lambda m: container(m)["resources"]["limits"].update({"kubernetes.azure.com/sgx_epc_mem_in_MiB": 84}),
    ),
    ("nodes other than", lambda m: pod(m)["affinity"].pop("nodeAffinity")),
    (
        "nodes other than",
        lambda m: pod(m)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
            "nodeSelectorTerms"
        ][0]["matchExpressions"][0]["values"].append("Standard_DC4_v2"),
    ),
    ("may share a node", lambda m: pod(m)["affinity"].pop("podAntiAffinity")),
    ("does not come from a Secret", lambda m: container(m)["env"].pop(0)),
    (
        "does not come from a Secret",
        lambda m: container(m)["env"].__setitem__(1, {"name": "optout_api_token", "value": "x"}),
    ),
    ("variables other", lambda m: container(m)["env"].append({"name": "LD_PRELOAD", "value": "x"})),
    ("surge pod", lambda m: of_kind(m, "Deployment")["spec"]["strategy"]["rollingUpdate"].update(maxSurge=1)),
    ("two replicas", lambda m: of_kind(m, "Deployment")["spec"].update(replicas=1)),
    ("by digest", lambda m: container(m).update(image="registry.example/operator:latest")),
    ("privileged", lambda m: container(m)["securityContext"].update(privileged=True)),
    ("privileged", lambda m: container(m)["securityContext"].pop("allowPrivilegeEscalation")),
    ("privileged", lambda m: pod(m).update(hostNetwork=True)),
    ("folder of the host", lambda m: pod(m).update(volumes=[{"name": "x", "hostPath": {"path": "/"}}])),
    ("ports are not exactly", lambda m: container(m)["ports"].append({"name": "x", "containerPort": 9091})),
    ("a probe is missing", lambda m: container(m).pop("readinessProbe")),
    ("a probe is missing", lambda m: container(m)["livenessProbe"]["httpGet"].update(port="http")),
    ("ten minutes", lambda m: container(m)["startupProbe"].update(failureThreshold=3)),
    ("no drain", lambda m: container(m).pop("lifecycle")),
    ("no drain", lambda m: pod(m).update(terminationGracePeriodSeconds=10)),
    ("service account token", lambda m: pod(m).update(automountServiceAccountToken=True)),
    ("another port", lambda m: of_kind(m, "Service")["spec"]["ports"].append({"port": 9080, "targetPort": "ops"})),
    ("without address ranges", lambda m: of_kind(m, "Service")["spec"].update(type="LoadBalancer")),
    ("evicted", lambda m: of_kind(m, "PodDisruptionBudget")["spec"].update(maxUnavailable=2)),
    ("both directions", lambda m: of_kind(m, "NetworkPolicy")["spec"].update(policyTypes=["Ingress"])),
    ("lets anyone in", lambda m: of_kind(m, "NetworkPolicy")["spec"]["ingress"][0].pop("from")),
    ("to any port", lambda m: of_kind(m, "NetworkPolicy")["spec"]["egress"][0].pop("ports")),
    ("no NetworkPolicy", lambda m: m.remove(of_kind(m, "NetworkPolicy"))),
    ("no PodDisruptionBudget", lambda m: m.remove(of_kind(m, "PodDisruptionBudget"))),
    ("plain text", lambda m: m.append({"kind": "Secret"})),
]


@pytest.mark.parametrize(("rule", "change"), BREAKS, ids=lambda value: value if isinstance(value, str) else "")
def test_each_broken_rule_is_named(rule: str, change: Change) -> None:
    manifests = rendered()
    change(manifests)
    found = violations(manifests)
    assert any(rule in text for text in found), found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image", "registry.example/operator:latest"),
        ("image", "registry.example/operator"),
        ("replicas", 1),
        ("most_replicas", 1),
        ("epc_mib", 84),
        ("epc_mib", 169),
        ("memory_limit", "32Gi"),
        ("memory_request", "29Gi"),
        ("cpu", "8"),
        ("name", "Operator"),
        ("ingress_cidrs", ("anywhere",)),
        ("drain_seconds", 0),
    ],
)
def test_values_that_break_a_rule_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}:"):
        checked_values(msgspec.structs.replace(VALUES, **{name: value}))


@pytest.mark.parametrize(
    "text", ["", "[]", "image: [", "image: 1", f"image: {IMAGE}\nprivileged: true", f"image: {IMAGE}\nquoting: maybe"]
)
def test_a_wrong_values_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "values.yml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"values\.yml"):
        read_values(tmp_path / "values.yml")


def test_admission_rules_cover_the_rules_of_the_package() -> None:
    policy = yaml.safe_load_all((AZURE / "aks" / "admission-policy.yml").read_text())
    messages = " ".join(rule["message"] for rule in next(iter(policy))["spec"]["validations"])
    for rule in (
        "SGX memory",
        "Standard_DC8_v2",
        "one operator on a node",
        "maxSurge",
        "digest",
        "privileged",
        "Secret",
    ):
        assert rule in messages


def deploy(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(
        [AZURE / "deploy-aks.sh", *arguments], env=environment, capture_output=True, text=True, check=False
    )


NAMES = ("--group", "g", "--cluster", "c", "--region", "r")


def test_the_deployment_script_shows_its_commands() -> None:
    result = deploy(*NAMES, "--dry-run", core_api_token="canary", optout_api_token="canary")
    assert result.returncode == 0, result.stderr
    assert "canary" not in result.stdout + result.stderr
    assert "--node-vm-size Standard_DC8_v2" in result.stdout
    assert f"--kubernetes-version {(AZURE / 'aks' / 'kubernetes-version').read_text().strip()}" in result.stdout
    assert "--enable-sgxquotehelper" not in result.stdout
    assert "--enable-sgxquotehelper" in deploy(*NAMES, "--dry-run", "--quote-helper").stdout
    assert all(line.startswith("+ ") for line in result.stdout.splitlines())


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        ((), {}),
        ((*NAMES, "--fast"), {}),
        ((*NAMES, "--nodes"), {}),
        ((*NAMES, "--nodes", "1", "--dry-run"), {}),
        ((*NAMES, "--values", "missing.yml", "--dry-run"), {}),
        (NAMES, {"core_api_token": "", "optout_api_token": "t"}),
        ((*NAMES, "--dry-run"), {"core_api_token": "x" * 513}),
        ((*NAMES, "--dry-run"), {"core_api_token": "tökén"}),
        ((*NAMES, "--dry-run"), {"core_api_token": "a", "optout_api_token": "b"}),
    ],
)
def test_the_deployment_script_refuses_bad_input(arguments: tuple[str, ...], variables: dict[str, str]) -> None:
    result = deploy(*arguments, **variables)
    assert result.returncode == 2
    assert "error: " in result.stderr
    assert "next step: " in result.stderr
