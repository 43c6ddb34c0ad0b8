import msgspec
import pytest

from uid2.optout.messages import OptOutMessage, QueuedMessage, UnusableMessageError
from uid2.protocol.encoding import encode_base64
from uid2.protocol.ids import EpochMillis

MESSAGE = OptOutMessage(bytes(range(32)), bytes(33), "trace \u20ac", email="who@example.com")
OWN = MESSAGE.encode()


def members(**changed: object) -> bytes:
    return msgspec.json.encode({**msgspec.json.decode(OWN), **changed})


def test_a_message_reads_as_it_was_written() -> None:
    assert OptOutMessage.decode(OWN) == MESSAGE
    assert list(msgspec.json.decode(OWN).items()) == [
        ("identity_hash", encode_base64(MESSAGE.identity_hash)),
        ("advertising_id", encode_base64(MESSAGE.advertising_id)),
        ("uid_trace_id", "trace \u20ac"),
        ("client_ip", None),
        ("email", "who@example.com"),
        ("phone", None),
    ]


@pytest.mark.parametrize(
    "body",
    [
        members(more={"of": ["others"]}),
        OWN.replace(b'="', b'"'),
        b"/* a note */ " + OWN,
        OWN.replace(b"{", b'{"identity_hash":"AAAA",', 1),
        OWN.replace(b',"phone":null', b""),
    ],
    ids=["more members", "no padding", "comment", "the last of two counts", "a member less"],
)
def test_what_other_programs_write_is_the_same_message(body: bytes) -> None:
    assert body != OWN
    assert OptOutMessage.decode(body) == MESSAGE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"\xff",
        OWN.replace(b"trace", b"\xff\xfe"),
        b"[" * 100_000,
        OWN[:-1],
        members(identity_hash="A" * 40),
        members(identity_hash=encode_base64(bytes(32))),
        members(advertising_id=encode_base64(bytes(31))),
        members(advertising_id=None),
        members(phone=7),
        OWN.replace(b"AAECAwQF", b"AAECAw F"),
    ],
)
def test_what_is_no_optout_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(UnusableMessageError):
        OptOutMessage.decode(body)


def test_no_text_of_a_message_tells_of_the_person() -> None:
    shown = f"{MESSAGE!r} {MESSAGE} {QueuedMessage(7, EpochMillis(1), MESSAGE, 'receipt')!r}"
    assert shown == "OptOutMessage() OptOutMessage() QueuedMessage(7)"
