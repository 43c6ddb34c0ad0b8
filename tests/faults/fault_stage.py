"""Core, two instances of the opt-out service and three operators as real processes, with faulty paths between them.

client ──▶ operator n ──path n──▶ opt-out instance 0 or 1 ──▶ queue and bucket on disk, shared
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
from faulty_paths import FaultyPath, Paths, opened_paths

from running_stack import command, free_offset
from uid2.devstack.configurations import (
    JWT_KEY,
    RECORD,
    ROOT,
    Addresses,
    SharedSecrets,
    core_config,
    identity_record,
    operator_config,
    optout_config,
)
from uid2.devstack.demo_programs import create_jwt_key, public_half
from uid2.devstack.simulated_tee import simulated_tee
from uid2.devstack.state import State, open_state, write_private
from uid2.protocol.ids import EpochMillis, EpochSeconds

HOST = "127.0.0.1"
INSTANCES = 2
OPERATORS = 3
READY_SECONDS = 90.0
STEP = 10
# Everything is on loopback: a client that loads no certificates begins at once.
HTTP = httpx.Client(verify=False, trust_env=False)


@dataclass
class Program:
    """One process that may be killed and started again. `port` serves, `ops_port` tells of it."""

    name: str
    words: list[str]
    offset: int
    port: int
    ops_port: int
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    serving: bool = False

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "port_offset": str(self.offset)},
            )

    def kill(self) -> None:
        """SIGKILL; what it has not made durable is gone."""
        assert self.process is not None
        self.serving = False
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.serving = False
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ready(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return HTTP.get(f"http://{HOST}:{self.ops_port}/ops/ready", timeout=2).status_code == 200
        return False

    def status(self) -> Any:
        return HTTP.get(f"http://{HOST}:{self.ops_port}/ops/status").json()

    def await_ready(self) -> None:
        end = time.monotonic() + READY_SECONDS
        assert self.process is not None
        while not self.ready():
            assert self.process.poll() is None, f"{self.name} ended: {self.log.read_text()[-3000:]}"
            assert time.monotonic() < end, f"{self.name} is not ready: {self.log.read_text()[-3000:]}"
            time.sleep(0.05)
        self.serving = True


@dataclass
class Stage:
    state: State
    core: Program
    instances: list[Program]
    operators: list[Program]
    paths: Paths
    operator_paths: list[FaultyPath]
    files_path: FaultyPath
    folder: Path
    internal_token: str

    @property
    def programs(self) -> list[Program]:
        """Those that may fail."""
        return [*self.instances, *self.operators]

    @property
    def bucket(self) -> Path:
        return self.folder / "bucket"

    def operator_url(self, number: int) -> str:
        return f"http://{HOST}:{self.operators[number].port}"

    def control(self, instance: int, path: str, method: str) -> Any:
        """An answer of the control port of an instance."""
        port = self.instances[instance].port + 1
        headers = {"Authorization": f"Bearer {self.internal_token}"}
        return HTTP.request(method, f"http://{HOST}:{port}{path}", headers=headers).json()

    def produce_rest(self) -> None:
        """Delta production until the queue has nothing more to give."""
        end = time.monotonic() + READY_SECONDS
        while True:
            assert time.monotonic() < end, "the queue does not get empty"
            for instance in range(len(self.instances)):
                self.control(instance, "/optout/deltaproduce", "POST")
            time.sleep(0.1)
            if all(self._waiting(program) == 0 for program in self.instances):
                return

    def await_tails(self) -> None:
        """Until every operator hears of new opt-outs at once; a tail may be in a pause after a silent connection."""
        end = time.monotonic() + READY_SECONDS
        while any(operator.status()["optouts"]["tail"]["failures"] for operator in self.operators):
            assert time.monotonic() < end, "the live tail does not come back"
            time.sleep(0.1)

    def _waiting(self, program: Program) -> float:
        text = HTTP.get(f"http://{HOST}:{program.ops_port}/metrics").text
        (line,) = (line for line in text.splitlines() if line.startswith("uid2_optout_queue_waiting{"))
        return float(line.rpartition(" ")[2])


@contextlib.contextmanager
def running_stage(directory: Path, random: Random) -> Iterator[Stage]:
    """Everything up and ready; stopped at the end."""
    now = EpochMillis(time.time_ns() // 1_000_000)
    # Instances of the opt-out service take ports behind those of the operators.
    offset = free_offset(OPERATORS + 1 + INSTANCES)
    with simulated_tee(HOST, EpochSeconds(now // 1000)) as tee, opened_paths() as paths:
        state = open_state(directory, salts=1000, scope="uid2", now=now)
        instance_shifts = [offset + STEP * (OPERATORS + 1 + n) for n in range(INSTANCES)]
        instance_ports = [8081 + shift for shift in instance_shifts]
        files_path = paths.add(instance_ports, random)
        operator_paths = [paths.add(instance_ports, random) for _ in range(OPERATORS)]
        at = Addresses(HOST, f"http://{HOST}:{8088 + offset}", f"http://{HOST}:{files_path.port}")
        shared = SharedSecrets.new()
        core_folder, optout_folder = _folder(directory / "core"), _folder(directory / "optout")
        write_private(core_folder / ROOT, tee.root_pem.encode())
        write_private(core_folder / JWT_KEY, create_jwt_key())
        core = _program(
            core_folder, "core", core_config(state, core_folder, at, shared, tee), offset, 8088 + offset, 9088 + offset
        )
        public_key = public_half((core_folder / JWT_KEY).read_bytes())
        optout = optout_config(state, optout_folder, at, shared, public_key) | {
            "optout_produce_interval": 1,
            "cloud_refresh_interval": 1,
            "optout_queue_dir": str(optout_folder / "queue"),
        }
        instances = []
        for n, shift in enumerate(instance_shifts):
            folder = _folder(directory / f"optout-{n}")
            own = {"optout_producer_replica_id": n, "optout_data_dir": str(folder)}
            instances.append(_program(folder, "optout", optout | own, shift, 8081 + shift, 9081 + shift))
        operators = []
        for n in range(OPERATORS):
            folder, shift = _folder(directory / f"operator-{n}"), offset + STEP * n
            write_private(folder / RECORD, identity_record())
            address = f"http://{HOST}:{operator_paths[n].port}"
            own = {
                "optout_api_uri": f"{address}/optout/replicate",
                "optout_metadata_path": f"{address}/optout/refresh",
                "cloud_refresh_interval": 2,
            }
            config = operator_config(state, folder, at, n, tee) | own
            operators.append(_program(folder, "operator", config, shift, 8080 + shift, 9080 + shift))
        programs = [core, *instances, *operators]
        try:
            for tier in ([core], instances, operators):
                for program in tier:
                    program.start()
                for program in tier:
                    program.await_ready()
            token = str(optout["optout_internal_api_token"])
            yield Stage(state, core, instances, operators, paths, operator_paths, files_path, optout_folder, token)
        finally:
            for program in reversed(programs):
                program.stop()


def _program(folder: Path, service: str, config: dict[str, object], offset: int, port: int, ops_port: int) -> Program:
    file = folder / "config.json"
    write_private(file, json.dumps(config, indent=1).encode())
    words = command(service, "serve", "--config", str(file))
    return Program(folder.name, words, offset, port, ops_port, folder / "log")


def _folder(path: Path) -> Path:
    path.mkdir(mode=0o700, exist_ok=True)
    return path
