"""The values of an AKS deployment, and what each may be (enclave chapter, section 7)."""

import re
from pathlib import Path
from typing import Final, Literal

import msgspec
import yaml

from uid2.protocol.errors import ConfigurationError

NODE_SIZE: Final = "Standard_DC8_v2"
NODE_EPC_MIB: Final = 168
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_IMAGE: Final = re.compile(r"[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)+@sha256:[0-9a-f]{64}")
_SECRET_KEY: Final = re.compile(r"[A-Za-z0-9._-]{1,253}")
_QUANTITY: Final = re.compile(r"([1-9][0-9]*)Gi")
_NODE_MEMORY_GIB: Final = 32
_CIDR: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}")


class AksValues(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`image` is named by digest. `sgx_resources`: `azure` for the older device plugin, `intel` for the newer."""

    image: str
    name: str = "uid2-operator"
    namespace: str = "uid2"
    replicas: int = 2
    most_replicas: int = 6
    quoting: Literal["in-process", "quote-helper"] = "in-process"
    sgx_resources: Literal["azure", "intel"] = "azure"
    epc_mib: int = 160
    cpu: str = "6"
    memory_request: str = "24Gi"
    memory_limit: str = "28Gi"
    secret_name: str = "uid2-operator-secret"  # noqa: S105 - the name of an object
    core_token_key: str = "OPERATOR_API_KEY"  # noqa: S105 - the name of a key in it
    optout_token_key: str = "OPERATOR_API_KEY"  # noqa: S105 - as above
    pull_secrets: tuple[str, ...] = ()
    service_type: Literal["ClusterIP", "LoadBalancer"] = "ClusterIP"
    ingress_cidrs: tuple[str, ...] = ()
    drain_seconds: int = 20


def read_values(path: Path) -> AksValues:
    """The values of a YAML file. ConfigurationError names the value and what it may be."""
    try:
        document = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", next_step="check the path") from None
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError, ValueError):
        raise ConfigurationError(f"{path} is not YAML", next_step="see scripts/azure/aks/values.yml") from None
    try:
        values = msgspec.convert(document, AksValues)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{path}: {error}", next_step="see scripts/azure/aks/values.yml") from None
    return checked_values(values)


def checked_values(values: AksValues) -> AksValues:
    """The values, if a deployment of them keeps the rules of the package. ConfigurationError."""
    for name, good, rule in _rules(values):
        if not good:
            raise ConfigurationError(f"{name}: {rule}", next_step=f"correct {name} in the values file")
    return values


def _rules(values: AksValues) -> tuple[tuple[str, bool, str], ...]:
    request, limit = (_gib(text) for text in (values.memory_request, values.memory_limit))
    return (
        ("image", bool(_IMAGE.fullmatch(values.image)), "name it by digest (registry/name@sha256:…): tags move"),
        ("name", bool(_NAME.fullmatch(values.name)), "lower-case letters, digits and dashes"),
        ("namespace", bool(_NAME.fullmatch(values.namespace)), "lower-case letters, digits and dashes"),
        ("replicas", values.replicas >= 2, "at least 2: one restart must not be an outage"),
        ("most_replicas", values.most_replicas >= values.replicas, "no fewer than replicas"),
        (
            "epc_mib",
            NODE_EPC_MIB < 2 * values.epc_mib <= 2 * NODE_EPC_MIB,
            f"more than half of a node's {NODE_EPC_MIB} MiB and no more than all: one operator a node",
        ),
        ("cpu", values.cpu in {"4", "5", "6", "7"}, 'a text "4" to "7": a node has 8'),
        ("memory_request", 0 < request <= limit, "a number of Gi, no more than memory_limit"),
        ("memory_limit", 0 < limit < _NODE_MEMORY_GIB, f"a number of Gi below the node's {_NODE_MEMORY_GIB}Gi"),
        ("secret_name", bool(_NAME.fullmatch(values.secret_name)), "lower-case letters, digits and dashes"),
        ("core_token_key", bool(_SECRET_KEY.fullmatch(values.core_token_key)), "letters, digits, dots, dashes"),
        ("optout_token_key", bool(_SECRET_KEY.fullmatch(values.optout_token_key)), "letters, digits, dots, dashes"),
        ("pull_secrets", all(_NAME.fullmatch(name) for name in values.pull_secrets), "names of secrets"),
        (
            "ingress_cidrs",
            all(_CIDR.fullmatch(cidr) for cidr in values.ingress_cidrs),
            "address ranges such as 10.1.0.0/16",
        ),
        (
            "ingress_cidrs",
            values.service_type == "ClusterIP" or bool(values.ingress_cidrs),
            "a LoadBalancer needs the address ranges that may call it",
        ),
        ("drain_seconds", 5 <= values.drain_seconds <= 120, "5 to 120"),
    )


def _gib(text: str) -> int:
    match = _QUANTITY.fullmatch(text)
    return int(match[1]) if match else 0
