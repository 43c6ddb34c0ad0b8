"""Assembles the tokens of generate, client-generate and refresh (tokens chapter, sections 8 to 11).

Pure: the stores of the moment, the time and the random bytes come in. One `now` serves every time field and every
choice of key and salt of an answer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, Protocol

from uid2.protocol.encoding import encode_base64
from uid2.protocol.errors import ConfigurationError
from uid2.protocol.identity import bucket_index, raw_uid
from uid2.protocol.ids import (
    EpochMillis,
    EpochSeconds,
    FirstLevelHash,
    IdentityScope,
    IdentityType,
    RawUid,
    SiteId,
)
from uid2.protocol.keysets import KeyRing
from uid2.protocol.runtime_config import RuntimeConfig
from uid2.protocol.salts import SaltBucket
from uid2.protocol.tokens.advertising import AdvertisingToken, encode_advertising_token
from uid2.protocol.tokens.fields import PublisherIdentity
from uid2.protocol.tokens.refresh import RefreshToken, encode_refresh_token
from uid2.protocol.tokens.wrapped import wrap_refresh_token

IV_LENGTH: Final = 12
RESPONSE_KEY_LENGTH: Final = 32
FIRST_ACCEPTED_ESTABLISHED: Final = EpochMillis(1_615_222_800_000)
"""2021-03-08T17:00:00Z: tokens whose chain began earlier are answered as opted out."""

Draw = Callable[[int], bytes]


class Salts(Protocol):
    """The rows of the salt snapshot in force."""

    @property
    def size(self) -> int: ...
    def bucket(self, index: int, /) -> SaltBucket: ...


@dataclass(frozen=True, slots=True)
class TokenSources:
    """What tokens are made from at one moment."""

    keys: KeyRing
    salts: Salts
    runtime: RuntimeConfig
    scope: IdentityScope
    identity_v3: bool

    def raw_uid(self, identity_type: IdentityType, flh: FirstLevelHash) -> RawUid:
        """The current raw UID of an identity."""
        bucket = self.salts.bucket(bucket_index(flh, self.salts.size))
        environment = self.runtime.identity_environment
        return raw_uid(flh, bucket, self.scope, identity_type, environment, self.identity_v3)


@dataclass(frozen=True, slots=True)
class TokenSubject:
    """Whose token it is, for which site, and since when its chain of tokens exists."""

    identity_type: IdentityType
    first_level_hash: FirstLevelHash = field(repr=False)
    publisher: PublisherIdentity
    privacy_bits: int
    established: EpochMillis

    @classmethod
    def of_refresh_token(cls, token: RefreshToken) -> "TokenSubject":
        """What a refresh keeps: publisher, identity, privacy bits and beginning of the chain."""
        return cls(token.identity_type, token.first_level_hash, token.publisher, token.privacy_bits, token.established)


@dataclass(frozen=True, slots=True)
class IssuedTokens:
    """One answer's tokens. `response_key` seals the answer to the next refresh."""

    advertising_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    identity_expires: EpochMillis
    refresh_expires: EpochMillis
    refresh_from: EpochMillis
    site_key_status: str
    raw_uid: RawUid = field(repr=False)
    publisher_site: SiteId

    def plain_body(self) -> dict[str, Any]:
        """The body with the inner refresh token (operator chapter, 4.6)."""
        return {
            "advertising_token": self.advertising_token,
            "refresh_token": self.refresh_token,
            "identity_expires": self.identity_expires,
            "refresh_expires": self.refresh_expires,
            "refresh_from": self.refresh_from,
        }

    def body(self, sources: TokenSources, now: EpochMillis, draw: Draw) -> dict[str, Any]:
        """The body of 8.1: the refresh token wrapped, with its fresh response key.

        NoActiveKeyError when there is no refresh key, InternalTokenError when the wrapped form has a wrong length.
        """
        response_key = draw(RESPONSE_KEY_LENGTH)
        key = sources.keys.refresh(_seconds(now))
        wrapped = wrap_refresh_token(self.refresh_token, response_key, sources.scope, key, draw(IV_LENGTH))
        return self.plain_body() | {
            "refresh_token": wrapped,
            "refresh_response_key": encode_base64(response_key),
        }


class Verdict(Enum):
    """The outcome of looking at a refresh token, before opt-outs and keys."""

    ACCEPTABLE = auto()
    INVALID = auto()
    DEPRECATED = auto()
    EXPIRED = auto()


def check_durations(runtime: RuntimeConfig) -> None:
    """ConfigurationError when the three durations contradict each other (section 11)."""
    durations = (
        ("refresh_token_expires_after_seconds", runtime.refresh_token_expires_after_seconds),
        ("identity_token_expires_after_seconds", runtime.identity_token_expires_after_seconds),
        ("refresh_identity_token_after_seconds", runtime.refresh_identity_token_after_seconds),
    )
    for longer, shorter in ((0, 1), (1, 2), (0, 2)):
        (name, value), (other, least) = durations[longer], durations[shorter]
        if value < least:
            raise ConfigurationError(f"{name} ({value}) < {other} ({least})")


def issue_tokens(sources: TokenSources, subject: TokenSubject, now: EpochMillis, draw: Draw) -> IssuedTokens:
    """A new pair of tokens. NoActiveKeyError, MultipleDefaultKeysetsError: the stores do not allow it."""
    runtime = sources.runtime
    seconds = _seconds(now)
    identity_expires = EpochMillis(now + runtime.identity_token_expires_after_seconds * 1000)
    refresh_expires = EpochMillis(now + runtime.refresh_token_expires_after_seconds * 1000)
    refresh_from = EpochMillis(now + runtime.refresh_identity_token_after_seconds * 1000)
    master = sources.keys.master(seconds)
    site = sources.keys.site_key(subject.publisher.site_id, seconds)
    refresh_key = sources.keys.refresh(seconds)
    uid = sources.raw_uid(subject.identity_type, subject.first_level_hash)
    advertising = AdvertisingToken(
        scope=sources.scope,
        identity_type=subject.identity_type,
        expires=identity_expires,
        created=now,
        publisher=subject.publisher,
        privacy_bits=subject.privacy_bits,
        established=subject.established,
        refreshed=now,
        raw_uid=uid,
    )
    refresh = RefreshToken(
        scope=sources.scope,
        identity_type=subject.identity_type,
        expires=refresh_expires,
        created=now,
        publisher=subject.publisher,
        privacy_bits=subject.privacy_bits,
        established=subject.established,
        first_level_hash=subject.first_level_hash,
    )
    return IssuedTokens(
        advertising_token=encode_advertising_token(advertising, master, site.key, draw(IV_LENGTH), draw(IV_LENGTH)),
        refresh_token=encode_refresh_token(refresh, refresh_key, draw(IV_LENGTH)),
        identity_expires=identity_expires,
        refresh_expires=refresh_expires,
        refresh_from=refresh_from,
        site_key_status=site.status,
        raw_uid=uid,
        publisher_site=subject.publisher.site_id,
    )


def judge_refresh_token(token: RefreshToken, scope: IdentityScope, now: EpochMillis) -> Verdict:
    """Rows 1 to 3 of 10.6, in their order; a token is still good in the millisecond of its expiry."""
    if token.scope is not scope:
        return Verdict.INVALID
    if token.established < FIRST_ACCEPTED_ESTABLISHED:
        return Verdict.DEPRECATED
    return Verdict.EXPIRED if token.expires < now else Verdict.ACCEPTABLE


def _seconds(now: EpochMillis) -> EpochSeconds:
    return EpochSeconds(now // 1000)
