"""Occlum.json: sizes with reasons, and nothing of the host let in (enclave chapter, 6.1)."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uid2.packaging.occlum_config import (
    MIB,
    MOST_SALTS,
    enclave_sizes,
    encode_occlum_config,
    occlum_config,
    weaknesses,
)
from uid2.protocol.errors import ConfigurationError


def config(**options: Any) -> dict[str, Any]:
    return occlum_config(enclave_sizes(1 << 20, 10_000_000, {}), **options)


def test_the_host_passes_exactly_the_two_tokens() -> None:
    assert config()["env"]["untrusted"] == ["core_api_token", "optout_api_token"]
    assert config()["entry_points"] == ["/bin/launcher", "/bin/sgx_quote"]
    assert weaknesses(config()) == ()


def test_every_field_that_this_version_requires_is_there() -> None:
    members = config()
    assert set(members) == {"resource_limits", "process", "entry_points", "env", "metadata", "feature", "mount"}
    assert set(members["feature"]) == {"amx", "pkru", "io_uring", "enable_edmm", "enable_posix_shm"}
    assert {"enable_kss", "family_id", "ext_prod_id"} < set(members["metadata"])
    assert (members["metadata"]["product_id"], members["metadata"]["version_number"]) == (770, 2)
    root = members["mount"][0]
    assert root["type"] == "unionfs"
    assert root["options"]["layers"][0]["options"] == {"MAC": ""}
    assert {mount["type"] for mount in members["mount"]} == {"unionfs", "sefs", "procfs", "devfs"}


def test_the_file_is_the_same_bytes_again() -> None:
    assert encode_occlum_config(config()) == encode_occlum_config(config())
    assert json.loads(encode_occlum_config(config())) == config()


@given(st.integers(0, MOST_SALTS), st.integers(0, 20_000_000))
def test_sizes_grow_with_the_data_and_cover_it(salts: int, optouts: int) -> None:
    sizes = enclave_sizes(salts, optouts, {})
    assert sizes.user_space.value >= 1.5 * (salts * 2 * 136 + optouts * 2 * 44)
    assert sizes.user_space.value % (64 * MIB) == 0
    assert (
        sizes.user_space.value
        <= enclave_sizes(salts + 1 if salts < MOST_SALTS else salts, optouts, {}).user_space.value
    )


def test_each_size_says_why() -> None:
    lines = enclave_sizes(1 << 20, 10_000_000, {"bulk_threads": 4}).lines()
    assert len(lines) == 6
    assert any("1,048,576 salts" in line and "10,000,000 opt-outs" in line for line in lines)
    assert any("4 bulk" in line for line in lines)


@pytest.mark.parametrize(
    ("salts", "optouts"), [(-1, 0), (MOST_SALTS + 1, 0), (0, -1), (0, 200_000_001), (0, 200_000_000)]
)
def test_counts_that_cannot_be_are_refused(salts: int, optouts: int) -> None:
    with pytest.raises(ConfigurationError):
        enclave_sizes(salts, optouts, {})


@pytest.mark.parametrize("value", ["8", -1, True, 1.5])
def test_a_wrong_configuration_value_is_named(value: object) -> None:
    with pytest.raises(ConfigurationError, match="bulk_threads"):
        enclave_sizes(1, 1, {"bulk_threads": value})


@pytest.mark.parametrize("environment", ["integ", "prod"])
def test_debug_is_refused_for_production(environment: str) -> None:
    with pytest.raises(ConfigurationError, match="debuggable"):
        config(debuggable=True, environment=environment)
    assert config(debuggable=True)["metadata"]["debuggable"] is True


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: c["metadata"].update(debuggable=True), "debuggable"),
        (lambda c: c["env"]["untrusted"].append("LD_PRELOAD"), "LD_PRELOAD"),
        (lambda c: c["env"].update(untrusted="core_api_token"), "untrusted"),
        (lambda c: c["mount"].append({"target": "/host", "type": "hostfs", "source": "."}), "/host"),
        (lambda c: c["entry_points"].append("/bin"), "entry_points"),
        (lambda c: c["feature"].update(io_uring=1), "io_uring"),
    ],
)
def test_each_weakness_is_found(change: Any, named: str) -> None:
    members = config()
    change(members)
    found = weaknesses(members)
    assert len(found) == 1
    assert named in found[0]
