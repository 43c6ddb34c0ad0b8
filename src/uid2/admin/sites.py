"""Sites (core chapter, 11.1)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from uid2.admin.change import Change
from uid2.admin.errors import RefusedError, not_found
from uid2.admin.keysets import derive_keysets
from uid2.admin.records import SITES
from uid2.protocol.ids import SiteId
from uid2.protocol.sites import ClientType, Site

FIRST_SITE: Final = SiteId(3)

# Gives the registrable domain of a host name, or None.
Registrable = Callable[[str], str | None]


def add_site(
    change: Change,
    name: str,
    *,
    enabled: bool = False,
    types: Iterable[ClientType] = (),
    description: str = "",
    domain_names: Sequence[str] = (),
    app_names: Sequence[str] = (),
    registrable: Registrable,
) -> Site:
    """A new site; its id follows the highest. Neither keysets nor keys are made for it."""
    sites = change.records(SITES)
    _check_name(name, sites)
    site = Site(
        id=SiteId(max((site.id for site in sites), default=FIRST_SITE - 1) + 1),
        name=name.strip(),
        description=description,
        enabled=enabled,
        client_types=frozenset(types),
        domain_names=_domains(domain_names, registrable),
        app_names=_unique(app_names, "app_names"),
        visible=True,
        created=change.now,
    )
    if site.id < FIRST_SITE:
        site = replace(site, id=FIRST_SITE)
    change.replace(SITES, (*sites, site))
    return site


def find_site(change: Change, site_id: int) -> Site:
    for site in change.records(SITES):
        if site.id == site_id:
            return site
    raise not_found(f"site {site_id}", "list the sites: uid2 admin site list")


def enable_site(change: Change, site_id: int, *, enabled: bool) -> Site:
    return _put(change, replace(find_site(change, site_id), enabled=enabled))


def set_types(change: Change, site_id: int, types: Iterable[ClientType]) -> Site:
    """Keysets that are shared by type follow at once."""
    site = _put(change, replace(find_site(change, site_id), client_types=frozenset(types)))
    derive_keysets(change)
    return site


def set_domain_names(change: Change, site_id: int, names: Sequence[str], registrable: Registrable) -> Site:
    return _put(change, replace(find_site(change, site_id), domain_names=_domains(names, registrable)))


def set_app_names(change: Change, site_id: int, names: Sequence[str]) -> Site:
    return _put(change, replace(find_site(change, site_id), app_names=_unique(names, "app_names")))


def update_site(
    change: Change,
    site_id: int,
    *,
    name: str | None = None,
    description: str | None = None,
    visible: bool | None = None,
) -> Site:
    site = find_site(change, site_id)
    if name is not None:
        _check_name(name, [other for other in change.records(SITES) if other.id != site_id])
        site = replace(site, name=name.strip())
    if description is not None:
        site = replace(site, description=description)
    if visible is not None:
        site = replace(site, visible=visible)
    return _put(change, site)


def _put(change: Change, site: Site) -> Site:
    change.replace(SITES, (site if other.id == site.id else other for other in change.records(SITES)))
    return site


def _check_name(name: str, others: Iterable[Site]) -> None:
    if not name.strip():
        raise RefusedError("a site needs a name")
    if any((other.name or "").lower() == name.strip().lower() for other in others):
        raise RefusedError(f"there is a site named {name.strip()} already", status=409, next_step="choose another name")


def _domains(names: Sequence[str], registrable: Registrable) -> tuple[str, ...]:
    found, invalid = [], []
    for name in names:
        domain = registrable(name if "://" in name else f"https://{name}")
        if domain is None:
            invalid.append(name)
        else:
            found.append(domain.lower())
    if invalid:
        raise RefusedError(f"Invalid Domain Names: [{', '.join(invalid)}]")
    return _unique(found, "domain_names")


def _unique(names: Sequence[str], what: str) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise RefusedError(f"duplicate {what} not permitted")
    return tuple(names)
