"""The opt-out service without a process: its application on a folder of the test, the clock is the test's."""

import asyncio
import base64
import json
import shutil
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import httpx

from uid2.optout.assembly import optout_context
from uid2.optout.metric_names import OptOutMetrics
from uid2.optout.routes import control_application, optout_application
from uid2.optout.settings import ACCEPTED, KEYS, settings_of
from uid2.protocol.ids import Environment
from uid2.protocol.optout_log import OptOutEntry, iter_entries
from uid2.service.clock import FixedClock, SystemEntropy
from uid2.service.config import load_configuration
from uid2.service.health import Health

STORES = Path(__file__).parents[2] / "vectors/stores"
NOW = 1_722_506_407_999
KEY = "UID2-O-L-999-dp9Dt0.JVoGpynN4J8nMA7FxmzsavxJa8B9H74y9xdEE="
READER = "OPLCLAjLRWcVlCDl9+BbwR38gzxYdiWFa751ynWLuI7JU4iA="
INTERNAL = "internal-token"
T = TypeVar("T")
BASE = "http://optout.test:8081"


class OptOut:
    """One instance. Several may share `folder`."""

    def __init__(self, folder: Path, clock: FixedClock | None = None, **members: Any) -> None:
        self.folder = folder
        self.clock = clock or FixedClock(NOW)
        (folder / "bucket").mkdir(parents=True, exist_ok=True)
        if not (folder / "stores").exists():
            shutil.copytree(STORES / "operators", folder / "stores/operators")
        file = folder / "optout.json"
        settings = {
            "environment": "development",
            "att_token_enc_key": "key",
            "att_token_enc_salt": "salt",
            "enforceJwt": False,
            "optout_internal_api_token": INTERNAL,
            "storage_mock_root": str(folder / "stores"),
            "optout_s3_bucket": f"file://{folder / 'bucket'}",
            "optout_data_dir": str(folder / "data"),
            "optout_sqs_delta_window_seconds": 0,
        }
        file.write_text(json.dumps(settings | members))
        self.settings = settings_of(load_configuration(KEYS, file, {}, accepted=ACCEPTED))
        self.worker: asyncio.Task[None]
        self.sharing: asyncio.Task[None] | None = None
        self.health = Health()
        self.context = optout_context(
            self.settings, self.clock, SystemEntropy(), OptOutMetrics(self.clock), self.health
        )
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(optout_application(self.context, self.health)), base_url=BASE
        )
        self.control = httpx.AsyncClient(
            transport=httpx.ASGITransport(control_application(self.context)), base_url="http://optout.test:8082"
        )

    async def start(self) -> "OptOut":
        await self.context.keys.load()
        await self.context.files.refresh()
        self.worker = asyncio.create_task(self.context.queue.run())
        if self.context.shared is not None:
            await self.context.shared.merge()
            self.sharing = asyncio.create_task(self.context.shared.run())
        return self

    async def replicate(self, n: int, trace: str | None = None, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {KEY}", **({} if trace is None else {"UID-Trace-Id": trace})}
        return await self.http.post("/optout/replicate", params=parameters(n), headers=headers, **more)

    async def unless_killed(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives; what ended the queue's worker when that came first."""
        task = asyncio.create_task(work)
        await asyncio.wait({task, self.worker}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            self.worker.result()
        return await task

    async def produce(self) -> dict[str, Any]:
        status, _ = await self.context.producer.start()
        assert status == 202
        await self.context.producer.wait()
        return self.context.producer.status()

    async def tail(self, after: str | None = None, wait: int = 0) -> dict[str, Any]:
        query = {"wait": str(wait)} | ({} if after is None else {"after": after})
        answer = await self.http.get("/optout/tail", params=query, headers={"Authorization": f"Bearer {KEY}"})
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()["body"]
        return body

    def deltas(self) -> dict[str, list[OptOutEntry]]:
        """The entries of every delta in the bucket, without the special ones."""
        found = {}
        for path in self.context.bucket.list(f"{self.settings.optout_s3_folder}delta/"):
            data = self.context.bucket.read(path)
            assert len(data) % 72 == 0
            found[path.rpartition("/")[2]] = [e for e in iter_entries(data, Environment.TEST) if not e.special]
        return found

    def recorded(self) -> list[int]:
        """The numbers of `replicate` in the deltas, sorted, as often as they are there."""
        entries = [entry for entries in self.deltas().values() for entry in entries]
        return sorted(int.from_bytes(entry.identity_hash[:4], "big") for entry in entries)


def parameters(n: int) -> dict[str, str]:
    identity = n.to_bytes(4, "big") + b"\x07" * 28
    return {
        "identity_hash": base64.b64encode(identity).decode(),
        "advertising_id": base64.b64encode(b"\x01" + identity[1:]).decode(),
    }
