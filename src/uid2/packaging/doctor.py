"""Start-up checks: what a machine lacks before the enclave starts, each finding with its fix.

Advice only. Most of what is read here is the host's word; the start itself is the judge.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from uid2.attestation.tee.sources import explain_quote_errors
from uid2.packaging.aks_values import NODE_SIZE
from uid2.packaging.sandbox import size_of

TOKENS: Final = ("core_api_token", "optout_api_token")
LONGEST_TOKEN: Final = 512
CLOCK_WINDOW_SECONDS: Final = 120
_AESM_SOCKET: Final = "/var/run/aesmd/aesm.socket"
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]+")
_DEVICES: Final = {
    "enclave": ("/dev/sgx_enclave", "/dev/sgx/enclave"),
    "provision": ("/dev/sgx_provision", "/dev/sgx/provision"),
}


@dataclass(frozen=True, slots=True)
class CoreAnswer:
    """`skew`: this machine's clock minus Core's in seconds, None without a Date. `failure`: why it is unreachable."""

    failure: str = ""
    skew: float | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """What the checks look at. `machine_size` is empty where no metadata service answers; memory is in bytes."""

    exists: Callable[[str], bool]
    readable: Callable[[str], bool]
    environment: Mapping[str, str]
    cpu_flags: frozenset[str]
    machine_size: str
    available_memory: int
    ask_core: Callable[[str], CoreAnswer]


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    problem: str
    fix: str

    def line(self) -> str:
        return f"FINDING  {self.check}: {self.problem}\n         fix: {self.fix}"


Check = Callable[[Machine, Mapping[str, Any], Mapping[str, Any]], Iterator[Finding]]


def examine(
    machine: Machine, configuration: Mapping[str, Any], settings: Mapping[str, Any], log: str = ""
) -> tuple[Finding, ...]:
    """Every finding. `configuration` is the operator's, `settings` Occlum.json; `log` a text with quoting errors."""
    found = [finding for check in CHECKS for finding in check(machine, configuration, settings)]
    return (*found, *quoting_errors(log))


def devices(machine: Machine, _: Mapping[str, Any], __: Mapping[str, Any]) -> Iterator[Finding]:
    # With the quote helper the provisioning happens on its side.
    needed = ("enclave",) if machine.environment.get("SGX_AESM_ADDR") else ("enclave", "provision")
    if "sgx" not in machine.cpu_flags:
        yield Finding(
            "processor",
            "it has no SGX, or the firmware has it off",
            f"use a machine of size {NODE_SIZE}, or enable SGX",
        )
    elif "sgx_lc" not in machine.cpu_flags:
        yield Finding(
            "processor", "SGX without launch control: DCAP does not work", f"use a machine of size {NODE_SIZE}"
        )
    for name in needed:
        there = [path for path in _DEVICES[name] if machine.exists(path)]
        if not there:
            mapped = " ".join(f"--device /dev/sgx_{device}:/dev/sgx/{device}" for device in needed)
            yield Finding(
                "devices",
                f"no SGX {name} device ({' or '.join(_DEVICES[name])})",
                f"map it into the container: docker run {mapped}; on AKS give an SGX memory limit (docs/aks.md)",
            )
        elif not any(machine.readable(path) for path in there):
            yield Finding("devices", f"{there[0]} may not be opened", "run as root, or join the group sgx_prv")


def machine_size(machine: Machine, _: Mapping[str, Any], __: Mapping[str, Any]) -> Iterator[Finding]:
    if machine.machine_size and machine.machine_size != NODE_SIZE:
        yield Finding(
            "machine size",
            f"this is a {machine.machine_size}; the operator is made for {NODE_SIZE}",
            f"add a node pool of {NODE_SIZE} and keep the operator on it (docs/aks.md)",
        )


def tokens(machine: Machine, configuration: Mapping[str, Any], _: Mapping[str, Any]) -> Iterator[Finding]:
    for name in TOKENS:
        value = machine.environment.get(name) or configuration.get(name) or ""
        if not isinstance(value, str) or not value:
            yield Finding("tokens", f"{name} is empty", f"set {name} in the environment (docker -e, or the Secret)")
        elif len(value) > LONGEST_TOKEN:
            yield Finding("tokens", f"{name} is longer than {LONGEST_TOKEN} characters", "check what was pasted")
        elif not _PRINTABLE.fullmatch(value):
            yield Finding(
                "tokens", f"{name} holds spaces, line ends or other than ASCII", "copy it again, without a line end"
            )


def quoting_service(machine: Machine, _: Mapping[str, Any], __: Mapping[str, Any]) -> Iterator[Finding]:
    if machine.environment.get("SGX_AESM_ADDR") and not machine.exists(_AESM_SOCKET):
        yield Finding(
            "quoting",
            f"SGX_AESM_ADDR is set and there is no {_AESM_SOCKET}",
            "mount /var/run/aesmd and enable the quote helper (--enable-sgxquotehelper), or unset SGX_AESM_ADDR",
        )


def memory(machine: Machine, _: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[Finding]:
    limits = settings.get("resource_limits")
    if not isinstance(limits, Mapping):
        return
    needed = sum(size_of(str(limits.get(name, "0B"))) for name in ("user_space_size", "kernel_space_heap_size"))
    if machine.available_memory < needed:
        yield Finding(
            "memory",
            f"{machine.available_memory >> 20} MB are free; the enclave takes {needed >> 20} MB when it starts",
            "raise the container's memory limit, or run nothing else on the machine",
        )


def core_and_clock(machine: Machine, configuration: Mapping[str, Any], _: Mapping[str, Any]) -> Iterator[Finding]:
    url = configuration.get("core_attest_url")
    if not isinstance(url, str) or not url:
        return
    answer = machine.ask_core(url)
    if answer.failure:
        yield Finding(
            "Core", f"{url} cannot be reached: {answer.failure}", "check DNS, the network policy and outbound port 443"
        )
    elif answer.skew is not None and abs(answer.skew) > CLOCK_WINDOW_SECONDS:
        side = "ahead of" if answer.skew > 0 else "behind"
        yield Finding(
            "clock",
            f"this machine's clock is {abs(answer.skew):.0f} s {side} Core's; {CLOCK_WINDOW_SECONDS} s are allowed",
            "let the machine take its time from NTP (timedatectl set-ntp true)",
        )


def quoting_errors(log: str) -> Iterator[Finding]:
    """The quote library's numbers in a log text."""
    for text in explain_quote_errors(log):
        problem, _, fix = text.rpartition(": ")
        yield Finding("quoting", problem, fix)


CHECKS: Final[tuple[Check, ...]] = (devices, machine_size, tokens, quoting_service, memory, core_and_clock)
