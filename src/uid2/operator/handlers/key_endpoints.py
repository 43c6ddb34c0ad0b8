"""POST /v2/key/latest, /v2/key/sharing and /v2/key/bidstream (operator chapter, section 12)."""

from collections.abc import Iterable
from typing import Any, Final

from uid2.operator.enveloped import EnvelopedCall, Outcome, refused, success
from uid2.operator.problems import problem
from uid2.protocol.encoding import encode_base64
from uid2.protocol.errors import InternalTokenError
from uid2.protocol.ids import MASTER_KEYSET, SDK_MASTER_KEYSET, EpochSeconds, Role, SiteId
from uid2.protocol.keysets import KeysetKey

LIFETIME_TOLERANCE_SECONDS: Final = 10
LAST_RESERVED_SITE: Final = 2


async def latest_keys(call: EnvelopedCall) -> Outcome:
    """The legacy list: each key with the site of its keyset."""
    if call.client.site_id <= LAST_RESERVED_SITE:
        return refused(problem(401, "invalid_client", f"Unexpected client site id {call.client.site_id}"))
    return success([_key(key) | {"site_id": _site(call, key)} for key in _readable(call)])


async def sharing_keys(call: EnvelopedCall) -> Outcome:
    """What encrypts and decrypts sharing tokens."""
    runtime = call.snapshot.runtime_config
    client = call.client
    keys = _readable(call)
    default_keyset = call.snapshot.key_ring.default_keyset(client.site_id)
    body: dict[str, Any] = {"caller_site_id": client.site_id, "master_keyset_id": SDK_MASTER_KEYSET}
    if default_keyset is not None:
        body["default_keyset_id"] = default_keyset.keyset_id
    body["token_expiry_seconds"] = str(runtime.sharing_token_expiry_seconds)
    if Role.SHARER in client.roles:
        body["max_sharing_lifetime_seconds"] = runtime.max_sharing_lifetime_seconds + LIFETIME_TOLERANCE_SECONDS
    return success(body | _common(call) | {"keys": [_sharing_key(call, key) for key in keys]} | _site_data(call, keys))


async def bidstream_keys(call: EnvelopedCall) -> Outcome:
    """What decrypts tokens of the bid stream."""
    keys = _readable(call)
    lifetime = call.snapshot.runtime_config.max_bidstream_lifetime_seconds + LIFETIME_TOLERANCE_SECONDS
    body: dict[str, Any] = {"max_bidstream_lifetime_seconds": lifetime}
    return success(body | _common(call) | {"keys": [_key(key) for key in keys]} | _site_data(call, keys))


def _readable(call: EnvelopedCall) -> list[KeysetKey]:
    """The caller's keys.

    Broken stores answer 500: no active master key (InternalTokenError), two default keysets of the caller's site.
    """
    ring = call.snapshot.key_ring
    ring.default_keyset(call.client.site_id)
    if ring.active(MASTER_KEYSET, EpochSeconds(call.now // 1000)) is None:
        raise InternalTokenError("there is no active master key", next_step="rotate the master keys")
    return list(ring.readable_by(call.client.site_id, call.client.roles))


def _common(call: EnvelopedCall) -> dict[str, Any]:
    settings = call.context.settings
    return {
        "identity_scope": settings.identity_scope.name,
        "allow_clock_skew_seconds": settings.allow_clock_skew_seconds,
    }


def _key(key: KeysetKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "created": key.created,
        "activates": key.activates,
        "expires": key.expires,
        "secret": encode_base64(key.secret.reveal()),
    }


def _sharing_key(call: EnvelopedCall, key: KeysetKey) -> dict[str, Any]:
    """Only keys to encrypt with carry their keyset: those of the caller's site, and the master keys."""
    if key.keyset_id == MASTER_KEYSET:
        return _key(key) | {"keyset_id": SDK_MASTER_KEYSET}
    if _site(call, key) == call.client.site_id:
        return _key(key) | {"keyset_id": key.keyset_id}
    return _key(key)


def _site(call: EnvelopedCall, key: KeysetKey) -> SiteId | None:
    keyset = call.snapshot.key_ring.keyset_of(key)
    return None if keyset is None else keyset.site_id


def _site_data(call: EnvelopedCall, keys: Iterable[KeysetKey]) -> dict[str, Any]:
    """`site_data` of the sites that own a delivered key; nothing without client-side token generation."""
    settings = call.context.settings
    if not settings.client_side_token_generate:
        return {}
    entries = []
    for site_id in sorted({site for site in (_site(call, key) for key in keys) if site is not None}):
        site = call.snapshot.sites.get(site_id)
        if site is None:
            continue
        names = set(site.domain_names)
        if settings.key_sharing_endpoint_provide_app_names:
            names |= set(site.app_names)
        if names:
            entries.append({"id": site_id, "domain_names": sorted(names)})
    return {"site_data": entries}
