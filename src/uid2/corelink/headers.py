"""Who calls Core and the opt-out service, in headers (core chapter, 4.1 and 7.4)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from uid2.protocol.errors import ConfigurationError
from uid2.protocol.secret import Secret
from uid2.service.clock import Entropy

# The two parts that Core names in its audit line; here they have the version of the whole.
COMPONENTS: Final = ("uid2-shared", "uid2-attestation-api")


@dataclass(frozen=True, slots=True)
class CallerIdentity:
    """`application` is the program's name in Core's log, `version` its own; `instance_id` is fixed for a process."""

    operator_key: Secret
    application: str
    version: str
    instance_id: str
    operator_type: str = "public"
    components: Mapping[str, str] = field(default_factory=dict)

    def headers(self, entropy: Entropy) -> dict[str, str]:
        """The headers of every request; the trace id is new each time."""
        parts = [f"{self.application}={self.version}", *(f"{name}={value}" for name, value in self.components.items())]
        return {
            "Authorization": f"Bearer {self.operator_key.reveal().decode()}",
            "X-UID2-AppVersion": ";".join(parts),
            "UID-Instance-Id": self.instance_id,
            "UID-Trace-Id": str(UUID(bytes=entropy.bytes(16), version=4)),
        }


def caller_identity(
    operator_key: Secret | None, application: str, version: str, instance_id: str, operator_type: str
) -> CallerIdentity:
    """ConfigurationError: no operator key, or one that no header may hold; an unknown operator type."""
    if operator_key is None:
        raise ConfigurationError(
            "core_attest_url is set and core_api_token is not",
            next_step="set core_api_token to the operator key, in the file or the environment",
        )
    key = operator_key.reveal()
    if not key or any(byte <= 0x20 or byte >= 0x7F for byte in key):
        raise ConfigurationError(
            "core_api_token must be printable ASCII without spaces", next_step="copy the operator key again"
        )
    if operator_type not in ("", "public", "private"):
        raise ConfigurationError(
            "configuration key operator_type must be public or private", next_step="correct operator_type"
        )
    shown = "".join(c if c.isascii() and c.isprintable() and c not in " ;=" else "_" for c in version) or "unknown"
    return CallerIdentity(
        operator_key, application, shown, instance_id, operator_type, dict.fromkeys(COMPONENTS, shown)
    )


def new_instance_id(prefix: str, entropy: Entropy) -> str:
    """`<prefix>-<random 64-bit hex>`, one per process start."""
    return f"{prefix}-{entropy.bytes(8).hex()}"
