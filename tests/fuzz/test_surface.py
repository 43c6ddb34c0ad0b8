"""Generated documents against every endpoint of the running operator, sealed and raw.

`UID2_FUZZ_EXAMPLES` documents per endpoint, way of sending and kind of data (conforming or not); the small default is
the same at every run, a larger number is drawn afresh.
"""

import copy
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from sealing import Sealer, Tally, document_bytes

from running_stack import Stack

DEFAULT_EXAMPLES = 15
EXAMPLES = int(os.environ.get("UID2_FUZZ_EXAMPLES", str(DEFAULT_EXAMPLES)))
OPENAPI = Path(__file__).parents[2] / "src" / "uid2" / "operator" / "openapi.json"
DOCUMENT: dict[str, Any] = json.loads(OPENAPI.read_bytes())
POSTS = [path for path, item in DOCUMENT["paths"].items() if "post" in item]
NEVER_SECONDS = 60.0
# Generated lists may be longer than a request may be (operator chapter, 2.4).
LONGEST_BODY = 1 << 20


def documents(path: str, mode: GenerationMode, *, sealed: bool) -> Any:
    """Cases for one endpoint; what is sealed for client-side generation is the document inside its payload."""
    described = copy.deepcopy(DOCUMENT)
    described["paths"] = {path: described["paths"][path]}
    if sealed and described["paths"][path]["post"]["x-uid2-envelope"] == "ecdh":
        inside = {"$ref": "#/components/schemas/ClientGeneratePayload"}
        described["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"] = inside
    operation = next(iter(schemathesis.openapi.from_dict(described).get_all_operations())).ok()
    return operation.as_strategy(generation_mode=mode)


@pytest.fixture(scope="module")
def tallies() -> Iterator[dict[str, Tally]]:
    counted: dict[str, Tally] = {}
    yield counted
    print("\nendpoint                        sent  sealed  past the envelope  slowest s  statuses")
    for path, tally in sorted(counted.items()):
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(tally.statuses.items()))
        print(f"{path:30} {tally.sent:5} {tally.sealed:7} {tally.opened:18} {tally.slowest:10.3f}  {statuses}")


def send_documents(
    http: httpx.Client, path: str, sealer: Sealer, cases: Any, tally: Tally, turns: Iterator[int], *, sealed: bool
) -> None:
    """EXAMPLES cases, sealed or raw, each answered below 500 and as documented."""
    kind = DOCUMENT["paths"][path]["post"]["x-uid2-envelope"]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=EXAMPLES == DEFAULT_EXAMPLES,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def send(case: Any) -> None:
        content, headers = document_bytes(case.body), dict[str, str]()
        if sealed:
            content, headers = sealer.seal(kind, case.body, next(turns))
        elif next(turns) % 2:
            headers = sealer.authorization
        answer = http.post(path, content=content, headers=headers)
        tally.add(answer, sealed)
        documented = (413,) if len(content) > LONGEST_BODY else (200, 400, 401, 403)
        assert answer.status_code in documented, (answer.status_code, answer.text[:300])

    send()


@pytest.mark.parametrize("path", POSTS)
def test_no_document_gives_a_5xx(stack: Stack, path: str, tallies: dict[str, Tally]) -> None:
    sealer, tally, turns = Sealer(stack), tallies.setdefault(path, Tally()), itertools.count()
    with httpx.Client(base_url=stack.url, timeout=NEVER_SECONDS) as http:
        for mode, sealed in itertools.product((GenerationMode.POSITIVE, GenerationMode.NEGATIVE), (True, False)):
            send_documents(http, path, sealer, documents(path, mode, sealed=sealed), tally, turns, sealed=sealed)

    assert tally.sealed >= EXAMPLES
    assert tally.opened * 2 >= tally.sealed


def test_the_description_names_every_endpoint_of_the_route_table() -> None:
    documented = {
        "/v2/token/generate",
        "/v2/token/refresh",
        "/v2/token/validate",
        "/v2/token/logout",
        "/v2/token/client-generate",
        "/v2/identity/buckets",
        "/v2/identity/map",
        "/v3/identity/map",
        "/v2/key/latest",
        "/v2/key/sharing",
        "/v2/key/bidstream",
        "/v2/optout/status",
        "/ops/healthcheck",
    }

    assert set(DOCUMENT["paths"]) == documented
