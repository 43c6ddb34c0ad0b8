"""Which enclave a library is, and the record that a build leaves of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from uid2.packaging.enclave_elf import EnclaveElf, parse_enclave_elf
from uid2.packaging.measure import measure_enclave
from uid2.packaging.sigstruct import EnclaveFileError, Sigstruct, parse_sigstruct, verify_sigstruct
from uid2.packaging.synthetic import SIMULATED_PREFIX, is_synthetic

Measurement = Literal["sgx", "simulated"]
RECORD_FIELDS: Final = ("mr_enclave", "mr_signer", "product_id", "svn", "measurement")


@dataclass(frozen=True, slots=True)
class EnclaveIdentity:
    """Hex in lower case. `computed` is the measurement of the file's own content; `recomputed` says it was compared."""

    mr_enclave: str
    mr_signer: str
    product_id: int
    svn: int
    measurement: Measurement
    debug_refused: bool
    signed_on: str
    enclave_size: int
    thread_policy: int
    metadata_blocks: int
    computed: str

    @property
    def recomputed(self) -> bool:
        """Whether the content hashes to the signed MRENCLAVE; for real libraries the computation is experimental."""
        return self.computed == self.mr_enclave

    def lines(self) -> tuple[str, ...]:
        """The lines of `sgx_quote` that need no quote."""
        return (
            f"MRENCLAVE   = {self.mr_enclave.upper()}",
            f"MRSIGNER    = {self.mr_signer.upper()}",
            f"PRODUCT ID  = {self.product_id}",
            f"SEC VERSION = {self.svn}",
        )

    def record(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in RECORD_FIELDS}


def identity_of_library(data: bytes) -> EnclaveIdentity:
    """The identity a signed library claims, its signature verified. Raises EnclaveFileError.

    A synthetic library must also have the measurement that it claims.
    """
    elf = parse_enclave_elf(data)
    sigstruct = _agreed_sigstruct(elf)
    verify_sigstruct(sigstruct)
    assertion = sigstruct.assertion
    synthetic = is_synthetic(data)
    claimed = assertion.mr_enclave
    if synthetic:
        computed = SIMULATED_PREFIX + measure_enclave(elf)[len(SIMULATED_PREFIX) :]
        if computed != claimed:
            raise EnclaveFileError("the library's content is not the one that its signature is over")
    elif claimed.startswith(SIMULATED_PREFIX):
        raise EnclaveFileError("a simulated MRENCLAVE in a library that does not say it is synthetic")
    else:
        computed = _experimental(elf)
    return EnclaveIdentity(
        mr_enclave=claimed.hex(),
        mr_signer=sigstruct.mr_signer.hex(),
        product_id=assertion.product_id,
        svn=assertion.svn,
        measurement="simulated" if synthetic else "sgx",
        debug_refused=assertion.debug_refused,
        signed_on=f"{assertion.date[:4]}-{assertion.date[4:6]}-{assertion.date[6:]}",
        enclave_size=elf.metadata.enclave_size,
        thread_policy=elf.metadata.tcs_policy,
        metadata_blocks=len(elf.blocks),
        computed=computed.hex(),
    )


def mismatches(record: Mapping[str, Any], identity: EnclaveIdentity) -> tuple[str, ...]:
    """Where a record and a library name different enclaves. Raises EnclaveFileError when the record says too little."""
    found = []
    for name in RECORD_FIELDS:
        recorded, actual = record.get(name), getattr(identity, name)
        if recorded is None:
            raise EnclaveFileError(
                f"the identity record has no {name}", next_step="use the identity.json that a build wrote"
            )
        if isinstance(recorded, str) and name.startswith("mr_"):
            recorded = recorded.lower()
        if recorded != actual or type(recorded) is not type(actual):
            found.append(f"{name}: recorded {recorded}, here {actual}")
    return tuple(found)


def _experimental(elf: EnclaveElf) -> bytes:
    """The measurement of a real library, as far as it is understood; empty where its layout is not."""
    try:
        return measure_enclave(elf)
    except EnclaveFileError:
        return b""


def _agreed_sigstruct(elf: EnclaveElf) -> Sigstruct:
    """That of the newest block; older blocks must name the same signer, product and version."""
    newest = parse_sigstruct(elf.metadata.sigstruct)
    for block in elf.blocks:
        other = parse_sigstruct(block.sigstruct)
        verify_sigstruct(other)
        if (other.mr_signer, other.assertion.product_id, other.assertion.svn) != (
            newest.mr_signer,
            newest.assertion.product_id,
            newest.assertion.svn,
        ):
            raise EnclaveFileError("the library's metadata blocks name different enclaves")
    return newest
