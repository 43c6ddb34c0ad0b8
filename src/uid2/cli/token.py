"""`uid2 token`: make a token, open it, refresh it, and say what happened."""

from typing import TYPE_CHECKING, Annotated

import typer

from uid2.cli.layout import distance, moment, section
from uid2.cli.target import DEFAULT_STATE, KeyOption, SecretOption, StateOption, UrlOption, operator_client

if TYPE_CHECKING:
    from uid2.client.answers import SiteKey, TokenBody
    from uid2.client.operator import OperatorClient


def token(
    identity: Annotated[str, typer.Argument(help="An e-mail address, or a phone number as +14155550100.")],
    url: UrlOption = None,
    key: KeyOption = None,
    secret: SecretOption = None,
    state: StateOption = DEFAULT_STATE,
    consent: Annotated[
        str | None, typer.Option("--tcf-consent", help="TCF consent string, for EUID operators.", show_default=False)
    ] = None,
) -> None:
    """Generate a token, show what it decrypts to and how long it lives, then refresh it."""
    members = identity_member(identity)
    if consent is not None:
        members["tcf_consent_string"] = consent
    with operator_client(url, key, secret, state) as client:
        answer = client.generate(members)
        if answer.body is None:
            print(_no_token(answer.status))
            return
        keys = _readable_keys(client)
        print(_described(f"Token for {identity}", answer.body, keys))
        _show_refresh(client, answer.body, keys)


def identity_member(identity: str) -> dict[str, str]:
    """The request member for what a person typed; ConfigurationError when it is neither address nor number."""
    from uid2.protocol.errors import ConfigurationError
    from uid2.protocol.normalize import is_phone, normalize_email

    if is_phone(identity):
        return {"phone": identity}
    if normalize_email(identity) is None:
        raise ConfigurationError(
            "this is neither an e-mail address nor a phone number",
            next_step="give an address such as someone@example.com, or + and 10 to 15 digits",
        )
    return {"email": identity}


def _readable_keys(client: "OperatorClient") -> "list[SiteKey] | None":
    """The keys this client may decrypt with; None when its roles allow none."""
    from uid2.client.refusal import OperatorRefusalError

    try:
        return client.sharing_keys().keys
    except OperatorRefusalError as refusal:
        if refusal.http_status == 401:
            return None
        raise


def _show_refresh(client: "OperatorClient", body: "TokenBody", keys: "list[SiteKey] | None") -> None:
    answer = client.refresh(body)
    if answer.body is None:
        print(f"Refreshed: {_no_token(answer.status)}")
        return
    print(_described("Refreshed with the refresh token alone, as a browser does it", answer.body, keys))


def _described(title: str, body: "TokenBody", keys: "list[SiteKey] | None") -> str:
    texts = [
        ("advertising token", body.advertising_token),
        ("refresh token", body.refresh_token),
        ("response key", body.refresh_response_key),
    ]
    times = [
        (name, f"{moment(at)}  ({distance(at)})")
        for name, at in (
            ("refresh from", body.refresh_from),
            ("expires", body.identity_expires),
            ("refresh until", body.refresh_expires),
        )
    ]
    parts = [section(title, texts), section("decrypts to", _contents(body, keys)), section("lifetimes", times)]
    return "\n".join(parts)


def _contents(body: "TokenBody", keys: "list[SiteKey] | None") -> list[tuple[str, object]]:
    from uid2.cli.explained import token_rows
    from uid2.client.delivered_keys import open_with

    if keys is None:
        return [("(nothing)", "this client key has neither the role SHARER nor ID_READER")]
    return token_rows(open_with(body.advertising_token, keys))


def _no_token(status: str) -> str:
    if status == "optout":
        return "optout: this person has opted out, so there is no token."
    if status == "insufficient_user_consent":
        return "insufficient_user_consent: the consent string does not allow a token."
    return f"{status}: no token."
