"""Design layer 10: canaries go through every path; afterwards nothing but the listed files holds them."""

import base64
import hashlib
import json
import os
import re
import subprocess
from pathlib import Path

import httpx
import pytest

from running_stack import Stack, command, running_stack
from uid2.client.operator import OperatorClient
from uid2.client.refusal import OperatorRefusalError
from uid2.protocol.encoding import decode_base64

CANARY = "canary.8f3a1c@leak-probe.example"
PHONE = "+19995550187"
LOGGED_OUT = "canary.optout.77d1@leak-probe.example"
MALFORMED = "canary-malformed-51aa"

ALLOWED = {
    "client key": {"credentials.json"},
    "client secret": {"credentials.json", "clients.json"},
    "operator key": {"programs.json", "config.json"},
    "key of the opt-out service": {"programs.json", "config.json"},
    "secret of attestation tokens": {"config.json"},
}


def forms(value: bytes) -> set[bytes]:
    """The value itself and its base64 (at each alignment), base64url and hex, wherever these are long enough."""
    found = {value, value.hex().encode(), value.hex().upper().encode()}
    for shift in range(3):
        # drop what depends on the neighbours: the characters around the value
        text = base64.b64encode(b"\0" * shift + value)
        inner = text[4 if shift else 0 : len(text) // 4 * 4 - 4]
        found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return {form for form in found if len(form) >= 8}


def calls(stack: Stack) -> tuple[dict[str, bytes], list[bytes]]:
    """Good and bad calls with canaries; gives what must not appear, and the bodies of every refusal."""
    refusals: list[bytes] = []
    needles = {
        "address": CANARY.encode(),
        "phone": PHONE.encode(),
        "opted-out address": LOGGED_OUT.encode(),
        "malformed address": MALFORMED.encode(),
        "address hash": hashlib.sha256(CANARY.encode()).digest(),
        "client key": stack.key.encode(),
        "client secret": decode_base64(stack.secret),
        "client secret text": stack.secret.encode(),
    }
    with OperatorClient(stack.url, stack.key, stack.secret) as client:
        body = client.generate({"email": CANARY}).body
        assert body is not None
        refreshed = client.refresh(body).body
        assert refreshed is not None
        needles |= {
            "advertising token": body.advertising_token.encode(),
            "refresh token": refreshed.refresh_token.encode(),
            "response key": decode_base64(body.refresh_response_key),
        }
        assert client.validate(body.advertising_token, {"email": CANARY})
        rows = client.map_v3({"email": [CANARY, MALFORMED], "phone": [PHONE]})
        raw_uid = rows.email[0].u
        assert raw_uid is not None
        needles["raw UID"] = decode_base64(raw_uid)
        client.map_v2("email", [CANARY, MALFORMED])
        client.optout_status([raw_uid])
        client.logout({"email": LOGGED_OUT})
        assert client.generate({"email": LOGGED_OUT}).status == "optout"
        bad = [
            lambda: client.generate({"email": MALFORMED}),
            lambda: client.generate({"email": CANARY, "phone": PHONE}),
            lambda: client.validate(body.advertising_token[:-8] + "AAAAAAAA", {"email": CANARY}),
            lambda: client.map_v3({CANARY: [CANARY]}),
            lambda: client.logout({"email": MALFORMED}),
        ]
        for call in bad:
            with pytest.raises(OperatorRefusalError) as refusal:
                call()
            refusals.append(refusal.value.diagnosis().encode())
    with httpx.Client(base_url=stack.url) as http:
        authorization = {"Authorization": f"Bearer {stack.key}"}
        refresh_token = refreshed.refresh_token
        for path, content, headers in (
            ("/v2/token/generate", json.dumps({"email": CANARY}).encode(), authorization),
            ("/v2/token/generate", body.advertising_token.encode(), authorization),
            ("/v2/token/generate", b"x", {"Authorization": f"Bearer {stack.key}broken"}),
            ("/v2/token/generate", b"x", {"Authorization": stack.key}),
            ("/v2/token/refresh", (refresh_token[:200] + "A" * 8 + refresh_token[208:]).encode(), authorization),
            ("/v2/token/refresh", refresh_token[:100].encode(), {}),
            ("/v2/token/client-generate", json.dumps({"subscription_id": stack.key, "x": CANARY}).encode(), {}),
            (f"/v2/{CANARY}", refresh_token.encode(), {"Referer": f"https://example.com/{CANARY}"}),
        ):
            answer = http.post(path, content=content, headers=headers)
            assert 400 <= answer.status_code < 500
            refusals.append(answer.content)
    return needles, refusals


def secrets_of_programs(state: Path) -> dict[str, bytes]:
    keys = json.loads((state / "stores-uid2" / "programs.json").read_bytes())
    core = json.loads((state / "core-uid2" / "config.json").read_bytes())
    return {
        "operator key": keys["operators"][0].encode(),
        "key of the opt-out service": keys["optout"].encode(),
        "secret of attestation tokens": core["att_token_enc_key"].encode(),
    }


def test_no_canary_is_left_behind(tmp_path: Path) -> None:
    with running_stack(tmp_path) as stack:
        needles, refusals = calls(stack)
        watched = [httpx.get(f"{stack.ops_url}{path}").content for path in ("/metrics", "/ops/status")]
        assert b"uid2_" in watched[0]
        needles |= secrets_of_programs(tmp_path)
    log = stack.log.read_bytes()
    assert re.search(rb"[a-z]", log)
    texts = {"metrics": watched[0], "status": watched[1], "refusals": b"\n".join(refusals)}
    for path in tmp_path.rglob("*"):
        if path.is_file():
            texts[str(path.relative_to(tmp_path))] = path.read_bytes()

    left = [
        (name, where)
        for name, value in needles.items()
        for form in forms(value)
        for where, text in texts.items()
        if form in text and Path(where).name not in ALLOWED.get(name.removesuffix(" text"), set())
    ]

    assert left == []


def test_the_search_finds_what_it_looks_for() -> None:
    value = os.urandom(24)
    for text in (
        value,
        base64.b64encode(value),
        base64.b64encode(b"a" + value + b"tail"),
        base64.urlsafe_b64encode(b"ab" + value),
        value.hex().encode(),
    ):
        assert any(form in b"before " + text + b" after" for form in forms(value))


def test_a_command_that_fails_shows_no_secret(tmp_path: Path) -> None:
    secret = base64.b64encode(b"k" * 31).decode()
    result = subprocess.run(
        command("token", CANARY, "--url", "http://127.0.0.1:9", "--key", "canary-key-9911", "--secret", secret),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )

    assert result.returncode == 2
    for value in (CANARY, "canary-key-9911", secret):
        assert value not in result.stdout + result.stderr
