"""Services and service links (core chapter, 11.9)."""

import re
from collections.abc import Iterable
from dataclasses import replace

from uid2.admin.change import Change
from uid2.admin.errors import RefusedError, not_found
from uid2.admin.records import SERVICE_LINKS, SERVICES
from uid2.admin.sites import find_site
from uid2.protocol.ids import Role
from uid2.protocol.services import Service, ServiceLink


def add_service(
    change: Change, name: str, site_id: int, roles: Iterable[Role], link_id_regex: str | None = None
) -> Service:
    services = change.records(SERVICES)
    if not name.strip():
        raise RefusedError("a service needs a name")
    if any(other.name == name.strip() for other in services):
        raise RefusedError(f"there is a service named {name.strip()}", status=409, next_step="choose another name")
    service = Service(
        service_id=max((other.service_id for other in services), default=0) + 1,
        site_id=find_site(change, site_id).id,
        name=name.strip(),
        roles=_roles(roles),
        link_id_regex=_regex(link_id_regex),
    )
    change.replace(SERVICES, (*services, service))
    return service


def find_service(change: Change, service_id: int) -> Service:
    for service in change.records(SERVICES):
        if service.service_id == service_id:
            return service
    raise not_found(f"service {service_id}", "list them: uid2 admin service list")


def update_service(
    change: Change,
    service_id: int,
    *,
    site_id: int | None = None,
    name: str | None = None,
    roles: Iterable[Role] | None = None,
    link_id_regex: str | None = None,
    disabled: bool | None = None,
) -> Service:
    """A role that a link still uses cannot be taken away; every link id must match a new pattern."""
    service = find_service(change, service_id)
    links = [link for link in change.records(SERVICE_LINKS) if link.service_id == service_id]
    if site_id is not None:
        service = replace(service, site_id=find_site(change, site_id).id)
    if name is not None:
        if not name.strip() or any(
            o.name == name.strip() and o.service_id != service_id for o in change.records(SERVICES)
        ):
            raise RefusedError("the name is empty or in use", status=409, next_step="choose another name")
        service = replace(service, name=name.strip())
    if roles is not None:
        granted = _roles(roles)
        for link in links:
            if not link.roles <= granted:
                raise RefusedError(f"the link {link.link_id} uses a role that would be removed")
        service = replace(service, roles=granted)
    if link_id_regex is not None:
        pattern = _regex(link_id_regex)
        for link in links:
            if pattern is not None and not re.fullmatch(pattern, link.link_id):
                raise RefusedError(f"the link id {link.link_id} does not match the pattern")
        service = replace(service, link_id_regex=pattern)
    if disabled is not None:
        service = replace(service, disabled=disabled)
    return _put(change, service)


def remove_link_id_regex(change: Change, service_id: int) -> Service:
    return _put(change, replace(find_service(change, service_id), link_id_regex=None))


def delete_service(change: Change, service_id: int) -> Service:
    service = find_service(change, service_id)
    if any(link.service_id == service_id for link in change.records(SERVICE_LINKS)):
        raise RefusedError(f"service {service_id} still has links", next_step="delete its links first")
    change.replace(SERVICES, (other for other in change.records(SERVICES) if other.service_id != service_id))
    return service


def add_link(
    change: Change, service_id: int, link_id: str, site_id: int, name: str, roles: Iterable[Role]
) -> ServiceLink:
    service = find_service(change, service_id)
    if not link_id or (service.link_id_regex and not re.fullmatch(service.link_id_regex, link_id)):
        raise RefusedError(f"the link id {link_id} does not match {service.link_id_regex}")
    link = ServiceLink(link_id, service_id, find_site(change, site_id).id, name, _link_roles(roles, service))
    links = change.records(SERVICE_LINKS)
    if any(other.key == link.key for other in links):
        raise RefusedError(f"service {service_id} has a link {link_id}", status=409, next_step="choose another link id")
    change.replace(SERVICE_LINKS, (*links, link))
    return link


def find_link(change: Change, service_id: int, link_id: str) -> ServiceLink:
    for link in change.records(SERVICE_LINKS):
        if (link.service_id, link.link_id) == (service_id, link_id):
            return link
    raise not_found(f"link {link_id} of service {service_id}", "list them: uid2 admin link list")


def update_link(
    change: Change,
    service_id: int,
    link_id: str,
    *,
    name: str | None = None,
    roles: Iterable[Role] | None = None,
    disabled: bool | None = None,
) -> ServiceLink:
    link = find_link(change, service_id, link_id)
    updated = replace(
        link,
        name=link.name if name is None else name,
        roles=link.roles if roles is None else _link_roles(roles, find_service(change, service_id)),
        disabled=link.disabled if disabled is None else disabled,
    )
    links = change.records(SERVICE_LINKS)
    change.replace(SERVICE_LINKS, (updated if other.key == link.key else other for other in links))
    return updated


def delete_link(change: Change, service_id: int, link_id: str) -> ServiceLink:
    link = find_link(change, service_id, link_id)
    change.replace(SERVICE_LINKS, (other for other in change.records(SERVICE_LINKS) if other.key != link.key))
    return link


def _put(change: Change, service: Service) -> Service:
    services = change.records(SERVICES)
    change.replace(SERVICES, (service if o.service_id == service.service_id else o for o in services))
    return service


def _roles(roles: Iterable[Role]) -> frozenset[Role]:
    granted = frozenset(roles)
    if not granted:
        raise RefusedError("a service needs a role")
    return granted


def _link_roles(roles: Iterable[Role], service: Service) -> frozenset[Role]:
    granted = frozenset(roles)
    if not granted <= service.roles:
        raise RefusedError(
            f"the service has no role {', '.join(sorted(granted - service.roles))}",
            next_step=f"choose from {', '.join(sorted(service.roles))}",
        )
    return granted


def _regex(pattern: str | None) -> str | None:
    if not pattern:
        return None
    try:
        re.compile(pattern)
    except re.error as error:
        raise RefusedError(f"the pattern for link ids is no regular expression: {error}") from None
    return pattern
