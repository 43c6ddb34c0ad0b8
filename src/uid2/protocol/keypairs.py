"""Key pairs of client-side token generation (core chapter, 9.12), strict.

Both keys are texts of nine characters of prefix (`UID2-X-L-` public, `UID2-Y-L-` private) and base64 DER.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

from uid2.protocol.crypto.ecdh import load_private_key, load_public_key
from uid2.protocol.encoding import decode_base64
from uid2.protocol.ids import EpochSeconds, SiteId
from uid2.protocol.secret import Secret
from uid2.protocol.store_json import RecordReader, check_unique, read_records, write_records

PREFIX_LENGTH: Final = 9
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class ClientSideKeypair:
    """`private_key` and `public_key` are loaded; `private_key_text` and `public_key_text` are as stored."""

    subscription_id: str
    site_id: SiteId
    public_key_text: str
    private_key_text: Secret
    public_key: EllipticCurvePublicKey = field(repr=False, compare=False)
    private_key: EllipticCurvePrivateKey = field(repr=False, compare=False)
    contact: str | None
    created: EpochSeconds
    disabled: bool
    name: str = ""


def parse_client_side_keypairs(data: bytes) -> tuple[ClientSideKeypair, ...]:
    keypairs = read_records(data, _keypair)
    check_unique(keypairs, lambda keypair: keypair.subscription_id, "subscription_id")
    return keypairs


def encode_client_side_keypairs(keypairs: Iterable[ClientSideKeypair]) -> bytes:
    return write_records(
        {
            "subscription_id": keypair.subscription_id,
            "public_key": keypair.public_key_text,
            "private_key": keypair.private_key_text.reveal().decode(),
            "site_id": keypair.site_id,
            "contact": keypair.contact,
            "created": keypair.created,
            "disabled": keypair.disabled,
            "name": keypair.name,
        }
        for keypair in keypairs
    )


def _keypair(record: RecordReader) -> ClientSideKeypair:
    return ClientSideKeypair(
        subscription_id=record.text("subscription_id"),
        site_id=SiteId(record.integer("site_id")),
        public_key_text=record.text("public_key"),
        private_key_text=Secret(record.text("private_key").encode()),
        public_key=_key(record, "public_key", load_public_key, "bad public key"),
        private_key=_key(record, "private_key", load_private_key, "bad private key"),
        contact=record.optional_text("contact"),
        created=EpochSeconds(record.long("created")),
        disabled=record.boolean("disabled"),
        name=record.text("name", ""),
    )


def _key(record: RecordReader, member: str, load: Callable[[bytes], K], complaint: str) -> K:
    try:
        return load(decode_base64(record.text(member)[PREFIX_LENGTH:]))
    except ValueError:
        raise record.wrong(member, complaint) from None
