"""The metadata endpoints (core chapter, 2.3): metadata of the caller's scope, with addresses for locations."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from uid2.core.auth import Endpoint, who
from uid2.core.context import CoreContext
from uid2.core.problems import problem
from uid2.core.scopes import Caller, Split, metadata_path
from uid2.protocol.errors import StoreFormatError, Uid2Error
from uid2.protocol.ids import Role
from uid2.protocol.json_text import parse_object
from uid2.protocol.metadata import location_member
from uid2.protocol.operators import OperatorKey, OperatorType
from uid2.service.messages import Request, Response, json_response
from uid2.stores.loading import LARGEST_METADATA

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RefreshEndpoint:
    """`title` stands in the text of a failure. `public_only` may be lifted by `private_operator_cstg`."""

    path: str
    store: str
    title: str
    split: Split = Split.BY_SITE
    role: Role = Role.OPERATOR
    public_only: bool = False
    cstg: bool = False


ENDPOINTS: Final = (
    RefreshEndpoint("/sites/refresh", "sites", "sites", public_only=True, cstg=True),
    RefreshEndpoint("/clients/refresh", "clients", "client"),
    RefreshEndpoint(
        "/client_side_keypairs/refresh", "client_side_keypairs", "client_side_keypairs", public_only=True, cstg=True
    ),
    RefreshEndpoint("/services/refresh", "services", "services", Split.NEVER, public_only=True),
    RefreshEndpoint("/service_links/refresh", "service_links", "service_links", Split.NEVER, public_only=True),
    RefreshEndpoint("/key/refresh", "keys", "key"),
    RefreshEndpoint("/key/acl/refresh", "keys_acl", "key acl"),
    RefreshEndpoint("/key/keyset/refresh", "keysets", "keyset"),
    RefreshEndpoint("/key/keyset-keys/refresh", "keyset_keys", "keyset key"),
    RefreshEndpoint("/salt/refresh", "salts", "salt", Split.SALTS),
    RefreshEndpoint("/operators/refresh", "operators", "operator", Split.NEVER, Role.OPTOUT_SERVICE),
    RefreshEndpoint("/partners/refresh", "partners", "partner", Split.NEVER, Role.OPTOUT_SERVICE),
)


def refresh(endpoint: RefreshEndpoint) -> Endpoint:
    """The handler of one endpoint."""

    async def handle(context: CoreContext, operator: OperatorKey, request: Request) -> Response:
        failure = problem(500, "error", f"error processing {endpoint.title} refresh")
        if operator.site_id is None:
            _log.error("%s: the record of %s has no site_id", endpoint.path, who(operator))
            return failure
        private = operator.operator_type is OperatorType.PRIVATE
        settings = context.settings
        own_site = endpoint.cstg and settings.private_operator_cstg
        if private and endpoint.public_only and not own_site:
            return problem(403, "error", f"endpoint {endpoint.path} is for public operators only")
        caller = Caller(
            operator.site_id,
            private,
            encrypted=(request.header("encrypted") or "").lower() == "true",
            site_data=settings.provide_private_site_data or own_site,
        )
        path = metadata_path(settings.metadata_paths[endpoint.store], endpoint.split, caller)
        base = context.base_url(request)
        try:
            document = await asyncio.to_thread(_signed_metadata, context, endpoint.store, path, base)
        except Uid2Error as error:
            _log.error("%s for %s: %s", endpoint.path, who(operator), error.message)
            return failure
        return json_response(200, document)

    return handle


def _signed_metadata(context: CoreContext, store: str, path: str, base_url: str) -> dict[str, Any]:
    data = context.source.read(path, LARGEST_METADATA)
    try:
        document = parse_object(data)
    except ValueError:
        raise StoreFormatError("not a JSON object", file=path) from None
    return with_addresses(document, store, path, lambda location: context.urls.sign(location, base_url))


def with_addresses(document: dict[str, Any], store: str, path: str, sign: Callable[[str], str]) -> dict[str, Any]:
    """The document with every location signed; unknown members stay. StoreFormatError when there is no location."""
    name = location_member(store)
    holder = document.get(name)
    holders = holder if isinstance(holder, list) and store == "salts" else [holder]
    for entry in holders:
        location = entry.get("location") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(location, str) or not location:
            raise StoreFormatError("no location", file=path, field=name)
        entry["location"] = sign(location)
    return document
