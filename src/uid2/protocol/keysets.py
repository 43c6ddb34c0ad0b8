"""Keysets, encryption keys and the rules that choose among them (tokens chapter, section 7; core chapter, 9.3, 9.4).

Times are epoch seconds. A key is active at t when `activates <= t < expires`.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, final

from uid2.protocol.crypto.aead import GcmKey
from uid2.protocol.encoding import encode_base64
from uid2.protocol.errors import MultipleDefaultKeysetsError, NoActiveKeyError
from uid2.protocol.ids import (
    FALLBACK_SITE,
    MASTER_KEYSET,
    REFRESH_KEYSET,
    EpochSeconds,
    KeyId,
    KeysetId,
    Role,
    SiteId,
)
from uid2.protocol.secret import Secret
from uid2.protocol.store_json import RecordReader, read_records, write_records

SITE_KEYSET_FOUND: Final = "site_keyset_found"
FALLBACK_KEYSET_FOUND: Final = "fallback_keyset_found"
KEYSET_NOT_FOUND: Final = "keyset_not_found"
KEY_LENGTH: Final = 32


@dataclass(frozen=True, slots=True)
class Keyset:
    """`allowed_sites` None is "no list" (every ID_READER), an empty set nobody but the owner."""

    keyset_id: KeysetId
    site_id: SiteId
    name: str | None
    allowed_sites: frozenset[SiteId] | None
    created: EpochSeconds
    enabled: bool
    default: bool

    def admits(self, site_id: SiteId, roles: Collection[Role]) -> bool:
        """Whether a caller may read the keys of this keyset; the master keyset's exemption is not looked at."""
        if not self.enabled:
            return False
        if self.site_id == site_id:
            return True
        if self.allowed_sites is None:
            return Role.ID_READER in roles
        return site_id in self.allowed_sites


@dataclass(frozen=True, slots=True)
class KeysetKey:
    id: KeyId
    keyset_id: KeysetId
    created: EpochSeconds
    activates: EpochSeconds
    expires: EpochSeconds
    secret: Secret
    gcm: GcmKey = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class SiteKeyChoice:
    """`status` is SITE_KEYSET_FOUND or FALLBACK_KEYSET_FOUND, the label of the metric (operator chapter, 14.4)."""

    key: KeysetKey
    status: str


def parse_keysets(data: bytes) -> tuple[Keyset, ...]:
    return read_records(data, _keyset)


def encode_keysets(keysets: Iterable[Keyset]) -> bytes:
    return write_records(
        {
            "keyset_id": keyset.keyset_id,
            "site_id": keyset.site_id,
            "name": keyset.name,
            "allowed_sites": None if keyset.allowed_sites is None else sorted(keyset.allowed_sites),
            "created": keyset.created,
            "enabled": keyset.enabled,
            "default": keyset.default,
        }
        for keyset in keysets
    )


def parse_keyset_keys(data: bytes) -> tuple[KeysetKey, ...]:
    return read_records(data, _keyset_key)


def encode_keyset_keys(keys: Iterable[KeysetKey]) -> bytes:
    return write_records(
        {
            "id": key.id,
            "keyset_id": key.keyset_id,
            "created": key.created,
            "activates": key.activates,
            "expires": key.expires,
            "secret": encode_base64(key.secret.reveal()),
        }
        for key in keys
    )


