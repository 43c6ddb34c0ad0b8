"""What a quote is verified against on the command line: root, collateral and policy; taken from a stack if wanted."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from uid2.cli.quote_evidence import EvidenceError
from uid2.protocol.errors import ConfigurationError, DependencyError
from uid2.protocol.ids import EpochSeconds
from uid2.protocol.json_text import parse_object

if TYPE_CHECKING:
    from uid2.attestation.collateral import CollateralSource
    from uid2.attestation.policy import TcbPolicy
    from uid2.attestation.roots import TrustRoot
    from uid2.attestation.verify import VerifiedQuote


@dataclass(frozen=True, slots=True)
class Trust:
    root: "TrustRoot"
    collateral: "CollateralSource" = field(repr=False)
    policy: "TcbPolicy"


@dataclass(frozen=True, slots=True)
class StackAddresses:
    """Of the first operator of a running development stack; `socket` is that of its simulated TEE."""

    ops_url: str
    collateral_url: str
    root: Path
    record: Path
    socket: str


def stack_addresses(directory: Path) -> StackAddresses:
    """ConfigurationError: no stack runs from the folder."""
    from urllib.parse import urlsplit

    from uid2.devstack.ports import OPERATOR_OPS_PORTS, OPERATOR_PORT
    from uid2.devstack.state import read_running

    running = read_running(directory)
    core = directory / f"core-{running.identity_scope}"
    operator = directory / f"operator-{running.identity_scope}-0"
    parts = urlsplit(running.operators[0])
    port = (parts.port or 0) + OPERATOR_OPS_PORTS[0] - OPERATOR_PORT
    return StackAddresses(
        ops_url=f"{parts.scheme}://{parts.hostname}:{port}",
        collateral_url=_member(core / "config.json", "attestation_collateral_url"),
        root=core / "simulated_root.pem",
        record=operator / "identity.json",
        socket=_member(operator / "config.json", "dangerous_simulated_tee"),
    )


def trust_of(
    collateral_url: str | None, collateral_dir: Path | None, dangerous_root: Path | None, policy: Path | None
) -> Trust:
    """Intel's root and PCS unless told otherwise. ConfigurationError names the option that is wrong."""
    from uid2.attestation.collateral_files import OfflineCollateral
    from uid2.attestation.collateral_pcs import PcsCollateral
    from uid2.attestation.policy import parse_policy
    from uid2.attestation.roots import INTEL_ROOT, test_root
    from uid2.core.settings import INTEL_PCS
    from uid2.core.verifiers.fetching import HttpFetch

    if collateral_url is not None and collateral_dir is not None:
        raise ConfigurationError(
            "collateral comes from one place", next_step="give --collateral-url or --collateral-dir, not both"
        )
    if collateral_url is not None and dangerous_root is None and not collateral_url.startswith("https://"):
        # Signed it is, but whoever stands between could hold back news of a platform's weaknesses.
        raise ConfigurationError("--collateral-url is no https address", next_step="use https")
    collateral: CollateralSource
    if collateral_dir is not None:
        collateral = OfflineCollateral(lambda name: (collateral_dir / name).read_bytes())
    else:
        collateral = PcsCollateral(collateral_url or INTEL_PCS, HttpFetch(https_only=dangerous_root is None))
    try:
        chosen = parse_policy({} if policy is None else parse_object(_contents(policy, "--policy")))
    except ValueError:
        raise ConfigurationError(f"--policy: {policy} is not a JSON object", next_step="check its syntax") from None
    root = INTEL_ROOT if dangerous_root is None else test_root(_contents(dangerous_root, "--dangerous-root"))
    return Trust(root, collateral, chosen)


def verified_quote(quote: bytes, trust: Trust, now: EpochSeconds) -> "VerifiedQuote":
    """The facts of a quote. EvidenceError: refused, with the reason; DependencyError: no collateral to judge by."""
    from uid2.attestation.pck import platform_key
    from uid2.attestation.quote import parse_quote
    from uid2.attestation.reasons import AttestationError, AttestationReason, CollateralUnavailable
    from uid2.attestation.verify import check_root, verify_quote

    try:
        key = platform_key(parse_quote(quote))
        # Before anything is fetched for a platform that cannot pass.
        check_root(key.chain, trust.root)
        collateral = asyncio.run(trust.collateral.collateral_for(key.fmspc, key.authority, now))
        return verify_quote(quote, collateral, trust.root, trust.policy, now)
    except CollateralUnavailable as error:
        raise DependencyError(
            f"the quote cannot be judged: {error.message} ({error.reason})",
            next_step="name valid collateral with --collateral-url or --collateral-dir, and check this machine's clock",
        ) from None
    except AttestationError as error:
        next_step = f"docs/attestation.md, Reasons, says what to do about {error.reason}"
        if error.reason is AttestationReason.TEST_ROOT:
            next_step = "do not trust it; only in a test of your own give --state DIR or --dangerous-root FILE"
        raise EvidenceError(f"REFUSED: {error.message} ({error.reason})", next_step=next_step) from None


def _member(file: Path, name: str) -> str:
    try:
        value = parse_object(file.read_bytes()).get(name)
    except (OSError, ValueError):
        value = None
    if not isinstance(value, str):
        raise ConfigurationError(
            f"{file} has no {name}", next_step="start the stack again with `uid2 up`, or give the options one by one"
        )
    return value


def _contents(file: Path, option: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{option}: {file} cannot be read: {error.strerror}", next_step="check the path and its rights"
        ) from None
