"""Enclaves allowed to attest (core chapter, 9.8), strict."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from uid2.protocol.ids import EpochSeconds
from uid2.protocol.store_json import RecordReader, read_records, write_records


@dataclass(frozen=True, slots=True)
class Enclave:
    """Equal to another of the same protocol and identifier. The identifier is kept verbatim."""

    name: str = field(compare=False)
    protocol: str
    identifier: str
    created: EpochSeconds = field(compare=False)


def parse_enclaves(data: bytes) -> tuple[Enclave, ...]:
    return read_records(data, _enclave)


def encode_enclaves(enclaves: Iterable[Enclave]) -> bytes:
    return write_records(
        {
            "name": enclave.name,
            "protocol": enclave.protocol,
            "identifier": enclave.identifier,
            "created": enclave.created,
        }
        for enclave in enclaves
    )


def _enclave(record: RecordReader) -> Enclave:
    return Enclave(
        name=record.text("name"),
        protocol=record.text("protocol"),
        identifier=record.text("identifier"),
        created=EpochSeconds(record.long("created")),
    )
