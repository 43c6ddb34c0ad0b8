"""Privacy bits of a token (tokens chapter, 8.4). Bit 0 is always set and has no meaning of its own."""

from typing import Final

LEGACY: Final = 1
CLIENT_SIDE_FLAG: Final = 2

GENERATED: Final = LEGACY
CLIENT_SIDE: Final = LEGACY | CLIENT_SIDE_FLAG


def is_client_side(privacy_bits: int) -> bool:
    """Whether the token came from client-side generation."""
    return bool(privacy_bits & CLIENT_SIDE_FLAG)
