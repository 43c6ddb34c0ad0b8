import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "core_service"))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "admin"))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "optout"))

from cloud_servers import S3, Azure, Cloud, Google

# What a machine's environment says of clouds must not reach the tests.
FOREIGN = ("AWS_", "AZURE_", "AZURITE_BLOB", "GOOGLE_")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(FOREIGN)]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    server = S3()
    yield server
    server.close()


@pytest.fixture(scope="session")
def azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    server = Azure(tmp_path_factory.mktemp("azure"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def google_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    server = Google(tmp_path_factory.mktemp("google"))
    yield server
    server.close()


@pytest.fixture
def s3(s3_server: S3) -> Cloud:
    return Cloud(s3_server)


@pytest.fixture(params=["s3", "azure", "google"])
def cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """For operators, which are configured for S3 and take the rest from the environment."""
    server = request.getfixturevalue(f"{request.param}_server")
    if request.param != "s3":
        for name, value in server.environ().items():
            monkeypatch.setenv(name, value)
    return Cloud(server)


@pytest.fixture(params=["s3", "azure"])
def writable(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """Stores whose stand-in takes what clients write, all by the environment."""
    server = request.getfixturevalue(f"{request.param}_server")
    for name, value in server.environ().items():
        monkeypatch.setenv(name, value)
    return Cloud(server)