@final
class KeyRing:
    """All keysets and keys of one moment. Of two keysets or keys with one id the later in the file counts."""

    __slots__ = ("_by_activation", "_default_keysets", "_keys", "_keysets", "_readable")

    def __init__(self, keysets: Iterable[Keyset], keys: Iterable[KeysetKey]) -> None:
        listed = tuple(keys)
        self._keysets = {keyset.keyset_id: keyset for keyset in keysets}
        self._keys = {key.id: key for key in listed}
        grouped: dict[KeysetId, list[KeysetKey]] = {}
        # The sort is stable: of equal activation times the one later in the file comes last and so wins.
        for key in sorted(listed, key=lambda key: key.activates):
            grouped.setdefault(key.keyset_id, []).append(key)
        self._by_activation = {
            keyset_id: ([key.activates for key in members], members) for keyset_id, members in grouped.items()
        }
        self._default_keysets: dict[SiteId, list[Keyset]] = {}
        for keyset in self._keysets.values():
            if keyset.enabled and keyset.default:
                self._default_keysets.setdefault(keyset.site_id, []).append(keyset)
        self._readable = sorted(
            (key for key in listed if key.keyset_id in self._keysets and key.keyset_id != REFRESH_KEYSET),
            key=lambda key: key.id,
        )

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def keysets(self) -> Collection[Keyset]:
        return self._keysets.values()

    @property
    def keys(self) -> Collection[KeysetKey]:
        return self._keys.values()

    def key(self, key_id: int) -> KeysetKey | None:
        """The key of that id from any keyset, active or not; None when there is none."""
        return self._keys.get(KeyId(key_id))

    def active(self, keyset_id: KeysetId, at: EpochSeconds) -> KeysetKey | None:
        """The most recently activated key that has not expired (7.4)."""
        activations, members = self._by_activation.get(keyset_id, ((), ()))
        for index in range(bisect_right(activations, at) - 1, -1, -1):
            if members[index].expires > at:
                return members[index]
        return None

    def master(self, at: EpochSeconds) -> KeysetKey:
        key = self.active(MASTER_KEYSET, at)
        if key is None:
            raise NoActiveKeyError(
                f"Cannot get a master key with keyset ID {MASTER_KEYSET}.", next_step="rotate the master keys"
            )
        return key

    def refresh(self, at: EpochSeconds) -> KeysetKey:
        key = self.active(REFRESH_KEYSET, at)
        if key is None:
            raise NoActiveKeyError(
                f"Cannot get a refresh key with keyset ID {REFRESH_KEYSET}.", next_step="rotate the master keys"
            )
        return key

    def default_keyset(self, site_id: SiteId) -> Keyset | None:
        """The one enabled default keyset of a site; MultipleDefaultKeysetsError when there are more."""
        found = self._default_keysets.get(site_id, ())
        if len(found) > 1:
            raise MultipleDefaultKeysetsError(
                f"Multiple default keysets are enabled with SITE ID {site_id}.",
                next_step="leave one keyset of the site enabled and default",
            )
        return found[0] if found else None

    def site_key(self, site_id: SiteId, at: EpochSeconds) -> SiteKeyChoice:
        """The key for a site's tokens, else the fallback publisher's (7.5).

        NoActiveKeyError, counted as KEYSET_NOT_FOUND, when neither has an active key.
        """
        for site, status in ((site_id, SITE_KEYSET_FOUND), (FALLBACK_SITE, FALLBACK_KEYSET_FOUND)):
            keyset = self.default_keyset(site)
            key = None if keyset is None else self.active(keyset.keyset_id, at)
            if key is not None:
                return SiteKeyChoice(key, status)
        raise NoActiveKeyError(
            f"Cannot get active key in default keyset with SITE ID {site_id} or {FALLBACK_SITE}.",
            next_step="rotate the keys of the site",
        )

    def keyset(self, keyset_id: KeysetId) -> Keyset | None:
        return self._keysets.get(keyset_id)

    def keyset_of(self, key: KeysetKey) -> Keyset | None:
        return self._keysets.get(key.keyset_id)

    def readable_by(self, site_id: SiteId, roles: Collection[Role]) -> list[KeysetKey]:
        """The keys a caller is given, ascending by id, active or not; refresh keys never (operator chapter, 12.4)."""
        admitted = {
            keyset_id
            for keyset_id, keyset in self._keysets.items()
            if keyset_id == MASTER_KEYSET or keyset.admits(site_id, roles)
        }
        return [key for key in self._readable if key.keyset_id in admitted]


def _keyset(record: RecordReader) -> Keyset:
    allowed = record.items("allowed_sites", int)
    return Keyset(
        keyset_id=KeysetId(record.integer("keyset_id")),
        site_id=SiteId(record.integer("site_id")),
        name=record.optional_text("name"),
        allowed_sites=None if allowed is None else frozenset(map(SiteId, allowed)),
        created=EpochSeconds(record.long("created")),
        enabled=record.boolean("enabled"),
        default=record.boolean("default"),
    )


def _keyset_key(record: RecordReader) -> KeysetKey:
    secret = record.decoded("secret", KEY_LENGTH)
    return KeysetKey(
        id=KeyId(record.integer("id")),
        keyset_id=KeysetId(record.integer("keyset_id")),
        created=EpochSeconds(record.long("created")),
        activates=EpochSeconds(record.long("activates")),
        expires=EpochSeconds(record.long("expires")),
        secret=Secret(secret),
        gcm=GcmKey(secret),
    )
