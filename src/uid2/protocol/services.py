"""Services (strict) and service links (lenient) of shared client keys (core chapter, 9.10 and 9.11)."""

from collections.abc import Iterable
from dataclasses import dataclass

from uid2.protocol.ids import Role, SiteId
from uid2.protocol.store_json import RecordReader, check_unique, read_records, role_names, write_records


@dataclass(frozen=True, slots=True)
class Service:
    """`link_id_regex` must match a link id as a whole."""

    service_id: int
    site_id: SiteId
    name: str | None
    roles: frozenset[Role]
    link_id_regex: str | None = None
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class ServiceLink:
    link_id: str
    service_id: int
    site_id: SiteId
    name: str | None
    roles: frozenset[Role]
    disabled: bool = False

    @property
    def key(self) -> str:
        """`<service id>_<link id>`, unique in the store."""
        return link_key(self.service_id, self.link_id)


def link_key(service_id: int, link_id: str) -> str:
    return f"{service_id}_{link_id}"


def parse_services(data: bytes) -> tuple[Service, ...]:
    return read_records(data, _service)


def encode_services(services: Iterable[Service]) -> bytes:
    return write_records(
        {
            "service_id": service.service_id,
            "site_id": service.site_id,
            "name": service.name,
            "roles": role_names(service.roles),
            "link_id_regex": service.link_id_regex,
            "disabled": service.disabled,
        }
        for service in services
    )


def parse_service_links(data: bytes) -> tuple[ServiceLink, ...]:
    links = read_records(data, _service_link)
    check_unique(links, lambda link: link.key, "link_id")
    return links


def encode_service_links(links: Iterable[ServiceLink]) -> bytes:
    return write_records(
        {
            "link_id": link.link_id,
            "service_id": link.service_id,
            "site_id": link.site_id,
            "name": link.name,
            "roles": role_names(link.roles),
            "disabled": link.disabled,
        }
        for link in links
    )


def _service(record: RecordReader) -> Service:
    return Service(
        service_id=record.integer("service_id"),
        site_id=SiteId(record.integer("site_id")),
        name=record.optional_text("name"),
        roles=record.exact_roles("roles"),
        link_id_regex=record.optional_text("link_id_regex"),
        disabled=record.boolean("disabled", False),
    )


def _service_link(record: RecordReader) -> ServiceLink:
    return ServiceLink(
        link_id=record.text("link_id"),
        service_id=record.integer("service_id", 0),
        site_id=SiteId(record.integer("site_id", 0)),
        name=record.optional_text("name"),
        roles=record.named_roles("roles", required=False),
        disabled=record.boolean("disabled", False),
    )
