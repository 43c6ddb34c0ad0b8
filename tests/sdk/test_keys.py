"""The official SDK with keys: bidstream decryption, sharing both ways."""

import pytest
from uid2_client import (
    BidstreamClient,
    DecryptionStatus,
    IdentityMapV3Client,
    IdentityMapV3Input,
    SharingClient,
    TokenGenerateInput,
    Uid2PublisherClient,
)

from running_stack import Stack

EMAIL = "reader@example.com"
PHONE = "+14155550100"


def raw_uid(stack: Stack, given: IdentityMapV3Input, name: str) -> str:
    client = IdentityMapV3Client(stack.url, stack.key, stack.secret)
    return client.generate_identity_map(given).mapped_identities[name].current_raw_uid


@pytest.mark.parametrize("kind", ["email", "phone"])
def test_bidstream_decrypts_a_generated_token(stack: Stack, kind: str) -> None:
    given = TokenGenerateInput.from_email(EMAIL) if kind == "email" else TokenGenerateInput.from_phone(PHONE)
    mapped = IdentityMapV3Input.from_emails([EMAIL]) if kind == "email" else IdentityMapV3Input.from_phones([PHONE])
    publisher = Uid2PublisherClient(stack.url, stack.key, stack.secret)
    token = publisher.generate_token(given).get_identity().get_advertising_token()
    bidstream = BidstreamClient(stack.url, stack.key, stack.secret)
    assert bidstream.refresh().success

    opened = bidstream.decrypt_token_into_raw_uid(token, "example.com")

    assert opened.status == DecryptionStatus.SUCCESS
    assert opened.uid == raw_uid(stack, mapped, EMAIL if kind == "email" else PHONE)
    assert opened.site_id == stack.site_id


def test_bidstream_decrypts_a_refreshed_token(stack: Stack) -> None:
    publisher = Uid2PublisherClient(stack.url, stack.key, stack.secret)
    tokens = publisher.generate_token(TokenGenerateInput.from_email(EMAIL)).get_identity()
    refreshed = publisher.refresh_token(tokens).get_identity()
    bidstream = BidstreamClient(stack.url, stack.key, stack.secret)
    assert bidstream.refresh().success

    opened = [
        bidstream.decrypt_token_into_raw_uid(t.get_advertising_token(), "example.com") for t in (tokens, refreshed)
    ]

    assert opened[0].uid == opened[1].uid
    assert opened[0].established == opened[1].established


def test_sharing_encrypts_and_decrypts(stack: Stack) -> None:
    sharing = SharingClient(stack.url, stack.key, stack.secret)
    assert sharing.refresh().success
    uid = raw_uid(stack, IdentityMapV3Input.from_emails([EMAIL]), EMAIL)

    token = sharing.encrypt_raw_uid_into_token(uid).encrypted_data
    opened = sharing.decrypt_token_into_raw_uid(token)

    assert opened.status == DecryptionStatus.SUCCESS
    assert opened.uid == uid
    assert opened.site_id == stack.site_id


def test_sharing_client_reads_a_publishers_token(stack: Stack) -> None:
    publisher = Uid2PublisherClient(stack.url, stack.key, stack.secret)
    token = publisher.generate_token(TokenGenerateInput.from_email(EMAIL)).get_identity().get_advertising_token()
    sharing = SharingClient(stack.url, stack.key, stack.secret)
    assert sharing.refresh().success

    assert sharing.decrypt_token_into_raw_uid(token).uid == raw_uid(
        stack, IdentityMapV3Input.from_emails([EMAIL]), EMAIL
    )


def test_a_changed_token_does_not_decrypt(uid2_stack: Stack) -> None:
    stack = uid2_stack
    publisher = Uid2PublisherClient(stack.url, stack.key, stack.secret)
    token = publisher.generate_token(TokenGenerateInput.from_email(EMAIL)).get_identity().get_advertising_token()
    changed = token[:100] + ("A" if token[100] != "A" else "B") + token[101:]
    bidstream = BidstreamClient(stack.url, stack.key, stack.secret)
    assert bidstream.refresh().success

    with pytest.raises(Exception, match="invalid payload"):
        bidstream.decrypt_token_into_raw_uid(changed, "example.com")
