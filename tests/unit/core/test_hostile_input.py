"""Whatever a caller sends, Core answers below 500 and goes on."""

import json
from collections.abc import Callable
from typing import Any

from core_stage import GCP, PUBLIC, PUBLIC_KEY, Core
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uid2.protocol.encoding import encode_base64

QUIET = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(encode_base64(PUBLIC_KEY)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
MEMBERS = (
    "attestation_request",
    "public_key",
    "operator_type",
    "application_name",
    "application_version",
    "components",
    "report_data_version",
    "nonce",
)
documents = st.fixed_dictionaries({}, optional=dict.fromkeys(MEMBERS, values))
headers = st.dictionaries(
    st.sampled_from(["Attestation-Token", "Attestation-JWT", "Encrypted", "X-UID2-AppVersion", "UID-Instance-Id"]),
    st.text(st.characters(codec="latin-1"), max_size=60),
)


@QUIET
@given(documents | values, headers, st.sampled_from([PUBLIC, GCP]))
def test_bodies_of_attest(core: Core, document: Any, fields: dict[str, str], key: str) -> None:
    body = json.dumps(document).encode("utf-8", "surrogatepass")
    assert core.call("POST", "/attest", key, body=body, headers=fields).status in (200, 400, 403)


@QUIET
@given(st.binary(max_size=200))
def test_bytes_at_attest(core: Core, body: bytes) -> None:
    assert core.call("POST", "/attest", GCP, body=body).status == 400


@QUIET
@given(st.text(st.characters(codec="latin-1"), max_size=80), headers)
def test_keys_and_headers_at_the_gate(core: Core, key: str, fields: dict[str, str]) -> None:
    assert core.call("GET", "/clients/refresh", key, headers=fields).status == 401
    assert core.call("GET", "/clients/refresh", GCP, headers=fields).status == 401
    assert core.call("GET", "/clients/refresh", PUBLIC, headers=fields).status == 200


@QUIET
@given(st.text(max_size=30), st.text(max_size=20), st.text(max_size=30))
def test_addresses_of_files(core: Core, path: str, expires: str, signature: str) -> None:
    query = {"expires": expires, "signature": signature}
    assert core.call("GET", f"/files/{path}", query=query).status in (403, 404)


def test_a_jwt_from_outside_is_read_only_by_a_core_that_can_verify(start: Callable[..., Core]) -> None:
    core = start()
    for jwt in ("e30.e30.e30", "..", "\xff.\xff.\xff", "a" * 20_000):
        assert core.get("/clients/refresh", PUBLIC, attestation_jwt=jwt).status == 200
