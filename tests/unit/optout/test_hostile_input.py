"""Whatever arrives at a running service: a clear refusal, never a 5xx, nothing kept, nobody named in the log."""

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from optout_process import RunningOptOut, running_optout
from optout_stage import INTERNAL, KEY, READER, OptOut, parameters

GOOD = parameters(4711)
EMAIL = "hostile.person@example.com"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
DEEP = b'{"email":' + b"[" * 200_000 + b"]" * 200_000 + b"}"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningOptOut]:
    folder = tmp_path_factory.mktemp("hostile")
    with running_optout(folder, optout_partner_endpoint_mock=True) as service:
        yield service
        # The last test of all: nothing of what was refused is in a file, and no log line names anybody.
        service.produce()
        assert set(OptOut(folder).recorded()) <= {1, 2, 3, 4}
        log = service.log
        for canary in (EMAIL, GOOD["identity_hash"], GOOD["advertising_id"], quote(GOOD["identity_hash"], safe="")):
            assert canary not in log
        for word in ("Traceback", "a handler failed", KEY, READER, INTERNAL):
            assert word not in log


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


REFUSED: dict[str, tuple[int, dict[str, Any]]] = {
    "hash of 31 bytes": (400, {"params": GOOD | {"identity_hash": encoded(b"\1" * 31)}}),
    "hash of 33 bytes": (400, {"params": GOOD | {"identity_hash": encoded(b"\1" * 33)}}),
    "no hash at all": (400, {"params": GOOD | {"identity_hash": ""}}),
    "id of 31 bytes": (400, {"params": GOOD | {"advertising_id": encoded(b"\1" * 31)}}),
    "id of 34 bytes": (400, {"params": GOOD | {"advertising_id": encoded(b"\1" * 34)}}),
    "base64url": (400, {"params": GOOD | {"identity_hash": base64.urlsafe_b64encode(b"\xfb" * 32).decode()}}),
    "hexadecimal": (400, {"params": GOOD | {"identity_hash": "07" * 32}}),
    "not UTF-8": (400, {"query": b"identity_hash=%ff%fe&advertising_id=%00"}),
    "a NUL in it": (400, {"query": b"identity_hash=" + b"A" * 43 + b"%00&advertising_id=A"}),
    "a space for a plus": (400, {"query": b"identity_hash=" + b"+" * 43 + b"=&advertising_id=" + b"A" * 43 + b"="}),
    "the id twice": (400, {"params": [*GOOD.items(), ("advertising_id", GOOD["advertising_id"])]}),
    "hash in query and form": (
        400,
        {"params": GOOD, "headers": FORM, "content": urlencode({"identity_hash": GOOD["identity_hash"]}).encode()},
    ),
    "all zero": (400, {"params": GOOD | {"identity_hash": encoded(bytes(32))}}),
    "all one": (400, {"params": GOOD | {"identity_hash": encoded(b"\xff" * 32)}}),
    "deep JSON": (400, {"params": GOOD, "content": DEEP}),
    "a lone surrogate": (400, {"params": GOOD, "content": b'{"email":"\\ud800' + EMAIL.encode() + b'"}'}),
    "not UTF-8 JSON": (400, {"params": GOOD, "content": b'{"email":"\xff\xfe"}'}),
    "a number for an address": (400, {"params": GOOD, "content": b'{"client_ip":1e999}'}),
    "a very long e-mail": (400, {"params": GOOD, "content": json.dumps({"email": EMAIL * 1000}).encode()}),
    "half of an object": (400, {"params": GOOD, "content": b'{"email":"' + EMAIL.encode()}),
    "two objects": (400, {"params": GOOD, "content": b"{}{}"}),
    "a very long trace id": (400, {"params": GOOD, "headers": {"UID-Trace-Id": "x" * 5000}}),
    "too many form fields": (400, {"headers": FORM, "content": b"&".join(b"a%d=1" % n for n in range(300))}),
    "too many query fields": (400, {"query": b"&".join(b"a%d=1" % n for n in range(300))}),
    "multipart on GET": (
        400,
        {"method": "GET", "params": GOOD, "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
    ),
    "another method": (400, {"method": "DELETE", "params": GOOD}),
    "a form of more than 1 MiB": (413, {"headers": FORM, "content": b"a=" + b"x" * (1 << 20)}),
    "a body of 11 MB": (413, {"params": GOOD, "content": b"x" * 11_000_000}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(service: RunningOptOut, name: str) -> None:
    status, members = REFUSED[name]
    members = dict(members)
    query = members.pop("query", None)
    url = f"{service.url}/optout/replicate" + ("" if query is None else "?" + query.decode())
    headers = AUTHORIZED | members.pop("headers", {})
    answer = httpx.request(members.pop("method", "POST"), url, headers=headers, timeout=60, **members)
    assert answer.status_code == status
    assert answer.text
    assert EMAIL not in answer.text
    assert GOOD["identity_hash"] not in answer.text
    assert service.status()["queue"]["waiting"] == len(taken)


taken: list[int] = []


@pytest.mark.parametrize(
    ("number", "members"),
    [
        (1, {"headers": FORM, "content": urlencode(parameters(1)).encode(), "params": None}),
        (2, {"content": json.dumps({"email": EMAIL, "unknown": {"deep": [1]}}).encode()}),
        (3, {"files": {"file": ("x", b"y")}}),
        (4, {"headers": {"UID-Trace-Id": "trace \u00e9 id".encode("latin-1").decode("latin-1")}}),
    ],
    ids=["a form", "a body with more", "multipart", "an odd trace id"],
)
def test_what_is_unusual_and_good(service: RunningOptOut, number: int, members: dict[str, Any]) -> None:
    members = {"params": parameters(number)} | members
    headers = [(k.encode(), v.encode("latin-1")) for k, v in (AUTHORIZED | members.pop("headers", {})).items()]
    answer = httpx.post(f"{service.url}/optout/replicate", headers=headers, **members)
    assert answer.status_code == 200
    taken.append(number)
    assert service.status()["queue"]["waiting"] == len(taken)


@pytest.mark.parametrize("path", ["/optout/replicate", "/optout/refresh", "/optout/tail"])
@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"Bearer",
        b"Basic " + KEY.encode(),
        b"Bearer " + KEY[:-1].encode(),
        b"Bearer " + KEY.encode() + b"x",
        b"Bearer \xff\xfe",
        b"Bearer " + b"x" * 20_000,
    ],
)
def test_who_is_not_known(service: RunningOptOut, path: str, header: bytes | None) -> None:
    headers = [] if header is None else [(b"Authorization", header)]
    answer = httpx.get(f"{service.url}{path}", params=GOOD, headers=headers)
    assert (answer.status_code, answer.text) == (401, "Unauthorized")


def test_who_may_read_may_not_write(service: RunningOptOut) -> None:
    headers = {"Authorization": f"Bearer {READER}"}
    assert httpx.post(f"{service.url}/optout/replicate", params=GOOD, headers=headers).status_code == 401


@pytest.mark.parametrize(
    "query", ["wait=-1", "wait=31", "wait=nan", "wait=1e1", "wait=" + "9" * 500, "after=" + "x" * 200, "wait=%ff"]
)
def test_the_tail_refuses_what_makes_no_sense(service: RunningOptOut, query: str) -> None:
    answer = httpx.get(f"{service.url}/optout/tail?{query}", headers=AUTHORIZED)
    assert answer.status_code == 400
    assert answer.text


@pytest.mark.parametrize("cursor", ["x", "0-0", "../../etc/passwd", "%00", "deadbeef-" + "9" * 18, "\u0661-\u0661"])
def test_a_cursor_that_leads_nowhere_is_a_gap(service: RunningOptOut, cursor: str) -> None:
    answer = httpx.get(f"{service.url}/optout/tail", params={"after": cursor}, headers=AUTHORIZED)
    assert answer.status_code == 200
    assert answer.json()["body"]["gap"] is True


@pytest.mark.parametrize(
    "path",
    ["/files/../optout.json", "/files/%2e%2e/optout.json", "/files/optout/delta/x?expires=9&signature=x", "/files/"],
)
def test_files_need_a_signature(service: RunningOptOut, path: str) -> None:
    assert httpx.get(service.url + path).status_code in (400, 401, 403, 404)
    assert b"att_token_enc_key" not in service.raw(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    )


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /optout/replicate HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        b"POST /optout/replicate HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /optout/replicate HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /optout/replicate?\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    ],
)
def test_broken_requests_are_400_and_the_next_one_is_served(service: RunningOptOut, request_: bytes) -> None:
    assert service.raw(request_).startswith(b"HTTP/1.1 400")
    assert httpx.get(f"{service.url}/ops/healthcheck").status_code == 200


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/optout/write", "POST", 404),
        ("/", "GET", 404),
        ("/ops/healthcheck", "POST", 405),
        ("/optout/tail", "POST", 405),
    ],
)
def test_other_paths_and_methods(service: RunningOptOut, path: str, method: str, status: int) -> None:
    assert httpx.request(method, service.url + path, headers=AUTHORIZED).status_code == status


@pytest.mark.parametrize("token", ["", "Bearer", f"Bearer {INTERNAL}x", f"Bearer {KEY}", "Bearer \u00e9"])
def test_the_control_port_takes_its_token_alone(service: RunningOptOut, token: str) -> None:
    control = f"http://127.0.0.1:{8082 + service.offset}/optout/deltaproduce"
    headers = [(b"Authorization", token.encode("latin-1"))]
    assert httpx.post(control, headers=headers).status_code == 401
    assert httpx.get(f"{control}/status", headers=headers).status_code == 401
