"""Which TEE this process runs in, found by asking it (enclave chapter, 4.1)."""

import stat
from pathlib import Path

from uid2.attestation.tee import gramine, occlum
from uid2.attestation.tee.gramine import GramineQuoteSource
from uid2.attestation.tee.occlum import OcclumQuoteSource
from uid2.attestation.tee.sources import QuoteSource, QuoteUnavailableError


def find_quote_source(device: Path = occlum.DEVICE, folder: Path = gramine.FOLDER) -> QuoteSource:
    """Occlum's device if it answers, else Gramine's files. Raises QuoteUnavailableError: no TEE."""
    if _is_character_device(device):
        source = OcclumQuoteSource(device)
        source.quote_size()
        return source
    if (folder / "attestation_type").exists():
        files = GramineQuoteSource(folder)
        if (kind := files.attestation_type()) != gramine.DCAP:
            raise QuoteUnavailableError(
                f"Gramine offers attestation of type {kind!r}",
                next_step='set sgx.remote_attestation = "dcap" in the Gramine manifest',
            )
        return files
    raise QuoteUnavailableError(
        f"no TEE here: neither {device} nor {folder} exists",
        next_step="start the operator inside its enclave (`occlum run /bin/launcher`), or try it with `uid2 up`",
    )


def _is_character_device(path: Path) -> bool:
    try:
        return stat.S_ISCHR(path.stat().st_mode)
    except OSError:
        return False


def inside_libos(device: Path = occlum.DEVICE, folder: Path = gramine.FOLDER) -> bool:
    """Whether a LibOS is below, where processes share no memory and cost an enclave each."""
    return _is_character_device(device) or (folder / "attestation_type").exists()
