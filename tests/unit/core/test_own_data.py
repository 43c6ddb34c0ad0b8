import json
from collections.abc import Callable

import pytest
from core_stage import NOW, PUBLIC, Core


def rewrite(core: Core, store: str, records: object, version: int) -> None:
    (core.bucket / f"{store}/{store}.json").write_text(json.dumps(records))
    metadata = core.bucket / f"{store}/metadata.json"
    metadata.write_text(json.dumps(json.loads(metadata.read_bytes()) | {"version": version}))


def operators(core: Core) -> list[dict[str, object]]:
    records: list[dict[str, object]] = json.loads((core.bucket / "operators/operators.json").read_bytes())
    return records


def test_a_disabled_key_is_refused_after_the_next_refresh(core: Core) -> None:
    records = operators(core)
    records[0]["disabled"] = True
    rewrite(core, "operators", records, 2)
    assert core.get("/clients/refresh", PUBLIC).status == 200
    core.load()
    assert b"key_disabled" in core.get("/clients/refresh", PUBLIC).body
    rewrite(core, "operators", records[1:], 3)
    core.load()
    assert b"unrecognized_key" in core.get("/clients/refresh", PUBLIC).body


def test_a_broken_file_and_an_older_version_leave_the_old_data(core: Core, caplog: pytest.LogCaptureFixture) -> None:
    rewrite(core, "operators", [{"key_hash": "?"}], 2)
    core.load()
    assert core.get("/clients/refresh", PUBLIC).status == 200
    assert core.health.response().status == 200
    assert "the old data stay" in caplog.text
    rewrite(core, "operators", [], 0)
    core.load()
    assert core.get("/clients/refresh", PUBLIC).status == 200


def test_enclaves_follow_their_file(core: Core) -> None:
    def enclave(protocol: str, identifier: str) -> dict[str, object]:
        return {"name": identifier, "protocol": protocol, "identifier": identifier, "created": NOW // 1000}

    rewrite(core, "enclaves", [enclave("azure-sgx", " AB" + "0" * 62 + " "), enclave("aws-nitro", "Ab=")], 2)
    core.load()
    assert core.context.own.registered("azure-sgx") == {"ab" + "0" * 62}
    assert core.context.own.registered("aws-nitro") == {"Ab="}
    rewrite(core, "enclaves", [], 3)
    core.load()
    assert core.context.own.registered("azure-sgx") == frozenset()


def test_loads_go_on_after_a_bad_start(start: Callable[..., Core]) -> None:
    core = start(load=False)
    metadata = core.bucket / "operators/metadata.json"
    kept = metadata.read_bytes()
    metadata.unlink()
    core.load()
    assert core.health.response().body.startswith(b"operators-rotator: cannot read operators/metadata.json")
    assert core.get("/clients/refresh", PUBLIC).status == 503
    metadata.write_bytes(kept)
    core.load()
    assert core.health.response().status == 200
    assert core.get("/clients/refresh", PUBLIC).status == 200
