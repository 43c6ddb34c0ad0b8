"""Partners that are told of opt-outs (core chapter, 9.14)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from uid2.protocol.store_json import RecordReader, check_unique, read_records, write_records

METHODS: Final = ("GET", "POST")


@dataclass(frozen=True, slots=True)
class Partner:
    """`query_params` are `name=value` with placeholders; `additional_headers`, `Name: value`, may hold secrets."""

    name: str
    url: str
    method: str
    query_params: tuple[str, ...]
    additional_headers: tuple[str, ...] = field(repr=False)
    retry_count: int
    retry_backoff_ms: int


def parse_partners(data: bytes) -> tuple[Partner, ...]:
    partners = read_records(data, _partner)
    check_unique(partners, lambda partner: partner.name.casefold(), "name")
    return partners


def encode_partners(partners: Iterable[Partner]) -> bytes:
    return write_records(
        {
            "name": partner.name,
            "url": partner.url,
            "method": partner.method,
            "query_params": list(partner.query_params),
            "additional_headers": list(partner.additional_headers),
            "retry_count": partner.retry_count,
            "retry_backoff_ms": partner.retry_backoff_ms,
        }
        for partner in partners
    )


def _partner(record: RecordReader) -> Partner:
    method = record.text("method")
    if method not in METHODS:
        raise record.wrong("method", "neither GET nor POST")
    return Partner(
        name=record.text("name"),
        url=record.text("url"),
        method=method,
        query_params=record.items("query_params", str) or (),
        additional_headers=record.items("additional_headers", str) or (),
        retry_count=record.integer("retry_count", limits=(0, 2**31 - 1)),
        retry_backoff_ms=record.integer("retry_backoff_ms", limits=(0, 2**31 - 1)),
    )
