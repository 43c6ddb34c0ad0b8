"""The official SDK as a publisher: generate and refresh."""

import urllib.error

import pytest
from uid2_client import TokenGenerateInput, Uid2PublisherClient

from running_stack import Stack

INPUTS = {
    "email": TokenGenerateInput.from_email("reader@example.com"),
    "raw email": TokenGenerateInput.from_email("reader@example.com").do_not_hash(),
    "phone": TokenGenerateInput.from_phone("+14155550100"),
    "email hash": TokenGenerateInput.from_hashed_email("tMmiiTI7IaAcPpQPFQ65uMVCWH8av9jw4cwf/F5HVRQ="),
    "phone hash": TokenGenerateInput.from_hashed_phone("wdN1alhrbw1Bmz49GzKGdPvGxLhCNn7n3teAOQ/FSK4="),
}
FIRST_LETTER = {("uid2", False): "A", ("uid2", True): "B", ("euid", False): "E", ("euid", True): "F"}


@pytest.mark.parametrize("name", INPUTS)
def test_generated_token_has_every_field(stack: Stack, name: str) -> None:
    answer = Uid2PublisherClient(stack.url, stack.key, stack.secret).generate_token(INPUTS[name])

    assert answer.is_success()
    tokens = answer.get_identity()
    assert tokens.get_advertising_token().startswith(FIRST_LETTER[stack.scope, "phone" in name] + "4")
    assert len(tokens.get_refresh_token()) == 388
    assert tokens.get_refresh_from() < tokens.get_identity_expires() < tokens.get_refresh_expires()


def test_a_token_refreshes_again_and_again(stack: Stack) -> None:
    client = Uid2PublisherClient(stack.url, stack.key, stack.secret)
    first = client.generate_token(INPUTS["email"]).get_identity()

    refreshed = client.refresh_token(first)
    again = client.refresh_token(refreshed.get_identity())

    assert refreshed.is_success()
    assert again.is_success()
    texts = {t.get_advertising_token() for t in (first, refreshed.get_identity(), again.get_identity())}
    assert len(texts) == 3


def test_an_opted_out_person_gets_no_token(stack: Stack) -> None:
    client = Uid2PublisherClient(stack.url, stack.key, stack.secret)

    answer = client.generate_token(TokenGenerateInput.from_email("optout@example.com"))

    assert answer.is_optout()
    assert answer.get_identity() is None


def test_opting_out_shows_at_the_refresh(stack: Stack) -> None:
    client = Uid2PublisherClient(stack.url, stack.key, stack.secret)
    tokens = client.generate_token(TokenGenerateInput.from_email("refresh-optout@example.com")).get_identity()

    assert client.refresh_token(tokens).is_optout()


def test_a_wrong_secret_is_told_apart_from_a_wrong_key(stack: Stack) -> None:
    other_secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    with pytest.raises(urllib.error.HTTPError) as wrong_secret:
        Uid2PublisherClient(stack.url, stack.key, other_secret).generate_token(INPUTS["email"])
    with pytest.raises(urllib.error.HTTPError) as wrong_key:
        Uid2PublisherClient(stack.url, stack.key + "x", stack.secret).generate_token(INPUTS["email"])

    assert (wrong_secret.value.code, wrong_key.value.code) == (400, 401)


def test_consent_is_asked_of_euid_only(uid2_stack: Stack, euid_stack: Stack) -> None:
    insufficient = "CPehXK9PehXK9ABAMBFRACBoADAAAEJAAIYgAKwAQAKgArABAAqAAA"
    given = TokenGenerateInput.from_email("reader@example.com").with_transparency_and_consent_string(insufficient)

    answer = Uid2PublisherClient(uid2_stack.url, uid2_stack.key, uid2_stack.secret).generate_token(given)
    euid = Uid2PublisherClient(euid_stack.url, euid_stack.key, euid_stack.secret)

    assert answer.is_success()
    with pytest.raises(ValueError, match="insufficient_user_consent"):
        euid.generate_token(given)
