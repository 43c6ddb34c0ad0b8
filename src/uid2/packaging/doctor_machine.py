"""This machine, as the start-up checks look at it: processor, memory, metadata service, Core's clock."""

import os
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import httpx

from uid2.packaging.doctor import CoreAnswer, Machine

_METADATA: Final = "http://169.254.169.254/metadata/instance/compute/vmSize?api-version=2021-02-01&format=text"
_METADATA_SECONDS: Final = 1.0
_CORE_SECONDS: Final = 10.0
_LONGEST_SIZE: Final = 64


def this_machine(environment: Mapping[str, str] = os.environ) -> Machine:
    return Machine(
        exists=os.path.exists,
        readable=lambda path: os.access(path, os.R_OK),
        environment=environment,
        cpu_flags=cpu_flags(_text("/proc/cpuinfo")),
        machine_size=azure_size(),
        available_memory=available_memory(_text("/proc/meminfo"), _text("/sys/fs/cgroup/memory.max")),
        ask_core=ask_core,
    )


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    return next((frozenset(value.split()) for name, _, value in lines if name.strip() == "flags"), frozenset())


def available_memory(meminfo: str, limit: str) -> int:
    """Bytes free, or the control group's limit when that is less."""
    lines = (line.split() for line in meminfo.splitlines())
    free = next((int(words[1]) << 10 for words in lines if words[:1] == ["MemAvailable:"]), 0)
    return min(free, int(limit)) if limit.strip().isdigit() else free


def azure_size(transport: httpx.BaseTransport | None = None) -> str:
    """The machine's size by Azure's metadata service; empty where none answers."""
    try:
        with httpx.Client(transport=transport, timeout=_METADATA_SECONDS, trust_env=False) as client:
            answer = client.get(_METADATA, headers={"Metadata": "true"})
    except httpx.HTTPError:
        return ""
    text = answer.text.strip()
    return text if answer.status_code == 200 and text.isascii() and len(text) <= _LONGEST_SIZE else ""


def ask_core(url: str, transport: httpx.BaseTransport | None = None) -> CoreAnswer:
    """Whether Core answers at all (any status will do), and how far this clock is from its Date."""
    try:
        with httpx.Client(transport=transport, timeout=_CORE_SECONDS, trust_env=False) as client:
            answer = client.get(httpx.URL(url).copy_with(path="/ops/healthcheck", query=None))
        date = answer.headers.get("date")
        return CoreAnswer(skew=None if date is None else time.time() - parsedate_to_datetime(date).timestamp())
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return CoreAnswer(failure=type(error).__name__)
    except ValueError:
        return CoreAnswer()


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
