import json
import shutil
from pathlib import Path

import pytest

from uid2.protocol.errors import StoreFormatError, StoreUnavailableError
from uid2.protocol.optout_log import OptOutFileName
from uid2.stores.optout_files import OptOutFiles, reaching_back
from uid2.stores.sources.local import LocalSource

VECTORS = Path(__file__).parents[2] / "vectors" / "optout"
REFRESH = json.loads((VECTORS / "manifest.json").read_bytes())["refresh_list"]
BROKEN = "optout-delta-002_2024-08-01T10.55.00Z_00000002.dat"
EMPTY = "optout-delta-000_2024-08-01T10.53.20Z_00000001.dat"


def parsed(path: str) -> OptOutFileName:
    name = OptOutFileName.parse(path)
    assert name is not None
    return name


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    for file in VECTORS.glob("*.dat"):
        target = tmp_path / "bucket" / "optout" / parsed(file.name).kind / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    (tmp_path / "bucket" / "optout" / "delta" / BROKEN).unlink()
    return tmp_path / "bucket"


@pytest.mark.parametrize("lists", [REFRESH, REFRESH["without_newest_partition"]])
def test_which_deltas_reach_back(lists: dict[str, list[str]]) -> None:
    found = reaching_back(lists["listed"], parsed, 3 * REFRESH["rotate_interval"])
    assert sorted(found) == sorted(lists["returned"])


def test_fetches_once_and_skips_empty_files(bucket: Path, tmp_path: Path) -> None:
    warnings: list[str] = []
    files = OptOutFiles(tmp_path / "data", source=LocalSource(bucket), on_warning=warnings.append)
    names = [file.path.name for file in files.find()]
    assert EMPTY not in names
    assert len(names) == len(list(VECTORS.glob("*.dat"))) - 2
    fetched = files.fetched
    assert [file.path.name for file in files.find()] == names
    # The empty file alone is asked for again: it may have been cut off.
    assert files.fetched == fetched + 1
    assert len(warnings) == 1
    assert EMPTY in warnings[0]


def test_links_that_lead_nowhere_hide_no_file(bucket: Path, tmp_path: Path) -> None:
    files = OptOutFiles(tmp_path / "data", source=LocalSource(bucket))
    found = files.find()
    folder = tmp_path / "data/consumer/delta"
    (folder / "optout-delta-nowhere.dat").symlink_to("not there")
    (folder / "optout-delta-loop.dat").symlink_to("optout-delta-loop.dat")
    assert files.find() == found


def test_a_broken_file_is_named_and_not_kept(bucket: Path, tmp_path: Path) -> None:
    files = OptOutFiles(tmp_path / "data", source=LocalSource(bucket))
    files.find()
    shutil.copy(VECTORS / BROKEN, bucket / "optout" / "delta" / BROKEN)
    with pytest.raises(StoreFormatError, match=BROKEN):
        files.find()
    assert not (tmp_path / "data" / "consumer" / "delta" / BROKEN).exists()


def test_a_listing_that_empties_or_fails_removes_nothing(bucket: Path, tmp_path: Path) -> None:
    files = OptOutFiles(tmp_path / "data", source=LocalSource(bucket))
    known = [file.path.name for file in files.find()]
    shutil.rmtree(bucket / "optout")
    assert [file.path.name for file in files.find()] == known

    class Down:
        def read(self, path: str, limit: int = 0) -> bytes:
            raise StoreUnavailableError("down")

        def list(self, prefix: str) -> list[str]:
            raise StoreUnavailableError("down")

    with pytest.raises(StoreUnavailableError):
        OptOutFiles(tmp_path / "data", source=Down()).find()
