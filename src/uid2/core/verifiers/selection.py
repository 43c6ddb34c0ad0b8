"""The verifiers of this Core, made from its settings (design, 11.3, 11.9)."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol

from uid2.attestation.collateral import CollateralSource
from uid2.attestation.collateral_cache import CachedCollateral
from uid2.attestation.collateral_files import OfflineCollateral
from uid2.attestation.collateral_pcs import PcsCollateral
from uid2.attestation.policy import TcbPolicy, parse_policy
from uid2.attestation.roots import INTEL_ROOT, TrustRoot, test_root
from uid2.core.settings import CoreSettings
from uid2.core.verifiers.azure_sgx import AZURE_SGX, AzureSgxVerifier
from uid2.core.verifiers.fetching import HttpFetch
from uid2.core.verifiers.interface import Verifiers
from uid2.core.verifiers.trusted import TRUSTED, TrustedVerifier
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.json_text import parse_object


class RegisteredEnclaves(Protocol):
    def registered(self, protocol: str) -> Collection[str]: ...


def attestation_verifiers(settings: CoreSettings, enclaves: RegisteredEnclaves) -> Verifiers:
    """The verifier of every protocol that this Core serves; ConfigurationError names the key that is wrong."""
    azure_sgx = AzureSgxVerifier(
        collateral=CachedCollateral(_collateral(settings)),
        root=trust_root(settings.dangerous_attestation_root),
        policy=tcb_policy(settings.attestation_policy),
        registered=lambda: enclaves.registered(AZURE_SGX),
        minimum_svn=settings.attestation_min_svn,
        simulated_allowed=settings.simulated_enclaves_allowed,
        minimum_report_data_version=settings.attestation_min_report_data_version,
    )
    return {TRUSTED: TrustedVerifier(), AZURE_SGX: azure_sgx}


def trust_root(file: Path | None) -> TrustRoot:
    """Intel's root, or the one of `dangerous_attestation_root` (the settings allow it in development only)."""
    if file is None:
        return INTEL_ROOT
    return test_root(_contents(file, "dangerous_attestation_root"))


def tcb_policy(value: Any) -> TcbPolicy:
    """The policy of `attestation_policy`: an object, the path of a file with one, or nothing for the built-in one."""
    if isinstance(value, str):
        try:
            value = parse_object(_contents(Path(value), "attestation_policy"))
        except ValueError:
            raise ConfigurationError(
                f"attestation_policy: {value} does not hold one JSON object", next_step="check its syntax"
            ) from None
    return parse_policy({} if value is None else value)


def _contents(file: Path, key: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{key}: {file} cannot be read: {error.strerror}", next_step="check the path and its rights"
        ) from None


def _collateral(settings: CoreSettings) -> CollateralSource:
    folder = settings.attestation_collateral_dir
    if folder is not None:
        return OfflineCollateral(lambda name: (folder / name).read_bytes())
    return PcsCollateral(settings.attestation_collateral_url, HttpFetch(https_only=settings.guarded))
