"""Sites (core chapter, 9.6). Unknown members are ignored; an unknown client type refuses the file."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from uid2.protocol.ids import EpochSeconds, SiteId
from uid2.protocol.store_json import RecordReader, read_records, write_records

_NEVER: Final = EpochSeconds(0)


class ClientType(StrEnum):
    DSP = "DSP"
    ADVERTISER = "ADVERTISER"
    DATA_PROVIDER = "DATA_PROVIDER"
    PUBLISHER = "PUBLISHER"


@dataclass(frozen=True, slots=True)
class Site:
    """`domain_names` and `app_names` may generate tokens on the client side."""

    id: SiteId
    name: str | None
    description: str = ""
    enabled: bool | None = None
    client_types: frozenset[ClientType] = frozenset()
    domain_names: tuple[str, ...] = ()
    app_names: tuple[str, ...] = ()
    visible: bool | None = None
    created: EpochSeconds = _NEVER


def parse_sites(data: bytes) -> tuple[Site, ...]:
    return read_records(data, _site)


def encode_sites(sites: Iterable[Site]) -> bytes:
    return write_records(
        {
            "id": site.id,
            "name": site.name,
            "description": site.description,
            "enabled": site.enabled,
            "clientTypes": [kind.value for kind in ClientType if kind in site.client_types],
            "domain_names": list(site.domain_names),
            "app_names": list(site.app_names),
            "visible": site.visible,
            "created": site.created,
        }
        for site in sites
    )


def _site(record: RecordReader) -> Site:
    return Site(
        id=SiteId(record.integer("id")),
        name=record.optional_text("name"),
        description=record.text("description", ""),
        enabled=record.optional_boolean("enabled"),
        client_types=frozenset(_client_type(record, name) for name in record.items("clientTypes", str) or ()),
        domain_names=record.items("domain_names", str) or (),
        app_names=record.items("app_names", str) or (),
        visible=record.optional_boolean("visible"),
        created=EpochSeconds(record.long("created", 0)),
    )


def _client_type(record: RecordReader, name: str) -> ClientType:
    try:
        return ClientType(name.upper())
    except ValueError:
        raise record.wrong("clientTypes", "unknown client type") from None
