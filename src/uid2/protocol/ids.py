"""Identifiers, codes and enumerations of the protocol (tokens chapter, sections 1 and 7.3)."""

from enum import IntEnum, StrEnum
from typing import Final, NewType

SiteId = NewType("SiteId", int)
KeyId = NewType("KeyId", int)
KeysetId = NewType("KeysetId", int)
EpochMillis = NewType("EpochMillis", int)
EpochSeconds = NewType("EpochSeconds", int)
IdentityHash = NewType("IdentityHash", bytes)
FirstLevelHash = NewType("FirstLevelHash", bytes)
RawUid = NewType("RawUid", bytes)

MASTER_KEYSET: Final = KeysetId(-1)
REFRESH_KEYSET: Final = KeysetId(-2)
FALLBACK_KEYSET: Final = KeysetId(2)
SDK_MASTER_KEYSET: Final = KeysetId(9999999)
MASTER_SITE: Final = SiteId(-1)
REFRESH_SITE: Final = SiteId(-2)
FALLBACK_SITE: Final = SiteId(2)


class IdentityScope(IntEnum):
    UID2 = 0
    EUID = 1


class IdentityType(IntEnum):
    EMAIL = 0
    PHONE = 1


class Environment(IntEnum):
    TEST = 0
    INTEG = 1
    PROD = 2


class RawUidVersion(IntEnum):
    V2 = 2
    V3 = 3
    V4 = 4


class TokenVersion(IntEnum):
    """Version byte of a token."""

    V2 = 2
    V3 = 112
    V4 = 128


class Role(StrEnum):
    """Roles in enumeration order (core chapter, 10.3); unknown names load as UNKNOWN and grant nothing."""

    GENERATOR = "GENERATOR"
    MAPPER = "MAPPER"
    ID_READER = "ID_READER"
    SHARER = "SHARER"
    OPERATOR = "OPERATOR"
    OPTOUT = "OPTOUT"
    OPTOUT_SERVICE = "OPTOUT_SERVICE"
    CLIENTKEY_ISSUER = "CLIENTKEY_ISSUER"
    OPERATOR_MANAGER = "OPERATOR_MANAGER"
    SECRET_MANAGER = "SECRET_MANAGER"  # noqa: S105 - a role's name
    ADMINISTRATOR = "ADMINISTRATOR"
    SHARING_PORTAL = "SHARING_PORTAL"
    PRIVATE_SITE_REFRESHER = "PRIVATE_SITE_REFRESHER"
    MAINTAINER = "MAINTAINER"
    PRIVILEGED = "PRIVILEGED"
    SUPER_USER = "SUPER_USER"
    SECRET_ROTATION = "SECRET_ROTATION"  # noqa: S105 - a role's name
    PRIVATE_OPERATOR_SYNC = "PRIVATE_OPERATOR_SYNC"
    METRICS_EXPORT = "METRICS_EXPORT"
    ENCLAVE_REGISTRAR = "ENCLAVE_REGISTRAR"
    ADMIN_READ_ONLY = "ADMIN_READ_ONLY"
    ADMIN_CREATE = "ADMIN_CREATE"
    UNKNOWN = "UNKNOWN"

    @classmethod
    def parse(cls, name: str) -> "Role":
        """The role of that name in any letter case, else UNKNOWN."""
        return cls.__members__.get(name.upper(), cls.UNKNOWN)
