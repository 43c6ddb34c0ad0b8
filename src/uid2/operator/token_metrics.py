"""What token endpoints count (operator chapter, 14.3 and 14.4)."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from uid2.operator.context import OperatorContext
from uid2.operator.token_service import IssuedTokens
from uid2.protocol.identity import raw_uid_version
from uid2.protocol.ids import EpochMillis, SiteId, TokenVersion
from uid2.protocol.keysets import KEYSET_NOT_FOUND
from uid2.protocol.tokens.privacy import is_client_side
from uid2.protocol.tokens.refresh import RefreshToken
from uid2.service.messages import Request
from uid2.stores.snapshot import OperatorSnapshot

if TYPE_CHECKING:
    from uid2.operator.enveloped import EnvelopedCall

APP_VERSIONS = ("Android", "ios", "tvos")


class TokenStatus(StrEnum):
    """The label `token_response_status`."""

    SUCCESS = "Success"
    INSUFFICIENT_USER_CONSENT = "InsufficientUserConsent"
    INVALID_USER_CONSENT_STRING = "InvalidUserConsentString"
    OPT_OUT = "OptOut"
    EXPIRED_TOKEN = "ExpiredToken"  # noqa: S105 - a label
    INVALID_TOKEN = "InvalidToken"  # noqa: S105 - a label
    MISSING_PARAMS = "MissingParams"
    BAD_PUBLIC_KEY = "BadPublicKey"
    BAD_SUBSCRIPTION_ID = "BadSubscriptionId"
    INVALID_HTTP_ORIGIN = "InvalidHttpOrigin"
    INVALID_APP_NAME = "InvalidAppName"
    BAD_IV = "BadIV"
    BAD_PAYLOAD = "BadPayload"
    BAD_JSON_PAYLOAD = "BadJsonPayload"
    PAYLOAD_HAS_NO_BODY = "PayloadHasNoBody"
    UNKNOWN = "Unknown"
    NO_ACTIVE_KEY = "NoActiveKey"
    UNAUTHORIZED = "Unauthorized"


def platform_of(request: Request, *, app: bool = False) -> str:
    """The label `platform_type` (14.3); `app` when a client-side request names its app."""
    version = request.header("X-UID2-Client-Version") or ""
    if app or any(name in version for name in APP_VERSIONS):
        return "InApp"
    return "HasOriginHeader" if request.header("Origin") is not None else "Other"


def site_label(site_id: SiteId | None) -> str:
    return "null" if site_id is None else str(site_id)


def site_name(snapshot: OperatorSnapshot, site_id: SiteId | None) -> str:
    """A site's name as a label; `unknown` when the site store does not have it."""
    site = None if site_id is None else snapshot.sites.get(site_id)
    return "unknown" if site is None or site.name is None else site.name


@dataclass(slots=True)
class TokenTally:
    """Counts one request of a token endpoint. `site_id` None: no site is known, nothing is counted per response."""

    context: OperatorContext
    request: Request
    endpoint: str
    site_id: SiteId | None
    snapshot: OperatorSnapshot
    app: bool = False
    client_side: bool = False

    def count(self, status: TokenStatus) -> None:
        """One outcome."""
        if self.site_id is None:
            return
        self.context.metrics.count(
            "uid2_token_response_status_count_total",
            site_id=site_label(self.site_id),
            site_name=site_name(self.snapshot, self.site_id),
            token_endpoint=self.endpoint,
            token_response_status=status.value,
            advertising_token_version="V4" if status is TokenStatus.SUCCESS else "null",
            cstg="true" if self.client_side else "false",
            platform_type=platform_of(self.request, app=self.app),
        )

    def consent_seen(self, contact: str | None) -> None:
        self.context.metrics.count("uid2_token_generate_tcf_usage_total", api_contact=contact or "unknown")

    def keys_missing(self) -> None:
        self._keyset(KEYSET_NOT_FOUND)

    def issued(self, tokens: IssuedTokens) -> None:
        """A success: tokens went out."""
        self.site_id = tokens.publisher_site
        version = raw_uid_version(tokens.raw_uid)
        self.context.metrics.count("uid2_raw_uid_version_total", version=version.name)
        self._keyset(tokens.site_key_status)
        self.context.metrics.count(
            "uid2_refresh_token_served_count_total",
            site_id=site_label(self.site_id),
            refresh_token_version="v3",  # noqa: S106 - a label
        )
        self.count(TokenStatus.SUCCESS)

    def refresh_token_received(self, token: RefreshToken) -> None:
        """A decoded token: from here on the token's site is the one that counts."""
        self.site_id = token.publisher.site_id
        self.client_side = is_client_side(token.privacy_bits)
        self.context.metrics.count(
            "uid2_refresh_token_received_count_total",
            site_id=site_label(self.site_id),
            refresh_token_version="v3" if token.version is TokenVersion.V3 else "v2",
        )

    def refreshed(self, token: RefreshToken, tokens: IssuedTokens, now: EpochMillis) -> None:
        """A success of a refresh: how old the token was, and whether its advertising token had expired."""
        client = self.request.attributes.get("client")
        age_ms = now - token.created
        lifetime_ms = self.snapshot.runtime_config.identity_token_expires_after_seconds * 1000
        labels = {
            "site_id": site_label(self.site_id),
            "site_name": site_name(self.snapshot, self.site_id),
            "has_origin_header": "true" if self.request.header("Origin") is not None else "false",
        }
        contact = "unknown" if client is None else client.contact or "unknown"
        self.context.metrics.observe(
            "uid2_token_refresh_duration_seconds", age_ms / 1000, api_contact=contact, **labels
        )
        expired = "true" if age_ms > lifetime_ms else "false"
        self.context.metrics.count("uid2_advertising_token_expired_on_refresh_total", is_expired=expired, **labels)
        self.issued(tokens)

    def _keyset(self, status: str) -> None:
        self.context.metrics.count("uid2_site_keyset_status_total", site_id=site_label(self.site_id), status=status)


def count_validation(call: "EnvelopedCall", result: str) -> None:
    """One outcome of token/validate."""
    call.context.metrics.count(
        "uid2_token_validate_total",
        site_id=site_label(call.client.site_id),
        site_name=site_name(call.snapshot, call.client.site_id),
        result=result,
    )
