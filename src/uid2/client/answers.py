"""What the operator answers, as records. Times in epoch milliseconds unless a name says otherwise."""

from dataclasses import dataclass, field

import msgspec


class TokenBody(msgspec.Struct, frozen=True):
    """The body of generate and refresh (operator chapter, 8.1); it hides its texts in `repr`."""

    advertising_token: str
    refresh_token: str
    identity_expires: int
    refresh_expires: int
    refresh_from: int
    refresh_response_key: str

    def __repr__(self) -> str:
        return f"TokenBody(identity_expires={self.identity_expires}, refresh_expires={self.refresh_expires})"


class MappedV2(msgspec.Struct, frozen=True):
    identifier: str
    advertising_id: str
    bucket_id: str


class UnmappedV2(msgspec.Struct, frozen=True):
    identifier: str | None
    reason: str


class MapV2(msgspec.Struct, frozen=True):
    mapped: list[MappedV2]
    unmapped: list[UnmappedV2] = []


class MappedRow(msgspec.Struct, frozen=True):
    """One element of a v3 answer: `u`, `p`, `r` (epoch seconds) when mapped, else `e`."""

    u: str | None = None
    p: str | None = None
    r: int | None = None
    e: str | None = None


class MapV3(msgspec.Struct, frozen=True):
    email: list[MappedRow]
    email_hash: list[MappedRow]
    phone: list[MappedRow]
    phone_hash: list[MappedRow]


class SiteKey(msgspec.Struct, frozen=True):
    """A delivered key; seconds. `keyset_id` only where the caller may encrypt with it."""

    id: int
    created: int
    activates: int
    expires: int
    secret: str
    keyset_id: int | None = None
    site_id: int | None = None

    def __repr__(self) -> str:
        return f"SiteKey(id={self.id})"


class SiteDomains(msgspec.Struct, frozen=True):
    id: int
    domain_names: list[str]


class SharingKeys(msgspec.Struct, frozen=True):
    caller_site_id: int
    master_keyset_id: int
    token_expiry_seconds: str
    identity_scope: str
    allow_clock_skew_seconds: int
    keys: list[SiteKey]
    default_keyset_id: int | None = None
    max_sharing_lifetime_seconds: int | None = None
    site_data: list[SiteDomains] = []


class BidstreamKeys(msgspec.Struct, frozen=True):
    max_bidstream_lifetime_seconds: int
    identity_scope: str
    allow_clock_skew_seconds: int
    keys: list[SiteKey]
    site_data: list[SiteDomains] = []


class OptedOut(msgspec.Struct, frozen=True):
    advertising_id: str
    opted_out_since: int


class OptOutStatus(msgspec.Struct, frozen=True):
    opted_out: list[OptedOut]


class Bucket(msgspec.Struct, frozen=True):
    """`last_updated`: UTC as `yyyy-MM-ddTHH:mm:ss.SSS`."""

    bucket_id: str
    last_updated: str


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """`status`: `success`, `optout` or `insufficient_user_consent`; `body` only with `success`."""

    status: str
    body: TokenBody | None = field(default=None, repr=False)
