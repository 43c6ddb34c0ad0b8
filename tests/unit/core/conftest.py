import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from core_stage import STORES, Core, ScriptedVerifier


@pytest.fixture
def verifier() -> ScriptedVerifier:
    return ScriptedVerifier()


@pytest.fixture
def start(tmp_path: Path, verifier: ScriptedVerifier) -> Callable[..., Core]:
    """Makes a Core whose stores are a copy of the sample data; the gcp key of the sample speaks azure-sgx."""

    def make(
        *, load: bool = True, operators: Callable[[list[dict[str, Any]]], None] | None = None, **settings: Any
    ) -> Core:
        bucket = tmp_path / "bucket"
        shutil.copytree(STORES, bucket, dirs_exist_ok=True, ignore=shutil.ignore_patterns("operator-mock"))
        file = bucket / "operators/operators.json"
        records = json.loads(file.read_bytes())
        for record in records:
            if record["protocol"] == "gcp-oidc":
                record["protocol"] = "azure-sgx"
        if operators is not None:
            operators(records)
        file.write_text(json.dumps(records))
        core = Core(tmp_path, verifier, **settings)
        if load:
            core.load()
        return core

    return make


@pytest.fixture
def core(start: Callable[..., Core]) -> Core:
    return start()
