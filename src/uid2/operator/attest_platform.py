"""Where evidence comes from: `enclave_platform` (core chapter, section 5)."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from uid2.operator.settings import OperatorSettings
from uid2.protocol.errors import ConfigurationError

if TYPE_CHECKING:
    from uid2.attestation.tee.sources import QuoteSource

AZURE_SGX: Final = "azure-sgx"

# Makes the source of a simulated TEE from the path of its socket; programs that may not simulate have none.
QuoteSourceOf = Callable[[str], "QuoteSource"]


def quote_source_for(settings: OperatorSettings, simulated: QuoteSourceOf | None = None) -> "QuoteSource | None":
    """The source of quotes; None for the protocol `trusted`, which has no evidence.

    ConfigurationError: a platform that is not served, or a simulated TEE where none may be.
    QuoteUnavailableError: no TEE on this machine.
    """
    platform, socket = settings.enclave_platform or "", settings.dangerous_simulated_tee
    if platform not in ("", AZURE_SGX):
        raise ConfigurationError(
            f"enclave_platform is providing the wrong value: {platform}",
            next_step=f"set enclave_platform to {AZURE_SGX}, or leave it empty for a trusted operator key",
        )
    if socket is not None:
        if settings.environment != "development" or simulated is None:
            raise ConfigurationError(
                "dangerous_simulated_tee is for development only",
                next_step='remove dangerous_simulated_tee, or set environment to "development" and use `uid2`',
            )
        if platform != AZURE_SGX:
            raise ConfigurationError(
                "dangerous_simulated_tee has no effect without enclave_platform",
                next_step=f"set enclave_platform to {AZURE_SGX}",
            )
        return simulated(socket)
    if platform == "":
        return None
    from uid2.attestation.tee.probe import find_quote_source

    return find_quote_source()
