"""Every rule of the protocol over raw sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from uid2.protocol.errors import ConfigurationError
from uid2.service.http import Application, Request, Response, Route, Router
from uid2.service.server import HttpServer, bind_socket, event_loop_factory
from uid2.service.strict_protocol import HttpLimits

QUICK = HttpLimits(head_seconds=0.3, body_seconds=0.3, idle_seconds=1)
LOOPS = [event_loop_factory("asyncio"), event_loop_factory("uvloop")]


class Gate:
    """A handler that waits until it is told to go on."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.released = asyncio.Event()

    async def handle(self, _: Request) -> Response:
        self.entered.set()
        await self.released.wait()
        return Response(200, b"released")


async def echo(request: Request) -> Response:
    return Response(200, request.body)


@contextlib.asynccontextmanager
async def serving(limits: HttpLimits | None = None, gate: Gate | None = None) -> AsyncIterator[HttpServer]:
    routes = [Route(("POST", "GET", "HEAD"), "/echo", echo)]
    if gate is not None:
        routes.append(Route(("POST", "GET"), "/gate", gate.handle))
    server = HttpServer(Application(Router(routes)), [bind_socket("127.0.0.1", 0)], limits)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(0.2)


async def exchange(server: HttpServer, *parts: bytes, close: bool = False) -> bytes:
    """Everything that comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.ports[0])
    try:
        for part in parts:
            writer.write(part)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            await asyncio.sleep(0.005)
        if close:
            writer.write_eof()
        with contextlib.suppress(ConnectionError):
            return await asyncio.wait_for(reader.read(), 10)
        return b""
    finally:
        writer.close()


def run(test: Callable[[], Awaitable[None]], loop: int = 0) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test(), 20)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(bounded())


def request(*fields: bytes, line: bytes = b"POST /echo HTTP/1.1", body: bytes = b"") -> bytes:
    return b"\r\n".join([line, *fields, b"", body])


HOST = b"host: x"
CLOSE = b"connection: close"


@pytest.mark.parametrize("loop", [0, 1], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("message", "status"),
    [
        (request(HOST, CLOSE), 200),
        (request(line=b"POST /echo HTTP/1.0"), 200),
        (request(CLOSE), 400),
        (request(HOST, b"host: y", CLOSE), 400),
        (request(HOST, b"content-length: 1", b"transfer-encoding: chunked", body=b"0\r\n\r\n"), 400),
        (request(HOST, b"transfer-encoding: chunked", b"content-length: 1", body=b"0\r\n\r\n"), 400),
        (request(HOST, b"content-length: 1", b"content-length: 2", body=b"ab"), 400),
        (request(HOST, b"content-length: 1, 2", body=b"ab"), 400),
        (request(HOST, b"content-length: -1", body=b"ab"), 400),
        (request(HOST, b"transfer-encoding: gzip, chunked", body=b"0\r\n\r\n"), 400),
        (request(b"transfer-encoding: chunked", line=b"POST /echo HTTP/1.0", body=b"0\r\n\r\n"), 400),
        (request(HOST, b"transfer-encoding: chunked", body=b"zz\r\n\r\n"), 400),
        (request(HOST, b"transfer-encoding : chunked", body=b"0\r\n\r\n"), 400),
        (request(HOST, line=b"POST /echo HTTP/2.0"), 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"GET\r\n\r\n", 400),
        (request(HOST, b"expect: 200-ok", CLOSE), 417),
        (request(HOST, b"expect: 100-continue", b"content-length: 2", CLOSE, body=b"ab"), 100),
        (request(HOST, line=b"POST /" + b"a" * 4100 + b" HTTP/1.1"), 414),
        (request(HOST, b"x: " + b"a" * 33_000), 431),
        (request(HOST, *[b"x%d: " % n + b"a" * 1000 for n in range(40)]), 431),
        (request(HOST, b"x: " + b"a" * 20_000, CLOSE), 200),
        (b"POST /echo HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 60_000, 431),
        (request(HOST, b"content-length: 1048577", CLOSE), 413),
        (request(HOST, b"content-length: 99999999999999999999999", CLOSE), 400),
    ],
)
def test_rules(message: bytes, status: int, loop: int) -> None:
    async def check() -> None:
        async with serving(QUICK) as server:
            answer = await exchange(server, message)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        # A refusal is the only answer: what follows it is never taken for another request.
        assert answer.count(b"HTTP/1.1 ") == (2 if status == 100 else 1)
        head = answer.partition(b"\r\n\r\n")[0].lower()
        assert b"\r\nserver:" not in head
        assert b"\r\ndate:" not in head
        if status >= 400:
            assert b"content-type" not in head

    run(check, loop)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (request(CLOSE), b"Bad Request"),
        (request(HOST, b"expect: nothing"), b"Expectation Failed"),
        (request(HOST, b"content-length: 1048577", CLOSE), b"Request Too Long"),
    ],
)
def test_texts_of_refusals(message: bytes, text: bytes) -> None:
    async def check() -> None:
        async with serving(QUICK) as server:
            assert (await exchange(server, message)).endswith(b"\r\n\r\n" + text)

    run(check)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_head_in_pieces_is_measured_as_a_whole(size: int) -> None:
    async def check() -> None:
        async with serving(HttpLimits(request_line=64, header_block=128)) as server:
            for message, status in ((request(HOST, CLOSE), 200), (request(HOST, b"x: " + b"a" * 300), 431)):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.ports[0])
                for at in range(0, len(message), size):
                    writer.write(message[at : at + size])
                    await asyncio.sleep(0)
                with contextlib.suppress(ConnectionError):
                    assert (await reader.read(12)) == b"HTTP/1.1 %d" % status
                writer.close()

    run(check)


@pytest.mark.parametrize("loop", [0, 1], ids=["asyncio", "uvloop"])
def test_requests_on_one_connection_are_answered_in_order(loop: int) -> None:
    async def check() -> None:
        async with serving(QUICK) as server:
            messages = [request(HOST, b"content-length: 1", body=b"%d" % n) for n in range(5)]
            answer = await exchange(server, b"".join(messages), request(HOST, CLOSE))
        assert [part[-1:] for part in answer.split(b"HTTP/1.1 200 OK")[1:6]] == [b"0", b"1", b"2", b"3", b"4"]

    run(check, loop)


def test_a_broken_request_behind_a_good_one_does_not_cost_its_answer() -> None:
    async def check() -> None:
        gate = Gate()
        async with serving(QUICK, gate) as server:
            talking = asyncio.create_task(
                exchange(server, request(HOST, line=b"GET /gate HTTP/1.1") + b"\x00garbage\r\n\r\n")
            )
            await gate.entered.wait()
            gate.released.set()
            answer = await talking
        assert answer.count(b"HTTP/1.1 ") == 1
        assert answer.endswith(b"released")

    run(check)


def test_a_streamed_body_above_the_limit_is_refused_while_it_comes() -> None:
    async def check() -> None:
        async with serving(QUICK) as server:
            chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
            head = request(HOST, b"transfer-encoding: chunked")
            answer = await exchange(server, head, *[chunk] * 20)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert answer.endswith(b"Request Too Long")

    run(check)


@pytest.mark.parametrize(
    ("parts", "start"),
    [
        ([b"POST /echo HTTP/1.1\r\nhost: x\r\n"], b"HTTP/1.1 408 "),
        ([b"P"], b"HTTP/1.1 408 "),
        ([request(HOST, b"content-length: 5", body=b"ab")], b"HTTP/1.1 408 "),
        ([b""], b""),
        ([b"\r\n"], b""),
    ],
)
def test_slow_clients_are_let_go(parts: list[bytes], start: bytes) -> None:
    async def check() -> None:
        async with serving(QUICK) as server:
            answer = await exchange(server, *parts)
        assert answer.startswith(start)
        assert bool(answer) is bool(start)

    run(check)


def test_a_trickle_of_header_bytes_does_not_extend_the_time() -> None:
    async def check() -> None:
        async with serving(QUICK) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.ports[0])
            writer.write(b"POST /echo HTTP/1.1\r\n")
            reading = asyncio.create_task(reader.read())
            while not reading.done():
                writer.write(b"x: y\r\n")
                await asyncio.sleep(0.05)
            assert reading.result().startswith(b"HTTP/1.1 408 ")
            writer.close()

    run(check)


def test_a_handler_may_take_longer_than_the_body_time() -> None:
    async def check() -> None:
        gate = Gate()
        async with serving(HttpLimits(head_seconds=0.05, body_seconds=0.05), gate) as server:
            talking = asyncio.create_task(exchange(server, request(HOST, CLOSE, line=b"GET /gate HTTP/1.1")))
            await gate.entered.wait()
            await asyncio.sleep(0.2)
            gate.released.set()
            assert (await talking).endswith(b"released")

    run(check)


def test_an_idle_connection_is_closed() -> None:
    async def check() -> None:
        async with serving(QUICK) as server:
            answer = await exchange(server, request(HOST))
        assert answer.startswith(b"HTTP/1.1 200 ")

    run(check)


def test_bytes_of_another_protocol_are_not_read_as_requests() -> None:
    async def check() -> None:
        async with serving(QUICK) as server:
            upgrade = request(HOST, b"connection: upgrade", b"upgrade: websocket", line=b"GET /echo HTTP/1.1")
            answer = await exchange(server, upgrade + request(HOST))
        assert answer.count(b"HTTP/1.1 ") == 1

    run(check)


@pytest.mark.parametrize("loop", [0, 1], ids=["asyncio", "uvloop"])
def test_stopping_finishes_what_runs_and_accepts_nothing_new(loop: int) -> None:
    async def check() -> None:
        gate = Gate()
        async with serving(gate=gate) as server:
            port = server.ports[0]
            _, idle = await asyncio.open_connection("127.0.0.1", port)
            talking = asyncio.create_task(exchange(server, request(HOST, line=b"GET /gate HTTP/1.1")))
            await gate.entered.wait()
            stopping = asyncio.create_task(server.stop(5))
            await asyncio.sleep(0.05)
            with pytest.raises(ConnectionError):
                await asyncio.open_connection("127.0.0.1", port)
            gate.released.set()
            answer = await talking
            assert answer.endswith(b"released")
            assert b"connection: close" in answer
            await stopping
            idle.close()

    run(check, loop)


def test_stopping_ends_what_outlasts_the_grace_time() -> None:
    async def check() -> None:
        gate = Gate()
        async with serving(gate=gate) as server:
            talking = asyncio.create_task(exchange(server, request(HOST, line=b"GET /gate HTTP/1.1")))
            await gate.entered.wait()
            await server.stop(0.05)
            assert server.running_requests == 0
            assert b"released" not in await talking

    run(check)


def test_a_taken_port_is_told_with_its_number() -> None:
    with bind_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=str(port)):
            bind_socket("127.0.0.1", port)
    with pytest.raises(ConfigurationError):
        bind_socket("127.0.0.1", 70_000)


def test_the_loop_is_chosen_by_name() -> None:
    assert event_loop_factory("asyncio") is asyncio.SelectorEventLoop
    assert event_loop_factory(None, libos=True) is asyncio.SelectorEventLoop
    assert event_loop_factory(None) is event_loop_factory("uvloop")
    with pytest.raises(ConfigurationError, match="http_loop"):
        event_loop_factory("curio")
