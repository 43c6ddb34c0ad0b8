"""The program that the supervisor's tests run in their workers."""

import asyncio
import json
import os
from typing import Any

from uid2.service.http import Application, Request, Response, Route, Router
from uid2.service.server import HttpServer
from uid2.service.worker import Worker


async def serve(worker: Worker) -> None:
    known: list[Any] = []
    snapshot: list[Any] = []

    async def learn(payload: Any) -> None:
        known.append(payload)

    async def take_snapshot(payload: Any) -> None:
        snapshot.append(payload)

    async def count(_: Any) -> int:
        return 1

    async def show(_: Request) -> Response:
        return Response(200, json.dumps({"pid": os.getpid(), "known": known, "snapshot": snapshot}).encode())

    async def logout(request: Request) -> Response:
        answer = await worker.request("logout", request.body.decode(), 5)
        return Response(200, json.dumps({"answer": answer, "known": known}).encode())

    async def slow(_: Request) -> Response:
        await asyncio.sleep(0.5)
        return Response(200, b"done")

    worker.on("learn", learn)
    worker.on("snapshot", take_snapshot)
    worker.on("count", count)
    await worker.join()
    routes = [
        Route(("GET",), "/", show),
        Route(("POST",), "/logout", logout),
        Route(("GET",), "/slow", slow),
    ]
    server = HttpServer(Application(Router(routes)), worker.sockets)
    await server.start()
    await worker.ready()
    await worker.stopping.wait()
    await server.stop(worker.grace_seconds)


async def fail(worker: Worker) -> None:
    raise RuntimeError(worker.index)
