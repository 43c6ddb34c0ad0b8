import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from uid2.service.clock import FixedClock
from uid2.service.health import Health
from uid2.service.http import Headers, Request, Response
from uid2.service.ops import FORWARDING, OpsApplication


def test_health_texts() -> None:
    health = Health()
    server, salt, auth = (health.component(name) for name in ("http-server", "salt-rotator", "auth-rotator"))
    assert health.response().body == b"http-server: not started\nsalt-rotator: not started\nauth-rotator: not started"
    server.recover()
    salt.starting()
    auth.fail(None)
    assert health.response() == Response(503, b"salt-rotator: still starting\nauth-rotator: null")
    salt.recover()
    auth.recover()
    assert health.response() == Response(200, b"OK")
    assert health.component("salt-rotator") is salt
    assert health.states() == {"http-server": True, "salt-rotator": True, "auth-rotator": True}


def test_the_pod_marker_is_looked_at_once_per_interval(tmp_path: Path) -> None:
    marker, clock, health = tmp_path / "pod_terminating", FixedClock(), Health()
    health.watch_pod(clock, 3000, marker)
    assert health.response().status == 200
    marker.touch()
    clock.advance(2999)
    assert health.response().status == 200
    clock.advance(1)
    assert health.response() == Response(503, b"PodTerminationMonitor: Pod is terminating")
    marker.unlink()
    clock.advance(3000)
    assert health.response().status == 200


class Ops:
    def __init__(self) -> None:
        self.drained = 0
        self.is_ready = False
        self.health = Health()
        self.application = OpsApplication(self.health, self.render, self.status, lambda: self.is_ready, self.drain)

    async def render(self) -> bytes:
        return b"a 1\n"

    async def status(self) -> dict[str, Any]:
        return {"version": "1"}

    def drain(self) -> None:
        self.drained += 1

    def ask(self, method: str, path: str, peer: str = "127.0.0.1", **headers: str) -> Response:
        fields = Headers.of({name.replace("_", "-"): value for name, value in headers.items()})
        return asyncio.run(self.application.respond(Request(method, path, headers=fields, peer=peer)))


def test_ops_answers() -> None:
    ops = Ops()
    metrics = ops.ask("GET", "/metrics")
    assert metrics.body == b"a 1\n"
    assert (metrics.content_type or "").startswith("text/plain; version=0.0.4")
    assert json.loads(ops.ask("GET", "/ops/status").body) == {"version": "1"}
    assert ops.ask("GET", "/ops/live").status == 200
    assert ops.ask("GET", "/ops/ready").status == 503
    ops.is_ready = True
    assert ops.ask("GET", "/ops/ready").status == 200
    ops.health.component("x")
    assert ops.ask("GET", "/ops/healthcheck").body == b"x: not started"
    assert ops.ask("POST", "/v2/token/generate").status == 404


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1"])
def test_drain_from_this_machine(peer: str) -> None:
    ops = Ops()
    assert ops.ask("POST", "/ops/drain", peer).status == 202
    assert ops.drained == 1


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "", "localhost"])
def test_drain_from_elsewhere_is_refused(peer: str) -> None:
    ops = Ops()
    assert ops.ask("POST", "/ops/drain", peer).status == 403
    assert ops.drained == 0


@pytest.mark.parametrize("header", FORWARDING)
def test_drain_through_a_proxy_is_refused(header: str) -> None:
    ops = Ops()
    assert ops.ask("POST", "/ops/drain", **{header: "127.0.0.1"}).status == 403
    assert ops.ask("GET", "/ops/drain").status == 405
    assert ops.drained == 0
