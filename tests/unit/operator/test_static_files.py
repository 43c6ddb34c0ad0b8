"""What only a folder of its own can show; the rest is in the cases of the operator chapter, 1.4."""

import asyncio
from pathlib import Path

import pytest

from uid2.operator.static_files import LARGEST, StaticFiles
from uid2.service.http import Request


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "static"
    (inside / "js").mkdir(parents=True)
    (inside / "js" / "uid2-sdk-2.0.0.js").write_text("1")
    (inside / "index.html").write_text("page")
    (tmp_path / "secret").write_text("secret")
    (inside / "link").symlink_to(tmp_path / "secret")
    (inside / "js" / "index.html").symlink_to(tmp_path / "secret")
    (inside / "circle").symlink_to(inside / "circle")
    with (inside / "huge.bin").open("wb") as file:
        file.truncate(LARGEST + 1)
    (inside / "empty.js").touch()
    return inside


def get(folder: Path, name: str) -> tuple[int, bytes]:
    response = asyncio.run(StaticFiles(folder)(Request("GET", f"/static/{name}")))
    return response.status, response.body


@pytest.mark.parametrize("name", ["link", "js/", "js", "circle", "huge.bin", "../secret", "%2e%2e/secret", "none"])
def test_what_is_not_served(folder: Path, name: str) -> None:
    status, body = get(folder, name)
    assert (status, b"secret" in body) == (404, False)


def test_what_is_served(folder: Path) -> None:
    assert get(folder, "js/uid2-sdk-2.0.0.js") == (200, b"1")
    assert get(folder, "") == (200, b"page")
    assert get(folder, "empty.js") == (200, b"")


def test_client_versions_are_the_names_of_scripts(folder: Path) -> None:
    assert StaticFiles(folder).client_versions() == {"uid2-sdk-2.0.0", "empty"}
